"""Root emits that wait for room: whatever is cancelled, lost or slow meanwhile, the windows stay right."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thence import Event, Receipt
from thence.budget import Budget
from thence.cascade.loops import Paths
from thence.cascade.settlement import Branches
from thence.delivery.emission import Emitter
from thence.delivery.outlets import EMIT_PATIENCE, Outlet
from thence.delivery.routes import RouteTable
from thence.delivery.tracking import Tracker
from thence.events import spec_of
from thence.events.catalog import Catalog
from thence.events.lineage import Lineage
from thence.mesh.cork import Cork
from thence.testing import run


class Pinged(Event):
    number: int


NODE = "0" * 20


class Kept(Outlet):
    """An outlet that keeps what it is given, until the test acknowledges it."""

    __slots__ = ("numbers",)

    def __init__(self, node: str, window: int) -> None:
        super().__init__(node, window)
        self.numbers: list[int] = []

    def send(
        self,
        sequence: int,
        payload: bytes,
        body: Any,
        lineage: Lineage | None = None,
        credits: int = 0,
        tracked: bool = False,
        sent: int = 0,
    ) -> None:
        self.numbers.append(body.number)


class Bench:
    """An emitter with an outlet to each of some services."""

    def __init__(self, *windows: int, broadcast: bool = False) -> None:
        loop = asyncio.get_running_loop()
        cork = Cork(loop)
        tracker = Tracker(loop.time, Branches())
        self.table = RouteTable(
            NODE, "bench", Catalog(), lambda _: False, lambda *_: None, cork, Budget(), tracker
        )
        self.emitter = Emitter(NODE, self.table, cork, tracker, Paths())
        self.outlets = [Kept(f"{n:020}", window) for n, window in enumerate(windows)]
        self.waiting: list[asyncio.Task[Receipt]] = []
        for number, outlet in enumerate(self.outlets):
            service = "all" if broadcast else f"service-{number}"
            self.table._target("pinged", service, broadcast).attach(outlet.node, outlet)
            self.table.set_ready(outlet.node, frozenset({service}))

    def emit(self, number: int) -> asyncio.Task[Receipt]:
        emit: Coroutine[Any, Any, Receipt] = self.emitter.emit_root(Pinged(number=number))
        task = asyncio.create_task(emit, name=str(number))
        self.waiting.append(task)
        return task

    async def settle(self) -> None:
        for _ in range(8):
            await asyncio.sleep(0)

    def drop(self, outlet: Kept) -> int:
        """As when its peer has died. Returns what is counted."""
        del outlet.target.outlets[outlet.node]
        self.table.forget(outlet.node)
        return outlet.close()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("emit"), st.integers(1, 5)),
        st.tuples(st.just("end"), st.integers(0, 1), st.integers(1, 6)),
        st.tuples(st.just("cancel"), st.integers(0, 50)),
        st.tuples(st.just("congest"), st.integers(0, 1)),
        st.tuples(st.just("relieve"), st.integers(0, 1)),
        st.tuples(st.just("settle")),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(windows=st.lists(st.integers(1, 4), min_size=1, max_size=2), steps=steps)
def test_whatever_happens_to_waiting_emits_the_others_go_on_in_turn_and_no_room_is_lost(
    windows: list[int], steps: list[Any]
) -> None:
    async def main() -> None:
        bench = Bench(*windows)
        ended = [0] * len(windows)
        emitted = 0

        def under_way(at: int) -> int:
            return len(bench.outlets[at].numbers) - ended[at]

        for what, *numbers in steps:
            match what:
                case "emit":
                    for _ in range(numbers[0]):
                        bench.emit(emitted)
                        emitted += 1
                    # Whoever comes later finds these waiting already.
                    await bench.settle()
                case "end":
                    at = numbers[0] % len(windows)
                    count = min(numbers[1], under_way(at))
                    ended[at] += count
                    bench.outlets[at].acknowledged(count)
                case "cancel" if bench.waiting:
                    bench.waiting[numbers[0] % len(bench.waiting)].cancel()
                case "congest" | "relieve":
                    at = numbers[0] % len(windows)
                    if bench.outlets[at].congested != (what == "congest"):
                        bench.outlets[at].set_congested(what == "congest")
                case _:
                    await bench.settle()
            assert all(under_way(at) <= window for at, window in enumerate(windows))
        for outlet in bench.outlets:
            if outlet.congested:
                outlet.set_congested(False)
        while not all(task.done() for task in bench.waiting):
            await bench.settle()
            for at, outlet in enumerate(bench.outlets):
                count = under_way(at)
                ended[at] += count
                outlet.acknowledged(count)
        wanted = {int(task.get_name()) for task in bench.waiting if not task.cancelled()}
        for outlet, window in zip(bench.outlets, windows, strict=True):
            # One that was cancelled in the tick in which its room came has been sent.
            assert outlet.numbers == sorted(outlet.numbers) == bench.outlets[0].numbers
            assert wanted <= set(outlet.numbers)
            outlet.acknowledged(outlet.outstanding)
            assert (outlet.room, outlet.outstanding) == (window, 0)
        assert all(not task.result().refused for task in bench.waiting if not task.cancelled())

    run(main())


def test_room_that_comes_in_the_tick_of_a_cancellation_goes_to_the_next() -> None:
    async def main() -> None:
        bench = Bench(1)
        (outlet,) = bench.outlets
        emits = [bench.emit(number) for number in range(3)]
        await bench.settle()
        emits[1].cancel()
        outlet.acknowledged(1)
        await bench.settle()
        assert emits[1].cancelled()
        assert outlet.numbers == [0, 2]

    run(main())


def test_an_emit_that_is_cancelled_in_the_tick_after_its_room_came_was_sent_and_takes_no_more() -> (
    None
):
    async def main() -> None:
        bench = Bench(1)
        (outlet,) = bench.outlets
        emits = [bench.emit(number) for number in range(3)]
        await bench.settle()
        outlet.acknowledged(1)
        emits[1].cancel()
        await bench.settle()
        assert emits[1].cancelled()
        assert outlet.numbers == [0, 1]
        outlet.acknowledged(1)
        assert outlet.numbers == [0, 1, 2]

    run(main())


def test_who_waits_for_one_service_gives_back_the_room_of_another_when_cancelled() -> None:
    async def main() -> None:
        bench = Bench(1, 1)
        one, other = bench.outlets
        emits = [bench.emit(number) for number in range(3)]
        await bench.settle()
        one.acknowledged(1)
        await bench.settle()
        # The second has room at one of both now, and waits for the other.
        emits[1].cancel()
        await bench.settle()
        other.acknowledged(1)
        await bench.settle()
        assert one.numbers == other.numbers == [0, 2]

    run(main())


def test_a_service_without_room_for_too_long_takes_nothing_from_the_others() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bench = Bench(1, 5)
        slow, quick = bench.outlets
        for number in range(3):
            began = loop.time()
            receipt = await bench.emit(number)
            assert loop.time() - began == (EMIT_PATIENCE if number else 0)
            assert receipt.targets == ("service-0", "service-1")[bool(number) :]
            assert [one.service for one in receipt.refused] == ["service-0"][: bool(number) * 1]
        assert (slow.numbers, quick.numbers) == ([0], [0, 1, 2])
        assert bench.emitter.refused == {
            ("pinged", "service-0", f"no room within {EMIT_PATIENCE:g} s"): 2
        }
        slow.acknowledged(1)
        assert slow.room == 1

    run(main())


def test_one_slow_replica_of_a_broadcast_takes_nothing_from_the_others() -> None:
    async def main() -> None:
        bench = Bench(1, 5, 5, broadcast=True)
        for number in range(2):
            receipt = await bench.emit(number)
        assert [outlet.numbers for outlet in bench.outlets] == [[0], [0, 1], [0, 1]]
        assert receipt.targets == ("all",)
        assert [one.service for one in receipt.refused] == ["all"]

    run(main())


def test_all_who_wait_for_a_replica_that_dies_are_told_and_go_to_the_next() -> None:
    async def main() -> None:
        bench = Bench(1)
        (outlet,) = bench.outlets
        emits = [bench.emit(number) for number in range(4)]
        await bench.settle()
        spare = Kept(f"{9:020}", 10)
        outlet.target.attach(spare.node, spare)
        assert bench.drop(outlet) == 1
        bench.table.set_ready(spare.node, frozenset({"service-0"}))
        await bench.settle()
        assert all(task.done() for task in emits)
        # Told before anybody else was there, they had nowhere to go; or they went to the other.
        reached = [int(t.get_name()) for t in emits if t.result().targets]
        assert reached == [0, *spare.numbers]

    run(main())


def test_a_type_is_sealed_before_it_waits_so_that_what_is_sent_is_what_was_checked() -> None:
    async def main() -> None:
        bench = Bench(1)
        await bench.emit(0)
        wrong: Any = "one"
        with pytest.raises(Exception, match="number"):
            await bench.emitter.emit_root(Pinged(number=wrong))
        assert spec_of(Pinged).name == "pinged"
        assert bench.outlets[0].numbers == [0]

    run(main())


def test_who_comes_in_the_tick_in_which_room_comes_does_not_overtake_who_has_waited() -> None:
    async def main() -> None:
        bench = Bench(3)
        (outlet,) = bench.outlets
        for number in range(3):
            await bench.emit(number)
        bench.emit(3)
        await bench.settle()
        bench.emit(4)
        outlet.acknowledged(3)
        await bench.settle()
        assert outlet.numbers == [0, 1, 2, 3, 4]

    run(main())


def test_an_event_that_was_not_sent_yet_is_not_lost_with_a_peer() -> None:
    async def main() -> None:
        bench = Bench(1, 1)
        one, other = bench.outlets
        emits = [bench.emit(number) for number in range(2)]
        await bench.settle()
        one.acknowledged(1)
        await bench.settle()
        assert bench.drop(one) == 0
        other.acknowledged(1)
        assert (await emits[1]).targets == ("service-1",)

    run(main())


def test_thousands_of_emits_that_are_cancelled_at_once_leave_the_room_to_the_next() -> None:
    async def main() -> None:
        bench = Bench(1)
        (outlet,) = bench.outlets
        emits = [bench.emit(number) for number in range(5_000)]
        await bench.settle()
        for emit in reversed(emits[1:-1]):
            emit.cancel()
        outlet.acknowledged(1)
        assert outlet.numbers == [0, 4_999]
        await bench.settle()
        outlet.acknowledged(1)
        assert (outlet.room, outlet.outstanding) == (1, 0)

    run(main())


def test_nobody_waits_longer_for_room_than_is_of_use_to_the_receiver() -> None:
    async def main() -> None:
        bench = Bench(1, 5)
        slow, quick = bench.outlets
        slow.patience = 0.2
        await bench.emit(0)
        began = asyncio.get_running_loop().time()
        receipt = await bench.emit(1)
        assert asyncio.get_running_loop().time() - began == 0.2
        assert receipt.targets == ("service-1",)
        assert receipt.refused[0].reason == "no room within 0.2 s"
        assert quick.numbers == [0, 1]

    run(main())
