"""Waiting lines are bounded, and whatever falls over a bound is counted: every event is accounted for."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thence import Event, Node, Service
from thence.testing import run


class Moved(Event, key="player"):
    player: str


class Pinged(Event):
    number: int


@settings(max_examples=40, deadline=None)
@given(
    events=st.integers(1, 200),
    emitters=st.integers(1, 3),
    queue=st.integers(1, 40),
    concurrency=st.integers(1, 8),
    keys=st.integers(1, 5),
    failing=st.floats(0, 1),
    together=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_every_event_sent_is_handled_failed_or_shed(
    events: int,
    emitters: int,
    queue: int,
    concurrency: int,
    keys: int,
    failing: float,
    together: bool,
    seed: int,
) -> None:
    chance = random.Random(seed)

    async def work() -> None:
        if chance.random() < 0.7:
            await asyncio.sleep(chance.random())
        if chance.random() < failing:
            raise ValueError("now and then")

    async def main() -> None:
        service = Service("scores")

        @service.on(Moved, queue=queue, concurrency=concurrency)
        async def move(moved: Moved) -> None:
            await work()

        @service.on(Pinged, queue=queue, concurrency=concurrency)
        async def ping(pinged: Pinged) -> None:
            await work()

        async def emit(node: Node) -> None:
            for number in range(events):
                await node.emit(
                    Moved(player=f"p{number % keys}") if number % 2 else Pinged(number=number)
                )
                if not together:
                    await asyncio.sleep(chance.random() * 0.1)

        mesh = "memory:accounts"
        async with Node(service, mesh=mesh) as receiver:
            nodes = [receiver, *(Node(mesh=mesh) for _ in range(emitters - 1))]
            for node in nodes[1:]:
                await node.start()
            await asyncio.gather(*(emit(node) for node in nodes))
            await asyncio.sleep(events * emitters + 1)
            handlers = receiver.report().handlers
            ended = sum(h.handled + h.failed + sum(h.shed.values()) for h in handlers)
            routes = [route for node in nodes for route in node.report().routes]
            lost = [loss for node in nodes for loss in node.report().lost]
            for node in nodes[1:]:
                await node.close()
        assert lost == []
        assert sum(route.sent for route in routes) == events * emitters
        assert sum(route.outstanding for route in routes) == 0
        assert ended == events * emitters
        assert all(h.in_flight == h.waiting == 0 for h in handlers)

    run(main())


@pytest.mark.parametrize("event", [Moved(player="ana"), Pinged(number=0)])
def test_a_line_is_never_longer_than_its_bound_and_the_excess_is_shed_as_queue_full(
    event: Event,
) -> None:
    async def main() -> None:
        service = Service("scores")
        gate = asyncio.Event()

        @service.on(type(event), queue=10, concurrency=1)
        async def handle(_: Event) -> None:
            await gate.wait()

        mesh = "memory:bounds"
        emitters = [Node(mesh=mesh) for _ in range(5)]
        async with Node(service, mesh=mesh) as receiver:
            for emitter in emitters:
                await emitter.start()
                for _ in range(10):
                    await emitter.emit(event)
            await asyncio.sleep(1)
            (report,) = receiver.report().handlers
            assert report.in_flight == 1
            assert report.waiting == 10
            assert report.shed == {"queue full": 50 - 11}
            gate.set()
            await asyncio.sleep(1)
            (report,) = receiver.report().handlers
            assert report.handled == 11
            for emitter in emitters:
                await emitter.close()

    run(main())


def test_one_handlers_full_line_takes_nothing_from_another_handler_of_the_same_event() -> None:
    async def main() -> None:
        service = Service("scores")
        gate = asyncio.Event()

        @service.on(Pinged, queue=2, concurrency=1)
        async def slow(pinged: Pinged) -> None:
            await gate.wait()

        @service.on(Pinged, queue=1000)
        async def quick(pinged: Pinged) -> None:
            return

        mesh = "memory:separate"
        async with Node(service, mesh=mesh) as node:
            others = [Node(mesh=mesh) for _ in range(10)]
            for other in others:
                await other.start()
                await other.emit(Pinged(number=0))
                await other.emit(Pinged(number=1))
            await asyncio.sleep(1)
            reports = {report.handler: report for report in node.report().handlers}
            assert reports["quick"].handled == 20
            assert reports["slow"].shed == {"queue full": 17}
            gate.set()
            for other in others:
                await other.close()

    run(main())
