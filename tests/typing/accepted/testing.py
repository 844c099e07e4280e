"""Tests of services as the README writes them: both checkers accept all of this."""

from __future__ import annotations

from typing import assert_type

from thence import Budget, CascadeReport, Context, Event, Service
from thence.testing import Cascade, Mesh, Occurrence, Outcome, context, in_virtual_time, run


class ClueFound(Event, key="player"):
    player: str
    clue: int


class ScoreChanged(Event, key="player"):
    player: str
    points: int


scores = Service("scores")


@scores.on(ClueFound)
async def award(found: ClueFound) -> ScoreChanged:
    return ScoreChanged(player=found.player, points=10)


@scores.on(ScoreChanged)
def note(change: ScoreChanged, ctx: Context) -> None: ...


@in_virtual_time
async def test_a_clue_gives_points() -> None:
    found = ClueFound(player="ana", clue=1)
    async with Mesh(scores, state={"scores": {"ana": 1}}) as mesh:
        mesh.fail(award)
        mesh.fail("scores.award", times=2, error=TimeoutError)
        mesh.fail(note, error=KeyError("cave"))
        cascade = await mesh.emit(found)
        await mesh.emit(found, budget=Budget(events=10), timeout="5s")
    assert_type(cascade, Cascade)
    assert_type(cascade.handled(ScoreChanged), list[ScoreChanged])
    assert_type(cascade.handled(ScoreChanged, by=note), list[ScoreChanged])
    assert_type(cascade.handled(ClueFound, by="scores.award"), list[ClueFound])
    assert_type(cascade.emitted(ScoreChanged), list[ScoreChanged])
    assert_type(cascade.caused(ClueFound), list[Event])
    assert_type(cascade.caused(found), list[Event])
    assert_type(cascade.report, CascadeReport)
    assert_type(cascade.tree, Occurrence)
    assert_type(cascade.failed, list[Outcome])
    points: list[int] = [change.points for change in cascade.handled(ScoreChanged)]
    reasons: list[tuple[str, str]] = [(one.handler, one.reason) for one in cascade.shed]
    print(cascade, points, reasons, cascade.complete, cascade.tree.children)


@in_virtual_time
async def test_with_parameters(number: int, *, name: str) -> str:
    return name * number


def use() -> None:
    assert_type(test_a_clue_gives_points(), None)
    assert_type(test_with_parameters(2, name="x"), str)
    assert_type(run(award(ClueFound(player="ana", clue=1))), ScoreChanged)
    assert_type(context(state={}).budget, Budget)
