"""Tail export: spans leave only for cascades that went wrong, and then all of them do, from all nodes."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from tests.delivery.cascading import new_mesh, running
from tests.observability.rig import listening
from tests.observability.spans import (
    KEPT,
    eventually,
    exporting,
    node_with,
    of_cascades,
    roots_of,
    shape_of,
    trace_of,
)

from thence import Budget, Event, Service
from thence.app import exporting as app_exporting
from thence.observability.opentelemetry import exporter
from thence.observability.opentelemetry.recollection import Recollection
from thence.testing import run

pytestmark = pytest.mark.usefixtures("fast_beat")


class Begun(Event):
    number: int = 0
    what: str = "good"


class Middle(Event):
    number: int = 0
    what: str = "good"


class Ended(Event):
    number: int = 0
    what: str = "good"


class Side(Event):
    number: int = 0
    what: str = "good"


def services(**first: Any) -> tuple[Service, ...]:
    """``first`` → ``second`` → ``third``, and from the first a branch to ``fourth``, which may take its time."""
    one, two, three, four = (Service(name) for name in ("one", "two", "three", "four"))

    @one.on(Begun, **first)
    async def begin(event: Begun) -> list[Middle | Side]:
        if event.what == "slow":
            await asyncio.sleep(0.6)
        return [
            Middle(number=event.number, what=event.what),
            Side(number=event.number, what=event.what),
        ]

    begin.__annotations__["return"] = list[Middle | Side]

    @two.on(Middle)
    async def go_on(event: Middle) -> Ended:
        if event.what == "slow":
            await asyncio.sleep(0.6)
        return Ended(number=event.number, what=event.what)

    @three.on(Ended)
    async def end(event: Ended) -> None:
        if event.what in ("failed", "late"):
            raise ValueError("it ended badly")

    @four.on(Side)
    async def wander(event: Side) -> None:
        if event.what == "late":
            await asyncio.sleep(5)

    return one, two, three, four


PER_CASCADE = 8
GOOD = 600
ANOMALIES = ("failed", "cut", "slow")


async def traffic(export: str) -> dict[str, str]:
    """Many good cascades and a bad one of each kind; by its kind, the root event of each bad one."""
    bad: dict[str, str] = {}
    async with exporting(new_mesh(), export, *services()) as emitter:
        # What is noticed by way of reports on tracked cascades is another matter.
        emitter._runtime.tracker.watch = None
        for number in range(GOOD):
            await emitter.emit(Begun(number=number))
            if number % 200 == 100:
                what = ANOMALIES[number // 200]
                budget = Budget(depth=1) if what == "cut" else None
                receipt = await emitter.emit(Begun(number=number, what=what), budget=budget)
                bad[what] = receipt.event_id
            if number % 20 == 0:
                await asyncio.sleep(0.01)
        await asyncio.sleep(4)
    return bad


def test_fifty_times_fewer_spans_leave_and_every_anomaly_is_as_complete_as_if_all_had() -> None:
    KEPT.clear()
    bad = run(traffic("all"))
    everything = of_cascades(KEPT.get_finished_spans())
    shapes = {what: shape_of(trace_of(root)) for what, root in bad.items()}
    assert len(roots_of(everything)) == GOOD + 3
    # Where a cascade was cut there is a span of that in place of the run.
    assert {what: sum(shape.values()) for what, shape in shapes.items()} == dict.fromkeys(
        ANOMALIES, PER_CASCADE
    )
    assert "process ended  cut" in str(shapes["cut"])

    KEPT.clear()
    bad = run(traffic("anomalous"))
    some = of_cascades(KEPT.get_finished_spans())
    assert roots_of(some).keys() == set(bad.values())
    assert {what: shape_of(trace_of(root)) for what, root in bad.items()} == shapes
    assert len(everything) >= 50 * len(some)


def test_an_anomaly_in_a_flood_is_complete() -> None:
    async def scenario() -> list[str]:
        bad: list[str] = []
        async with exporting(new_mesh(), "anomalous", *services(), recorder="40MB") as emitter:
            for number in range(15_000):
                what = "failed" if number % 3000 == 1500 else "good"
                receipt = await emitter.emit(Begun(number=number, what=what))
                if what == "failed":
                    bad.append(receipt.event_id)
            await eventually(lambda: all(len(trace_of(one)) == PER_CASCADE for one in bad))
        return bad

    KEPT.clear()
    # In real time, or else all of it would be one moment.
    bad = asyncio.run(scenario())
    assert roots_of(KEPT.get_finished_spans()).keys() == set(bad)
    shapes = [shape_of(trace_of(one)) for one in bad]
    assert "?" not in str(shapes)
    assert all(shape == shapes[0] for shape in shapes)


async def one_bad(what: str, within: float = 20.0, **settings: Any) -> list[Any]:
    async with exporting(new_mesh(), "anomalous", *services(), **settings) as emitter:
        receipt = await emitter.emit(Begun(what=what))
        await eventually(lambda: len(trace_of(receipt.event_id)) >= PER_CASCADE, within)
    return trace_of(receipt.event_id)


def test_what_happens_after_a_cascade_was_asked_for_is_exported_too() -> None:
    spans = run(one_bad("late"))
    assert Counter(span.name for span in spans)["process side"] == 1
    assert "?" not in str(shape_of(spans))


@pytest.mark.parametrize(("slower", "exported"), [("1s", True), ("2s", False)])
def test_slow_is_a_cascade_whose_steps_together_take_too_long(slower: str, exported: bool) -> None:
    async def scenario() -> str:
        async with exporting(new_mesh(), "anomalous", *services(), export_slower=slower) as emitter:
            receipt = await emitter.emit(Begun(what="slow"))
            await asyncio.sleep(3)
            return receipt.event_id

    assert len(trace_of(run(scenario()))) == (PER_CASCADE if exported else 0)


@pytest.mark.parametrize(
    ("handler", "emitted"),
    [
        ({"budget": Budget(seconds=3)}, None),
        ({"budget": Budget(seconds=300)}, None),
        ({}, Budget(seconds=3)),
        ({}, Budget(seconds=300)),
        ({}, Budget(depth=5)),
    ],
)
def test_a_budget_makes_no_cascade_slow_and_no_slow_one_fast(
    handler: dict[str, Any], emitted: Budget | None
) -> None:
    async def scenario() -> tuple[str, str]:
        async with exporting(new_mesh(), "anomalous", *services(**handler)) as emitter:
            good = await emitter.emit(Begun(), budget=emitted)
            slow = await emitter.emit(Begun(what="slow"), budget=emitted)
            await eventually(lambda: len(trace_of(slow.event_id)) >= PER_CASCADE)
            await asyncio.sleep(1)
            return good.event_id, slow.event_id

    good, slow = run(scenario())
    assert trace_of(good) == []
    assert len(trace_of(slow)) == PER_CASCADE


def test_a_cascade_that_ran_out_of_time_was_cut() -> None:
    async def scenario() -> str:
        async with exporting(new_mesh(), "anomalous", *services(), export_slower="1min") as emitter:
            receipt = await emitter.emit(Begun(what="slow"), budget=Budget(seconds=0.5))
            await asyncio.sleep(3)
            return receipt.event_id

    spans = trace_of(run(scenario()))
    assert {span.attributes.get("error.type") for span in spans} == {None, "expired"}
    assert {span.attributes.get("thence.reason") for span in spans} == {
        None,
        "cascade budget: seconds",
    }


def test_the_spans_are_complete_without_the_node_that_emitted_the_root() -> None:
    async def scenario() -> str:
        mesh = new_mesh()
        nodes = [node_with(mesh, s.name, s, export="anomalous") for s in services()]
        async with running(*nodes):
            emitter = node_with(mesh, "emitter", export="anomalous")
            async with emitter:
                receipt = await emitter.emit(Begun(what="slow"))
            await eventually(lambda: len(trace_of(receipt.event_id)) >= PER_CASCADE)
            await asyncio.sleep(1)
        return receipt.event_id

    shape = shape_of(trace_of(run(scenario())))
    assert sum(shape.values()) == PER_CASCADE
    assert "?" not in str(shape)


def test_several_who_notice_it_at_once_have_it_exported_once() -> None:
    others = [Service(f"other-{number}") for number in range(3)]

    async def fail(event: Ended) -> None:
        raise ValueError("it ended badly here too")

    for other in others:
        other.on(Ended)(fail)

    async def scenario() -> str:
        mesh = new_mesh()
        hosted = [*services(), *others]
        nodes = [node_with(mesh, s.name, s, export="anomalous") for s in hosted]
        async with running(*nodes):
            async with node_with(mesh, "emitter", export="anomalous") as emitter:
                receipt = await emitter.emit(Begun(what="late"))
            await eventually(lambda: len(trace_of(receipt.event_id)) >= PER_CASCADE + 3)
            await asyncio.sleep(1)
        return receipt.event_id

    shape = shape_of(trace_of(run(scenario())))
    assert sum(shape.values()) == PER_CASCADE + 3
    assert "?" not in str(shape)


@pytest.mark.parametrize("what", ANOMALIES)
def test_reports_on_a_tracked_cascade_tell_of_it_too(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> dict[Any, str]:
        return {}

    monkeypatch.setattr(exporter, "anomalies", nothing)

    async def scenario() -> str:
        async with exporting(new_mesh(), "anomalous", *services()) as emitter:
            budget = Budget(depth=1) if what == "cut" else None
            receipt = await emitter.emit(Begun(what=what), budget=budget)
            await receipt.settled()
            await eventually(lambda: len(trace_of(receipt.event_id)) >= PER_CASCADE)
            return receipt.event_id

    assert "?" not in str(shape_of(trace_of(run(scenario()))))


def test_a_cascade_without_receipt_is_followed_as_well_as_one_with() -> None:
    async def scenario() -> str:
        async with exporting(new_mesh(), "anomalous", *services()) as emitter:
            receipt = await emitter.emit(Begun(what="failed"))
            await receipt.settled()
            return receipt.event_id

    # The emitter has closed right away.
    assert len(trace_of(run(scenario()))) == PER_CASCADE


def test_a_node_that_comes_later_is_asked_too() -> None:
    told = Service("told")
    seen: list[int] = []

    @told.on(Side)
    async def note(event: Side) -> None:
        seen.append(event.number)

    async def scenario() -> str:
        mesh = new_mesh()
        one, two, three, _ = services()
        nodes = [node_with(mesh, s.name, s, export="anomalous") for s in (one, two, three)]
        emitter = node_with(mesh, "emitter", export="anomalous")
        late = node_with(mesh, "late", told, export="anomalous")

        class Waiting:
            go = asyncio.Event()

        @emitting.on(Ended)
        async def wait(event: Ended) -> Side:
            await Waiting.go.wait()
            return Side(number=event.number)

        nodes.append(node_with(mesh, "emitting", emitting, export="anomalous"))
        async with running(*nodes, emitter):
            receipt = await emitter.emit(Begun(number=7, what="failed"))
            await eventually(lambda: trace_of(receipt.event_id))
            await asyncio.sleep(1)
            async with late:
                await asyncio.sleep(1)
                Waiting.go.set()
                await eventually(lambda: seen)
                await eventually(
                    lambda: any(s.name == "process side" for s in trace_of(receipt.event_id))
                )
        return receipt.event_id

    emitting = Service("emitting")
    assert "?" not in str(shape_of(trace_of(run(scenario()))))


def test_more_anomalies_than_a_second_may_have_are_left_out_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    KEPT.clear()
    monkeypatch.setattr(app_exporting, "MOST_A_SECOND", 5)

    async def scenario() -> set[str]:
        async with exporting(new_mesh(), "anomalous", *services()) as emitter:
            ids: set[str] = set()
            for number in range(80):
                ids.add((await emitter.emit(Begun(number=number, what="failed"))).event_id)
                await asyncio.sleep(0 if number < 40 else 0.025)
            await asyncio.sleep(0.5)
            return ids

    with listening() as log:
        ids = run(scenario())
    found = roots_of(KEPT.get_finished_spans())
    # Five at once, and five a second.
    assert 5 <= len(found) <= 15
    assert found.keys() <= ids
    assert {len(spans) for spans in found.values()} == {PER_CASCADE}
    said = [text for text in log.said if "cascades a second fail" in text]
    assert said
    assert len(said) == len(set(said))


def test_what_was_overwritten_before_anybody_looked_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with exporting(new_mesh(), "all", *services(), recorder="64kB") as emitter:
            for _ in range(3):
                for number in range(300):
                    await emitter.emit(Begun(number=number))
                await asyncio.sleep(1)

    with listening() as log:
        run(scenario())
    said = [text for text in log.said if "more happened than the recorder keeps until" in text]
    assert said
    assert len(said) == len(set(said))


def test_nobody_looks_at_a_fact_twice_nor_misses_one() -> None:
    from thence.facts.ring import FACT_BYTES, MOMENT, Ring

    ring = Ring(100 * FACT_BYTES)
    recollection = Recollection("a" * 20, ring, lambda: 0.0)
    found: list[int] = []
    for number in range(500):
        ring.note((MOMENT, 0.0, number))
        if number % 37 == 0:
            found += [raw[2] for raw in recollection.news().facts]
    found += [raw[2] for raw in recollection.news().facts]
    assert found == list(range(500))
    assert not recollection.missed
    for number in range(500):
        ring.note((MOMENT, 0.0, number))
    assert [raw[2] for raw in recollection.news().facts] == list(range(450, 500))
    assert recollection.missed == 1
