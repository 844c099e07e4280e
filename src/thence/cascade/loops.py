"""Cascades that come back to a handler they have been through."""

from __future__ import annotations

from typing import Literal, TypeAlias

from thence.events.lineage import Path

__all__ = ["LoopMode", "Paths", "loop_in"]

LoopMode: TypeAlias = Literal["observe", "warn", "enforce"]
"""What becomes of an event that comes back too often: it is counted, is handled with a warning, or is cut."""

MAX_PATHS = 10_000
"""Paths that are remembered before remembering starts anew."""
MAX_HANDLERS = 200_000
"""The same for how many handlers there are on them together."""


class Paths:
    """The paths that go on from here, so that equal ones are one object."""

    __slots__ = ("_handlers", "_known")

    def __init__(self) -> None:
        self._known: dict[tuple[Path | None, str], Path] = {}
        self._handlers = 0
        """How many there are on all of them."""

    def below(self, path: Path | None, handler: str) -> Path:
        """The path to the consequences of ``handler`` for an event at the end of ``path``."""
        known = self._known
        longer = known.get((path, handler))
        if longer is None:
            longer = Path(path, handler)
            self._handlers += longer.depth
            if len(known) >= MAX_PATHS or self._handlers > MAX_HANDLERS:
                known.clear()
                self._handlers = longer.depth
            known[path, handler] = longer
        return longer


def loop_in(path: Path) -> str:
    """The loop that the last handler of a path closes: ``scores.award → ranks.update → scores.award``."""
    handlers = path.handlers
    last = len(handlers) - 1
    began = max((i for i in range(last) if handlers[i] == path.handler), default=0)
    return " → ".join(handlers[began:])
