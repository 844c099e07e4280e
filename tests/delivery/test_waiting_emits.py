"""Root emits that wait for room: whatever is cancelled, lost or slow meanwhile, the windows stay right."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.delivery.watching import eventually

from thence import Event, Node, Receipt, Service
from thence.budget import Budget
from thence.cascade.loops import Paths
from thence.cascade.settlement import Branches
from thence.delivery.emission import Emitter
from thence.delivery.outlets import EMIT_PATIENCE, Outlet
from thence.delivery.patience import COURTESY, Place
from thence.delivery.reasons import CANCELLED, CASCADE_EXPIRED, UNREACHABLE
from thence.delivery.routes import RouteTable
from thence.delivery.tracking import Tracker
from thence.events import spec_of
from thence.events.catalog import Catalog
from thence.events.lineage import Lineage
from thence.facts import Ring
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

    def __init__(self, *windows: int, broadcast: bool = False, choice: bool = False) -> None:
        loop = asyncio.get_running_loop()
        cork = Cork(loop)
        tracker = Tracker(loop.time, Branches())
        self.table = RouteTable(
            NODE, "bench", Catalog(), lambda _: False, lambda *_: None, cork, Budget(), tracker
        )
        self.emitter = Emitter(NODE, self.table, cork, tracker, Paths(), Ring(0))
        self.outlets: list[Kept] = []
        self.waiting: list[asyncio.Task[Receipt]] = []
        for number, window in enumerate(windows):
            service = "all" if broadcast else "any" if choice else f"service-{number}"
            self.add(service, window, broadcast=broadcast)

    def add(self, service: str, window: int, *, broadcast: bool = False) -> None:
        """One more replica."""
        outlet = Kept(f"{len(self.outlets):020}", window)
        self.outlets.append(outlet)
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
        kept = {
            int(task.get_name()): {one.service for one in task.result().refused}
            for task in bench.waiting
            if not task.cancelled()
        }
        for outlet, window in zip(bench.outlets, windows, strict=True):
            # What was sent of one that was cancelled stays sent.
            assert outlet.numbers == sorted(outlet.numbers)
            service = outlet.target.service
            assert {number for number, refused in kept.items() if service not in refused} <= set(
                outlet.numbers
            )
            outlet.acknowledged(outlet.outstanding)
            assert (outlet.room, outlet.outstanding) == (window, 0)
            assert not outlet.line.waiting
        if len(windows) == 1:
            assert not any(kept.values())

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


def test_an_emit_goes_at_once_to_whoever_has_room_and_is_given_up_by_the_other_when_cancelled() -> (
    None
):
    async def main() -> None:
        bench = Bench(1, 2)
        one, other = bench.outlets
        emits = [bench.emit(number) for number in range(2)]
        await bench.settle()
        assert (one.numbers, other.numbers) == ([0], [0, 1])
        emits[1].cancel()
        await bench.settle()
        one.acknowledged(1)
        assert (one.room, one.numbers) == (1, [0])
        assert bench.emitter.refused == {("pinged", "service-0", CANCELLED): 1}

    run(main())


def test_a_service_at_a_standstill_costs_the_others_one_moment_and_not_one_for_each_event() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bench = Bench(1, 5)
        slow, quick = bench.outlets
        waited: list[float] = []
        for number in range(5):
            began = loop.time()
            receipt = await bench.emit(number)
            waited.append(loop.time() - began)
            assert receipt.targets == ("service-0", "service-1")[bool(number) :]
            assert [one.service for one in receipt.refused] == ["service-0"][: bool(number) * 1]
        assert waited == pytest.approx([0, COURTESY, 0, 0, 0])
        assert (slow.numbers, quick.numbers) == ([0], [0, 1, 2, 3, 4])
        assert bench.emitter.refused == {
            ("pinged", "service-0", f"no room within {COURTESY:g} s"): 1,
            ("pinged", "service-0", "no room within 0 s"): 3,
        }
        slow.acknowledged(1)
        quick.acknowledged(5)
        assert slow.room == 1
        # It moves again, so it is waited for again.
        assert (await bench.emit(5)).refused == ()
        assert (await bench.emit(6)).refused[0].reason == f"no room within {COURTESY:g} s"

    run(main())


def test_who_alone_wants_an_event_is_waited_for_as_long_as_patience_lasts() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bench = Bench(1)
        await bench.emit(0)
        for number in (1, 2):
            began = loop.time()
            receipt = await bench.emit(number)
            assert loop.time() - began == pytest.approx(EMIT_PATIENCE)
            assert receipt.refused[0].reason == f"no room within {EMIT_PATIENCE:g} s"

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


def test_a_peer_that_dies_while_an_emit_waits_for_it_costs_that_emit_nothing() -> None:
    async def main() -> None:
        bench = Bench(1, 1)
        one, other = bench.outlets
        emits = [bench.emit(number) for number in range(2)]
        await bench.settle()
        other.acknowledged(1)
        await bench.settle()
        assert bench.drop(one) == 1
        receipt = await emits[1]
        assert receipt.targets == ("service-1",)
        assert [one.reason for one in receipt.refused] == [UNREACHABLE]

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
        bench = Bench(1)
        bench.outlets[0].patience = 0.2
        await bench.emit(0)
        began = asyncio.get_running_loop().time()
        receipt = await bench.emit(1)
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.2)
        assert receipt.targets == ()
        assert receipt.refused[0].reason == "no room within 0.2 s"

    run(main())


class Stale(Event, ttl="2s"):
    number: int


class Moved(Event, key="player"):
    player: str
    number: int


def test_patience_is_that_of_each_receiver_and_takes_nothing_from_another() -> None:
    async def main() -> None:
        bench = Bench(1, 1)
        hasty, patient = bench.outlets
        hasty.patience = 0.1
        await bench.emit(0)
        waiting = bench.emit(1)
        await asyncio.sleep(0.2)
        patient.acknowledged(1)
        receipt = await waiting
        assert receipt.targets == ("service-1",)
        assert [one.reason for one in receipt.refused] == ["no room within 0.1 s"]

    run(main())


def test_room_that_an_expired_emit_leaves_goes_to_the_next_at_once() -> None:
    async def main() -> None:
        bench = Bench(1)
        (outlet,) = bench.outlets
        emits = [bench.emit(number) for number in range(3)]
        await bench.settle()
        place = next(iter(outlet.line.waiting))
        assert isinstance(place, Place)
        # It has expired, and its timer has not rung yet.
        place._emit.emission.lineage = Lineage(None, "", 0, "", 0, -1.0, 16)
        outlet.acknowledged(1)
        assert outlet.numbers == [0, 2]
        assert [one.reason for one in (await emits[1]).refused] == [CASCADE_EXPIRED]

    run(main())


def test_nobody_waits_longer_for_room_than_its_event_lives() -> None:
    async def main() -> None:
        service = Service("scores")

        @service.on(Stale, queue=1, concurrency=1)
        async def handle(event: Stale) -> None:
            await asyncio.sleep(100)

        async with Node(service, mesh="memory:stale") as node:
            loop = asyncio.get_running_loop()
            await node.emit(Stale(number=0))
            began = loop.time()
            receipt = await node.emit(Stale(number=1))
            assert loop.time() - began == pytest.approx(2, abs=0.002)
            assert [one.reason for one in receipt.refused] == ["expired"]

    run(main())


def test_nobody_waits_longer_for_room_than_its_cascade_may_last() -> None:
    async def main() -> None:
        bench = Bench(1)
        await bench.emit(0)
        began = asyncio.get_running_loop().time()
        receipt = await bench.emitter.emit_root(Pinged(number=1), Budget(seconds=3))
        assert asyncio.get_running_loop().time() - began == pytest.approx(3)
        assert [one.reason for one in receipt.refused] == [CASCADE_EXPIRED]

    run(main())


def test_emits_whose_callers_give_up_when_patience_ends_harm_nobody() -> None:
    async def main() -> None:
        errors: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        bench = Bench(1)

        async def hasty(number: int) -> None:
            async with asyncio.timeout(EMIT_PATIENCE):
                await bench.emit(number)

        await bench.emit(0)
        await asyncio.gather(*(hasty(number) for number in range(1, 5)), return_exceptions=True)
        await asyncio.sleep(1)
        assert errors == []
        assert not bench.outlets[0].line.waiting

    run(main())


def test_an_event_that_any_replica_may_take_goes_to_one_that_has_room() -> None:
    async def main() -> None:
        bench = Bench(1, 1, 20, choice=True)
        for number in range(22):
            assert (await bench.emit(number)).targets == ("any",)
        last = bench.emit(22)
        await bench.settle()
        assert not last.done()
        bench.outlets[0].acknowledged(1)
        assert (await last).targets == ("any",)
        assert len(bench.outlets[0].numbers) == 2

    run(main())


def test_who_waits_for_any_replica_goes_to_one_that_joins() -> None:
    async def main() -> None:
        bench = Bench(1, 1, choice=True)
        for number in range(2):
            await bench.emit(number)
        waiting = bench.emit(2)
        await bench.settle()
        bench.add("any", 5)
        assert (await waiting).targets == ("any",)
        assert bench.outlets[2].numbers == [2]

    run(main())


def test_no_event_passes_one_of_its_key_that_waits_while_the_key_moves() -> None:
    def replica(log: list[tuple[str, int]]) -> Service:
        service = Service("scores")

        @service.on(Moved, queue=20, concurrency=1)
        async def note(moved: Moved) -> None:
            await asyncio.sleep(0.5)
            log.append((moved.player, moved.number))

        return service

    async def main() -> None:
        log: list[tuple[str, int]] = []
        players = [f"p{number}" for number in range(8)]
        async with (
            Node(replica(log), mesh="memory:overtake"),
            Node(mesh="memory:overtake") as emitter,
        ):
            for number in range(20):
                await emitter.emit(Moved(player="fill", number=number))
            emits = [asyncio.create_task(emitter.emit(Moved(player=p, number=1))) for p in players]
            await asyncio.sleep(0.1)
            async with Node(replica(log), mesh="memory:overtake"):
                runtime: Any = emitter._runtime
                await eventually(lambda: runtime.table.placements["scores"].holds)
                emits += [
                    asyncio.create_task(emitter.emit(Moved(player=p, number=2))) for p in players
                ]
                await asyncio.gather(*emits)
                await eventually(lambda: len(log) == 36)
        for player in players:
            assert [number for whose, number in log if whose == player] == [1, 2]

    run(main())


def test_a_cascade_is_settled_when_also_those_have_ended_that_its_emit_waited_for() -> None:
    async def main() -> None:
        quick, slow = Service("quick"), Service("slow")
        ended: list[tuple[str, int]] = []

        @quick.on(Pinged)
        async def at_once(ping: Pinged) -> None:
            ended.append(("quick", ping.number))

        @slow.on(Pinged, queue=1, concurrency=1)
        async def later(ping: Pinged) -> None:
            await asyncio.sleep(0.04 if ping.number < 2 else 1)
            ended.append(("slow", ping.number))

        async with Node(quick, slow, mesh="memory:settled") as node:
            await node.emit(Pinged(number=0))
            await asyncio.sleep(0.01)
            receipt = await node.emit(Pinged(number=1))
            assert receipt.targets == ("quick", "slow")
            report = await receipt.settled()
            assert (report.events, report.complete) == (2, True)
            assert ended[-1] == ("slow", 1)
            refused = await node.emit(Pinged(number=2))
            given_up = await node.emit(Pinged(number=3))
            assert [one.service for one in given_up.refused] == ["slow"]
            report = await given_up.settled()
            assert (report.events, report.shed, report.complete) == (1, 1, True)
            assert (await refused.settled()).complete

    run(main())
