"""Handlers start no more often than their limits say, and the excess goes where it was told to."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import Any

import pytest
from tests.delivery.watching import eventually, lost

from thence import Budget, Event, Limit, Node, RateLimited, Service
from thence.testing import run

MESH = "memory:limits"


class Moved(Event, key="player"):
    player: str
    number: int


class Pinged(Event):
    number: int
    player: str = ""


class Urgent(Event, priority="high"):
    number: int


class Idle(Event, priority="low"):
    number: int


class Fresh(Event, ttl="2s"):
    number: int


def now() -> float:
    return asyncio.get_running_loop().time()


class Log:
    """What a handler was started for, and when."""

    def __init__(self) -> None:
        self.starts: list[tuple[float, Any]] = []

    def note(self, event: Any) -> None:
        self.starts.append((now(), event))

    @property
    def numbers(self) -> list[int]:
        return [event.number for _, event in self.starts]

    def worst(self, rate: float, burst: int) -> float:
        """By how many starts the bound is exceeded in the worst window."""
        times = [at for at, _ in self.starts]
        return max(
            (
                (j - i + 1) - (rate * (times[j] - times[i]) + burst)
                for i in range(len(times))
                for j in range(i, len(times))
            ),
            default=0.0,
        )


def shed(node: Node) -> Counter[str]:
    counts: Counter[str] = Counter()
    for handler in node.report().handlers:
        counts.update(handler.shed)
    return counts


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("suspends", [False, True])
def test_excess_waits_in_order_and_starts_as_fast_as_the_limit_lets_it(
    remote: bool, suspends: bool
) -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Pinged, limit="10/s burst 3")
        async def handle(pinged: Pinged) -> None:
            log.note(pinged)
            if suspends:
                await asyncio.sleep(0.01)

        async with Node(service, mesh=MESH) as node, Node(mesh=MESH) as other:
            for number in range(23):
                await (other if remote else node).emit(Pinged(number=number))
            await eventually(lambda: len(log.starts) == 23)
            assert log.numbers == list(range(23))
            assert log.worst(10, 3) < 1e-6
            assert log.starts[-1][0] - log.starts[0][0] == pytest.approx(2.0, rel=0.01)
            assert not shed(node)

    run(main())


def test_what_finds_the_line_full_is_shed_and_counted() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Pinged, limit="1/s", queue=5)
        async def handle(pinged: Pinged) -> None:
            log.note(pinged)

        async with Node(service, mesh=MESH) as node:
            emitters = [asyncio.create_task(node.emit(Pinged(number=n))) for n in range(5)]
            emitters += [asyncio.create_task(node.emit(Pinged(number=n))) for n in range(5, 8)]
            await asyncio.gather(*emitters)
            await eventually(lambda: len(log.starts) == 8)
            assert log.worst(1, 1) < 1e-6

    run(main())


def test_dropped_excess_is_counted_with_the_limit_and_the_bound_holds() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Pinged, limit="100/s burst 5", overflow="drop")
        async def handle(pinged: Pinged) -> None:
            log.note(pinged)

        async with Node(service, mesh=MESH) as node, Node(mesh=MESH) as other:
            for number in range(1000):
                await other.emit(Pinged(number=number))
                if number % 10 == 0:
                    await asyncio.sleep(0.01)
            await eventually(lambda: not any(r.outstanding for r in other.report().routes))
            assert log.worst(100, 5) < 1e-6
            assert len(log.starts) >= 99
            at_receiver, at_source = shed(node), lost(other)
            assert set(at_receiver) == {"limit 100/s burst 5"}
            assert set(at_source) == {"limit 100/s burst 5, stopped at its source"}
            assert len(log.starts) + at_receiver.total() + at_source.total() == 1000

    run(main())


@pytest.mark.parametrize("remote", [False, True])
def test_rejected_excess_raises_with_the_time_to_wait(remote: bool) -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Pinged, limit="1/s burst 2", overflow="reject")
        async def handle(pinged: Pinged) -> None:
            log.note(pinged)

        async with Node(service, mesh=MESH) as node, Node(mesh=MESH) as other:
            emit = (other if remote else node).emit
            for number in range(2):
                assert (await emit(Pinged(number=number))).targets == ("s",)
            with pytest.raises(
                RateLimited, match=r"pinged.*s: limit 1/s burst 2.*again in"
            ) as error:
                await emit(Pinged(number=2))
            assert error.value.retry_after == pytest.approx(1.0, abs=0.01)
            await asyncio.sleep(error.value.retry_after)
            assert (await emit(Pinged(number=3))).targets == ("s",)
            await eventually(lambda: log.numbers == [0, 1, 3])
            assert shed(node) == {"limit 1/s burst 2": 1}

    run(main())


def test_a_rejection_is_named_in_the_receipt_when_another_service_took_the_event() -> None:
    async def main() -> None:
        strict, easy = Service("strict"), Service("easy")

        @strict.on(Pinged, limit="1/s", overflow="reject")
        async def refuse(pinged: Pinged) -> None:
            pass

        @easy.on(Pinged)
        async def take(pinged: Pinged) -> None:
            pass

        async with Node(strict, mesh=MESH), Node(easy, mesh=MESH), Node(mesh=MESH) as node:
            assert set((await node.emit(Pinged(number=0))).targets) == {"strict", "easy"}
            receipt = await node.emit(Pinged(number=1))
            assert receipt.targets == ("easy",)
            (refusal,) = receipt.refused
            assert (refusal.service, refusal.reason) == ("strict", "limit 1/s")
            assert refusal.retry_after == pytest.approx(1.0, abs=0.01)

    run(main())


def test_a_service_took_an_event_when_one_of_its_handlers_did() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Pinged, limit="1/s", overflow="reject")
        async def strict(pinged: Pinged) -> None:
            pass

        @service.on(Pinged)
        async def easy(pinged: Pinged) -> None:
            log.note(pinged)

        async with Node(service, mesh=MESH) as node:
            for number in range(3):
                assert (await node.emit(Pinged(number=number))).targets == ("s",)
            await eventually(lambda: log.numbers == [0, 1, 2])
            assert shed(node) == {"limit 1/s": 2}

    run(main())


def test_an_event_of_a_busy_key_is_rejected_at_once_when_the_limit_refuses_it() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Moved, limit="1/min", overflow="reject")
        async def handle(moved: Moved) -> None:
            log.note(moved)
            await asyncio.sleep(5)

        async with Node(service, mesh=MESH) as node:
            await node.emit(Moved(player="ana", number=0))
            with pytest.raises(RateLimited):
                await node.emit(Moved(player="ana", number=1))
            assert now() < 1

    run(main())


def test_the_newest_of_each_key_waits_and_the_replaced_are_counted() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Moved, limit="10/s burst 1", overflow="latest")
        async def handle(moved: Moved) -> None:
            log.note(moved)

        async with Node(service, mesh=MESH) as node, Node(mesh=MESH) as other:
            for number in range(100):
                for player in ("ana", "ben", "cem"):
                    await other.emit(Moved(player=player, number=number))
            await eventually(lambda: not any(r.outstanding for r in other.report().routes))
            last = {event.player: event.number for _, event in log.starts}
            assert last == {"ana": 99, "ben": 99, "cem": 99}
            assert log.worst(10, 1) < 1e-6
            assert shed(node) == {"replaced by a newer one": 300 - len(log.starts)}
            assert len(log.starts) <= 7

    run(main())


def test_the_newest_replaces_what_waits_while_a_handler_is_busy_with_its_key() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Moved, overflow="latest")
        async def handle(moved: Moved) -> None:
            log.note(moved)
            await asyncio.sleep(1)

        async with Node(service, mesh=MESH) as node:
            for number in range(10):
                await node.emit(Moved(player="ana", number=number))
                await asyncio.sleep(0.01)
            await eventually(lambda: log.numbers == [0, 9])
            assert shed(node) == {"replaced by a newer one": 8}

    run(main())


def test_one_noisy_player_holds_up_nobody_else() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Pinged, limit=Limit("1/s burst 1", per="player"), queue=20)
        async def handle(pinged: Pinged) -> None:
            log.note(pinged)

        async with Node(service, mesh=MESH) as node, Node(mesh=MESH) as other:
            noise = asyncio.gather(
                *(other.emit(Pinged(number=n, player="noisy")) for n in range(100))
            )
            await asyncio.sleep(0.5)
            at: dict[str, float] = {}
            for name in ("ana", "ben", "cem"):
                await node.emit(Pinged(number=0, player=name))
                at[name] = now()
            await asyncio.sleep(0.1)
            starts = {event.player: when for when, event in reversed(log.starts)}
            assert all(starts[name] - when < 0.05 for name, when in at.items())
            noise.cancel()

    run(main())


def test_each_emitting_service_has_a_limit_of_its_own() -> None:
    async def main() -> None:
        sources: Counter[str] = Counter()
        service = Service("s")
        loud, quiet = Service("loud"), Service("quiet")

        @service.on(Pinged, limit=Limit("5/s", burst=5, per=Limit.SOURCE), overflow="drop")
        async def handle(pinged: Pinged) -> None:
            sources[pinged.player] += 1

        async with (
            Node(service, mesh=MESH),
            Node(loud, mesh=MESH) as one,
            Node(quiet, mesh=MESH) as other,
        ):
            for number in range(100):
                await one.emit(Pinged(number=number, player="loud"))
            for number in range(5):
                await other.emit(Pinged(number=number, player="quiet"))
            await asyncio.sleep(0.1)
            assert sources == {"loud": 5, "quiet": 5}

    run(main())


def test_a_function_may_tell_what_a_limit_is_for_and_its_failures_count_together() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        def team(pinged: Pinged) -> str:
            return pinged.player.split("/")[1]

        @service.on(Pinged, limit=Limit("1/s", burst=1, per=team), overflow="drop")
        async def handle(pinged: Pinged) -> None:
            log.note(pinged)

        async with Node(service, mesh=MESH) as node:
            for player in ("a/red", "b/red", "c/blue", "broken", "broken too"):
                await node.emit(Pinged(number=0, player=player))
            await eventually(lambda: shed(node)["limit 1/s per team burst 1"] == 2)
            assert [event.player for _, event in log.starts] == ["a/red", "c/blue", "broken"]

    run(main())


def test_of_several_limits_all_hold() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Pinged, limit=["20/s burst 1", "60/min burst 10"])
        async def handle(pinged: Pinged) -> None:
            log.note(pinged)

        async with Node(service, mesh=MESH, budget=Budget(seconds="1min")) as node:
            for number in range(40):
                await node.emit(Pinged(number=number))
            await eventually(lambda: len(log.starts) == 40)
            assert log.worst(20, 1) < 1e-6
            assert log.worst(1, 10) < 1e-6
            assert log.starts[-1][0] == pytest.approx(30, rel=0.02)

    run(main())


def test_the_handlers_of_a_service_share_its_limit() -> None:
    async def main() -> None:
        log, service = Log(), Service("s", limit="10/s burst 1")

        @service.on(Pinged)
        async def first(pinged: Pinged) -> None:
            log.note(pinged)

        @service.on(Pinged)
        async def second(pinged: Pinged) -> None:
            log.note(pinged)

        async with Node(service, mesh=MESH) as node:
            for number in range(20):
                await node.emit(Pinged(number=number))
            await eventually(lambda: len(log.starts) == 40)
            assert log.worst(10, 1) < 1e-6
            assert log.starts[-1][0] == pytest.approx(3.9, rel=0.01)

    run(main())


def test_what_has_waited_longer_than_its_time_to_live_is_not_handled() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Fresh, limit="1/s burst 1")
        async def handle(fresh: Fresh) -> None:
            log.note(fresh)

        async with Node(service, mesh=MESH) as node, Node(mesh=MESH) as other:
            for number in range(10):
                await other.emit(Fresh(number=number))
            await eventually(lambda: not any(r.outstanding for r in other.report().routes))
            assert log.numbers == [0, 1, 2] or log.numbers == [0, 1]
            assert shed(node) == {"expired": 10 - len(log.starts)}
            assert all(at < 2.01 for at, _ in log.starts)

    run(main())


def test_time_at_the_emitter_counts_towards_the_time_to_live() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Fresh, queue=1, concurrency=1)
        async def handle(fresh: Fresh) -> None:
            log.note(fresh)
            await asyncio.sleep(1.5)

        async with Node(service, mesh=MESH), Node(mesh=MESH) as other:
            emits = [asyncio.create_task(other.emit(Fresh(number=n))) for n in range(4)]
            receipts = await asyncio.gather(*emits)
            assert log.numbers == [0, 1]
            assert [receipt.targets for receipt in receipts] == [("s",), ("s",), (), ()]
            assert receipts[3].refused[0].reason == "expired"

    run(main())


def test_when_the_line_is_full_the_lowest_priority_is_shed_first_and_the_highest_goes_first() -> (
    None
):
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Urgent, Pinged, Idle, concurrency=1, queue=6)
        async def handle(event: Urgent | Pinged | Idle) -> None:
            log.note(event)
            await asyncio.sleep(1)

        async with Node(service, mesh=MESH) as node:
            await node.emit(Pinged(number=0))
            await asyncio.sleep(0.1)
            for number in range(1, 4):
                await node.emit(Idle(number=number))
                await node.emit(Pinged(number=number))
            await asyncio.sleep(0.1)
            for number in range(1, 4):
                await node.emit(Urgent(number=number))
            await eventually(lambda: len(log.starts) == 7)
            kinds = [type(event).__name__ for _, event in log.starts]
            assert kinds == ["Pinged"] + ["Urgent"] * 3 + ["Pinged"] * 3
            assert shed(node) == {"queue full": 3}

    run(main())


def test_a_node_emits_no_more_of_a_type_than_its_limit_says() -> None:
    class Limited(Event, limit="1/s burst 2"):
        number: int

    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Limited)
        async def handle(limited: Limited) -> None:
            log.note(limited)

        async with Node(service, mesh=MESH), Node(mesh=MESH) as node:
            for number in range(2):
                await node.emit(Limited(number=number))
            with pytest.raises(RateLimited, match=r"limited.*limit 1/s burst 2") as error:
                await node.emit(Limited(number=2))
            await asyncio.sleep(error.value.retry_after)
            await node.emit(Limited(number=3))
            await eventually(lambda: log.numbers == [0, 1, 3])
            assert lost(node) == {"limit 1/s burst 2": 1}

    run(main())


def test_a_consequence_beyond_the_limit_of_its_type_is_counted_and_does_not_fail_its_handler() -> (
    None
):
    class Echo(Event, limit="1/s"):
        number: int

    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Pinged)
        async def handle(pinged: Pinged) -> Echo:
            return Echo(number=pinged.number)

        @service.on(Echo)
        async def hear(echo: Echo) -> None:
            log.note(echo)

        async with Node(service, mesh=MESH) as node:
            for number in range(3):
                await node.emit(Pinged(number=number))
            await eventually(lambda: log.numbers == [0])
            assert lost(node) == {"limit 1/s": 2}
            assert not any(handler.failed for handler in node.report().handlers)

    run(main())


def test_a_type_that_asks_for_it_is_conflated_before_the_wire() -> None:
    class Position(Event, key="player", limit="10/s per player burst 1", overflow="latest"):
        player: str
        number: int

    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Position)
        async def handle(position: Position) -> None:
            log.note(position)

        async with Node(service, mesh=MESH), Node(mesh=MESH) as node:
            for number in range(100):
                for player in ("ana", "ben"):
                    receipt = await node.emit(Position(player=player, number=number))
                    assert receipt.targets == ("s",)
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            by_player: defaultdict[str, list[int]] = defaultdict(list)
            for _, event in log.starts:
                by_player[event.player].append(event.number)
            for numbers in by_player.values():
                assert numbers[-1] == 99
                assert numbers == sorted(numbers)
                assert 10 <= len(numbers) <= 12
            sent = sum(route.sent for route in node.report().routes)
            assert sent == len(log.starts)
            assert lost(node) == {"replaced by a newer one": 200 - sent}

    run(main())


def test_what_waits_for_a_limit_when_a_node_closes_is_counted() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Pinged, limit="1/min")
        async def handle(pinged: Pinged) -> None:
            log.note(pinged)

        node = Node(service, mesh=MESH)
        await node.start()
        async with Node(mesh=MESH) as other:
            for number in range(5):
                await other.emit(Pinged(number=number))
            await asyncio.sleep(0.1)
            counts = Counter[str]()
            node.observe(Shed(counts))
            await node.close()
            assert log.numbers == [0]
            assert counts == {"closing": 4}

    run(main())


class Shed:
    """An observer that counts what is shed."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None

    def shed(self, event_id: Any, lineage: Any, event: str, service: str, handler: str, reason: str) -> None:  # fmt: skip
        self.counts[reason] += 1
