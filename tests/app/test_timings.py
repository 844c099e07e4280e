"""How long handlers run and events wait for them, as a node tells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from tests.handling.rig import Rig, Step
from tests.handling.rig import run as run_on

from thence import Batch, Event, Node, Service
from thence.app.report import AccountReport, NodeReport
from thence.delivery.accounts import Account
from thence.histogram import Histogram
from thence.testing import run


class Asked(Event):
    seconds: float = 0.0


class Told(Event):
    number: int = 0


class Wanted(Event, key="who"):
    who: str
    seconds: float


def accounts_of(node: Node) -> dict[tuple[str, str], AccountReport]:
    report = NodeReport.decode(node.report().encode())
    return {(a.event, h.handler): a for h in report.handlers for a in h.accounts}


def about(histogram: Histogram, *seconds: float) -> None:
    """It has counted just these."""
    assert histogram.count == len(seconds)
    assert histogram.total == pytest.approx(sum(seconds), abs=1e-6)
    assert histogram.greatest == pytest.approx(max(seconds), abs=1e-6)


def test_runs_that_suspend_are_timed_exactly_and_apart_from_what_they_waited() -> None:
    service = Service("oracle")

    @service.on(Asked, concurrency=1)
    async def think(asked: Asked) -> None:
        await asyncio.sleep(asked.seconds)

    async def main() -> None:
        async with Node(service, mesh="memory:t") as node:
            for seconds in (1.0, 2.0, 4.0):
                await node.emit(Asked(seconds=seconds))
            while accounts_of(node)["asked", "think"].handled < 3:
                await asyncio.sleep(0.1)
            told = accounts_of(node)["asked", "think"]
            about(told.ran, 1.0, 2.0, 4.0)
            about(told.waited, 0.0, 1.0, 3.0)

    run(main())


def test_an_event_that_follows_another_of_its_key_has_waited_for_its_end() -> None:
    service = Service("oracle")

    @service.on(Wanted)
    async def think(wanted: Wanted) -> None:
        await asyncio.sleep(wanted.seconds)

    async def main() -> None:
        async with Node(service, mesh="memory:t") as node:
            for seconds in (1.0, 2.0, 3.0):
                await node.emit(Wanted(who="ana", seconds=seconds))
            while accounts_of(node)["wanted", "think"].handled < 3:
                await asyncio.sleep(0.1)
            about(accounts_of(node)["wanted", "think"].waited, 0.0, 1.0, 3.0)

    run(main())


def test_a_run_for_several_events_is_one_run_and_each_has_waited_on_its_own() -> None:
    service = Service("oracle")

    @service.on(Told, batch=Batch(size=3, within="1s"))
    async def think(told: list[Told]) -> None:
        await asyncio.sleep(2)

    async def main() -> None:
        async with Node(service, mesh="memory:t") as node:
            await node.emit(Told(number=1))
            await asyncio.sleep(0.5)
            await node.emit(Told(number=2))
            while accounts_of(node)["told", "think"].handled < 2:
                await asyncio.sleep(0.1)
            told = accounts_of(node)["told", "think"]
            about(told.ran, 2.0)
            about(told.waited, 1.0, 0.5)

    run(main())


def test_each_type_of_event_and_each_handler_of_it_has_an_account_of_its_own() -> None:
    service = Service("oracle")

    @service.on(Asked, Told)
    async def think(event: Asked | Told) -> None:
        pass

    @service.on(Told)
    async def doubt(told: Told) -> None:
        raise ValueError(told.number)

    async def main() -> None:
        async with Node(service, mesh="memory:t") as node:
            for number in range(7):
                await node.emit(Told(number=number))
            await node.emit(Asked())
            while node.report().handlers[0].handled < 8:
                await asyncio.sleep(0.1)
            told = accounts_of(node)
            counts = {key: (one.handled, one.failed, one.ran.count) for key, one in told.items()}
            assert counts == {
                ("asked", "think"): (1, 0, 1),
                ("told", "think"): (7, 0, 7),
                ("told", "doubt"): (0, 7, 7),
            }
            first = node.report().handlers[0]
            assert (first.handled, first.failed) == (8, 0)

    run(main())


def test_what_is_in_flight_and_what_was_shed_is_told_by_type_of_event() -> None:
    service = Service("oracle")

    @service.on(Asked, Told, limit="1/s burst 1", overflow="drop")
    async def think(event: Asked | Told) -> None:
        await asyncio.sleep(10)

    async def main() -> None:
        async with Node(service, mesh="memory:t") as node:
            await node.emit(Asked())
            await asyncio.sleep(1.5)
            for _ in range(4):
                await node.emit(Told())
            await asyncio.sleep(1)
            told = accounts_of(node)
            assert {key[0]: one.in_flight for key, one in told.items()} == {"asked": 1, "told": 1}
            assert not told["asked", "think"].shed
            assert told["told", "think"].shed == {"limit 1/s burst 1": 3}
            assert node.report().handlers[0].shed == {"limit 1/s burst 1": 3}

    run(main())


def spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def account_of(rig: Rig) -> Account:
    rig.dispatcher._digest()
    return rig.subscription.account


@pytest.mark.parametrize("together", [1, 2, 7, 63, 200])
@pytest.mark.parametrize("fails", [False, True])
def test_of_runs_that_end_at_once_each_counts_once_however_many_come_together(
    together: int, fails: bool
) -> None:
    async def handle(step: Step) -> None:
        if fails:
            raise ValueError

    async def main() -> None:
        async with Rig(handle, event=Step) as rig:
            sent = 0
            # The breaker opens when nothing else happens than failures.
            for _ in range(1 if fails else 9):
                await rig.handle(*(Step(lane=str(n)) for n in range(together)))
                sent += together
            ran, waited = account_of(rig).times()
            account = rig.subscription.account
            assert ran.count == waited.count == account.handled + account.failed == sent
            assert 0 < ran.total < 10

    run_on("uvloop", main)


def test_long_runs_stand_out_among_short_ones_that_came_with_them() -> None:
    async def handle(step: Step) -> None:
        if step.number % 4 == 0:
            spin(0.002)

    async def main() -> None:
        async with Rig(handle, event=Step) as rig:
            number = 0
            for _ in range(20):
                await rig.handle(
                    *(Step(lane=str(n), number=(number := number + 1)) for n in range(37))
                )
            ran, waited = account_of(rig).times()
            assert ran.count == waited.count == number
            assert ran.p50 < 0.001
            assert ran.p99 >= 0.002
            # Those that are far behind in their batch have waited for those before them.
            assert waited.greatest > 0.004

    run_on("uvloop", main)


def test_a_run_that_came_alone_is_timed_from_when_it_was_read() -> None:
    async def handle(step: Step) -> None:
        spin(0.003)

    async def main() -> None:
        async with Rig(handle, event=Step) as rig:
            await rig.handle(Step(lane="a"))
            assert rig.subscription.account.times()[0].count == 0, "it is made sense of later"
            ran, _ = account_of(rig).times()
            assert ran.count == 1
            assert ran.greatest >= 0.003

    run_on("asyncio", main)


def test_what_suspends_after_it_came_alone_is_timed_from_its_beginning() -> None:
    async def handle(step: Step) -> None:
        spin(0.005)
        await asyncio.sleep(0)

    async def main() -> None:
        async with Rig(handle, event=Step) as rig:
            await rig.handle(Step(lane="a"))
            ran, _ = account_of(rig).times()
            assert ran.count == 1
            assert ran.greatest >= 0.005

    run_on("asyncio", main)


def test_times_that_wait_to_be_counted_do_not_pile_up() -> None:
    async def handle(step: Step) -> None:
        await asyncio.sleep(0)

    most = 0

    async def main() -> None:
        nonlocal most
        async with Rig(handle, event=Step) as rig:
            account = rig.subscription.account
            for _ in range(30):
                await rig.handle(*(Step(lane=str(n)) for n in range(100)))
                most = max(most, len(account.took), len(account.delays), len(account.sampled))
            assert account_of(rig).times()[0].count == 3000

    run_on("uvloop", main)
    assert most <= 512


def test_a_loop_that_is_held_up_is_told_of_for_a_minute() -> None:
    async def main(hold_up: Callable[[float], object]) -> tuple[NodeReport, NodeReport]:
        async with Node(mesh="memory:t") as node:
            calm = node.report()
            loop = asyncio.get_running_loop()
            until = loop.time() + 0.4
            hold_up(0.4)
            while node.report().lag.greatest < 0.1:
                assert loop.time() < until + 20
                await asyncio.sleep(0.05)
            return calm, node.report()

    calm, after = asyncio.run(main(time.sleep))
    assert calm.lag.count <= 1
    assert 0.1 <= after.lag.greatest <= after.all_lag.greatest
    assert after.all_lag.count >= after.lag.count >= 1


def test_a_loop_that_is_never_held_up_has_no_lag() -> None:
    async def main() -> NodeReport:
        async with Node(mesh="memory:t") as node:
            await asyncio.sleep(180)
            return node.report()

    report = run(main())
    assert report.lag.greatest == report.all_lag.greatest == 0.0
    assert 200 <= report.lag.count <= 241
    assert report.all_lag.count >= 700
