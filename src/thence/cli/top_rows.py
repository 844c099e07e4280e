"""The rows of ``thence top``: what happened at each handler between two rounds of reports, over all replicas."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from thence.app.report import NodeReport
from thence.cli.map import ms_text, rate_text, runs_of
from thence.cli.windows import Place, accounts_of, rounds, times_between
from thence.histogram import Histogram

__all__ = ["COLUMNS", "Order", "Row", "cells", "chosen", "headline", "next_order", "rows_of"]

Order: TypeAlias = Literal["rate", "p50", "p99", "flight", "shed", "name"]
NONE = "–"


class Row(msgspec.Struct, frozen=True):
    """One type of event at one handler, over all replicas."""

    service: str
    handler: str
    event: str
    nodes: int
    """How many replicas there are."""
    rate: float
    """Events a second whose run has ended."""
    failed: float
    """Those of them that failed, a second."""
    shed: float
    """Events a second that the handler was not given."""
    in_flight: int
    waiting: int
    """Events that wait for the handler, of all types that it handles."""
    allowed: str
    """The handler's limits, or its service's, or ""."""
    used: float
    """Runs a second to which these limits apply."""
    breakers: int
    """Replicas whose breaker is open."""
    ran: Histogram
    """How long its runs took."""
    waited: Histogram

    @property
    def handler_name(self) -> str:
        """As it is called everywhere."""
        return f"{self.service}.{self.handler}"


def rows_of(before: list[NodeReport], after: list[NodeReport], seconds: float) -> list[Row]:
    """One row per type of event and handler, in no order that matters."""
    nodes: Counter[Place] = Counter()
    flying: Counter[Place] = Counter()
    waiting: Counter[Place] = Counter()
    broken: Counter[Place] = Counter()
    for place, account, report, number in accounts_of(after):
        handler = report.handlers[number]
        nodes[place] += 1
        flying[place] += account.in_flight
        waiting[place] += handler.waiting
        broken[place] += handler.breaker != "closed"
    counts: defaultdict[Place, Counter[str]] = defaultdict(Counter)
    for sign, reports in rounds(before, after):
        for place, account, _, _ in accounts_of(reports):
            counts[place]["ended"] += sign * (account.handled + account.failed)
            counts[place]["failed"] += sign * account.failed
            counts[place]["shed"] += sign * sum(account.shed.values())
    times = times_between(before, after)
    uses = runs_of(before, after)

    def rate(count: int) -> float:
        return max(0.0, count / seconds)

    rows: list[Row] = []
    for place, number in nodes.items():
        service, name, event = place
        use = uses[f"{service}.{name}"]
        if not use.allowed and uses[service].allowed:
            use = uses[service]
        ran, waited = times.get(place, (Histogram(), Histogram()))
        rows.append(
            Row(
                service,
                name,
                event,
                number,
                rate(counts[place]["ended"]),
                rate(counts[place]["failed"]),
                rate(counts[place]["shed"]),
                flying[place],
                waiting[place],
                use.allowed,
                rate(use.let_in),
                broken[place],
                ran,
                waited,
            )
        )
    return rows


def chosen(rows: list[Row], order: Order, text: str) -> list[Row]:
    """The rows with that text in a name, in that order: the largest first."""
    wanted = text.casefold()

    def key(row: Row) -> tuple[Any, ...]:
        sizes: dict[Order, float] = {
            "rate": row.rate,
            "p50": row.ran.p50,
            "p99": row.ran.p99,
            "flight": row.in_flight,
            "shed": row.shed,
            "name": 0.0,
        }
        return -sizes[order], row.service, row.handler, row.event

    return sorted(
        (row for row in rows if wanted in f"{row.event} {row.handler_name}".casefold()), key=key
    )


def next_order(order: Order) -> Order:
    """Round and round."""
    orders: tuple[Order, ...] = get_args(Order)
    return orders[(orders.index(order) + 1) % len(orders)]


def headline(rows: list[Row], reports: list[NodeReport], silent: list[str]) -> str:
    """All rows in one line."""
    times = Histogram.together(row.ran for row in rows)
    lag = max((report.lag.greatest for report in reports), default=0.0)
    told = [
        f"{len(reports) + len(silent)} nodes",
        f"{sum(row.rate for row in rows):,.0f} ev/s",
        f"p99 {ms_text(times.p99) if times.count else NONE}",
        f"failed {sum(row.failed for row in rows):,.0f}/s",
        f"shed {sum(row.shed for row in rows):,.0f}/s",
        f"loop lag {ms_text(lag)}",
    ]
    if silent:
        told.append(f"silent: {', '.join(silent)}")
    return " · ".join(told)


COLUMNS = ("event", "handler", "rate", "p50", "p99", "flight", "limit", "shed/s")


def cells(row: Row) -> tuple[str, ...]:
    """A row in words, by :data:`COLUMNS`."""
    limit = f"{rate_text(row.used)} of {row.allowed}" if row.allowed else NONE
    if row.breakers:
        limit = "breaker open"
    timed = row.ran.count > 0
    return (
        row.event,
        row.handler_name,
        rate_text(row.rate),
        ms_text(row.ran.p50) if timed else NONE,
        ms_text(row.ran.p99) if timed else NONE,
        f"{row.in_flight:,}",
        limit,
        rate_text(row.shed),
    )
