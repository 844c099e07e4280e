"""A cascade on a terminal: as a tree, as a waterfall, and the way back from an event to its root. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from thence.observability.assembly import Handling, Occurrence, Outcome, Trace

__all__ = ["completeness", "document", "plain", "tree", "waterfall", "way_back"]

MARKS: dict[Outcome, tuple[str, str]] = {
    "handled": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "shed": ("⊘", "yellow"),
    "cut": ("✂", "yellow"),
    "expired": ("⌛", "yellow"),
    "merged": ("≡", "dim"),
    "pending": ("…", "cyan"),
    "unknown": ("?", "bold yellow"),
}
"""By outcome, the sign and how it looks."""
WORDS: dict[Outcome, str] = {
    "handled": "",
    "failed": "",
    "shed": "shed",
    "cut": "cut",
    "expired": "too old",
    "merged": "replaced",
    "pending": "not ended yet",
    "unknown": "unknown",
}
LEAST_BAR = 16
"""Characters of a waterfall's bars, at the least."""
TIMES = 27
"""Characters of a line of the tree for its times, its sign and the gaps."""
MOST_LINES = 1000


def tree(trace: Trace, top: Occurrence, width: int) -> list[Text]:
    """What an event caused, a line for each handler."""
    rows: list[tuple[str, str, Occurrence, Handling]] = []
    stack: list[tuple[str, bool, Occurrence, Handling]] = []

    def push(before: str, events: list[Occurrence]) -> None:
        items = [
            (one, handling)
            for one in events
            for handling in one.handlings or [_UNHEARD if one.size is not None else _UNTOLD]
        ]
        for position, (one, handling) in enumerate(reversed(items)):
            stack.append((before, position == 0, one, handling))

    push("", [top])
    while stack and len(rows) < MOST_LINES:
        before, last, one, handling = stack.pop()
        within = before + ("    " if last else "│   ")
        arrow = "═▶ " if handling.is_critical else "─▶ "
        rows.append((f"{before}{'└' if last else '├'}{arrow}", within, one, handling))
        push(within, handling.consequences)
    lines = [*_head(top)]
    left = [f"{before}{one.event or '(an event nobody told of)'}" for before, _, one, _ in rows]
    places = [_place(handling) for *_, handling in rows]
    room = width - TIMES
    second = min(max(map(cell_len, places), default=0), max(16, room // 2))
    first = min(max(map(cell_len, left), default=0), max(20, room - second))
    for text, place, (_, within, _, handling) in zip(left, places, rows, strict=True):
        lines += _row(text, place, within, handling, first, second, width)
    if stack:
        lines.append(Text(f"… and more: {len(stack)} lines that lead further are not shown", "dim"))
    if any(handling.is_critical for *_, handling in rows):
        lines.append(Text("═▶ the way that took longest", "dim"))
    return lines


_UNHEARD = Handling("nobody wants it", "", "handled")
_UNTOLD = Handling("nobody told where it went", "", "handled")


def plain(line: Text) -> Text:
    """A line in which nothing moves the cursor: names and errors come from others."""
    if any(not character.isprintable() for character in line.plain):
        line.plain = "".join(c if c.isprintable() else " " for c in line.plain)
    return line


def _head(one: Occurrence) -> Iterator[Text]:
    text = Text()
    text.append(one.event or "(an event nobody told of)", "bold")
    text.append(f"  {one.event_id}", "dim")
    text.append(f"  from {one.node or 'a node that has left'}")
    text.append(f"  {_after(one.at)}")
    if one.size is not None:
        text.append(f"  {one.size:,} B", "dim")
    yield text
    if one.payload:
        yield Text(f"  {one.payload}", "dim")


def _row(
    text: str, place: str, within: str, handling: Handling, first: int, second: int, width: int
) -> Iterator[Text]:
    if handling is _UNHEARD or handling is _UNTOLD:
        yield Text(f"{_fit(text, first)}  {place}")
        return
    mark, style = MARKS[handling.outcome]
    times = f"{_after(_start(handling)):>10} {_length(handling):>9}  "
    line = Text(f"{_fit(text, first)}  {_fit(place, second)}{times}")
    line.append(mark, style)
    told = _told(handling)
    if not told:
        yield line
    elif cell_len(line.plain) + 1 + cell_len(told) <= width:
        line.append(f" {told}", style)
        yield line
    else:
        yield line
        below = Text(within)
        below.append(told, style)
        yield below


def waterfall(trace: Trace, top: Occurrence, width: int) -> list[Text]:
    """When each handler waited and ran, as bars side by side."""
    rows = [
        (one, handling)
        for one in top.walk()
        for handling in one.handlings
        if handling.ended is not None or handling.began is not None
    ][:MOST_LINES]
    lines = [*_head(top)]
    if not rows:
        return [*lines, Text("no handler of it has begun, or nobody told", "dim")]
    began = top.at or 0.0
    end = max(handling.last for _, handling in rows)
    span = max(end - began, 1e-6)
    names = [f"{one.event} → {handling.place}" for one, handling in rows]
    name_width = min(max(map(cell_len, names)), max(20, width // 2 - 8))
    bar = max(LEAST_BAR, width - name_width - 14)
    lines.append(Text(f"{'':{name_width}}  0 ms{_ms(span):>{bar - 4}}", "dim"))
    for name, (_, handling) in zip(names, rows, strict=True):
        mark, style = MARKS[handling.outcome]

        def column(moment: float | None) -> int:
            return min(bar - 1, int(((moment or began) - began) / span * bar))

        received = column(handling.received if handling.received is not None else handling.began)
        start = max(received, column(_start(handling)))
        stop = max(start + 1, column(handling.ended) + 1 if handling.ended is not None else bar)
        line = Text(f"{_fit(name, name_width)}  {' ' * received}")
        line.append("░" * (start - received), "dim")
        line.append("█" * (stop - start), "bold cyan" if handling.is_critical else "cyan")
        line.append(" " * (bar - stop) + f" {_length(handling):>9} ")
        line.append(mark, style)
        lines.append(line)
    lines.append(Text("░ waited  █ ran; the brightest took longest", "dim"))
    return lines


def way_back(
    trace: Trace, way: list[tuple[Occurrence, Handling | None]], width: int = 1000
) -> list[Text]:
    """From an event back to its root, and what went wrong first."""
    asked, _ = way[-1]
    lines = [*_verdict(asked, width)]
    moment = max((h.last for h in asked.handlings), default=asked.at or 0.0)
    names = max(cell_len(one.event) for one, _ in way)
    for position, (one, handling) in enumerate(reversed(way[:-1])):
        at = None if handling is None else _start(handling)
        if at is None:
            at = handling.ended if handling is not None and handling.ended is not None else one.at
        text = Text(f" ← {one.event or '(nobody told of it)':<{names}}  ")
        text.append(_place(handling) if handling is not None else one.node)
        if at is not None:
            text.append(f"  {_ms(max(0.0, moment - at))} earlier")
        rest = Text()
        if handling is not None and _length(handling):
            rest.append(f"  ran {_length(handling)}", "dim")
        rest.append(f"  {one.event_id}", "dim")
        if position == len(way) - 2:
            rest.append("  root", "bold")
        if cell_len(text.plain) + cell_len(rest.plain) <= width:
            lines.append(text.append_text(rest))
        else:
            lines += [text, Text(" ").append_text(rest)]
    root = way[0][0]
    name = f"   root event {root.event or '(nobody told of it)'}"
    origin = f" ({root.key})" if root.key else ""
    origin += f" came from {root.node or 'a node that has left'}"
    # Its identifier stands above, too.
    whole = f"{name} {root.event_id}{origin}"
    lines.append(Text(whole if cell_len(whole) <= width else name + origin))
    lines += _first_wrong(trace, asked, width)
    return lines


def _verdict(asked: Occurrence, width: int) -> Iterator[Text]:
    if not asked.handlings:
        yield Text(f"{asked.event} {asked.event_id}: nobody handles it, or nobody told")
    # What went wrong comes first.
    handlings = sorted(asked.handlings, key=lambda one: one.outcome == "handled")
    for position, handling in enumerate(handlings):
        style = MARKS[handling.outcome][1]
        text = Text(f"{asked.event or '(an event nobody told of)'} ", "bold")
        match handling.outcome:
            case "handled":
                words = f"was handled at {_place(handling)} in {_length(handling)}"
            case "failed":
                words = f"failed at {_place(handling)}: {handling.reason}"
            case "pending":
                words = f"waits or runs at {_place(handling)}"
            case "unknown":
                words = f"went to {handling.place}: {handling.reason}"
            case outcome:
                words = f"was {outcome} at {_place(handling)}: {handling.reason}"
        text.append(words, style if handling.outcome != "handled" else "")
        if position == 0:
            yield from _with_id(text, asked, width)
        else:
            yield text


def _with_id(text: Text, one: Occurrence, width: int) -> Iterator[Text]:
    """With the identifier at its end, or below where there is no room."""
    if cell_len(text.plain) + 2 + 32 <= width:
        yield text.append(f"  {one.event_id}", "dim")
    else:
        yield text
        yield Text(f"   {one.event_id}", "dim")


def _first_wrong(trace: Trace, asked: Occurrence, width: int) -> Iterator[Text]:
    wrongs = trace.wrongs()
    wrong = next((pair for pair in wrongs if pair[1].outcome != "unknown"), None)
    if wrong is None:
        yield from _slowest_part(trace)
        return
    one, handling = wrong
    text = Text("the first thing that went wrong: ", "bold")
    outcome = "failed" if handling.outcome == "failed" else f"was {handling.outcome}"
    text.append(
        f"{one.event} {outcome} at {_place(handling)}: {handling.reason}",
        MARKS[handling.outcome][1],
    )
    if one is asked:
        yield text.append(" (this one)", "dim")
    else:
        yield from _with_id(text, one, width)
    more = len([pair for pair in wrongs if pair[1].outcome != "unknown"]) - 1
    if more:
        yield Text(
            f"and {more} more in the same cascade: thence trace {trace.root.event_id}", "dim"
        )


def _slowest_part(trace: Trace) -> Iterator[Text]:
    """What took most of the way that took longest: a handler's run, or the time before it began."""
    parts: list[tuple[float, str, str]] = []
    for one in trace.root.walk():
        for handling in one.handlings:
            start = _start(handling)
            if not handling.is_critical or start is None:
                continue
            place = _place(handling)
            if handling.ended is not None:
                parts.append((handling.ended - start, f"{place} took most: ", f" for {one.event}"))
            if one.at is not None and one is not trace.root:
                words = f"most passed between {one.event} and {place}, which began "
                parts.append((start - one.at, words, " later"))
    if parts:
        seconds, before, after = max(parts)
        told = f"{before}{_ms(seconds)}{after}"
        yield Text(f"nothing went wrong that anybody told of; on the way that took longest, {told}")


def completeness(trace: Trace, window: str) -> Text:
    """Who answered, and what is missing."""
    silent = len(trace.silent) + len(trace.strange)
    # The node that asks is one of those that were heard.
    answered = max(0, len(trace.answered) - 1)
    parts = [f"{answered} of {answered + silent} recorders answered"]
    if trace.silent:
        parts.append(f"{', '.join(trace.silent)} unreachable")
    parts += [f"{name} is not understood here: another version?" for name in trace.strange]
    if trace.forgotten:
        parts.append(f"{', '.join(trace.forgotten)} may have forgotten some of that time")
    parts += list(trace.gaps[:3])
    if len(trace.gaps) > 3:
        parts.append(f"{len(trace.gaps) - 3} more gaps")
    parts += list(trace.remarks[:1])
    parts.append(f"window {window}")
    return Text(" · ".join(parts), "dim" if trace.is_complete else "yellow")


def document(trace: Trace, top: Occurrence) -> dict[str, Any]:
    """The same for programs."""

    def of(one: Occurrence) -> dict[str, Any]:
        return {
            "event_id": str(one.event_id),
            "event": one.event or None,
            "node": one.node or None,
            "at": one.at,
            "size": one.size,
            "payload": one.payload or None,
            "key": one.key or None,
            "cause_id": None if one.ancestry is None else str(one.ancestry.cause),
            "handlings": [
                {
                    "place": handling.place,
                    "node": handling.node or None,
                    "outcome": handling.outcome,
                    "reason": handling.reason or None,
                    "received": handling.received,
                    "began": handling.began,
                    "ended": handling.ended,
                    "company": handling.company,
                    "critical": handling.is_critical,
                    "consequences": [str(below.event_id) for below in handling.consequences],
                }
                for handling in one.handlings
            ],
        }

    return {
        "root_id": str(trace.root.event_id),
        "complete": trace.is_complete,
        "answered": list(trace.answered),
        "silent": list(trace.silent),
        "not_understood": list(trace.strange),
        "forgotten": list(trace.forgotten),
        "gaps": list(trace.gaps),
        "remarks": list(trace.remarks),
        "events": [of(one) for one in top.walk()],
    }


def _place(handling: Handling) -> str:
    return f"{handling.place}@{handling.node}" if handling.node else handling.place


def _told(handling: Handling) -> str:
    words = WORDS[handling.outcome]
    return ": ".join(filter(None, (words, handling.reason)))


def _start(handling: Handling) -> float | None:
    return handling.began if handling.began is not None else handling.received


def _length(handling: Handling) -> str:
    start = _start(handling)
    if handling.ended is None or start is None or handling.outcome not in ("handled", "failed"):
        return ""
    about = "≤" if handling.company > 1 else ""
    return about + _ms(max(0.0, handling.ended - start))


def _after(at: float | None) -> str:
    return "" if at is None else f"+{_ms(at)}"


def _ms(seconds: float) -> str:
    if seconds >= 10:
        return f"{seconds:,.1f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.2g} ms"


def _fit(text: str, width: int) -> str:
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1) + "…"
    return text + " " * (width - cell_len(text))
