"""Two services handle an event that comes from outside, and no emitter can suit both."""

from thence import Event, Service


class ClueFound(Event):
    clue: int


class ClueSeen(Event, name="clue_found"):
    clue: str


class ClueHeard(Event, name="clue_found"):
    clue: int
    loud: bool


scores = Service("scores")
hints = Service("hints")
sounds = Service("sounds")


@scores.on(ClueFound)
async def award(found: ClueFound) -> None: ...


@hints.on(ClueSeen)
async def cross_off(seen: ClueSeen) -> None: ...


@sounds.on(ClueHeard)
async def play(heard: ClueHeard) -> None: ...
