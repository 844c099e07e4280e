"""Where the treasure hunt lies: beside the package in an installed wheel, in ``examples`` of a checkout."""

from __future__ import annotations

from pathlib import Path

import thence
from thence.cli.exits import CommandError

__all__ = ["examples"]


def examples() -> Path:
    """The folder that holds the package ``treasure_hunt``.

    :raises CommandError: this installation came without it.
    """
    package = Path(thence.__file__).parent
    for folder in (package / "examples", package.parents[1] / "examples"):
        if (folder / "treasure_hunt" / "events.py").is_file():
            return folder
    raise CommandError(
        "the treasure hunt is not installed here: install the wheel, or run this in a checkout"
    )
