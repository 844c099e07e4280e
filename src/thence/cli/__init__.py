"""The command line. Each command is a file of its own, imported when it is called."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """The ``thence`` command. Exits with the code that the design's table gives."""
    from thence.cli.application import run_command

    sys.exit(run_command(sys.argv[1:]))
