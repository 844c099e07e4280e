"""One service orders an event by player and the other one by hunt."""

from thence import Event, Service


class ClueFound(Event): ...


class ScoreChanged(Event, key="player"):
    player: str
    hunt: str


class ScoreSeen(Event, name="score_changed", key="hunt"):
    player: str
    hunt: str


scores = Service("scores")
ranks = Service("ranks")


@scores.on(ClueFound)
async def award(found: ClueFound) -> ScoreChanged | None: ...


@ranks.on(ScoreSeen)
async def rank(seen: ScoreSeen) -> None: ...
