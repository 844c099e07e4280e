"""How many handlers run at once, for how long, and what becomes of those that take too long."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest

from thence import Event, Node, Service
from thence.testing import run


class Moved(Event, key="player"):
    player: str
    number: int = 0


class Pinged(Event):
    number: int


class Meter:
    """Counts how many are inside, by whatever one asks for."""

    def __init__(self) -> None:
        self.inside: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def stay(self, seconds: float, *marks: str) -> None:
        for mark in marks:
            self.inside[mark] += 1
            self.most[mark] = max(self.most[mark], self.inside[mark])
        try:
            await asyncio.sleep(seconds)
        finally:
            self.inside.subtract(marks)


def test_a_handler_runs_as_often_at_once_as_its_concurrency_says_and_no_more() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        meter, service = Meter(), Service("scores")

        @service.on(Pinged, concurrency=7)
        async def handle(pinged: Pinged) -> None:
            await meter.stay(1, "handle")

        async with Node(service, mesh="memory:m") as node:
            began = loop.time()
            for number in range(70):
                await node.emit(Pinged(number=number))
            while node.report().handlers[0].handled < 70:
                await asyncio.sleep(0.01)
            assert loop.time() - began == pytest.approx(10, abs=0.2)
        assert meter.most["handle"] == 7

    run(main())


def test_all_handlers_of_a_service_share_its_concurrency() -> None:
    async def main() -> None:
        meter, service = Meter(), Service("scores", concurrency=5)

        @service.on(Pinged, concurrency=4)
        async def ping(pinged: Pinged) -> None:
            await meter.stay(1, "ping", "all")

        @service.on(Moved, concurrency=4)
        async def move(moved: Moved) -> None:
            await meter.stay(1, "move", "all")

        async with Node(service, mesh="memory:m") as node:
            for number in range(30):
                await node.emit(Pinged(number=number))
                await node.emit(Moved(player=f"p{number}"))
            await asyncio.sleep(60)
            assert [h.handled for h in node.report().handlers] == [30, 30]
        assert meter.most["all"] == 5
        assert max(meter.most["ping"], meter.most["move"]) <= 4

    run(main())


def test_events_of_one_key_run_one_after_the_other_and_of_different_keys_side_by_side() -> None:
    async def main() -> None:
        meter, service = Meter(), Service("scores")
        order: dict[str, list[int]] = {f"p{number}": [] for number in range(5)}

        @service.on(Moved)
        async def move(moved: Moved) -> None:
            await meter.stay(1 if moved.number % 2 else 0.3, moved.player, "all")
            order[moved.player].append(moved.number)

        async with Node(service, mesh="memory:m"), Node(mesh="memory:m") as node:
            for number in range(50):
                await node.emit(Moved(player=f"p{number % 5}", number=number))
            await asyncio.sleep(30)
        assert all(meter.most[player] == 1 for player in order)
        assert meter.most["all"] == 5
        for player, numbers in order.items():
            assert numbers == list(range(int(player[1]), 50, 5))

    run(main())


def test_a_run_that_takes_too_long_is_ended_counted_and_logged_and_its_key_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        service = Service("scores")
        ended: list[tuple[int, float]] = []

        @service.on(Moved, timeout="2s")
        async def move(moved: Moved) -> None:
            await asyncio.sleep(100 if moved.number == 0 else 1)
            ended.append((moved.number, asyncio.get_running_loop().time()))

        async with Node(service, mesh="memory:m") as node:
            began = asyncio.get_running_loop().time()
            for number in range(2):
                await node.emit(Moved(player="ana", number=number))
            await asyncio.sleep(10)
            (report,) = node.report().handlers
            assert (report.handled, report.failed) == (1, 1)
        assert [(number, round(at - began)) for number, at in ended] == [(1, 3)]

    run(main())
    assert "move of service scores" in caplog.text
    assert "2" in caplog.text


def test_a_plain_function_keeps_its_key_until_its_thread_has_ended() -> None:
    async def main() -> None:
        service = Service("scores")
        release = threading.Event()
        inside: list[int] = []
        together: list[int] = []

        @service.on(Moved, timeout="50ms")
        def move(moved: Moved) -> None:
            inside.append(moved.number)
            together.append(len(inside))
            if moved.number == 0:
                release.wait(20)
            inside.remove(moved.number)

        async with Node(service, mesh="memory:m") as node:
            loop = asyncio.get_running_loop()
            # The thread of the first is let go long after its time is up.
            loop.call_later(0.5, release.set)
            for number in range(3):
                await node.emit(Moved(player="ana", number=number))
            while len(together) < 3:
                await asyncio.sleep(0.01)
        assert together == [1, 1, 1]

    asyncio.run(asyncio.wait_for(main(), 30))
