"""What both checkers must reject about tests of services, each line marked."""

from __future__ import annotations

from thence import Event, Service
from thence.testing import Mesh, in_virtual_time


class ScoreChanged(Event, key="player"):
    player: str
    points: int


class Hint(Event):
    text: str


scores = Service("scores")


@in_virtual_time
async def test_something(number: int) -> None: ...


@in_virtual_time  # rejected: a plain function has no use for it
def test_plain() -> None: ...


async def use() -> None:
    test_something("one")  # rejected: its parameters stay checked
    async with Mesh("scores") as mesh:  # rejected: a text is no service
        mesh.fail("scores.award", times="2")  # rejected: no number
        mesh.fail("scores.award", error="broken")  # rejected: no exception
        mesh.fail("scores.award", tims=2)  # rejected: a misspelt argument
        await mesh.emit("clue found")  # rejected: a text is no event
        cascade = await mesh.emit(Hint(text=""))
        hints: list[Hint] = cascade.handled(ScoreChanged)  # rejected: these are other events
        cascade.handled("score_changed")  # rejected: a name is no type
        print(hints)
    Mesh(scores, states={})  # rejected: a misspelt argument
