"""Who gets an event: one replica of each service, or all of them; here first, or where its key lives."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

from thence import Event, Node, Service
from thence.testing import run


class Moved(Event, key="player"):
    player: str


class Pinged(Event):
    number: int


class Announced(Event):
    text: str


class Replica:
    """A replica of the service ``scores`` that notes what reaches it."""

    def __init__(self, name: str = "scores") -> None:
        self.service = Service(name)
        self.heard: Counter[str] = Counter()
        self.players: set[str] = set()

        @self.service.on(Moved)
        async def move(moved: Moved) -> None:
            self.heard["moved"] += 1
            self.players.add(moved.player)

        @self.service.on(Pinged)
        async def ping(pinged: Pinged) -> None:
            self.heard["pinged"] += 1

        @self.service.on(Announced, broadcast=True)
        async def everywhere(announced: Announced) -> None:
            self.heard["everywhere"] += 1

        @self.service.on(Announced)
        async def somewhere(announced: Announced) -> None:
            self.heard["somewhere"] += 1


def total(replicas: list[Replica], what: str) -> int:
    return sum(replica.heard[what] for replica in replicas)


async def hosting(stack: AsyncExitStack, replicas: list[Replica]) -> list[Node]:
    return [
        await stack.enter_async_context(Node(replica.service, mesh="memory:choice"))
        for replica in replicas
    ]


def test_each_subscribed_service_gets_an_event_once_whatever_its_replicas() -> None:
    async def main() -> None:
        scores, ranks = [Replica() for _ in range(3)], [Replica("ranks") for _ in range(2)]
        async with AsyncExitStack() as stack:
            await hosting(stack, scores + ranks)
            emitter = await stack.enter_async_context(Node(mesh="memory:choice"))
            for number in range(60):
                receipt = await emitter.emit(Pinged(number=number))
                assert sorted(receipt.targets) == ["ranks", "scores"]
                await emitter.emit(Moved(player=f"p{number}"))
            await asyncio.sleep(1)
        for service in (scores, ranks):
            assert total(service, "pinged") == total(service, "moved") == 60

    run(main())


def test_an_unkeyed_event_stays_here_when_its_service_is_here_too() -> None:
    async def main() -> None:
        replicas = [Replica() for _ in range(3)]
        async with AsyncExitStack() as stack:
            nodes = await hosting(stack, replicas)
            await asyncio.sleep(0.1)
            for number in range(60):
                await nodes[0].emit(Pinged(number=number))
            await asyncio.sleep(1)
        assert [replica.heard["pinged"] for replica in replicas] == [60, 0, 0]

    run(main())


def test_a_keyed_event_goes_where_its_key_lives_whoever_emits_it() -> None:
    async def main() -> None:
        replicas = [Replica() for _ in range(3)]
        async with AsyncExitStack() as stack:
            nodes = await hosting(stack, replicas)
            nodes.append(await stack.enter_async_context(Node(mesh="memory:choice")))
            await asyncio.sleep(0.1)
            for node in nodes:
                for number in range(60):
                    await node.emit(Moved(player=f"p{number}"))
            await asyncio.sleep(1)
        assert total(replicas, "moved") == 240
        assert sum(len(replica.players) for replica in replicas) == 60, "a key with two homes"
        assert all(len(replica.players) > 5 for replica in replicas)

    run(main())


def test_unkeyed_events_from_elsewhere_are_spread_over_the_replicas() -> None:
    async def main() -> None:
        replicas = [Replica() for _ in range(4)]
        async with AsyncExitStack() as stack:
            await hosting(stack, replicas)
            emitter = await stack.enter_async_context(Node(mesh="memory:choice"))
            for number in range(400):
                await emitter.emit(Pinged(number=number))
            await asyncio.sleep(1)
        assert total(replicas, "pinged") == 400
        assert all(replica.heard["pinged"] > 40 for replica in replicas)

    run(main())


def test_a_broadcast_handler_runs_in_every_replica_and_one_beside_it_in_one() -> None:
    async def main() -> None:
        replicas = [Replica() for _ in range(3)]
        async with AsyncExitStack() as stack:
            nodes = await hosting(stack, replicas)
            await asyncio.sleep(0.1)
            emitter = await stack.enter_async_context(Node(mesh="memory:choice"))
            for node in (emitter, nodes[0]):
                for _ in range(10):
                    receipt = await node.emit(Announced(text="hear"))
                    assert receipt.targets == ("scores",)
            await asyncio.sleep(1)
            await nodes[2].close()
            await emitter.emit(Announced(text="hear"))
            await asyncio.sleep(1)
        assert [replica.heard["everywhere"] for replica in replicas] == [21, 21, 20]
        assert total(replicas, "somewhere") == 21

    run(main())


def test_an_event_that_nobody_wants_is_counted_as_unheard() -> None:
    async def main() -> None:
        async with Node(mesh="memory:choice") as node:
            receipt = await node.emit(Pinged(number=1))
            assert (receipt.targets, receipt.refused) == ((), ())
            (emitted,) = node.report().emitted
            assert (emitted.event, emitted.emitted, emitted.unheard) == ("pinged", 1, 1)

    run(main())
