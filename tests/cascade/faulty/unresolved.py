"""An annotation names a type that is not imported."""

from __future__ import annotations

from thence import Event, Service


class ClueFound(Event): ...


scores = Service("scores")


@scores.on(ClueFound)
async def award(found: ClueFound) -> ScoreChanged | None: ...  # noqa: F821
