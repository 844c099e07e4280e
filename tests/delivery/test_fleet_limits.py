"""A limit over all replicas holds whatever becomes of them, and is used up while there is demand."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from tests.delivery.test_limits import Log, Moved, Pinged, now

from thence import Limit, Node, RateLimited, Service
from thence.testing import MemoryMesh, run


class Fleet:
    """Replicas of one service with one limit over all of them, and a log of everything they start."""

    def __init__(self, name: str, limit: Any, overflow: Any = "wait", event: Any = Pinged) -> None:
        self.mesh_name = name
        self.mesh = MemoryMesh.named(name)
        self.limit, self.overflow, self.event = limit, overflow, event
        self.log = Log()
        self.nodes: dict[str, Node] = {}
        self.killed: set[str] = set()
        self.started = 0

    async def add(self) -> str:
        service = Service("s")
        self.started += 1
        name = f"replica-{self.started}"

        @service.on(self.event, limit=self.limit, overflow=self.overflow, queue=50)
        async def handle(event: Any) -> None:
            if name not in self.killed:
                self.log.note(event)

        node = Node(service, mesh=f"memory:{self.mesh_name}", name=name)
        await node.start()
        self.nodes[name] = node
        return name

    def kill(self, name: str) -> None:
        self.mesh.kill(name)
        self.killed.add(name)

    async def close(self) -> None:
        for node in self.nodes.values():
            await node.close()


async def flood(node: Node, stop: asyncio.Event, rate: float, event: Any = Pinged) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        body = (
            Pinged(number=number)
            if event is Pinged
            else Moved(player=f"p{number % 7}", number=number)
        )
        try:
            await asyncio.wait_for(node.emit(body), 5)
        except (RateLimited, TimeoutError):
            pass
        await asyncio.sleep(1 / rate)


@pytest.mark.parametrize(
    ("limit", "overflow"),
    [
        ("100/s", "drop"),
        ("100/s", "wait"),
        # With fewer events in a burst than replicas, they take turns.
        ("200/s burst 1", "wait"),
        ("20/s burst 3", "wait"),
    ],
)
def test_replicas_that_are_left_alone_use_up_their_limit_together_and_no_more(
    limit: str, overflow: str
) -> None:
    async def main() -> None:
        fleet = Fleet("steady", Limit(limit, scope="service"), overflow)
        for _ in range(4):
            await fleet.add()
        rate = Limit(limit).rate
        async with Node(mesh="memory:steady") as one:
            await asyncio.sleep(1)
            stop = asyncio.Event()
            flooding = asyncio.create_task(flood(one, stop, 4 * rate))
            await asyncio.sleep(2)
            before, began = len(fleet.log.starts), now()
            await asyncio.sleep(10)
            started, seconds = len(fleet.log.starts) - before, now() - began
            stop.set()
            await flooding
        assert started >= 0.98 * rate * seconds
        assert fleet.log.worst(rate, Limit(limit).burst) < 1e-6
        await fleet.close()

    run(main())


@pytest.mark.parametrize("seed", range(6))
def test_the_limit_holds_while_replicas_join_leave_die_stop_and_are_cut_off(seed: int) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        name = f"troubled-{seed}"
        fleet = Fleet(name, Limit("50/s", burst=chance.choice([2, 5]), scope="service"))
        for _ in range(3):
            await fleet.add()
        emitter = Node(mesh=f"memory:{name}", name="emitter")
        await emitter.start()
        stop = asyncio.Event()
        flooding = asyncio.create_task(flood(emitter, stop, 400))
        for _ in range(12):
            await asyncio.sleep(chance.random() * 2)
            alive = [one for one in fleet.nodes if one not in fleet.killed]
            what = chance.choice(["join", "leave", "kill", "stop", "cut"])
            if what == "join" or len(alive) < 2:
                await fleet.add()
            elif what == "leave":
                await fleet.nodes.pop(chance.choice(alive)).close()
            elif what == "kill":
                fleet.kill(chance.choice(alive))
            elif what == "stop":
                victim = chance.choice(alive)
                fleet.mesh.stop(victim)
                await asyncio.sleep(chance.random() * 2)
                fleet.mesh.resume(victim)
            else:
                victim = chance.choice(alive)
                fleet.mesh.partition({victim}, {*alive, "emitter"} - {victim})
                await asyncio.sleep(chance.random() * 2)
                fleet.mesh.heal()
        await asyncio.sleep(1.5)
        before, began = len(fleet.log.starts), now()
        await asyncio.sleep(4)
        assert len(fleet.log.starts) - before >= 0.95 * 50 * (now() - began)
        stop.set()
        await flooding
        await emitter.close()
        await fleet.close()
        assert fleet.log.worst(50, fleet.limit.burst) < 1e-6

    run(main())


def test_a_limit_for_each_key_over_all_replicas_holds_while_keys_move() -> None:
    async def main() -> None:
        limit = Limit("5/s", per="player", burst=2, scope="service")
        fleet = Fleet("keys", limit, overflow="drop", event=Moved)
        await fleet.add()
        emitter = Node(mesh="memory:keys", name="emitter")
        await emitter.start()
        stop = asyncio.Event()
        flooding = asyncio.create_task(flood(emitter, stop, 300, Moved))
        for _ in range(3):
            await asyncio.sleep(1.3)
            await fleet.add()
        await asyncio.sleep(1)
        fleet.kill("replica-1")
        await asyncio.sleep(2)
        stop.set()
        await flooding
        for player in {event.player for _, event in fleet.log.starts}:
            one = Log()
            one.starts = [(at, event) for at, event in fleet.log.starts if event.player == player]
            assert one.worst(5, 2) < 1e-6
            assert len(one.starts) > 15
        await emitter.close()
        await fleet.close()

    run(main())


def test_a_changed_limit_holds_for_all_replicas_together() -> None:
    async def main() -> None:
        fleet = Fleet("changed", Limit("100/s", scope="service"))
        for _ in range(3):
            await fleet.add()
        async with Node(mesh="memory:changed") as one:
            stop = asyncio.Event()
            flooding = asyncio.create_task(flood(one, stop, 1000))
            await asyncio.sleep(2)
            changes, silent = await one.set_limit(
                "s.handle", "20/s burst 2 over all replicas", by="the test"
            )
            assert (len(changes), silent) == (3, [])
            await asyncio.sleep(1)
            fleet.log.starts.clear()
            await asyncio.sleep(5)
            stop.set()
            await flooding
            assert fleet.log.worst(20, 2) < 1e-6
            assert len(fleet.log.starts) >= 0.97 * 20 * 5
        await fleet.close()

    run(main())
