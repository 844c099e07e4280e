"""Nothing is wrong here: two services and a declared loop that may end at any round."""

from thence import Event, Service


class ClueFound(Event, key="player"):
    player: str


class ScoreChanged(Event, key="player"):
    player: str
    points: int


class BonusWon(Event, key="player"):
    player: str


scores = Service("scores")
bonuses = Service("bonuses")


@scores.on(ClueFound)
async def award(found: ClueFound) -> ScoreChanged:
    return ScoreChanged(player=found.player, points=10)


@scores.on(BonusWon, max_loops=2)
async def reward(won: BonusWon) -> ScoreChanged:
    return ScoreChanged(player=won.player, points=50)


@bonuses.on(ScoreChanged, max_loops=2)
async def give(changed: ScoreChanged) -> BonusWon | None:
    return BonusWon(player=changed.player) if changed.points < 100 else None
