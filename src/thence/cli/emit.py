"""``thence emit``: emit an event from the shell and wait for what follows, or many from a stream of JSON lines."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Annotated, Any, cast

from cyclopts import Parameter

from thence.app.node import Node
from thence.budget import Budget
from thence.cli import cascade_report
from thence.cli.exits import CommandError, Exit
from thence.cli.loading import load
from thence.cli.options import Debug, Json, Mesh, run_loop
from thence.cli.standard_input import lines
from thence.delivery.receipts import CascadeReport, Receipt
from thence.durations import seconds as length_of
from thence.errors import (
    ConfigurationError,
    InvalidEvent,
    PayloadTooLarge,
    RateLimited,
    SchemaMismatch,
    SettleTimeout,
)
from thence.events import Event, EventSpec, spec_of

__all__ = ["emit"]

SHOW_PROGRESS_EVERY = 0.5
TIMEOUT = "5s"


def emit(
    event: Annotated[str, Parameter(help="MODULE:EVENT, for example events:ClueFound.")],
    content: Annotated[
        str,
        Parameter(
            allow_leading_hyphen=True,
            help="The event's fields as a JSON object; - reads JSON lines.",
        ),
    ],
    /,
    *,
    settle: Annotated[
        bool,
        Parameter(
            negative="",
            help="Wait until all that follows from the event has ended, and report on it.",
        ),
    ] = False,
    timeout: Annotated[
        str | None,
        Parameter(
            help=f'How long --settle waits, as in "{TIMEOUT}" (the default), "500ms" or 0.5.'
        ),
    ] = None,
    budget: Annotated[
        str | None,
        Parameter(
            help='What all that follows may use up, as in "events=100 depth=4 seconds=10s", or some of these.'
        ),
    ] = None,
    mesh: Mesh = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Emit an event to the services that want it.

    ``thence emit events:ClueFound '{"hunt": "h1", "player": "ana", "clue": 3}'`` emits one;
    ``thence emit events:PlayerMoved - < moves.jsonl`` emits one a line. Exit code 5: nobody was reached.

    With ``--settle`` it waits for the event's whole cascade: every handler that runs because of it, in any service.
    It tells how many were started and how deep the cascade went, what failed, was shed, cut or expired, and which
    handlers took longest, one the cause of the next. Exit code 0: it has settled, and no handler failed; 1: one
    failed, or a loop was cut; 4: it has ended, but what became of some of it is not known, as a node has died; 5:
    nobody was reached, or the time is over. The cascade goes on then, and what is known of it is reported.

    ``thence emit events:ClueFound '...' --settle --budget "events=20 depth=3"`` tries how far it spreads, with no
    more than 20 handlers started. What is beyond that is cut.
    """
    if timeout is not None and not settle:
        raise CommandError("--timeout is how long --settle waits: add --settle", Exit.USAGE)
    if settle and content == "-":
        raise CommandError(
            "--settle waits for the cascade of one event: give its content in place of -",
            Exit.USAGE,
        )
    patience = _checked_timeout(timeout or TIMEOUT) if settle else None
    allowed = None if budget is None else _checked_budget(budget)
    event_type = load(event, "event")
    if not (isinstance(event_type, type) and issubclass(event_type, Event)):
        raise CommandError(f"{event} is not an event type", Exit.USAGE)
    spec = spec_of(event_type)
    if content == "-":
        return run_loop(_emit_lines(spec, allowed, mesh, json))
    try:
        one = spec.from_json(content)
    except InvalidEvent as error:
        raise CommandError(str(error), Exit.USAGE) from error
    return run_loop(_emit_one(spec, one, allowed, patience, mesh, json))


def _checked_timeout(text: str) -> float:
    try:
        # As everywhere, a number alone is one of seconds.
        timeout = length_of(float(text) if text.replace(".", "", 1).isdecimal() else text)
    except ConfigurationError as error:
        raise CommandError(f"--timeout: {error}", Exit.USAGE) from error
    if timeout <= 0:
        raise CommandError(f"--timeout {text}: give a time above zero", Exit.USAGE)
    return timeout


def _checked_budget(text: str) -> Budget:
    try:
        return Budget.parse(text)
    except ConfigurationError as error:
        raise CommandError(f"--budget: {error}", Exit.USAGE) from error


