"""Handlers that take many events at once: full or in time, in order, one batch of a key at a time."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import Any

import pytest
from tests.delivery.test_limits import Log, Moved, Pinged, now, shed
from tests.delivery.watching import Watch, eventually

from thence import Batch, Context, Event, Node, Service
from thence.testing import run

MESH = "memory:batches"


class Counted(Event):
    number: int


def numbers(batches: list[Any]) -> list[list[int]]:
    return [[event.number for event in batch] for batch in batches]


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
def test_a_batch_starts_when_it_is_full_or_when_its_first_event_has_waited_long_enough(
    remote: bool, keyed: bool
) -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Moved if keyed else Pinged, batch=Batch(size=10, within="100ms"))
        async def handle(batch: list[Any]) -> None:
            log.note(batch)

        async with Node(service, mesh=MESH) as node, Node(mesh=MESH) as other:
            emit = (other if remote else node).emit
            began = now()
            for number in range(25):
                await emit(
                    Moved(player="ab"[number % 2], number=number)
                    if keyed
                    else Pinged(number=number)
                )
            await eventually(lambda: len(log.starts) == 3)
            assert [len(batch) for _, batch in log.starts] == [10, 10, 5]
            # In order, of each key if there are keys.
            for first, step in ((0, 2), (1, 2)) if keyed else ((0, 1),):
                got = [event.number for _, batch in log.starts for event in batch]
                assert [n for n in got if n % step == first] == list(range(first, 25, step))
            assert log.starts[1][0] - began < 0.01
            assert log.starts[2][0] - began == pytest.approx(0.1, abs=0.01)
            (report,) = node.report().handlers
            assert report.handled == 25
            await eventually(lambda: not any(r.outstanding for r in other.report().routes))

    run(main())


@pytest.mark.parametrize("seed", range(8))
def test_events_of_a_key_stay_in_order_and_no_two_batches_with_it_run_at_once(seed: int) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        service = Service("s")
        order: defaultdict[str, list[int]] = defaultdict(list)
        busy: set[str] = set()

        @service.on(Moved, batch=Batch(size=5, within="20ms"), concurrency=3, queue=50)
        async def handle(batch: list[Moved]) -> None:
            keys = {moved.player for moved in batch}
            assert not keys & busy
            busy.update(keys)
            for moved in batch:
                order[moved.player].append(moved.number)
            if chance.random() < 0.7:
                await asyncio.sleep(chance.random() * 0.05)
            busy.difference_update(keys)

        async with Node(service, mesh=MESH) as node, Node(mesh=MESH) as other:
            for number in range(400):
                await other.emit(Moved(player=f"p{chance.randrange(6)}", number=number))
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.random() * 0.01)
            await eventually(lambda: node.report().handlers[0].handled == 400)
            assert all(numbers == sorted(numbers) for numbers in order.values())
            (report,) = node.report().handlers
            assert (report.handled, report.failed, report.in_flight) == (400, 0, 0)

    run(main())


def test_what_a_batch_causes_follows_its_newest_event_and_each_event_ends() -> None:
    async def main() -> None:
        service = Service("s")
        seen: list[tuple[str, str]] = []

        @service.on(Pinged, batch=Batch(size=3, within="1s"))
        async def handle(batch: list[Pinged], ctx: Context) -> Counted:
            seen.append((ctx.event_id, ctx.root_id))
            return Counted(number=len(batch))

        @service.on(Counted)
        async def count(counted: Counted, ctx: Context) -> None:
            seen.append((str(ctx.cause_id), ctx.root_id))

        async with Node(service, mesh=MESH) as node:
            watch = Watch(node)
            ids = [(await node.emit(Pinged(number=number))).event_id for number in range(3)]
            await eventually(lambda: len(seen) == 2)
            assert seen == [(ids[2], ids[2])] * 2
            await eventually(lambda: watch.totals()["handled"] == 4)
            assert all(watch.ends[one]["s"] == [("handle", "handled")] for one in ids)

    run(main())


def test_a_batch_that_fails_fails_each_of_its_events_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        service = Service("s")

        @service.on(Pinged, batch=Batch(size=4, within="1s"))
        async def handle(batch: list[Pinged]) -> None:
            raise ValueError("no")

        async with Node(service, mesh=MESH) as node:
            for number in range(8):
                await node.emit(Pinged(number=number))
            await eventually(lambda: node.report().handlers[0].failed == 8)
            assert node.report().handlers[0].handled == 0

    run(main())
    assert [r.name for r in caplog.records] == ["thence.handling"] * 2
    assert "4 events, the newest pinged" in caplog.records[0].getMessage()


def test_a_limit_counts_the_events_of_a_batch() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Pinged, batch=Batch(size=10, within="100ms"), limit="50/s burst 5")
        async def handle(batch: list[Pinged]) -> None:
            for pinged in batch:
                log.note(pinged)

        async with Node(service, mesh=MESH) as node:
            for number in range(100):
                await node.emit(Pinged(number=number))
            await eventually(lambda: len(log.starts) == 100)
            assert log.numbers == list(range(100))
            assert log.starts[-1][0] == pytest.approx(1.95, abs=0.15)
            assert not shed(node)

    run(main())


def test_a_batch_that_is_being_filled_when_a_node_closes_is_handled() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Pinged, batch=Batch(size=10, within="1s"))
        async def handle(batch: list[Pinged]) -> None:
            log.note(batch)

        node = Node(service, mesh=MESH)
        await node.start()
        for number in range(3):
            await node.emit(Pinged(number=number))
        await asyncio.sleep(0.1)
        await node.close()
        assert numbers([batch for _, batch in log.starts]) == [[0, 1, 2]]

    run(main())


def test_a_batch_that_would_take_long_to_fill_is_handled_when_its_node_leaves() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Moved, batch=Batch(size=10, within="1min"))
        async def handle(batch: list[Moved]) -> None:
            log.note(batch)

        node = Node(service, mesh=MESH)
        await node.start()
        for number in range(3):
            await node.emit(Moved(player="ana", number=number))
        await asyncio.sleep(0.1)
        began = now()
        await node.close()
        assert numbers([batch for _, batch in log.starts]) == [[0, 1, 2]]
        assert now() - began < 0.5
        assert shed(node) == {}

    run(main())


class Fresh(Event, ttl="2s", key="player"):
    player: str
    number: int


def test_a_batch_is_closed_before_what_is_in_it_expires() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Fresh, batch=Batch(size=10, within="8s"))
        async def handle(batch: list[Fresh]) -> None:
            log.note(batch)

        async with Node(service, mesh=MESH) as node:
            began = now()
            for number in range(2):
                await node.emit(Fresh(player="ana", number=number))
                await asyncio.sleep(1)
            await eventually(lambda: log.starts)
            assert 1.9 < log.starts[0][0] - began < 2
            assert numbers([batch for _, batch in log.starts]) == [[0, 1]]

    run(main())


def test_what_has_expired_in_a_batch_is_shed_and_the_others_of_its_key_go_on_one_at_a_time() -> (
    None
):
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Fresh, batch=Batch(size=10, within="8s"))
        async def handle(batch: list[Fresh]) -> None:
            log.note(batch)
            await asyncio.sleep(1)

        async with Node(service, mesh=MESH) as node:
            await node.emit(Fresh(player="ana", number=0))
            await asyncio.sleep(1)
            await node.emit(Fresh(player="ana", number=1))
            runtime: Any = node._runtime
            queueing = runtime.dispatcher.admission.queueing
            (handler,) = runtime.services["s"].handlers
            await asyncio.sleep(0.01)
            # The loop was busy when the batch was to be closed.
            handler.batch_timer.cancel()
            await asyncio.sleep(1.1)
            queueing._batch_is_due(handler)
            await node.emit(Fresh(player="ana", number=2))
            await eventually(lambda: len(log.starts) == 2)
            assert numbers([batch for _, batch in log.starts]) == [[1], [2]]
            assert log.starts[1][0] - log.starts[0][0] >= 1
            assert shed(node) == {"expired": 1}
            await eventually(lambda: not runtime.services["s"].unfinished)
            assert not queueing.beside_others

    run(main())


class Other(Event, key="player"):
    player: str
    number: int


def test_an_event_does_not_join_a_batch_while_another_handler_is_busy_with_its_key() -> None:
    async def main() -> None:
        running: set[str] = set()
        together: list[int] = []
        service = Service("s")

        @service.on(Moved, Other, batch=Batch(size=2, within="1s"))
        async def batch(events: list[Moved | Other]) -> None:
            together.extend(one.number for one in events if running and isinstance(one, Other))

        @service.on(Moved)
        async def single(moved: Moved) -> None:
            running.add(moved.player)
            await asyncio.sleep(5)
            running.discard(moved.player)

        async with Node(service, mesh=MESH) as node:
            await node.emit(Moved(player="ana", number=1))
            await node.emit(Other(player="ana", number=2))
            await asyncio.sleep(20)
            assert together == []
            assert {h.handler: h.handled for h in node.report().handlers} == {
                "batch": 2, "single": 1,
            }  # fmt: skip

    run(main())
