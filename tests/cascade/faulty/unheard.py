"""A handler emits an event that nobody handles."""

from thence import Event, Service


class ClueFound(Event): ...


class ScoreChanged(Event): ...


scores = Service("scores")


@scores.on(ClueFound)
async def award(found: ClueFound) -> ScoreChanged | None: ...
