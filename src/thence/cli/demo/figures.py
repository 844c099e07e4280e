"""From bulletins to figures. Pure: no process, no screen, no clock."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable

from msgspec import Struct

from thence.app.report import NodeReport
from thence.cli.demo.facts import Bulletin, Ending

__all__ = ["Account", "Cascade", "Cascades", "Figures", "account", "percentile"]


class Account(Struct, frozen=True):
    """Every delivery, counted by its emitter, against its end, counted by its receiver."""

    sent: int
    handled: int
    failed: int
    shed: int
    lost: int

    @property
    def balanced(self) -> bool:
        """Whether every event is accounted for."""
        return self.sent == self.handled + self.failed + self.shed + self.lost


class Cascade(Struct, frozen=True):
    """One root event and what came of it."""

    root_id: str
    event: str
    began: float
    endings: tuple[Ending, ...]

    @property
    def seconds(self) -> float:
        """From the root's emission to the end of the last handler."""
        return max(ending.at for ending in self.endings) - self.began

    @property
    def size(self) -> int:
        """Events, the root included."""
        return 1 + len({ending.event_id for ending in self.endings})


class Figures(Struct, frozen=True):
    """What the last screen says."""

    seconds: float
    processes: int
    events: dict[str, int]
    """Emitted, by type."""
    account: Account
    cascades: int
    """Player actions that had consequences."""
    cascade_events_mean: float
    cascade_events_max: int
    seconds_p50: float
    seconds_p99: float
    """From a player's action to its last consequence."""
    bytes_per_event: float
    events_per_second: float


class Cascades:
    """Puts together what different processes saw of each cascade."""

    def __init__(self) -> None:
        self._roots: dict[str, tuple[str, float]] = {}
        self._endings: defaultdict[str, list[Ending]] = defaultdict(list)

    def add(self, bulletin: Bulletin) -> None:
        """Take in one bulletin, in any order."""
        for root_id, event, at in bulletin.roots:
            self._roots[root_id] = (event, at)
        for ending in bulletin.endings:
            self._endings[ending.root_id].append(ending)

    def complete(self) -> list[Cascade]:
        """The cascades whose root is known, in the order in which they began."""
        found = [
            Cascade(root_id, *self._roots[root_id], tuple(endings))
            for root_id, endings in self._endings.items()
            if root_id in self._roots
        ]
        return sorted(found, key=lambda cascade: cascade.began)


def account(reports: Iterable[NodeReport]) -> Account:
    """Add up all nodes' counters. Two services of one event are two deliveries, and so are two handlers."""
    reports = list(reports)
    handlers: Counter[tuple[str, str]] = Counter()
    for (event, service), names in _handlers_by_event(reports).items():
        handlers[event, service] = len(names)
    sent = sum(
        route.sent * handlers[route.event, route.service]
        for report in reports
        for route in report.routes
    )
    every = [handler for report in reports for handler in report.handlers]
    return Account(
        sent=sent,
        handled=sum(handler.handled for handler in every),
        failed=sum(handler.failed for handler in every),
        shed=sum(sum(handler.shed.values()) for handler in every),
        lost=sum(
            number * handlers[event, service]
            for report in reports
            for event, service, reason, number in report.lost
            if reason == "connection lost"
        ),
    )


def _handlers_by_event(reports: list[NodeReport]) -> dict[tuple[str, str], set[str]]:
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for report in reports:
        for handler in report.handlers:
            for event in handler.events:
                found[event, handler.service].add(handler.handler)
    return found


def percentile(values: list[float], share: float) -> float:
    """The smallest value that is not below ``share`` of all; 0.0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def figures(
    reports: list[NodeReport], cascades: list[Cascade], seconds: float, processes: int
) -> Figures:
    """Everything that the last screen says."""
    events: Counter[str] = Counter()
    for report in reports:
        for emitted in report.emitted:
            events[emitted.event] += emitted.emitted
    sizes = [cascade.size for cascade in cascades]
    durations = [cascade.seconds for cascade in cascades]
    deliveries = sum(route.sent for report in reports for route in report.routes)
    return Figures(
        seconds=round(seconds, 2),
        processes=processes,
        events={event: number for event, number in events.most_common() if number},
        account=account(reports),
        cascades=len(cascades),
        cascade_events_mean=round(statistics.fmean(sizes), 2) if sizes else 0.0,
        cascade_events_max=max(sizes, default=0),
        seconds_p50=percentile(durations, 0.50),
        seconds_p99=percentile(durations, 0.99),
        bytes_per_event=round(sum(r.bytes_written for r in reports) / deliveries, 1)
        if deliveries
        else 0.0,
        events_per_second=round(sum(events.values()) / seconds, 1) if seconds else 0.0,
    )


__all__ += ["figures"]
