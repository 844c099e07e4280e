"""Counters of all processes, added up so that they can be subtracted: for rates, and for parts of a game."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

from thence.app.report import NodeReport
from thence.delivery.reasons import CASCADE_EXPIRED, CUT_BY_DEPTH, CUT_BY_EVENTS, LOOP

__all__ = [
    "CONNECTION_LOST",
    "Count",
    "Tally",
    "is_cut",
    "limits_of_game",
    "listeners",
    "tally",
    "tried",
]

CONNECTION_LOST = "connection lost"
"""The one reason for which what was sent never came to an end that somebody could count."""

CUTS = frozenset({CASCADE_EXPIRED, CUT_BY_DEPTH, CUT_BY_EVENTS, LOOP})

What: TypeAlias = Literal["emitted", "held back", "not sent", "cut off", "let in", "shed", "cut"]
"""Cut off is what a cascade's budget kept from being sent; cut is what a handler was not started for."""


class Count(NamedTuple):
    """What is counted, where, and why."""

    what: What
    place: str
    """An event type ("player_moved"), one on its way to a service ("hint_asked for hints"), or a handler."""
    reason: str = ""


Tally: TypeAlias = Counter[Count]


def is_cut(reason: str) -> bool:
    """Whether it is for its cascade's sake that something is not handled: for its budget, or for a loop."""
    return reason in CUTS


def tally(reports: Iterable[NodeReport]) -> Tally:
    """What all processes have counted so far."""
    total: Tally = Counter()
    for report in reports:
        for emitted in report.emitted:
            total[Count("emitted", emitted.event)] += emitted.emitted
        for event, service, reason, number in report.lost:
            if not service:
                total[Count("held back", event, reason)] += number
            elif reason != CONNECTION_LOST:
                what: What = "cut off" if is_cut(reason) else "not sent"
                total[Count(what, f"{event} for {service}", reason)] += number
        for handler in report.handlers:
            place = f"{handler.service}.{handler.handler}"
            total[Count("let in", place)] += handler.handled + handler.failed
            for reason, number in handler.shed.items():
                total[Count("cut" if is_cut(reason) else "shed", place, reason)] += number
    return total


def tried(counts: Tally, event: str) -> int:
    """How many events of a type were to be emitted, as far as is decided."""
    return sum(
        number
        for count, number in counts.items()
        if count.place == event and count.what in ("emitted", "held back")
    )


def limits_of_game(reports: Iterable[NodeReport]) -> dict[str, tuple[str, ...]]:
    """The places that have limits, event types first, and what is allowed there."""
    events: dict[str, tuple[str, ...]] = {}
    handlers: dict[str, tuple[str, ...]] = {}
    for report in reports:
        events |= {e.event: e.limits for e in report.emitted if e.limits}
        handlers |= {f"{h.service}.{h.handler}": h.limits for h in report.handlers if h.limits}
    return dict(sorted(events.items())) | dict(sorted(handlers.items()))


def listeners(reports: Iterable[NodeReport]) -> dict[str, set[tuple[str, str]]]:
    """Who handles each type of event: service and handler."""
    found: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for report in reports:
        for handler in report.handlers:
            for event in handler.events:
                found[event].add((handler.service, handler.handler))
    return found
