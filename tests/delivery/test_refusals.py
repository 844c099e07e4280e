"""What is refused, replaced or kept back, told as what it is, and without a trace when it is over."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from tests.delivery.test_limits import Fresh, Moved, Pinged, now, shed
from tests.delivery.watching import Watch, eventually, is_idle, lost

from thence import ConfigurationError, Event, Handlers, Limit, Node, Service
from thence.testing import run

MESH = "memory:refusals"


class Placed(Event, key="player", limit=Limit("1/s burst 1", per="player"), overflow="latest"):
    player: str
    number: int


class Posted(Event, key="player", limit="10/s burst 1", overflow="latest"):
    player: str
    number: int


def test_the_newest_of_a_key_is_handled_by_each_handler_that_keeps_only_the_newest() -> None:
    async def main() -> None:
        service = Service("s")
        seen: list[tuple[str, str, int]] = []

        @service.on(Moved, overflow="latest")
        async def quick(moved: Moved) -> None:
            await asyncio.sleep(1)
            seen.append(("quick", moved.player, moved.number))

        @service.on(Moved, overflow="latest", concurrency=1)
        async def slow(moved: Moved) -> None:
            await asyncio.sleep(5)
            seen.append(("slow", moved.player, moved.number))

        async with Node(service, mesh=MESH) as node:
            watch = Watch(node)
            await node.emit(Moved(player="x", number=0))
            ids: list[str] = []
            for number in (1, 2):
                await asyncio.sleep(0.1)
                ids.append((await node.emit(Moved(player="y", number=number))).event_id)
            await asyncio.sleep(30)
            for handler in ("quick", "slow"):
                assert (handler, "y", 2) in seen
            # Each event ends once at each handler, as what it is.
            for event_id in ids:
                ends = dict(watch.ends[event_id]["s"])
                assert set(ends) == {"quick", "slow"}
                for handler, end in ends.items():
                    assert (end == "handled") == ((handler, "y", 1 + ids.index(event_id)) in seen)

    run(main())


def test_what_waited_for_its_key_and_took_the_place_of_an_older_one_leaves_nothing_unfinished() -> (
    None
):
    def replica() -> Service:
        service = Service("s")

        @service.on(Moved, overflow="latest")
        async def note(moved: Moved) -> None:
            await asyncio.sleep(5 if moved.number == 0 else 0.5)

        return service

    async def main() -> None:
        async with Node(mesh=MESH) as emitter, Node(replica(), mesh=MESH) as old:
            await asyncio.sleep(1)
            for player in range(8):
                await emitter.emit(Moved(player=f"p{player}", number=0))
            await asyncio.sleep(0.1)
            async with Node(replica(), mesh=MESH) as new:
                for number in range(1, 9):
                    for player in range(8):
                        await new.emit(Moved(player=f"p{player}", number=number))
                await asyncio.sleep(30)
                await eventually(lambda: is_idle(emitter, old, new))
                for node in (old, new):
                    runtime: Any = node._runtime
                    assert not runtime.services["s"].unfinished
                    assert not runtime.services["s"].fences

    run(main())


def test_an_event_whose_emitter_was_told_that_it_is_in_is_not_refused_later() -> None:
    async def main() -> None:
        service = Service("s")
        handled: list[int] = []

        @service.on(Moved, limit="1/s burst 1", overflow="reject")
        async def note(moved: Moved) -> None:
            await asyncio.sleep(1.2 if moved.number == 0 else 0.01)
            handled.append(moved.number)

        async with Node(service, mesh=MESH) as node:
            runtime: Any = node._runtime
            verdicts: list[int] = []
            judge = runtime.hosting.line.judge

            def note_verdict(number: int, sequence: int, reason: str, wait: float) -> None:
                verdicts.append(sequence)
                judge(number, sequence, reason, wait)

            runtime.hosting.line.judge = note_verdict
            await node.emit(Moved(player="x", number=0))
            await asyncio.sleep(1.1)
            # The first one is still running; this one follows it in its lane, and the next takes the limit.
            told = await node.emit(Moved(player="x", number=1))
            await node.emit(Moved(player="y", number=2))
            await asyncio.sleep(5)
            assert told.targets == ("s",)
            assert sorted(handled) == [0, 1, 2]
            assert len(verdicts) == len(set(verdicts)) == 3
            assert shed(node) == {}

    run(main())


def test_nobody_is_waited_for_any_more_after_an_emit_was_cancelled_or_had_no_answer() -> None:
    async def main() -> None:
        service = Service("s")

        @service.on(Pinged, limit="1000/s", overflow="reject")
        async def note(pinged: Pinged) -> None: ...

        async with Node(service, mesh=MESH) as node:
            runtime: Any = node._runtime
            (outlet,) = runtime.hosting.line.outlets.values()
            emit = asyncio.create_task(node.emit(Pinged(number=0)))
            while not outlet.asked:
                await asyncio.sleep(0)
            emit.cancel()
            await asyncio.gather(emit, return_exceptions=True)
            assert not outlet.asked
            runtime.hosting.line.judge = lambda *_: None
            receipt = await node.emit(Pinged(number=1))
            assert receipt.targets == ("s",)
            assert not outlet.asked

    run(main())


def test_a_lost_connection_is_not_told_as_a_limit() -> None:
    async def main() -> None:
        service = Service("s")

        @service.on(Moved, limit="1000/s", overflow="reject")
        async def note(moved: Moved) -> None: ...

        async with Node(mesh=MESH) as emitter, Node(service, mesh=MESH):
            emit = asyncio.create_task(emitter.emit(Moved(player="x", number=1)))
            await asyncio.sleep(0)
            runtime: Any = emitter._runtime
            for link in list(runtime.peers.links.values()):
                link.end("closed", "by the test")
            receipt = await emit
            assert [(one.reason, one.retry_after) for one in receipt.refused] == [
                ("connection lost", None)
            ]

    run(main())


def test_an_emitter_is_told_at_once_that_an_event_can_not_be_decoded() -> None:
    class Picky(Event, name="pinged"):
        number: int
        player: str = ""

        def __post_init__(self) -> None:
            if self.number < 0:
                raise ValueError("not here")

    async def main() -> None:
        service = Service("s")

        @service.on(Picky, limit="1000/s", overflow="reject")
        async def note(event: Picky) -> None: ...

        async with Node(service, mesh=MESH), Node(mesh=MESH) as emitter:
            await asyncio.sleep(1)
            began = now()
            receipt = await emitter.emit(Pinged(number=-1))
            assert now() - began < 1
            assert [(one.reason, one.retry_after) for one in receipt.refused] == [
                ("can't be decoded", None)
            ]
            report = await receipt.settled(1)
            assert (report.shed, report.complete) == (1, True)

    run(main())


def test_the_newest_of_a_key_waits_for_a_receiver_that_is_full_and_gives_way_to_newer_ones() -> (
    None
):
    async def main() -> None:
        service = Service("s")
        handled: list[int] = []

        @service.on(Placed, queue=1, concurrency=1)
        async def note(placed: Placed) -> None:
            handled.append(placed.number)
            await asyncio.sleep(5)

        async with Node(service, mesh=MESH) as node:
            receipts = []
            for number in range(12):
                receipts.append(await node.emit(Placed(player="x", number=number)))
                await asyncio.sleep(0.4)
            report = await receipts[-1].settled("1min")
            assert handled == [0, 11]
            assert (report.events, report.complete) == (1, True)
            assert lost(node) == {"replaced by a newer one": 10}
            merged = await receipts[5].settled()
            assert (merged.events, merged.merged) == (0, 1)

    run(main())


def test_of_an_event_that_one_service_has_got_the_other_gets_a_newer_one_as_soon_as_it_has_room() -> (
    None
):
    async def main() -> None:
        quick, slow = Service("quick"), Service("slow")
        handled: list[tuple[str, int]] = []

        @quick.on(Placed)
        async def at_once(placed: Placed) -> None:
            handled.append(("quick", placed.number))

        @slow.on(Placed, queue=1, concurrency=1)
        async def later(placed: Placed) -> None:
            handled.append(("slow", placed.number))
            await asyncio.sleep(5)

        async with Node(quick, slow, mesh=MESH) as node:
            for number in range(4):
                began = now()
                await node.emit(Placed(player="x", number=number))
                assert now() == began
                await asyncio.sleep(1.1)
            await asyncio.sleep(10)
            assert [n for who, n in handled if who == "quick"] == [0, 1, 2, 3]
            assert [n for who, n in handled if who == "slow"] == [0, 3]
            assert lost(node) == {"replaced by a newer one": 2}

    run(main())


def test_who_shares_a_limit_is_kept_back_in_turn_and_nobody_is_asked_in_vain() -> None:
    async def main() -> None:
        service = Service("s")
        handled: list[str] = []

        @service.on(Posted)
        async def note(posted: Posted) -> None:
            handled.append(posted.player)

        async with Node(service, mesh=MESH) as node:
            asked = 0
            runtime: Any = node._runtime
            for number in range(40):
                await node.emit(Posted(player=f"p{number}", number=number))
            gate = next(r for r in runtime.table.routes.values() if r.spec.type is Posted).gate
            admit = gate.gates[0].admit

            def count(*arguments: Any) -> float:
                nonlocal asked
                asked += 1
                early: float = admit(*arguments)
                return early

            class Counting:
                def __getattr__(self, name: str) -> Any:
                    return count if name == "admit" else getattr(real, name)

            real = gate.gates[0]
            gate.gates = (Counting(),)
            gate.refused_by = real
            await asyncio.sleep(2.05)
            for number in range(3):
                await node.emit(Posted(player=f"q{number}", number=number))
            await eventually(lambda: len(handled) == 43)
            assert handled == [f"p{n}" for n in range(40)] + [f"q{n}" for n in range(3)]
            assert asked < 3 * 43

    run(main())


def test_what_is_kept_back_while_its_node_leaves_is_counted() -> None:
    async def main() -> None:
        service = Service("s")

        @service.on(Moved)
        async def note(moved: Moved) -> list[Posted]:
            await asyncio.sleep(1)
            return [Posted(player=f"p{number}", number=number) for number in range(3)]

        @service.on(Posted)
        async def hear(posted: Posted) -> None: ...

        node = Node(service, mesh=MESH)
        await node.start()
        await node.emit(Moved(player="x", number=0))
        await asyncio.sleep(0.1)
        await node.close()
        assert lost(node) == {"closing": 2}

    run(main())


@pytest.mark.parametrize("included", [False, True])
def test_an_overflow_that_only_one_of_two_handlers_can_keep_is_refused(included: bool) -> None:
    service = Service("s")

    @service.on(Moved, overflow="latest")
    async def newest(moved: Moved) -> None: ...

    with pytest.raises(ConfigurationError, match="'newest' and 'each' both want Moved.*to both"):
        if included:
            handlers = Handlers()
            handlers.on(Moved, name="each")(_ignore)
            service.include(handlers)
        else:
            service.on(Moved, name="each")(_ignore)
    service.on(Pinged, name="another")(_ignore)
    service.on(Moved, name="all replicas", broadcast=True)(_ignore)


async def _ignore(event: Any) -> None: ...


def test_what_has_expired_in_a_full_line_gives_way_to_what_has_not() -> None:
    async def main() -> None:
        service = Service("s")
        handled: list[int] = []

        @service.on(Fresh, queue=2, concurrency=1, timeout="100s")
        async def note(fresh: Fresh) -> None:
            await asyncio.sleep(20 if fresh.number == 0 else 0)
            handled.append(fresh.number)

        async with (
            Node(service, mesh=MESH) as node,
            Node(mesh=MESH) as one,
            Node(mesh=MESH) as other,
        ):
            await one.emit(Fresh(number=0))
            for number in (1, 2):
                await other.emit(Fresh(number=number))
            await asyncio.sleep(19)
            await one.emit(Fresh(number=3))
            await asyncio.sleep(5)
            assert handled == [0, 3]
            assert shed(node) == {"expired": 2}

    run(main())


def test_an_observer_that_raises_harms_nobody_and_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Faulty:
        def __getattr__(self, name: str) -> Any:
            def tell(*_: object) -> None:
                raise ValueError(name)

            return tell

    async def main() -> None:
        service = Service("s")
        handled: list[int] = []

        @service.on(Pinged, queue=1, concurrency=1)
        async def note(pinged: Pinged) -> None:
            handled.append(pinged.number)
            await asyncio.sleep(0.01)

        async with Node(service, mesh=MESH) as node:
            observer: Any = Faulty()
            node.observe(observer)
            for number in range(20):
                assert (await node.emit(Pinged(number=number))).targets == ("s",)
            await eventually(lambda: is_idle(node))
        assert handled == list(range(20))

    with caplog.at_level(logging.ERROR):
        run(main())
    assert len([record for record in caplog.records if "observer" in record.message]) == 1


def test_a_node_that_leaves_has_its_handlers_consequences_ended_first() -> None:
    async def main() -> None:
        first, second = Service("first"), Service("second")
        handled: list[int] = []

        @first.on(Moved)
        async def pass_on(moved: Moved) -> Pinged:
            return Pinged(number=moved.number)

        @second.on(Pinged)
        async def end(pinged: Pinged) -> None:
            await asyncio.sleep(1)
            handled.append(pinged.number)

        leaving = Node(first, mesh=MESH)
        await leaving.start()
        async with Node(second, mesh=MESH):
            for number in range(3):
                await leaving.emit(Moved(player="x", number=number))
            await leaving.close()
            assert handled == [0, 1, 2]
            assert lost(leaving) == {}

    run(main())
