"""Each record tells what event it is about, and none tells of a wrong one."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from typing import Any

import pytest
from tests.observability.rig import listening

from thence import Batch, Context, Event, Node, Service
from thence.delivery.about import ATTRIBUTES
from thence.delivery.running import RUNNING
from thence.observability import IdsFilter
from thence.testing import run

MESH = "memory:log-ids"


class Found(Event):
    player: str


class Scored(Event):
    player: str


def plain_record(name: str = "shop", **attributes: Any) -> logging.LogRecord:
    record = logging.LogRecord(name, logging.INFO, __file__, 1, "said", None, None)
    record.__dict__.update(attributes)
    return record


def hosted(*services: Service, event: Event | None = None) -> str:
    """Host these, emit an event, wait until all has ended; the event's id."""

    async def main() -> str:
        async with Node(*services, mesh=MESH) as node:
            receipt = await node.emit(event or Found(player="ana"))
            await receipt.settled(5)
            return str(receipt.event_id)

    return run(main())


@pytest.mark.parametrize("way", ["async", "suspending", "plain", "task", "thread", "generator"])
def test_what_a_handler_logs_carries_the_ids_of_its_event(way: str) -> None:
    service = Service("scores")
    log = logging.getLogger("shop.prices")

    if way == "plain":

        @service.on(Found)
        def award(found: Found) -> None:
            log.info("said")

    elif way == "generator":

        @service.on(Found)
        async def award(found: Found) -> Any:  # type: ignore[misc]
            log.info("said")
            for _ in ():
                yield

    else:

        @service.on(Found)
        async def award(found: Found) -> None:
            if way == "suspending":
                await asyncio.sleep(0.1)
            if way == "task":
                await asyncio.create_task(say())
            elif way == "thread":
                context = contextvars.copy_context()
                thread = threading.Thread(target=context.run, args=(log.info, "said"))
                thread.start()
                thread.join()
            else:
                log.info("said")

        async def say() -> None:
            log.info("said")

    with listening() as kept:
        event_id = hosted(service)
    (record,) = kept.of("shop.prices")
    told = {name: getattr(record, name) for name in ATTRIBUTES}
    assert told == {
        "event_id": event_id,
        "root_id": event_id,
        "cause_id": None,
        "event": "found",
        "service": "scores",
        "handler": "award",
        "batch": None,
    }


def test_a_consequence_is_told_with_its_cause_and_its_root_by_its_context_too() -> None:
    scores, ranks = Service("scores"), Service("ranks")

    @scores.on(Found)
    async def award(found: Found) -> Scored:
        return Scored(player=found.player)

    @ranks.on(Scored)
    async def rank(scored: Scored, ctx: Context) -> None:
        logging.getLogger("shop").info("said")
        ctx.log.info("said", extra={"points": 3})
        ctx.log.info("said", extra=None)
        assert (ctx.cause_id, ctx.root_id) == (seen["root"], seen["root"])
        seen["event"] = ctx.event_id

    @scores.on(Found)
    async def note(found: Found, ctx: Context) -> None:
        seen["root"] = ctx.event_id

    seen: dict[str, str] = {}
    with listening() as kept:
        root = hosted(scores, ranks)
    records = kept.of("shop") + kept.of("thence.service.ranks")
    assert len(records) == 3
    for record in records:
        told = {name: getattr(record, name) for name in ATTRIBUTES}
        assert told == {
            "event_id": seen["event"],
            "root_id": root,
            "cause_id": root,
            "event": "scored",
            "service": "ranks",
            "handler": "rank",
            "batch": None,
        }
    assert records[1].points == 3  # type: ignore[attr-defined]


def test_each_of_several_handlers_of_an_event_is_named_by_its_own_records() -> None:
    service = Service("scores")
    log = logging.getLogger("shop")

    @service.on(Found)
    async def award(found: Found) -> None:
        log.info("award")

    @service.on(Found)
    async def note(found: Found) -> None:
        log.info("note")

    with listening() as kept:
        hosted(service)
    assert {record.handler for record in kept.of("shop")} == {"award", "note"}  # type: ignore[attr-defined]
    assert all(record.handler == record.msg for record in kept.of("shop"))  # type: ignore[attr-defined]


