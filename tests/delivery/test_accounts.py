"""Every event of a busy mesh is accounted for, one by one: its receipt tells where it ends."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest
from tests.delivery.watching import Watch, eventually, is_idle, lost

from thence import Budget, Context, Event, Node, Receipt, Service
from thence.testing import run


class Moved(Event, key="player"):
    player: str
    number: int


class Pinged(Event):
    number: int


class Scored(Event, key="player"):
    player: str


def busy(name: str, chance: random.Random) -> Service:
    """A service with tight bounds whose handlers take their time, fail and emit now and then."""
    service = Service(name, concurrency=chance.choice([None, 2, 5]))
    queue = chance.randint(1, 12)
    places = chance.randint(1, 4)

    async def work() -> None:
        if chance.random() < 0.6:
            await asyncio.sleep(chance.random())
        if chance.random() < 0.1:
            raise ValueError("now and then")

    @service.on(Moved, Pinged, queue=queue, concurrency=places)
    async def first(event: Moved | Pinged) -> list[Scored]:
        await work()
        return [Scored(player=f"p{chance.randrange(4)}")] * chance.randrange(3)

    @service.on(Moved, queue=chance.randint(1, 12))
    async def second(event: Moved, ctx: Context) -> Pinged | None:
        await work()
        return Pinged(number=-1) if ctx.depth < 2 and chance.random() < 0.3 else None

    @service.on(Scored, queue=queue, concurrency=places)
    async def third(scored: Scored) -> None:
        await work()

    return service


PATIENT = Budget(seconds=600)

HANDLERS = {Moved: 2, Pinged: 1}


async def play(seed: int) -> None:
    chance = random.Random(seed)
    mesh = f"memory:accounts-{seed}"
    staying = [
        Node(busy("scores", chance), mesh=mesh, budget=PATIENT),
        Node(busy("ranks", chance), busy("prizes", chance), mesh=mesh, budget=PATIENT),
        Node(mesh=mesh, budget=PATIENT),
    ]
    leaving = Node(busy("scores", chance), mesh=mesh, budget=PATIENT)
    watch = Watch(*staying, leaving)
    for node in (*staying, leaving):
        await node.start()
    receipts: list[tuple[Event, Receipt]] = []

    async def emit(node: Node) -> None:
        for number in range(60):
            event: Event = Pinged(number=number)
            if chance.random() < 0.7:
                event = Moved(player=f"p{chance.randrange(4)}", number=number)
            receipts.append((event, await node.emit(event)))
            if chance.random() < 0.2:
                await asyncio.sleep(chance.random())

    emitting = [asyncio.create_task(emit(node)) for node in staying]
    await asyncio.sleep(chance.random() * 10)
    await leaving.close()
    await asyncio.gather(*emitting)
    await eventually(lambda: is_idle(*staying))
    refused, left_behind = lost(*staying), lost(leaving)
    for node in staying:
        await node.close()

    for event_id, by_service in watch.ends.items():
        for ends in by_service.values():
            handlers = [handler for handler, _ in ends]
            assert len(set(handlers)) == len(handlers), f"{event_id} ended twice: {ends}"
    for event, receipt in receipts:
        assert {*receipt.targets, *(one.service for one in receipt.refused)} == {
            "scores", "ranks", "prizes",
        }  # fmt: skip
        for service in receipt.targets:
            assert len(watch.ends[receipt.event_id][service]) == HANDLERS[type(event)]
    unended = sum(targets - len(watch.ends[one]) for one, targets in watch.reached.items())
    # A node that leaves can't wait for ever for what is held while a key moves; it counts it.
    assert unended == left_behind["owner unreachable"]
    # Among them those that one of three services had no room for while the others had.
    assert all(reason.startswith("no room") for reason in refused)
    found_no_room = sum(
        count for reason, count in (*refused.items(), *left_behind.items()) if "no room" in reason
    )
    assert 3 * len(watch.reached) == sum(watch.reached.values()) + found_no_room
    assert set(watch.totals()) <= {"handled", "failed", "queue full", "key is moving", "closing"}
    assert watch.totals()["handled"] > 100


@pytest.mark.parametrize("seed", range(8))
def test_each_event_ends_once_in_each_service_its_receipt_names_and_the_others_are_counted(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "thence.handling")
    run(play(seed))