async def _emit_one(
    spec: EventSpec[Any],
    event: Event,
    budget: Budget | None,
    patience: float | None,
    mesh: str | None,
    as_json: bool,
) -> int:
    report, settled = None, False
    async with Node(mesh=mesh) as node:
        receipt = await node.emit(event, budget=budget)
        if patience is not None and receipt.targets:
            report, settled = await _settled(receipt, patience)
    if as_json:
        cascade = {}
        if patience is not None:
            told = None if report is None else cascade_report.document(report, settled=settled)
            cascade = {"cascade": told}
        print(json.dumps({"schema": "thence.emit/1", **_receipt_fields(spec, receipt), **cascade}))
    elif receipt.targets:
        print(f"{spec.name} {receipt.event_id} → {', '.join(receipt.targets)}")
    for refusal in receipt.refused:
        print(f"thence: {refusal.service} did not get it: {refusal.reason}", file=sys.stderr)
    if not receipt.targets:
        raise CommandError(
            f"nobody who handles {spec.name!r} was reached: start such a service with 'thence run' on this mesh; "
            "'thence map' shows who is there",
            Exit.NOBODY,
        )
    if report is None:
        return Exit.DONE
    if not as_json:
        print("\n".join(cascade_report.lines(report, settled=settled)))
    if not settled:
        raise CommandError(
            f"not settled within {patience:g} s; the cascade goes on. Give a longer --timeout, or see where it "
            "waits with 'thence map'",
            Exit.NOBODY,
        )
    code, why = cascade_report.outcome(report)
    if why:
        print(f"thence: {why}", file=sys.stderr)
    return code


async def _settled(receipt: Receipt, patience: float) -> tuple[CascadeReport, bool]:
    """What became of the whole cascade, or what is known of it when the time is over; and whether it is all."""
    try:
        return await receipt.settled(patience), True
    except SettleTimeout as late:
        return cast(CascadeReport, late.report), False


async def _emit_lines(
    spec: EventSpec[Any], budget: Budget | None, mesh: str | None, as_json: bool
) -> int:
    emitted = unheard = failed = 0
    began = shown = time.monotonic()
    async with Node(mesh=mesh) as node:
        number = 0
        async for line in lines():
            number += 1
            if not line.strip():
                continue
            try:
                receipt = await _emit_in_time(node, spec.from_json(line), budget)
            except (InvalidEvent, PayloadTooLarge) as error:
                failed += 1
                print(f"thence: line {number}: {error}", file=sys.stderr)
                continue
            except SchemaMismatch as error:
                raise CommandError(f"line {number}: {error}") from error
            emitted += 1
            unheard += not receipt.targets
            if as_json:
                print(
                    json.dumps(
                        {
                            "schema": "thence.emit/1",
                            "line": number,
                            **_receipt_fields(spec, receipt),
                        }
                    )
                )
            now = time.monotonic()
            if now - shown > SHOW_PROGRESS_EVERY:
                shown = now
                _show_progress(
                    emitted, failed, now - began, end="\r" if sys.stderr.isatty() else "\n"
                )
    _show_progress(emitted, failed, time.monotonic() - began, end="\n")
    if unheard:
        print(
            f"thence: {unheard:,} of {emitted:,} reached nobody: start a service that handles {spec.name!r}",
            file=sys.stderr,
        )
    if failed:
        return Exit.FAILED
    return Exit.NOBODY if unheard and unheard == emitted else Exit.DONE


async def _emit_in_time(node: Node, event: Event, budget: Budget | None) -> Receipt:
    """Emit as soon as the limits let it."""
    while True:
        try:
            return await node.emit(event, budget=budget)
        except RateLimited as error:
            await asyncio.sleep(error.retry_after)


def _show_progress(emitted: int, failed: int, seconds: float, end: str) -> None:
    rate = emitted / seconds if seconds else 0.0
    print(
        f"{emitted:,} emitted · {failed:,} refused · {rate:,.0f}/s",
        end=end,
        file=sys.stderr,
        flush=True,
    )


def _receipt_fields(spec: EventSpec[Any], receipt: Receipt) -> dict[str, Any]:
    return {
        "event": spec.name,
        "event_id": receipt.event_id,
        "targets": list(receipt.targets),
        "refused": [{"service": one.service, "reason": one.reason} for one in receipt.refused],
    }
