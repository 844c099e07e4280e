"""One service writes a field as a number and the other one reads it as a text."""

from thence import Event, Service


class ClueFound(Event): ...


class ScoreChanged(Event):
    player: str
    points: int


class ScoreSeen(Event, name="score_changed"):
    player: str
    points: str


scores = Service("scores")
ranks = Service("ranks")


@scores.on(ClueFound)
async def award(found: ClueFound) -> ScoreChanged | None: ...


@ranks.on(ScoreSeen)
async def rank(seen: ScoreSeen) -> None: ...
