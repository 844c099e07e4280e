"""The noise of a mesh on a terminal, and for programs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from thence.observability.noise import Amplifier, Noise, Talker, Told

__all__ = ["document", "screen"]

ALMOST = 0.9
"""The share of the window that a node has to be there for, not to be named."""
MOST_NAMED = 5
GROWN = 1.2
"""How many times the rate before is called growth: less comes and goes by itself."""

Cell: TypeAlias = str | Text


def screen(noise: Noise, top: int) -> Iterator[RenderableType]:
    """All of it, in parts."""
    yield _title(noise)
    if not noise.talkers and not noise.handlers:
        yield Text(
            f"no events in the last {_seconds(noise.seconds)} or in as much before, at any node that answered: emit "
            "some, as with 'thence emit', and look again"
        )
    else:
        yield from _part("most events", _talkers(noise.talkers, top))
        by_bytes = noise.by_bytes
        if {*map(_name, by_bytes[:top])} != {*map(_name, noise.talkers[:top])}:
            yield from _part("most bytes", _talkers(by_bytes, top))
        yield from _growing(noise, top)
        yield from _part("most consequences", _amplifiers(noise.handlers, top))
        amplifying = noise.by_amplification
        if not {one.place for one in amplifying[:top]} <= {
            one.place for one in noise.handlers[:top]
        }:
            yield from _part("most consequences for each event", _amplifiers(amplifying, top))
    yield from _shed(noise, top)
    yield from _loops(noise, top)
    yield Text("")
    yield from _completeness(noise)


def document(noise: Noise, top: int) -> dict[str, Any]:
    """The same for programs: the first ``top`` of each."""

    def first(rows: Sequence[object]) -> list[Any]:
        return [msgspec.to_builtins(row) for row in rows[:top]]

    return {
        "schema": "thence.noise/1",
        "complete": not noise.silent,
        "silent": noise.silent,
        "seconds": noise.seconds,
        "exact": noise.is_exact,
        "answered": [msgspec.to_builtins(one) for one in noise.answered],
        "talkers": first(noise.talkers),
        "by_bytes": first(noise.by_bytes),
        "growing": first(noise.growing),
        "by_amplification": [one.place for one in noise.by_amplification[:top]],
        "handlers": [
            {**msgspec.to_builtins(one), "amplification": one.amplification}
            for one in noise.handlers[:top]
        ],
        "shed": first(noise.shed),
        "loops": first(noise.loops),
        "rows": {
            "talkers": len(noise.talkers),
            "handlers": len(noise.handlers),
            "shed": len(noise.shed),
            "loops": len(noise.loops),
        },
    }


def _title(noise: Noise) -> Text:
    emitted = sum(one.rate for one in noise.talkers)
    handled = sum(one.rate for one in noise.handlers)
    kinds: Counter[str] = Counter()
    for one in noise.shed:
        kinds[one.kind] += one.count
    text = Text(f"the last {_seconds(noise.seconds)}: ", "bold")
    text.append(f"{_rate(emitted)}/s emitted · {_rate(handled)}/s handled")
    for kind, count in kinds.most_common():
        text.append(f" · {count:,} {kind}", "yellow")
    return text


def _part(title: str, table: Table) -> Iterator[RenderableType]:
    yield Text("")
    yield Text(title, "bold")
    yield table


def _table(*columns: str) -> Table:
    """Columns whose names end with > are of figures, and keep their width; the others are folded where need be."""
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        figures = column.endswith(">")
        table.add_column(
            Text(column.removesuffix(">"), "dim"),
            justify="right" if figures else "left",
            no_wrap=figures,
            overflow="fold",
        )
    return table


def _talkers(talkers: Sequence[Talker], top: int) -> Table:
    table = _table("event", "from", "events/s>", "before>", "about bytes/s>", "bytes each>")
    for one in talkers[:top]:
        size = None
        if one.bytes_rate is not None and one.rate:
            size = one.bytes_rate / one.rate
        table.add_row(
            one.event,
            one.source,
            _rate(one.rate),
            "–" if one.rate_before is None else _rate(one.rate_before),
            "?" if one.bytes_rate is None else _bytes(one.bytes_rate),
            "" if size is None else f"{size:,.0f}",
        )
    return _and_more(table, len(talkers) - top)


def _growing(noise: Noise, top: int) -> Iterator[RenderableType]:
    growing = [one for one in noise.growing if one.rate > GROWN * (one.rate_before or 0.0)]
    if growing:
        table = _table("event", "from", "events/s>", "before>", "growth>")
        for one in growing[:top]:
            before = one.rate_before or 0.0
            factor = f"× {_rate(one.rate / before)}" if before else "new"
            table.add_row(one.event, one.source, _rate(one.rate), _rate(before), factor)
        yield from _part("growing fastest", _and_more(table, len(growing) - top))
        return
    yield Text("")
    line = Text("growing fastest: ", "bold")
    if all(one.rate_before is None for one in noise.talkers):
        line.append(
            "not known yet: no node is older than this window; give a shorter one", "yellow"
        )
    else:
        line.append(f"nothing by more than {GROWN - 1:.0%} against the window before", "dim")
    yield line


def _amplifiers(handlers: Sequence[Amplifier], top: int) -> Table:
    table = _table("handler", "of", "handled/s>", "emits/s>", "for each>", "failed/s>")
    for one in handlers[:top]:
        factor = one.amplification
        table.add_row(
            one.place,
            ", ".join(one.events),
            _rate(one.rate),
            "?" if one.consequences_rate is None else _rate(one.consequences_rate),
            "?" if factor is None else f"× {factor:,.2f}",
            Text(_rate(one.failed_rate), "bold red" if one.failed else ""),
        )
    return _and_more(table, len(handlers) - top)


def _shed(noise: Noise, top: int) -> Iterator[RenderableType]:
    if not noise.shed:
        yield Text("")
        line = Text("not handled: ", "bold")
        line.append("nothing was shed, cut, merged or too old", "dim")
        yield line
        return
    table = _table("where", "events>", "a second>", "what>", "why")
    for one in noise.shed[:top]:
        table.add_row(one.place, f"{one.count:,}", _rate(one.rate), one.kind, one.reason)
    yield from _part("not handled", _and_more(table, len(noise.shed) - top))


def _loops(noise: Noise, top: int) -> Iterator[RenderableType]:
    yield Text("")
    if not noise.loops:
        line = Text("loops: ", "bold")
        line.append("none went round more often than its handlers allow", "dim")
        yield line
        return
    yield Text("loops", "bold")
    for one in noise.loops[:top]:
        if one.cut == one.count:
            became = "cut"
        else:
            became = "went on" if not one.cut else f"{one.cut:,} of them cut"
        line = Text(one.loop)
        line.append(f"  {one.count:,} times, {_rate(one.rate)}/s, {became}", "yellow")
        yield line
    if len(noise.loops) > top:
        yield Text(f"… and {len(noise.loops) - top} more", "dim")


def _completeness(noise: Noise) -> Iterator[Text]:
    answered, silent = len(noise.answered), len(noise.silent)
    text = Text(
        f"{answered} of {answered + silent} nodes answered", "yellow" if noise.silent else "dim"
    )
    if silent:
        text.append(f" · silent, and in none of these figures: {', '.join(noise.silent)}")
    yield text
    young = [one for one in noise.answered if one.seconds < ALMOST * noise.seconds]
    yield from _named(
        "younger than the window, so that their rates are of the time they had",
        young,
        lambda one: one.seconds,
        _seconds,
    )
    yield from _named(
        "with less of a window before to compare with",
        [
            one
            for one in noise.answered
            if one not in young and one.seconds_before < ALMOST * one.seconds
        ],
        lambda one: one.seconds_before,
        _seconds,
    )
    yield from _named(
        "bytes and consequences are estimated from those events of the window that are still remembered",
        [one for one in noise.answered if one.covered < 1],
        lambda one: one.covered,
        lambda share: f"{share:.0%}" if share >= 0.1 else f"{share:.1%}",
    )
    left_out = sum(one.left_out for one in noise.answered)
    if left_out:
        yield Text(f"{left_out:,} of the smallest rows were left out by their nodes", "yellow")


def _named(
    what: str, nodes: list[Told], figure: Callable[[Told], float], shown: Callable[[float], str]
) -> Iterator[Text]:
    """A line about some nodes, each with a figure; if they are many, about the least and the greatest."""
    if not nodes:
        return
    if len(nodes) <= MOST_NAMED:
        told = ", ".join(f"{one.name} {shown(figure(one))}" for one in nodes)
    else:
        least, greatest = min(nodes, key=figure), max(nodes, key=figure)
        told = (
            f"{len(nodes)} nodes, from {shown(figure(least))} ({least.name}) to {shown(figure(greatest))} "
            f"({greatest.name})"
        )
    yield Text(f"{what}: {told}", "yellow")


def _and_more(table: Table, more: int) -> Table:
    if more > 0:
        table.add_row(Text(f"… {more} more", "dim"))
    return table


def _name(one: Talker) -> tuple[str, str]:
    return one.event, one.source


def _rate(rate: float) -> str:
    if rate == 0 or rate >= 100:
        return f"{rate:,.0f}"
    return f"{rate:.1f}" if rate >= 0.1 else f"{rate:.2g}"


def _bytes(rate: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if rate >= size:
            return f"{rate / size:,.1f} {unit}"
    return f"{rate:,.0f} B"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
