"""``thence trace``: what became of an event and of all that it caused."""

from __future__ import annotations

import json as json_module
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from thence.app.node import Node
from thence.cli.exits import CommandError, Exit
from thence.cli.inquiries import Inquiry, inquire, window
from thence.cli.options import Debug, Json, Mesh, run_loop
from thence.cli.trace_drawings import completeness, document, plain, tree, waterfall

__all__ = ["Failed", "Last", "Wanted", "trace"]

Wanted = Annotated[
    str | None,
    Parameter(
        help="An event's identifier, its beginning, its ends (0197…e1), or KEY=VALUE for the last with that key."
    ),
]
Last = Annotated[str | None, Parameter(name="--last", help="The last event of that type.")]
Failed = Annotated[
    bool,
    Parameter(name="--failed", negative="", help="The last event that a handler failed on."),
]


def trace(
    event: Wanted = None,
    /,
    *,
    last: Last = None,
    failed: Failed = False,
    down: Annotated[
        bool, Parameter(negative="", help="From that event on, not from its root.")
    ] = False,
    timeline: Annotated[
        bool, Parameter(negative="", help="As a waterfall: who waited and ran when.")
    ] = False,
    mesh: Mesh = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show the whole cascade of an event, from its root on: who handled what, when, and what went wrong.

    All nodes are asked what they remember; nothing was collected before. ``thence trace --last clue_found`` shows
    the last event of a type, ``thence trace player=ana`` the last with that key. Exit code 3: there is no such
    event, or there are several; 4: something is missing, and the last line says what; 5: nobody is there.
    """
    return run_loop(_trace(event, last, failed, down, timeline, mesh, json))


async def _trace(
    event: str | None,
    last: str | None,
    failed: bool,
    down: bool,
    timeline: bool,
    mesh: str | None,
    as_json: bool,
) -> int:
    async with Node(mesh=mesh, name="thence trace") as node:
        inquiry = await inquire(node, event, last, failed=failed)
    found = inquiry.trace
    top = (found.find(inquiry.event_id) if down else None) or found.root
    if as_json:
        asked = {"schema": "thence.trace/1", "event_id": str(inquiry.event_id)}
        print(json_module.dumps({**asked, **document(found, top)}))
    else:
        console = Console(highlight=False, soft_wrap=True)
        draw = waterfall if timeline else tree
        for line in draw(found, top, console.width):
            console.print(plain(line))
        console.print(plain(completeness(found, window(inquiry.seconds))))
    return outcome(inquiry)


def outcome(inquiry: Inquiry) -> int:
    """The exit code for an answer, which may be partial."""
    if not inquiry.is_found:
        raise CommandError(
            f"event {inquiry.event_id} was there a moment ago, and has been forgotten since: ask for a later one",
            Exit.NOT_FOUND,
        )
    return Exit.DONE if inquiry.trace.is_complete else Exit.PARTIAL
