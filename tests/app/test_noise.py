"""What running nodes tell of their noise, and of what they have seen."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from thence import Event, Node, NodeClosed, RateLimited, Service, UndeclaredEvent
from thence.cascade.loops import LoopMode
from thence.delivery import loop_guard
from thence.observability.noise import Noise
from thence.observability.sightings import Sightings
from thence.testing import run


class Asked(Event):
    number: int


class Answered(Event):
    number: int


class Again(Event, limit="5/s burst 5"):
    number: int


def oracle() -> Service:
    service = Service("oracle")

    @service.on(Asked, queue=100)
    async def answer(asked: Asked) -> list[Answered]:
        if asked.number % 10 == 9:
            raise ValueError(asked.number)
        return [Answered(number=asked.number)] * 3

    return service


def test_a_window_is_told_at_once_with_what_came_from_which_handler() -> None:
    async def main() -> tuple[Noise, Noise]:
        async with (
            Node(oracle(), mesh="memory:noise") as _,
            Node(mesh="memory:noise", name="web") as web,
            Node(mesh="memory:noise") as asking,
        ):
            for count in (10, 40):
                # Off the beat, so that it is clear which window they are in.
                for number in range(count):
                    await web.emit(Asked(number=number))
                await asyncio.sleep(9.5)
            await asyncio.sleep(0.4)
            return await asking.ask_noise(10), await asking.ask_noise(2)

    noise, quiet = run(main())
    assert [one.name.split("-")[0] for one in noise.answered] == ["oracle", "web"]
    assert noise.silent == []
    by_event = {one.event: one for one in noise.talkers}
    asked, answered = by_event["asked"], by_event["answered"]
    assert (asked.source, asked.count, answered.source, answered.count) == (
        "web",
        40,
        "oracle",
        108,
    )
    assert asked.rate == pytest.approx(4, rel=0.1)
    assert asked.rate_before == pytest.approx(10 / 9.5, rel=0.2)
    assert asked.bytes_rate == pytest.approx(2 * asked.rate)
    (handler,) = noise.handlers
    assert (handler.place, handler.handled, handler.failed) == ("oracle.answer", 36, 4)
    assert handler.amplification == pytest.approx(108 / 40)
    assert noise.is_exact
    assert all(one.count == 0 for one in quiet.talkers)
    assert not quiet.handlers


def test_what_a_limit_stops_is_told_with_its_reason() -> None:
    async def main() -> Noise:
        async with (
            Node(mesh="memory:noisy", name="web") as web,
            Node(mesh="memory:noisy") as asking,
        ):
            for number in range(20):
                with suppress(RateLimited):
                    await web.emit(Again(number=number))
            return await asking.ask_noise(10)

    (row,) = run(main()).shed
    assert (row.place, row.reason, row.kind, row.count) == (
        "again",
        "limit 5/s burst 5",
        "shed",
        15,
    )


@pytest.mark.parametrize(("mode", "cut"), [("enforce", 1), ("warn", 0), ("observe", 0)])
def test_a_loop_is_told_with_the_handlers_it_goes_through(mode: LoopMode, cut: int) -> None:
    there, back = Service("there"), Service("back")

    @there.on(Asked, name="go")
    async def go(asked: Asked) -> Answered:
        return Answered(number=asked.number)

    @back.on(Answered, name="come")
    async def come(answered: Answered) -> Asked | None:
        return Asked(number=answered.number + 1) if answered.number < 1 else None

    async def main() -> Noise:
        async with (
            Node(there, back, mesh="memory:loop", loops=mode) as node,
            Node(mesh="memory:loop") as asking,
        ):
            receipt = await node.emit(Asked(number=0))
            await receipt.settled()
            return await asking.ask_noise(10)

    (loop,) = run(main()).loops
    assert loop.loop in ("there.go → back.come → there.go", "back.come → there.go → back.come")
    assert (loop.count, loop.cut) == (1 if cut else 2, cut)


def test_loops_beyond_the_most_that_are_told_apart_are_counted_by_handler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop_guard, "MAX_TOLD", 0)
    service = Service("there")

    @service.on(Asked, name="go")
    async def go(asked: Asked) -> Asked:
        return asked

    async def main() -> Noise:
        async with (
            Node(service, mesh="memory:loops") as node,
            Node(mesh="memory:loops") as asking,
        ):
            await (await node.emit(Asked(number=0))).settled()
            return await asking.ask_noise(10)

    (loop,) = run(main()).loops
    assert (loop.loop, loop.count, loop.cut) == ("there.go → … → there.go", 1, 1)


def test_rings_that_are_off_leave_rates_and_take_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THENCE_RECORDER", "0")

    async def main() -> tuple[Noise, list[Sightings]]:
        async with (
            Node(oracle(), mesh="memory:off") as node,
            Node(mesh="memory:off") as asking,
        ):
            await (await node.emit(Asked(number=0))).settled()
            await asyncio.sleep(5)
            sightings, _ = await asking.ask_sightings()
            return await asking.ask_noise(10), sightings

    noise, (seen,) = run(main())
    assert {one.event: (one.count, one.bytes_rate) for one in noise.talkers} == {
        "asked": (1, None),
        "answered": (3, None),
    }
    assert [one.amplification for one in noise.handlers] == [None]
    assert not noise.is_exact
    assert (seen.emits, seen.seconds, seen.age) == ((), 0, pytest.approx(5, abs=1))


def test_a_node_tells_what_its_handlers_emit_whatever_they_declare() -> None:
    sly = Service("sly")

    @sly.on(Answered, name="try_it")
    async def try_it(answered: Answered) -> None:
        await node_of_test[0].emit(Again(number=1))

    node_of_test: list[Node] = []

    async def main() -> list[Sightings]:
        async with (
            Node(oracle(), sly, mesh="memory:sly") as node,
            Node(mesh="memory:sly") as asking,
        ):
            node_of_test.append(node)
            receipt = await node.emit(Asked(number=0))
            await receipt.settled()
            told, silent = await asking.ask_sightings()
            assert not silent
            return told

    (told,) = run(main())
    assert told.emits == (("oracle.answer", "answered"),)
    assert told.handles == (("oracle.answer", "asked"), ("sly.try_it", "answered"))
    ((place, count, text),) = told.undeclared
    assert (place, count) == ("sly.try_it", 3)
    assert text.startswith(UndeclaredEvent.__name__)


def test_a_report_tells_the_fingerprint_of_each_type_that_its_node_knows() -> None:
    async def main() -> dict[str, str]:
        async with Node(oracle(), mesh="memory:prints") as node:
            await node.emit(Again(number=1))
            return node.report().schemas

    prints = run(main())
    assert set(prints) == {"asked", "answered", "again"}
    assert prints["asked"] == Asked.__event__.schema.fingerprint


def test_a_node_that_does_not_run_asks_nobody() -> None:
    node = Node(mesh="memory:none")

    async def main() -> None:
        with pytest.raises(NodeClosed):
            await node.ask_noise(10)
        with pytest.raises(NodeClosed):
            await node.ask_sightings()

    run(main())
