"""``thence emit``: emit an event from the shell, or many from a stream of JSON lines."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Annotated, Any

from cyclopts import Parameter

from thence.app.node import Node
from thence.cli.exits import CommandError, Exit
from thence.cli.loading import load
from thence.cli.options import Debug, Json, Mesh, run_loop
from thence.cli.standard_input import lines
from thence.delivery.receipts import Receipt
from thence.errors import InvalidEvent, PayloadTooLarge, RateLimited, SchemaMismatch
from thence.events import Event, EventSpec, spec_of

__all__ = ["emit"]

SHOW_PROGRESS_EVERY = 0.5


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
    mesh: Mesh = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Emit an event to the services that want it.

    ``thence emit events:ClueFound '{"hunt": "h1", "player": "ana", "clue": 3}'`` emits one;
    ``thence emit events:PlayerMoved - < moves.jsonl`` emits one a line. Exit code 5: nobody was reached.
    """
    event_type = load(event, "event")
    if not (isinstance(event_type, type) and issubclass(event_type, Event)):
        raise CommandError(f"{event} is not an event type", Exit.USAGE)
    spec = spec_of(event_type)
    if content == "-":
        return run_loop(_emit_lines(spec, mesh, json))
    try:
        one = spec.from_json(content)
    except InvalidEvent as error:
        raise CommandError(str(error), Exit.USAGE) from error
    return run_loop(_emit_one(spec, one, mesh, json))


async def _emit_one(spec: EventSpec[Any], event: Event, mesh: str | None, as_json: bool) -> int:
    async with Node(mesh=mesh) as node:
        receipt = await node.emit(event)
    if as_json:
        print(json.dumps({"schema": "thence.emit/1", **_receipt_fields(spec, receipt)}))
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
    return Exit.DONE


async def _emit_lines(spec: EventSpec[Any], mesh: str | None, as_json: bool) -> int:
    emitted = unheard = failed = 0
    began = shown = time.monotonic()
    async with Node(mesh=mesh) as node:
        number = 0
        async for line in lines():
            number += 1
            if not line.strip():
                continue
            try:
                receipt = await _emit_in_time(node, spec.from_json(line))
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


async def _emit_in_time(node: Node, event: Event) -> Receipt:
    """Emit as soon as the limits let it."""
    while True:
        try:
            return await node.emit(event)
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
