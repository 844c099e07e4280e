"""A handler causes more than the budget that it has for itself."""

from thence import Budget, Event, Service


class ClueFound(Event): ...


class ScoreChanged(Event): ...


class RankChanged(Event): ...


scores = Service("scores")


@scores.on(ClueFound, budget=Budget(events=2, depth=1))
async def award(found: ClueFound) -> ScoreChanged | None: ...


@scores.on(ScoreChanged)
async def rank(changed: ScoreChanged) -> RankChanged | None: ...


@scores.on(ScoreChanged)
async def show(changed: ScoreChanged) -> None: ...


@scores.on(RankChanged)
async def tell(changed: RankChanged) -> None: ...
