"""Services and handlers as the README writes them: both checkers accept all of this."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager

from thence import Context, Event, Handlers, Node, Receipt, Service


class ClueFound(Event, key="player"):
    hunt: str
    player: str
    clue: int


class ScoreChanged(Event, key="player", max_bytes=256):
    player: str
    points: int


class Hint(Event):
    text: str


@asynccontextmanager
async def lifespan(node: Node) -> AsyncGenerator[dict[str, int]]:
    await node.emit(Hint(text="starting"))
    yield {}


scores = Service("scores", lifespan=lifespan, concurrency=8)
more = Handlers()


@scores.on(ClueFound)
async def award(found: ClueFound) -> ScoreChanged:
    return ScoreChanged(player=found.player, points=10)


@scores.on(ClueFound, name="audit", timeout="5s", queue=10, concurrency=1)
async def audit(found: ClueFound, ctx: Context) -> None:
    ctx.log.info("%s found clue %d", found.player, found.clue)


@scores.on(ClueFound, ScoreChanged)
async def either(event: ClueFound | ScoreChanged) -> list[Hint]:
    return [Hint(text=event.player)]


@more.on(ScoreChanged, emits=[Hint], broadcast=True)
def in_a_thread(change: ScoreChanged, ctx: Context) -> Iterator[Hint]:
    yield Hint(text=change.player)


@more.on(ScoreChanged)
async def generated(change: ScoreChanged) -> AsyncIterator[Hint]:
    yield Hint(text=change.player)


@more.on(Hint)
async def of_a_base(event: Event) -> Hint | None:
    return None


scores.include(more)


async def use() -> None:
    changed: ScoreChanged = await award(ClueFound(hunt="h", player="ana", clue=1))
    async with Node(scores, mesh="memory:typing", name="n", listen=None) as node:
        receipt: Receipt = await node.emit(changed)
        event_id: str = receipt.event_id
        targets: tuple[str, ...] = receipt.targets
        print(event_id, targets, [refusal.reason for refusal in receipt.refused])
