"""``thence why``: from an event back to its root cause."""

from __future__ import annotations

import json as json_module
from typing import Any

from rich.console import Console
from rich.text import Text

from thence.app.node import Node
from thence.cli.inquiries import Inquiry, inquire, window
from thence.cli.options import Debug, Json, Mesh, run_loop
from thence.cli.trace import Failed, Last, Wanted, outcome
from thence.cli.trace_drawings import completeness, document, plain, way_back

__all__ = ["why", "why_document", "why_lines"]


def why(
    event: Wanted = None,
    /,
    *,
    last: Last = None,
    failed: Failed = False,
    mesh: Mesh = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show why an event came about: the chain of causes back to its root, and what went wrong first.

    ``thence why --failed`` takes the last event that a handler failed on; log records carry the identifiers of
    theirs. Exit code 3: there is no such event, or there are several; 4: something is missing, and the last line
    says what; 5: nobody is there.
    """
    return run_loop(_why(event, last, failed, mesh, json))


async def _why(
    event: str | None, last: str | None, failed: bool, mesh: str | None, as_json: bool
) -> int:
    async with Node(mesh=mesh, name="thence why") as node:
        inquiry = await inquire(node, event, last, failed=failed)
    if inquiry.is_found and as_json:
        print(json_module.dumps(why_document(inquiry)))
    elif inquiry.is_found:
        console = Console(highlight=False, soft_wrap=True)
        for line in why_lines(inquiry, console.width):
            console.print(plain(line))
    return outcome(inquiry)


def why_lines(inquiry: Inquiry, width: int) -> list[Text]:
    """What the command prints of an event that was found."""
    trace = inquiry.trace
    way = trace.way_to(inquiry.event_id)
    return [*way_back(trace, way, width), completeness(trace, window(inquiry.seconds))]


def why_document(inquiry: Inquiry) -> dict[str, Any]:
    """The same for programs."""
    trace = inquiry.trace
    way = trace.way_to(inquiry.event_id)
    wrong = next((pair for pair in trace.wrongs() if pair[1].outcome != "unknown"), None)
    told = document(trace, trace.root)
    by_id = {one["event_id"]: one for one in told["events"]}
    return {
        "schema": "thence.why/1",
        "event_id": str(inquiry.event_id),
        **{key: value for key, value in told.items() if key != "events"},
        "chain": [by_id[str(one.event_id)] for one, _ in reversed(way)],
        "first_wrong": None
        if wrong is None
        else {
            "event_id": str(wrong[0].event_id),
            "event": wrong[0].event,
            "place": wrong[1].place,
            "node": wrong[1].node or None,
            "outcome": wrong[1].outcome,
            "reason": wrong[1].reason,
        },
    }
