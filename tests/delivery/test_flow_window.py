"""Backpressure: roots wait for room in their turn, consequences never wait, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from thence import Event, Node, Service
from thence.testing import MemoryMesh, run


class Pinged(Event):
    number: int


class Ponged(Event):
    number: int


class Gate:
    """A service whose handler waits until it is let through."""

    def __init__(self, queue: int) -> None:
        self.open = asyncio.Event()
        self.handled: list[int] = []
        self.service = Service("slow")

        @self.service.on(Pinged, queue=queue, concurrency=1)
        async def handle(pinged: Pinged) -> None:
            await self.open.wait()
            self.handled.append(pinged.number)


@asynccontextmanager
async def gated(queue: int) -> AsyncGenerator[tuple[Gate, Node]]:
    gate = Gate(queue)
    async with Node(gate.service, mesh="memory:w", name="slow"), Node(mesh="memory:w") as node:
        yield gate, node


def test_a_root_waits_at_a_full_window_and_goes_on_in_its_turn() -> None:
    async def main() -> None:
        async with gated(queue=4) as (gate, node):
            emits = [asyncio.create_task(node.emit(Pinged(number=n))) for n in range(20)]
            await asyncio.sleep(1)
            assert sum(task.done() for task in emits) == 4
            gate.open.set()
            receipts = await asyncio.gather(*emits)
            assert all(receipt.targets == ("slow",) for receipt in receipts)
            await asyncio.sleep(1)
            assert gate.handled == list(range(20))

    run(main())


def test_an_emit_that_is_cancelled_while_it_waits_is_not_sent_and_leaves_no_trace() -> None:
    async def main() -> None:
        async with gated(queue=4) as (gate, node):
            emits = [asyncio.create_task(node.emit(Pinged(number=n))) for n in range(20)]
            await asyncio.sleep(1)
            for task in emits[4:20:2]:
                task.cancel()
            gate.open.set()
            results = await asyncio.gather(*emits, return_exceptions=True)
            assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 8
            await asyncio.sleep(1)
            assert gate.handled == [0, 1, 2, 3, *range(5, 20, 2)]
            (route,) = node.report().routes
            assert (route.sent, route.outstanding) == (12, 0)
            # The whole window is there again.
            gate.open.clear()
            for number in range(4):
                async with asyncio.timeout(1):
                    await node.emit(Pinged(number=number))
            gate.open.set()

    run(main())


def test_a_root_that_finds_no_room_for_half_a_minute_is_refused_and_counted() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with gated(queue=1) as (gate, node):
            await node.emit(Pinged(number=0))
            began = loop.time()
            receipt = await node.emit(Pinged(number=1))
            assert 29 < loop.time() - began < 31
            assert receipt.targets == ()
            (refusal,) = receipt.refused
            assert (refusal.service, refusal.reason) == ("slow", "no room within 30 s")
            assert node.report().lost == (("pinged", "slow", "no room within 30 s", 1),)
            gate.open.set()

    run(main())


def test_a_root_that_waits_for_a_replica_that_dies_is_not_left_waiting() -> None:
    async def main() -> None:
        async with gated(queue=1) as (gate, node):
            await node.emit(Pinged(number=0))
            waiting = asyncio.create_task(node.emit(Pinged(number=1)))
            await asyncio.sleep(1)
            MemoryMesh.named("w").kill("slow")
            async with asyncio.timeout(10):
                receipt = await waiting
            assert receipt.targets == ()
            gate.open.set()

    run(main())


def test_consequences_at_a_full_window_are_refused_and_counted_and_their_handler_succeeds() -> None:
    async def main() -> None:
        gate = Gate(queue=2)
        relay = Service("relay")

        @relay.on(Ponged)
        async def pass_on(ponged: Ponged) -> Pinged:
            return Pinged(number=ponged.number)

        async with (
            Node(gate.service, mesh="memory:c"),
            Node(relay, mesh="memory:c") as node,
            Node(mesh="memory:c") as emitter,
        ):
            for number in range(5):
                await emitter.emit(Ponged(number=number))
            await asyncio.sleep(1)
            (handler,) = node.report().handlers
            assert handler.handled == 5
            assert node.report().lost == (("pinged", "slow", "no room", 3),)
            gate.open.set()
            await asyncio.sleep(1)
            assert gate.handled == [0, 1]

    run(main())


@pytest.mark.parametrize("queue", [1, 3, 50])
def test_two_services_that_answer_each_other_at_full_tilt_never_block_each_other(
    queue: int,
) -> None:
    async def main() -> None:
        left, right = Service("left"), Service("right")

        @left.on(Pinged, queue=queue, concurrency=2)
        async def ping(pinged: Pinged) -> list[Ponged]:
            await asyncio.sleep(0.001)
            return [Ponged(number=pinged.number - 1)] * 2 if pinged.number else []

        @right.on(Ponged, queue=queue, concurrency=2)
        async def pong(ponged: Ponged) -> list[Pinged]:
            await asyncio.sleep(0.001)
            return [Pinged(number=ponged.number - 1)] * 2 if ponged.number else []

        async with (
            Node(left, mesh="memory:tilt") as one,
            Node(right, mesh="memory:tilt") as other,
            Node(mesh="memory:tilt") as emitter,
        ):
            for number in range(40):
                await emitter.emit(Pinged(number=8) if number % 2 else Ponged(number=8))
            async with asyncio.timeout(600):
                while any(
                    h.in_flight or h.waiting for n in (one, other) for h in n.report().handlers
                ):
                    await asyncio.sleep(0.1)
            for node in (one, other):
                assert all(route.outstanding == 0 for route in node.report().routes)

    run(main())
