"""What a check may find, and how grave it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["LEVELS", "Finding", "Level"]

Level: TypeAlias = Literal["error", "warning", "note"]
"""An error can't work as declared. A warning may not be meant. A note needs no answer."""

LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""The gravest first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    level: Level
    code: str
    """What kind of thing it is, for programs: ``undeclared-loop``, for example."""
    subjects: tuple[str, ...]
    """The events by name, the handlers as ``service.handler``, and the services that it is about."""
    message: str
    fix: str = ""
    """What to change."""
