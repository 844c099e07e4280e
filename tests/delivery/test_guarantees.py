"""Order, one at a time and at most once, in the memory mesh, while replicas join, leave and die."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

import pytest

from thence import Context, Event, Node, Service
from thence.testing import MemoryMesh, run


class Moved(Event, key="player"):
    player: str
    number: int


class Rested(Event, key="player"):
    player: str
    number: int


class Ledger:
    def __init__(self) -> None:
        self.alive: set[Service] = set()
        self.busy: defaultdict[str, set[Service]] = defaultdict(set)
        self.together = 0
        self.handled: defaultdict[tuple[str, str], list[int]] = defaultdict(list)

    def replica(self, chance: random.Random) -> Service:
        service = Service("scores")
        self.alive.add(service)

        @service.on(Moved, Rested)
        async def handle(event: Moved | Rested, ctx: Context) -> None:
            if service not in self.alive:
                return
            self.busy[event.player].add(service)
            self.together += len(self.busy[event.player] & self.alive) > 1
            try:
                if chance.random() < 0.5:
                    await asyncio.sleep(chance.random() * 0.02)
            finally:
                self.busy[event.player].discard(service)
            if service not in self.alive:
                # A process that was killed does nothing any more.
                return
            self.handled[ctx.source, event.player].append(event.number)

        return service


async def play(seed: int, *, kill: bool) -> None:
    chance = random.Random(seed)
    ledger = Ledger()
    mesh = f"memory:guarantees-{seed}-{kill}"
    shared = MemoryMesh.named(mesh.removeprefix("memory:"))
    emitters = [Node(mesh=mesh, name=f"emitter-{number}") for number in range(2)]
    for emitter in emitters:
        await emitter.start()
    hosted: dict[Node, Service] = {}

    async def join() -> None:
        service = ledger.replica(chance)
        replica = Node(service, mesh=mesh)
        hosted[replica] = service
        await replica.start()
        replicas.append(replica)

    replicas: list[Node] = []
    await join()
    await join()
    refused = 0

    async def emit(emitter: Node) -> int:
        nonlocal refused
        for number in range(400):
            kind = Moved if number % 3 else Rested
            receipt = await emitter.emit(kind(player=f"p{number % 11}", number=number))
            refused += len(receipt.refused)
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.02)
        return 400

    emitting = [asyncio.create_task(emit(emitter)) for emitter in emitters]
    killed: list[Node] = []
    while not all(task.done() for task in emitting):
        await asyncio.sleep(chance.random() * 0.3)
        await join()
        if len(replicas) > 2:
            victim = replicas.pop(0)
            if kill and chance.random() < 0.5:
                shared.kill(victim.report().node)
                ledger.alive.discard(hosted[victim])
                killed.append(victim)
            else:
                await victim.close()
    sent = sum([await task for task in emitting])
    await asyncio.sleep(60)
    handled = [number for numbers in ledger.handled.values() for number in numbers]
    lost = sum(count for emitter in emitters for *_, count in emitter.report().lost)
    for node in (*replicas, *emitters, *killed):
        await node.close()
    assert ledger.together == 0, "two events of one key at a time"
    for numbers in ledger.handled.values():
        assert len(set(numbers)) == len(numbers), "an event was handled twice"
        assert numbers == sorted(numbers), "out of order"
    if kill:
        assert len(handled) + lost >= sent
    else:
        assert (len(handled), lost, refused) == (sent, 0, 0)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_doubled_or_out_of_order_while_replicas_join_and_leave(seed: int) -> None:
    run(play(seed, kill=False))


@pytest.mark.parametrize("seed", range(6))
def test_order_holds_and_every_loss_is_counted_while_replicas_die(seed: int) -> None:
    run(play(seed, kill=True))


def test_what_a_handler_emits_joins_its_cascade_and_what_is_emitted_outside_does_not() -> None:
    async def main() -> None:
        seen: list[tuple[str, str | None, int]] = []
        service = Service("scores")
        node = Node(service, mesh="memory:joining")

        @service.on(Moved, emits=[Rested])
        async def relay(moved: Moved) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(node.emit(Rested(player=moved.player, number=1)))

        @service.on(Rested)
        async def note(rested: Rested, ctx: Context) -> None:
            seen.append((ctx.root_id, ctx.cause_id, ctx.depth))

        async with node:
            root = await node.emit(Moved(player="ana", number=0))
            alone = await node.emit(Rested(player="bob", number=2))
            while len(seen) < 2:
                await asyncio.sleep(0.01)
        assert sorted(seen) == sorted(
            [(root.event_id, root.event_id, 1), (alone.event_id, None, 0)]
        )

    run(main())


def test_consequences_leave_all_together_or_not_at_all() -> None:
    async def main() -> None:
        heard: list[int] = []
        service = Service("scores")

        @service.on(Moved, emits=[Rested])
        async def relay(moved: Moved, ctx: Context) -> list[Rested]:
            ctx.emit(Rested(player="ana", number=1))
            wrong: object = "two"
            return [Rested(player="ana", number=wrong)]  # type: ignore[arg-type]

        @service.on(Rested)
        async def note(rested: Rested) -> None:
            heard.append(rested.number)

        async with Node(service, mesh="memory:together") as node:
            await node.emit(Moved(player="ana", number=0))
            await asyncio.sleep(1)
            report = {handler.handler: handler for handler in node.report().handlers}
        assert heard == []
        assert (report["relay"].handled, report["relay"].failed) == (0, 1)

    run(main())