def test_a_batch_says_how_many_events_it_has() -> None:
    service = Service("scores")

    @service.on(Found, batch=Batch(size=3, within="1s"))
    async def award(found: list[Found]) -> None:
        logging.getLogger("shop").info("said")

    async def main() -> None:
        async with Node(service, mesh=MESH) as node:
            receipts = [await node.emit(Found(player="ana")) for _ in range(3)]
            await receipts[-1].settled(5)
            ids.append(str(receipts[-1].event_id))

    ids: list[str] = []
    with listening() as kept:
        run(main())
    (record,) = kept.of("shop")
    assert (record.batch, [record.event_id]) == (3, ids)  # type: ignore[attr-defined]


@pytest.mark.parametrize("suspending", [False, True])
def test_the_record_of_a_failure_carries_the_ids_without_the_filter_too(
    suspending: bool, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service("scores")

    @service.on(Found)
    async def award(found: Found) -> None:
        if suspending:
            await asyncio.sleep(0.1)
        raise KeyError("cave")

    event_id = hosted(service)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"handler award of service scores failed on found: KeyError: 'cave' (root event {event_id})"
    )
    told = (record.event_id, record.event, record.service, record.handler, record.error_type)  # type: ignore[attr-defined]
    assert told == (event_id, "found", "scores", "award", "KeyError")


def test_an_error_whose_message_raises_is_a_failure_like_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    service = Service("scores")

    @service.on(Found)
    async def award(found: Found) -> None:
        raise Odd

    hosted(service)
    (record,) = caplog.records
    assert "Odd (whose message raised ValueError)" in record.getMessage()


def test_without_a_run_the_attributes_are_there_and_empty() -> None:
    record = plain_record()
    assert IdsFilter().filter(record)
    assert {name: getattr(record, name) for name in ATTRIBUTES} == dict.fromkeys(ATTRIBUTES)


def test_what_the_record_says_itself_is_left() -> None:
    record = plain_record(event_id="e", service="till", event={"any": "thing"})
    assert IdsFilter().filter(record)
    assert (record.event_id, record.service, record.event) == ("e", "till", {"any": "thing"})  # type: ignore[attr-defined]


def test_records_of_thence_and_asyncio_take_no_ids_from_where_they_happen_to_be_made() -> None:
    service = Service("scores")

    @service.on(Found)
    async def award(found: Found) -> None:
        for name in ("thence", "thence.losses", "asyncio", "thence.service.scores"):
            logging.getLogger(name).warning("said")

    with listening() as kept:
        event_id = hosted(service)
    told = {r.name: r.event_id for r in kept.records if r.msg == "said"}  # type: ignore[attr-defined]
    assert told == {
        "thence": None,
        "thence.losses": None,
        "asyncio": None,
        "thence.service.scores": event_id,
    }


def test_a_context_that_is_used_in_another_run_mixes_no_ids() -> None:
    service = Service("scores")
    contexts: list[Context] = []

    @service.on(Found)
    async def award(found: Found, ctx: Context) -> Scored:
        contexts.append(ctx)
        return Scored(player="ana")

    @service.on(Scored)
    async def rank(scored: Scored) -> None:
        contexts[0].log.info("said")

    with listening() as kept:
        event_id = hosted(service)
    (record,) = kept.of("thence.service.scores")
    assert (record.event_id, record.handler, record.event) == (event_id, None, None)  # type: ignore[attr-defined]


def test_a_run_that_can_not_be_told_does_not_stop_the_record() -> None:
    token = RUNNING.set(object())  # type: ignore[arg-type]
    try:
        record = plain_record()
        assert IdsFilter().filter(record)
    finally:
        RUNNING.reset(token)
    assert record.event_id is None  # type: ignore[attr-defined]
