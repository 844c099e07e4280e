"""Limits over all replicas among replicas, handlers and versions that are not alike."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import pytest
from tests.delivery.test_fleet_limits import flood
from tests.delivery.test_limits import Log, Moved, Pinged, now, shed
from tests.delivery.watching import eventually

from thence import Event, Limit, Node, Service
from thence.flow.fleet import LEASE, Grant, ShareRequest
from thence.mesh.messages import ShareAsked, ShareLent
from thence.testing import run

MESH = "memory:sharing"


class Other(Event):
    number: int


def fleet_limit(text: str) -> Limit:
    return Limit(text, scope="service")


def hosting(log: Log, limit: str | None, event: Any = Pinged, **policy: Any) -> Service:
    service = Service("s")

    @service.on(event, limit=None if limit is None else fleet_limit(limit), **policy)
    async def handle(event: Any) -> None:
        log.note(event)

    return service


def waiting(node: Node) -> int:
    return sum(handler.waiting for handler in node.report().handlers)


def link_between(one: Node, other: Node) -> Any:
    assert one._runtime is not None
    assert other._runtime is not None
    return one._runtime.peers.links[other._runtime.node]


# Not all know the same limit


def test_a_replica_that_knows_of_a_lower_limit_than_the_lender_gets_what_it_may_use() -> None:
    async def main() -> None:
        lender, lower = Log(), Log()
        async with (
            Node(hosting(lender, "1000/s", Moved, overflow="drop"), mesh=MESH),
            Node(mesh=MESH) as one,
        ):
            await asyncio.sleep(1)
            async with Node(hosting(lower, "100/s", Moved, overflow="drop"), mesh=MESH) as two:
                await asyncio.sleep(1)
                for number in range(500):
                    await one.emit(Moved(player=str(number), number=number))
                    await asyncio.sleep(0.01)
                assert not shed(two)
                assert len(lower.starts) > 150
                stop = asyncio.Event()
                flooding = asyncio.create_task(flood(one, stop, 2000, Moved))
                await asyncio.sleep(3)
                stop.set()
                await flooding
                assert lower.worst(100, 10) < 1e-6

    run(main())


def test_a_replica_of_a_version_without_a_limit_keeps_no_other_from_it() -> None:
    async def main() -> None:
        def version(log: Log, limited: bool) -> Service:
            service = Service("s")

            @service.on(Other, limit=fleet_limit("100/s"))
            async def old(other: Other) -> None:
                pass

            @service.on(Pinged, limit=fleet_limit("100/s") if limited else None)
            async def new(pinged: Pinged) -> None:
                log.note(pinged)

            return service

        log = Log()
        async with Node(version(Log(), False), mesh=MESH):
            await asyncio.sleep(1)
            async with Node(version(log, True), mesh=MESH) as newer:
                await asyncio.sleep(1)
                for number in range(50):
                    await newer.emit(Pinged(number=number))
                async with asyncio.timeout(2):
                    await eventually(lambda: len(log.starts) == 50)

    run(main())


def test_a_lender_whose_limit_is_lifted_lets_another_lend() -> None:
    async def main() -> None:
        first, second = Log(), Log()
        async with Node(hosting(first, "100/s"), mesh=MESH) as lender:
            await asyncio.sleep(1)
            async with Node(hosting(second, "100/s"), mesh=MESH) as two:
                await asyncio.sleep(1)
                assert lender._runtime is not None
                lender._runtime.set_limit("s.handle", "off", "somebody whom only one replica heard")
                await asyncio.sleep(2 * LEASE + 0.2)
                for number in range(100):
                    await two.emit(Pinged(number=number))
                async with asyncio.timeout(1.5):
                    await eventually(lambda: len(second.starts) == 100)
                assert second.worst(100, 10) < 1e-6

                # And back again: the bound holds while the lock goes from one to the other.
                stop = asyncio.Event()
                flooding = asyncio.create_task(flood(two, stop, 400))
                for limit in ("100/s over all replicas", "off") * 6:
                    lender._runtime.set_limit("s.handle", limit, "the same")
                    await asyncio.sleep(0.37)
                stop.set()
                await flooding
                assert second.worst(100, 10) < 1e-6

    run(main())


# Several handlers


@pytest.mark.parametrize(("limit", "seconds"), [("2/s", 24), ("5/s", 20), ("10/s burst 1", 20)])
def test_two_handlers_with_long_lines_get_equal_parts_of_the_limit_that_they_share(
    limit: str, seconds: float
) -> None:
    starts = _starts_of_two(limit, seconds)
    assert starts["a"] == pytest.approx(starts["b"], rel=0.1)
    assert starts.total() >= 0.98 * Limit(limit).rate * seconds


@pytest.mark.parametrize("limit", ["100/s", "100/s burst 1", "1000/s"])
def test_equal_parts_are_had_at_high_rates_too_and_nothing_is_wasted(limit: str) -> None:
    starts = _starts_of_two(limit, 1500 / Limit(limit).rate)
    assert starts["a"] == pytest.approx(starts["b"], rel=0.1)
    assert starts.total() >= 0.97 * 1500


def _starts_of_two(limit: str, seconds: float) -> Counter[str]:
    async def main() -> Counter[str]:
        starts: Counter[str] = Counter()
        service = Service("s", limit=fleet_limit(limit))

        @service.on(Pinged, queue=5000)
        async def a(pinged: Pinged) -> None:
            starts["a"] += 1

        @service.on(Other, queue=5000)
        async def b(other: Other) -> None:
            starts["b"] += 1

        async with Node(service, mesh=MESH) as node:
            for number in range(4000):
                await node.emit(Pinged(number=number))
                await node.emit(Other(number=number))
            await asyncio.sleep(3)
            starts.clear()
            await asyncio.sleep(seconds)
            counted = Counter(starts)
            await node.set_limit("s", "off", by="the test")
        return counted

    return run(main())


def test_a_handler_that_wants_little_takes_nothing_from_one_that_wants_all() -> None:
    async def main() -> None:
        starts: Counter[str] = Counter()
        service = Service("s", limit=fleet_limit("100/s burst 1"))

        @service.on(Pinged)
        async def busy(pinged: Pinged) -> None:
            starts["busy"] += 1

        @service.on(Other)
        async def calm(other: Other) -> None:
            starts["calm"] += 1

        async with Node(service, mesh=MESH) as node:
            stop = asyncio.Event()
            flooding = asyncio.create_task(flood(node, stop, 400))
            await asyncio.sleep(2)
            starts.clear()
            for number in range(50):
                await node.emit(Other(number=number))
                await asyncio.sleep(0.1)
            assert starts["calm"] in (49, 50)
            assert starts.total() >= 0.98 * 100 * 5
            stop.set()
            await node.set_limit("s", "off", by="the test")
            await flooding

    run(main())


# What waits for something else


@pytest.mark.parametrize("seconds", [0.05, 2.0])
def test_a_replica_that_is_busy_with_slow_runs_takes_no_share_that_it_can_not_use(
    seconds: float,
) -> None:
    async def main() -> None:
        slow, fast = Log(), Log()
        lazy = Service("s")

        @lazy.on(Moved, limit=fleet_limit("100/s"), concurrency=1)
        async def handle(moved: Moved) -> None:
            slow.note(moved)
            await asyncio.sleep(seconds)

        async with (
            Node(lazy, mesh=MESH) as one,
            Node(hosting(fast, "100/s", Moved), mesh=MESH) as two,
        ):
            emits: list[asyncio.Task[Any]] = []

            async def open_loop(node: Node, rate: float) -> None:
                number = 0
                while True:
                    number += 1
                    event = Moved(player=str(number), number=number)
                    emits.append(asyncio.create_task(node.emit(event)))
                    await asyncio.sleep(1 / rate)

            loops = [asyncio.create_task(open_loop(two, 400))]
            await asyncio.sleep(6)
            assert waiting(one) > 500
            before, began = len(slow.starts) + len(fast.starts), now()
            await asyncio.sleep(10)
            started = len(slow.starts) + len(fast.starts) - before
            assert started >= 0.99 * 100 * (now() - began)
            parts = Counter(at > began for at, _ in slow.starts)
            assert parts[True] >= 0.9 * 10 / seconds - 1
            for task in (*loops, *emits):
                task.cancel()

    run(main())


def test_skewed_demand_reaches_a_limit_over_all_replicas() -> None:
    async def main() -> None:
        logs = [Log() for _ in range(4)]
        nodes = [Node(hosting(log, "100/s", queue=200), mesh=MESH) for log in logs]
        for node in nodes:
            await node.start()
        stop = asyncio.Event()
        # Each emits to itself: a local replica comes first.
        rates = (400, 3, 3, 3)
        floods = [
            asyncio.create_task(flood(node, stop, rate))
            for node, rate in zip(nodes, rates, strict=True)
        ]
        await asyncio.sleep(4)
        before = sum(len(log.starts) for log in logs)
        await asyncio.sleep(10)
        assert sum(len(log.starts) for log in logs) - before >= 0.99 * 100 * 10
        stop.set()
        await nodes[0].set_limit("s.handle", "off", by="the test")
        await asyncio.gather(*floods)
        for node in nodes:
            await node.close()

    run(main())


def test_what_waits_for_a_share_when_a_node_closes_is_still_handled() -> None:
    async def main() -> None:
        log = Log()
        node = Node(hosting(log, "100/s burst 2"), mesh=MESH)
        await node.start()
        await asyncio.sleep(1)
        for number in range(50):
            await node.emit(Pinged(number=number))
        began = now()
        await node.close()
        assert log.numbers == list(range(50))
        assert now() - began < 1

    run(main())


def test_a_lender_that_closes_goes_on_lending_until_it_is_done() -> None:
    async def main() -> None:
        first, second = Log(), Log()
        lender = Node(hosting(first, "100/s"), mesh=MESH)
        await lender.start()
        await asyncio.sleep(1)
        async with Node(hosting(second, "100/s"), mesh=MESH) as other:
            await asyncio.sleep(1)
            for number in range(100):
                await lender.emit(Pinged(number=number))
                await other.emit(Pinged(number=number))
            await lender.close()
            assert len(first.starts) == 100
            assert len(second.starts) >= 80
            both = Log()
            both.starts = sorted([*first.starts, *second.starts], key=lambda start: start[0])
            assert both.worst(100, 10) < 1e-6

    run(main())


@pytest.mark.parametrize("limit", ["100/s", "100/s burst 1"])
@pytest.mark.parametrize("leaving_first", [True, False])
def test_a_replica_that_takes_long_to_close_keeps_no_other_waiting(
    limit: str, leaving_first: bool
) -> None:
    async def main() -> None:
        async def slow_start(pinged: Pinged) -> None:
            await asyncio.sleep(3.9)

        log = Log()
        leaving = Service("s")
        leaving.on(Pinged, limit=fleet_limit(limit), name="handle")(slow_start)
        staying = Node(hosting(log, limit), mesh=MESH)
        slow = Node(leaving, mesh=MESH)
        for node in (slow, staying) if leaving_first else (staying, slow):
            await node.start()
            await asyncio.sleep(1)
        await slow.emit(Pinged(number=0))
        await asyncio.sleep(0.5)
        stop = asyncio.Event()
        flooding = asyncio.create_task(flood(staying, stop, 400))
        closing = asyncio.create_task(slow.close())
        await asyncio.sleep(0.5)
        before = len(log.starts)
        await asyncio.sleep(1.5)
        assert not closing.done()
        assert len(log.starts) - before >= 0.95 * 100 * 1.5
        # One that comes meanwhile has a share too.
        newcomer = Log()
        async with Node(hosting(newcomer, limit), mesh=MESH) as third:
            await third.emit(Pinged(number=1))
            await eventually(lambda: newcomer.starts)
            assert not closing.done()
        await closing
        stop.set()
        await staying.set_limit("s.handle", "off", by="the test")
        await flooding
        await staying.close()

    run(main())


@pytest.mark.parametrize("limit", ["100/s", "100/s burst 1"])
def test_replicas_that_close_all_at_once_end_what_waits_at_each(limit: str) -> None:
    async def main() -> None:
        log = Log()
        nodes = [Node(hosting(log, limit), mesh=MESH) for _ in range(3)]
        for node in nodes:
            await node.start()
        await asyncio.sleep(1)
        for number in range(60):
            for node in nodes:
                await node.emit(Pinged(number=number))
        await asyncio.gather(*(node.close() for node in nodes))
        assert sorted(log.numbers) == sorted(list(range(60)) * 3)
        assert log.worst(100, Limit(limit).burst) < 1e-6

    run(main())


# Keys


def test_only_keys_of_blocks_that_were_gained_begin_anew() -> None:
    async def main() -> None:
        one, guest = Log(), Log()
        limit = "1/min per player"
        async with (
            Node(hosting(one, limit, Moved, overflow="drop"), mesh=MESH),
            Node(mesh=MESH) as emitter,
        ):
            await asyncio.sleep(61)  # it begins without credit for any
            async with Node(hosting(guest, limit, Moved, overflow="drop"), mesh=MESH):
                await asyncio.sleep(5)
                for number in range(100):
                    await emitter.emit(Moved(player=str(number), number=number))
                await asyncio.sleep(1)
                stayed = set(one.numbers)
                assert 20 < len(stayed) < 80
                assert guest.numbers == []
                await asyncio.sleep(61)
                for number in range(100):
                    await emitter.emit(Moved(player=str(number), number=number))
                await asyncio.sleep(1)
                assert set(guest.numbers) == set(range(100)) - stayed
            await asyncio.sleep(54)
            one.starts.clear()
            await asyncio.sleep(5)
            for number in range(100):
                await emitter.emit(Moved(player=str(number), number=number))
            await asyncio.sleep(1)
            assert set(one.numbers) == stayed

    run(main())


# What is told


@pytest.mark.parametrize(
    ("overflow", "burst", "told"),
    [("drop", 1, 1), ("reject", 2, 1), ("drop", 3, 0), ("wait", 1, 0)],
)
def test_a_burst_smaller_than_the_number_of_replicas_is_told_once_where_that_loses_events(
    overflow: str, burst: int, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        nodes = [
            Node(hosting(Log(), f"50/s burst {burst}", overflow=overflow), mesh=MESH)
            for _ in range(3)
        ]
        for node in nodes:
            await node.start()
        await asyncio.sleep(5)
        for node in nodes:
            await node.close()

    caplog.set_level(logging.WARNING, "thence")
    run(main())
    warnings = [r.getMessage() for r in caplog.records if "take turns" in r.getMessage()]
    assert len(warnings) == 3 * told  # each replica has a log of its own
    for warning in warnings:
        assert "service s has 3 replicas" in warning
        assert "a burst of at least 6" in warning


@pytest.mark.parametrize(("limit", "used"), [("100/s burst 8", 0.99), ("100/s burst 4", 0.8)])
def test_what_is_dropped_beyond_a_burst_of_two_events_a_replica_is_no_more_than_it_has_to_be(
    limit: str, used: float
) -> None:
    async def main() -> None:
        log = Log()
        nodes = [Node(hosting(log, limit, overflow="drop"), mesh=MESH) for _ in range(4)]
        for node in nodes:
            await node.start()
        async with Node(mesh=MESH) as one:
            stop = asyncio.Event()
            flooding = asyncio.create_task(flood(one, stop, 400))
            await asyncio.sleep(3)
            before = len(log.starts)
            await asyncio.sleep(10)
            assert len(log.starts) - before >= used * 100 * 10
            stop.set()
            await flooding
        for node in nodes:
            await node.close()

    run(main())


@pytest.mark.parametrize("overflow", ["drop", "reject"])
def test_advice_does_not_keep_a_limit_over_all_replicas_from_being_used(overflow: str) -> None:
    async def main() -> None:
        log = Log()
        nodes = [
            Node(hosting(log, "100/s burst 1", overflow=overflow), mesh=MESH) for _ in range(2)
        ]
        for node in nodes:
            await node.start()
        async with Node(mesh=MESH) as one:
            stop = asyncio.Event()
            flooding = asyncio.create_task(flood(one, stop, 400))
            await asyncio.sleep(3)
            before = len(log.starts)
            await asyncio.sleep(10)
            assert len(log.starts) - before >= 0.35 * 100 * 10
            assert log.worst(100, 1) < 1e-6
            stop.set()
            await flooding
        for node in nodes:
            await node.close()

    run(main())


# What peers say


@pytest.mark.parametrize(
    "nonsense",
    [
        ShareLent("s", "handle#0", Grant(1, float("nan"), 1, 0, 0.1)),
        ShareLent("s", "handle#0", Grant(1, -1.0, 1, 0, 0.1)),
        ShareLent("s", "handle#0", Grant(1, float("inf"), 1, 0, 0.1)),
        ShareLent("s", "handle#0", Grant(1, 1.0, -1, 0, 0.1)),
        ShareLent("s", "handle#0", Grant(1, 1.0, 1, -1, 0.1)),
        ShareLent("s", "handle#0", Grant(1, 1.0, 1, 0, float("nan"))),
        ShareLent("s", "handle#0", Grant(1, 1.0, 1, 0, -0.1)),
        ShareAsked("s", "handle#0", ShareRequest("somebody else", 1, 0, 1.0, 0)),
        ShareAsked("s", "handle#0", ShareRequest("", 1, 2, 1.0, 0)),
        ShareAsked("s", "handle#0", ShareRequest("", 1, 0, float("inf"), 0)),
        ShareAsked("s", "handle#0", ShareRequest("", 1, 0, 1.0, -1)),
    ],
)
def test_shares_that_make_no_sense_end_the_connection_and_nothing_else(nonsense: Any) -> None:
    async def main() -> None:
        log = Log()
        async with Node(hosting(log, "100/s"), mesh=MESH) as node, Node(mesh=MESH) as peer:
            await asyncio.sleep(1)
            message = nonsense
            if isinstance(message, ShareAsked) and not message.request.replica:
                assert peer._runtime is not None
                asked = message.request
                request = ShareRequest(
                    peer._runtime.node, asked.number, asked.applied, asked.demand, asked.waiting
                )
                message = ShareAsked(message.service, message.place, request)
            link_between(peer, node).say(message)
            await eventually(lambda: node.report().closures.get("garbage") == 1)
            await eventually(lambda: peer.report().peers)
            await peer.emit(Pinged(number=1))
            await eventually(lambda: log.numbers == [1])

    run(main())


def test_shares_of_what_is_not_here_are_passed_over_and_not_remembered() -> None:
    async def main() -> None:
        log = Log()
        async with Node(hosting(log, "100/s"), mesh=MESH) as node, Node(mesh=MESH) as peer:
            await asyncio.sleep(1)
            assert peer._runtime is not None
            assert node._runtime is not None
            link = link_between(peer, node)
            request = ShareRequest(peer._runtime.node, 1, 0, 1.0, 0)
            for service, place in (("nobody", "x#0"), ("s", "handle#9"), ("s", "nobody#0")):
                link.say(ShareLent(service, place, Grant(1, 1.0, 1, 0, 0.1)))
                link.say(ShareAsked(service, place, request))
            await asyncio.sleep(1)
            fleet = node._runtime.fleet
            assert not fleet._lenders
            assert set(fleet._allocators) == {("s", "handle#0")}
            assert not node.report().closures

    run(main())


def test_what_is_kept_of_lenders_and_of_lifted_limits_is_dropped() -> None:
    async def main() -> None:
        log = Log()
        lender = Node(hosting(log, "100/s"), mesh=MESH)
        await lender.start()
        await asyncio.sleep(1)
        async with Node(hosting(log, "100/s"), mesh=MESH) as other:
            await asyncio.sleep(1)
            assert other._runtime is not None
            fleet = other._runtime.fleet
            assert fleet._lenders
            await lender.close()
            await asyncio.sleep(1)
            assert not fleet._lenders
            assert fleet._allocators
            await other.set_limit("s.handle", "off", by="the test")
            assert not fleet._allocators
            assert not fleet._locks

    run(main())


def test_a_limit_that_is_replaced_by_another_kind_and_comes_back_gets_shares_at_once() -> None:
    async def main() -> None:
        log = Log()
        async with Node(hosting(log, "100/s"), mesh=MESH) as node:
            await asyncio.sleep(1)
            await node.set_limit(
                "s.handle", "100/s over all replicas, 9/s per player burst 9", by="the test"
            )
            before = now()
            for number in range(5):
                await node.emit(Pinged(number=number))
            await eventually(lambda: len(log.starts) == 5)
            assert now() - before < LEASE

    run(main())
