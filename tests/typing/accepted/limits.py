"""What type checkers must accept of limits, and of what becomes of too much."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import timedelta
from typing import Literal, assert_type

from thence import Context, Event, Handlers, Limit, Node, RateLimited, Service


class ClueFound(Event, key="player", limit="10/s", overflow="latest", priority="high", ttl="5s"):
    player: str
    room: int


class Alarm(Event, limit=Limit("5/s", burst=2), overflow="reject", priority="normal", ttl=0.5):
    text: str


class Hint(Event, limit=["5/s", Limit("100/h", per="text")], priority="low"):
    text: str


class Reset(Event, limit=None, ttl=timedelta(minutes=1)):
    pass


class Nearer(ClueFound, limit="5/s per player", ttl=None):
    pass


def room_of(found: ClueFound) -> Hashable:
    return found.room


scores = Service("scores", limit="100/s", concurrency=8)
several = Service("several", limit=["100/s", Limit("5/s", per=Limit.SOURCE)])
fleet = Service("fleet", limit=Limit("100/s", scope="service"))
free = Service("free", limit=None)
more = Handlers()


@scores.on(ClueFound, limit="200/s", overflow="drop", queue_target="100ms")
async def dropping(found: ClueFound) -> None: ...


@scores.on(ClueFound, limit=Limit("5/s", per="player", burst=2), overflow="latest")
async def newest(found: ClueFound) -> Hint:
    return Hint(text=found.player)


@scores.on(ClueFound, Alarm, limit=["200/s", Limit("10/min")], overflow="reject")
async def rejecting(event: ClueFound | Alarm, ctx: Context) -> None: ...


@scores.on(ClueFound, Alarm, Hint, limit=Limit("5/s", per=Limit.SOURCE), queue_target=0.1)
async def by_source(event: ClueFound | Alarm | Hint) -> None: ...


@more.on(ClueFound, Alarm, Hint, Reset, limit=("5/s", "100/h"), overflow="wait")
async def waiting(event: Event) -> None: ...


@more.on(ClueFound, limit=Limit(5, per=room_of), queue_target=timedelta(milliseconds=100))
def by_room(found: ClueFound) -> None: ...


@more.on(ClueFound, limit=None, queue_target=None)
async def unlimited(found: ClueFound) -> None: ...


limit = Limit("5/s per player burst 2 over all replicas")
assert_type(limit.rate, float)
assert_type(limit.burst, int)
assert_type(limit.scope, Literal["replica", "service"])
assert_type(limit.text, str)
distinct: set[Limit] = {limit, Limit(0.5), Limit("5/s", per=lambda found: found.player)}


async def use(node: Node) -> None:
    try:
        await node.emit(ClueFound(player="ana", room=1))
    except RateLimited as error:
        assert_type(error.retry_after, float)
