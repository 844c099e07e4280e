"""Two services answer each other, and neither says how often it may come back."""

from thence import Event, Service


class ScoreChanged(Event):
    points: int


class RankChanged(Event):
    rank: int


scores = Service("scores")
ranks = Service("ranks")


@scores.on(RankChanged)
async def award(changed: RankChanged) -> ScoreChanged | None:
    return ScoreChanged(points=1) if changed.rank > 1 else None


@ranks.on(ScoreChanged)
async def update(changed: ScoreChanged) -> RankChanged:
    return RankChanged(rank=changed.points)
