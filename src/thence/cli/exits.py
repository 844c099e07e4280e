"""Exit codes, and the error that carries one."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CommandError", "Exit"]


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    PARTIAL = 4
    """Some peers did not answer; the output says which."""
    NOBODY = 5
    """Nobody was reached, or not in time."""
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends a command with a message on stderr, whose first line names the fix."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code
