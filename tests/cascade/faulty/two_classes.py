"""One service has two classes for one event."""

from thence import Event, Service


class ClueFound(Event):
    clue: int


class Clue(Event, name="clue_found"):
    clue: int


scores = Service("scores")


@scores.on(ClueFound)
async def award(found: ClueFound) -> None: ...


@scores.on(Clue)
async def count(found: Clue) -> None: ...
