"""Two services have a class each for one event, with one schema and different policies."""

from thence import Event, Service


class ClueFound(Event): ...


class ScoreChanged(Event, ttl="5s", max_bytes=64, limit="10/s"):
    points: int


class ScoreSeen(Event, name="score_changed", ttl="9s", max_bytes=64, priority="low"):
    points: int


scores = Service("scores")
ranks = Service("ranks")


@scores.on(ClueFound)
async def award(found: ClueFound) -> ScoreChanged | None: ...


@ranks.on(ScoreSeen)
async def rank(seen: ScoreSeen) -> None: ...
