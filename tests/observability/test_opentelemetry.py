"""Spans of all cascades, and the context that goes along."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags
from tests.delivery.cascading import new_mesh
from tests.observability.rig import listening
from tests.observability.spans import (
    KEPT,
    eventually,
    exporting,
    of_cascades,
    shape_of,
    trace_of,
)

from thence import Batch, Budget, Event, Service
from thence.observability.opentelemetry.spans import SpanMaker
from thence.testing import run

pytestmark = pytest.mark.usefixtures("fast_beat")


class ClueFound(Event):
    clue: int = 0


class ScoreChanged(Event):
    points: int = 0


class RankChanged(Event):
    rank: int = 0


class Trio:
    """``scores.award`` → ``ranks.update`` → ``news.tell``, which fails for a rank below 0."""

    def __init__(self) -> None:
        self.seen: list[SpanContext] = []
        scores, ranks, news = Service("scores"), Service("ranks"), Service("news")

        @scores.on(ClueFound)
        async def award(found: ClueFound) -> ScoreChanged:
            self.note()
            return ScoreChanged(points=found.clue)

        @ranks.on(ScoreChanged)
        async def update(change: ScoreChanged) -> RankChanged:
            self.note()
            with trace.get_tracer("their.own").start_as_current_span("read the database"):
                return RankChanged(rank=change.points)

        @news.on(RankChanged)
        async def tell(change: RankChanged) -> None:
            self.note()
            if change.rank < 0:
                raise LookupError("no such rank")

        self.services = scores, ranks, news

    def note(self) -> None:
        self.seen.append(trace.get_current_span().get_span_context())


SPANS = 6
"""Of a cascade that goes through the trio."""

WAY = [
    "send clue_found  ",
    "process clue_found scores.award ",
    "send score_changed  ",
    "process score_changed ranks.update ",
    "send rank_changed  ",
    "process rank_changed news.tell ",
]


async def one_cascade(trio: Trio, event: ClueFound, export: str = "all") -> list[ReadableSpan]:
    async with exporting(new_mesh(), export, *trio.services) as emitter:
        receipt = await emitter.emit(event)
        await receipt.settled()
        await eventually(lambda: len(trace_of(receipt.event_id)) >= SPANS)
    return trace_of(receipt.event_id)


def same(one: SpanContext, other: SpanContext) -> bool:
    return (one.trace_id, one.span_id) == (other.trace_id, other.span_id)


def by_name(spans: list[ReadableSpan]) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans}


def test_each_event_is_a_span_that_sends_it_and_each_run_one_that_processes_it() -> None:
    spans = run(one_cascade(Trio(), ClueFound(clue=3)))
    assert shape_of(spans) == {tuple(WAY[:length]): 1 for length in range(1, SPANS + 1)}
    named = by_name(spans)
    assert {span.kind for name, span in named.items() if name.startswith("send")} == {
        SpanKind.PRODUCER
    }
    assert {span.kind for name, span in named.items() if name.startswith("process")} == {
        SpanKind.CONSUMER
    }
    for event in ("clue_found", "score_changed", "rank_changed"):
        sent, processed = named[f"send {event}"], named[f"process {event}"]
        assert same(processed.parent, sent.context)
        (link,) = processed.links
        assert same(link.context, sent.context)
        assert link.context.is_remote
    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}


def test_spans_have_the_attributes_of_the_messaging_conventions() -> None:
    spans = run(one_cascade(Trio(), ClueFound(clue=-1)))
    named = by_name(spans)
    root = named["send clue_found"].attributes or {}
    failed = named["process rank_changed"]
    assert (
        dict(failed.attributes or {}).items()
        >= {
            "messaging.system": "thence",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": "rank_changed",
            "messaging.consumer.group.name": "news",
            "messaging.client.id": "news",
            "messaging.message.conversation_id": root["messaging.message.id"],
            "thence.handler": "news.tell",
            "error.type": "LookupError",
        }.items()
    )
    assert failed.attributes["messaging.message.id"] != root["messaging.message.id"]
    assert (failed.status.status_code, failed.status.description) == (
        StatusCode.ERROR,
        "no such rank",
    )
    assert root["messaging.operation.name"] == "send"
    assert root["messaging.message.body.size"] == 2


def test_the_trace_id_is_the_root_event_s_id() -> None:
    spans = run(one_cascade(Trio(), ClueFound(clue=3)))
    (trace_id,) = {span.context.trace_id for span in spans}
    root = by_name(spans)["send clue_found"]
    assert f"{trace_id:032x}" == root.attributes["messaging.message.id"]


def test_nothing_begins_before_its_cause_and_nothing_ends_before_it_began() -> None:
    # In real time: the calendar does not bend with the loop.
    spans = asyncio.run(one_cascade(Trio(), ClueFound(clue=3)))
    known = {span.context.span_id: span for span in spans}
    for span in spans:
        assert span.start_time <= span.end_time
        if span.parent is not None:
            assert known[span.parent.span_id].start_time <= span.start_time
    # The same moment on the calendar, too.
    assert abs(max(span.end_time for span in spans) - min(s.start_time for s in spans)) < 10e9


def test_a_handler_s_own_spans_are_below_its_run() -> None:
    KEPT.clear()
    trio = Trio()
    spans = run(one_cascade(trio, ClueFound(clue=3)))
    named = by_name(spans)
    (own,) = [span for span in KEPT.get_finished_spans() if span.name == "read the database"]
    assert own.parent.span_id == named["process score_changed"].context.span_id
    assert own.context.trace_id == named["send clue_found"].context.trace_id
    assert [one.span_id for one in trio.seen] == [
        named[f"process {event}"].context.span_id
        for event in ("clue_found", "score_changed", "rank_changed")
    ]


def test_after_a_run_nothing_of_its_span_is_left() -> None:
    trio, left = Trio(), []

    async def scenario() -> None:
        async with exporting(new_mesh(), "all", *trio.services) as emitter:
            for clue in range(5):
                await (await emitter.emit(ClueFound(clue=clue))).settled()
                left.append(trace.get_current_span().get_span_context().is_valid)

    run(scenario())
    assert left == [False] * 5
    assert len({one.span_id for one in trio.seen}) == 15


def test_each_of_a_batch_has_its_own_span_and_each_root_its_own_trace() -> None:
    archive = Service("archive")

    @archive.on(ClueFound, batch=Batch(size=3, within="10s"))
    async def keep(found: list[ClueFound]) -> None:
        pass

    async def scenario() -> list[str]:
        async with exporting(new_mesh(), "all", archive) as emitter:
            ids = [(await emitter.emit(ClueFound(clue=clue))).event_id for clue in range(3)]
            await eventually(lambda: all(len(trace_of(one)) == 2 for one in ids))
            return ids

    ids = run(scenario())
    assert len({trace_of(one)[0].context.trace_id for one in ids}) == 3
    for one in ids:
        assert shape_of(trace_of(one)) == {
            ("send clue_found  ",): 1,
            ("send clue_found  ", "process clue_found archive.keep "): 1,
        }


def test_what_a_budget_cut_is_a_span_that_says_so() -> None:
    async def scenario() -> str:
        async with exporting(new_mesh(), "all", *Trio().services) as emitter:
            receipt = await emitter.emit(ClueFound(clue=3), budget=Budget(depth=1))
            await eventually(lambda: len(trace_of(receipt.event_id)) >= 6)
            return receipt.event_id

    cut = [span for span in trace_of(run(scenario())) if "error.type" in span.attributes]
    (one,) = cut
    assert one.attributes["error.type"] == "cut"
    assert one.status.description == "cascade budget: depth"
    assert one.attributes["messaging.destination.name"] == "rank_changed"


THEIRS = SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, True, TraceFlags(1))
UNSAMPLED = SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4737, 0x00F067AA0BA902B7, True, TraceFlags(0))


@pytest.mark.parametrize("export", ["all", "anomalous"])
@pytest.mark.parametrize("budget", [None, Budget(depth=5), Budget(seconds=50)])
def test_a_root_event_goes_on_with_the_trace_that_it_was_emitted_in(
    export: str, budget: Budget | None
) -> None:
    trio = Trio()

    async def scenario() -> str:
        async with exporting(new_mesh(), export, *trio.services) as emitter:
            with trace.use_span(NonRecordingSpan(THEIRS)):
                receipt = await emitter.emit(ClueFound(clue=-1), budget=budget)
            await eventually(lambda: len(trace_of(receipt.event_id)) >= SPANS)
            return receipt.event_id

    spans = trace_of(run(scenario()))
    assert {span.context.trace_id for span in spans} == {THEIRS.trace_id}
    assert by_name(spans)["send clue_found"].parent.span_id == THEIRS.span_id
    assert len(spans) == SPANS
    # The handlers saw it too, each at its place: it went along with the events.
    assert [(one.trace_id, one.span_id) for one in trio.seen] == [
        (THEIRS.trace_id, by_name(spans)[f"process {event}"].context.span_id)
        for event in ("clue_found", "score_changed", "rank_changed")
    ]


def test_a_trace_that_its_owner_does_not_keep_is_not_exported_but_goes_along() -> None:
    trio = Trio()

    async def scenario() -> tuple[str, str]:
        async with exporting(new_mesh(), "all", *trio.services) as emitter:
            with trace.use_span(NonRecordingSpan(UNSAMPLED)):
                unkept = await emitter.emit(ClueFound(clue=1))
                await unkept.settled()
            kept = await emitter.emit(ClueFound(clue=2))
            await kept.settled()
            await eventually(lambda: len(trace_of(kept.event_id)) == SPANS)
            return unkept.event_id, kept.event_id

    unkept, _ = run(scenario())
    assert trace_of(unkept) == []
    assert [(one.trace_id, one.trace_flags) for one in trio.seen[:3]] == [
        (UNSAMPLED.trace_id, TraceFlags(0))
    ] * 3


def test_what_a_handler_emits_within_a_span_of_its_own_stays_in_its_cascade() -> None:
    spans = run(one_cascade(Trio(), ClueFound(clue=3)))
    named = by_name(spans)
    assert same(named["send rank_changed"].parent, named["process score_changed"].context)


def test_spans_that_are_left_when_a_node_closes_still_leave() -> None:
    async def scenario() -> str:
        async with exporting(new_mesh(), "all", *Trio().services) as emitter:
            receipt = await emitter.emit(ClueFound(clue=3))
            await receipt.settled()
        return receipt.event_id

    assert len(trace_of(run(scenario()))) == SPANS


class Grumpy(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        if of_cascades([span]):
            raise OSError("the disk is full")


def test_what_a_span_processor_raises_harms_nobody_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grumpy: Any = Grumpy()
    processor = trace.get_tracer_provider()._active_span_processor
    monkeypatch.setattr(processor, "_span_processors", (*processor._span_processors, grumpy))
    with listening() as log:
        spans = run(one_cascade(Trio(), ClueFound(clue=3)))
    assert len(spans) == SPANS
    said = [r for r in log.records if "could not be handed over" in r.getMessage()]
    assert {r.levelno for r in said} == {logging.ERROR}
    # By each of the four nodes that made some.
    assert len(said) == 4


def test_without_a_provider_it_is_said_once_what_to_set_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    trio = Trio()

    async def scenario() -> None:
        async with exporting(new_mesh(), "all", *trio.services) as emitter:
            for clue in range(3):
                await (await emitter.emit(ClueFound(clue=clue))).settled()

    with listening() as log:
        run(scenario())
    said = [text for text in log.said if "set_tracer_provider" in text]
    assert len(said) == 4
    assert len(trio.seen) == 9


def test_the_ids_of_the_program_s_own_spans_stay_its_own() -> None:
    SpanMaker(20 * "a", "a")._found_tracer()
    with (
        trace.get_tracer("thence").start_as_current_span("one") as one,
        trace.get_tracer("thence").start_as_current_span("two") as two,
    ):
        assert one.get_span_context().span_id != two.get_span_context().span_id
