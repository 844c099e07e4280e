"""What is declared against what was seen, on a terminal and for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from rich.text import Text

from thence.app.drift import Drift, Finding, Kind

__all__ = ["drift_document", "drift_lines"]

HEADINGS: dict[Kind, str] = {
    "never emitted": "declared but never seen: emits",
    "never arrived": "declared but never seen: subscriptions",
    "undeclared": "seen but undeclared",
    "unheard": "seen, and wanted by nobody",
    "incompatible": "seen, and refused as incompatible",
    "versions": "several versions of one event type",
    "declarations": "replicas of a handler that declare different things",
}
"""In the order in which they are shown."""
MOST_NODES = 6


def drift_lines(drift: Drift) -> Iterator[Text]:
    """All of it."""
    title = Text("declared against seen: ", "bold")
    title.append(f"{drift.seen} of {drift.declared} declared emits and subscriptions were seen")
    yield title
    for kind, heading in HEADINGS.items():
        found = [one for one in drift.findings if one.kind == kind]
        if found:
            yield Text("")
            yield Text(heading, "bold")
            for one in found:
                yield from _lines(one)
    yield Text("")
    if not drift.answered:
        yield Text("nobody answered, so nothing is known", "bold yellow")
    elif not drift.declared:
        yield Text("no handlers: start a service with 'thence run MODULE:SERVICE'")
    elif not drift.findings:
        yield Text("no drift: all that is declared was seen, and the other way round", "green")
    answered, silent = len(drift.answered), len(drift.silent)
    style = "yellow" if silent else "dim"
    text = Text(
        f"{answered} of {len({*drift.answered, *drift.silent})} nodes answered · counters of at least "
        f"{_ago(drift.age)}, since the start of each node · handlers remembered for at least {_ago(drift.seconds)}",
        style,
    )
    if silent:
        text.append(f" · silent: {', '.join(drift.silent)}")
    yield text


def _lines(one: Finding) -> Iterator[Text]:
    text = Text("  ")
    match one.kind:
        case "never emitted":
            text.append(f"{one.place} → {one.event}")
        case "never arrived":
            text.append(f"{one.event} → {one.place}")
        case "versions":
            text.append(one.event)
        case _:
            text.append(" ".join(filter(None, (one.place, one.event))))
    text.append(f"  {one.detail}", "yellow" if one.count or one.nodes else "dim")
    if one.count:
        text.append(f"  {one.count:,} {'event' if one.count == 1 else 'events'}")
    if one.seconds:
        text.append(f"  in {_ago(one.seconds)}", "dim")
    yield text
    for version, names in one.nodes.items():
        more = f" and {len(names) - MOST_NODES} more" if len(names) > MOST_NODES else ""
        yield Text(f"    {version}  {', '.join(names[:MOST_NODES])}{more}")


def drift_document(drift: Drift) -> dict[str, Any]:
    """The same for programs."""
    return {
        "schema": "thence.drift/1",
        "complete": not drift.silent,
        "drift": bool(drift.findings),
        **msgspec.to_builtins(drift),
    }


def _ago(seconds: float) -> str:
    if seconds >= 120:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
