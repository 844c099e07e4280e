"""A handler that no loop leads back to says how often it may come back."""

from thence import Event, Service


class ClueFound(Event):
    clue: int


scores = Service("scores")


@scores.on(ClueFound, max_loops=3)
async def award(found: ClueFound) -> None: ...
