"""A node's counters in Prometheus' terms: names, units and labels.

Labels are the names of events, services and handlers, and reasons from a fixed set: their number is that of the
declarations, however long a node runs. Whoever is told of by its id, an event, a node, is in none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from thence.app.report import AccountReport, HandlerReport, NodeReport
from thence.delivery.reasons import NO_ROOM
from thence.histogram import BOUNDS, PER_DOUBLING, Histogram

__all__ = ["families"]

LIMIT, AT_ITS_SOURCE = "limit", "limit, stopped at its source"
FIRST, LAST = 4, 26
"""Buckets are told from 16 µs to 67 s, by doublings of a microsecond."""

Labels: TypeAlias = tuple[str, ...]
Values: TypeAlias = Mapping[Labels, int]


def families(report: NodeReport) -> Iterator[Metric]:
    """All metrics of a node, as of that report."""
    yield from _events(report)
    yield from _handlers(report)
    yield _histogram(
        "cascade_seconds",
        "From the emit of a root event here to the end of all that followed from it, where that was followed.",
        (),
        [((), report.all_cascades)],
    )
    yield _histogram(
        "loop_lag_seconds", "How late the event loop's timers were.", (), [((), report.all_lag)]
    )
    yield _gauge(
        "loop_lag_greatest_seconds",
        "The latest that a timer was in the last minute.",
        report.lag.greatest,
    )
    yield _gauge("peers", "Nodes that this one is connected to.", len(report.peers))
    yield _gauge("ready", "Whether the services here take events.", int(report.ready))
    yield _gauge(
        "events_held", "Events that wait while their keys move between replicas.", report.held
    )
    yield _counter(
        "connections_closed",
        "Connections to peers that have ended, by reason.",
        ("reason",),
        {(reason,): count for reason, count in report.closures.items()},
    )
    yield _counter(
        "events_undecodable",
        "Events that came and could not be decoded.",
        (),
        {(): sum(report.invalid.values())},
    )
    yield _counter(
        "written_bytes", "Bytes written to connections that have ended or are open.", (),
        {(): report.bytes_written},
    )  # fmt: skip


def _events(report: NodeReport) -> Iterator[Metric]:
    """What is emitted here, and where it goes."""
    emitted: Values = {(one.event,): one.emitted for one in report.emitted}
    unheard: Values = {(one.event,): one.unheard for one in report.emitted}
    yield _counter("events_emitted", "Events emitted here.", ("event",), emitted)
    yield _counter("events_unheard", "Events emitted here that nobody wanted.", ("event",), unheard)
    sent: Counter[Labels] = Counter()
    outstanding: Counter[Labels] = Counter()
    for route in report.routes:
        sent[route.event, route.service] += route.sent
        outstanding[route.event, route.service] += route.outstanding
    labels = ("event", "service")
    yield _counter("events_sent", "Events sent from here to a service.", labels, sent)
    yield _gauges(
        "events_outstanding",
        "Events sent from here that their receivers have not ended.",
        labels,
        outstanding,
    )
    lost: Counter[Labels] = Counter()
    for event, service, reason, count in report.lost:
        lost[event, service, _kind(reason)] += count
    yield _counter(
        "events_not_sent",
        "Events emitted here that did not leave for a service, or were lost with it, by reason.",
        (*labels, "reason"),
        lost,
    )


def _handlers(report: NodeReport) -> Iterator[Metric]:
    """What is handled here."""
    accounts = [
        ((account.event, handler.service, handler.handler), account)
        for handler in report.handlers
        for account in handler.accounts
    ]
    labels = ("event", "service", "handler")
    yield _counter(
        "events_handled",
        "Events that a handler has handled.",
        labels,
        {place: account.handled for place, account in accounts},
    )
    yield _counter(
        "events_failed",
        "Events at which a handler has failed.",
        labels,
        {place: account.failed for place, account in accounts},
    )
    yield _counter(
        "events_shed",
        "Events that a handler was not given, by reason.",
        (*labels, "reason"),
        _shed(accounts),
    )
    yield _histogram(
        "handler_seconds",
        "How long runs of a handler took; of those that ended at once, a sample.",
        labels,
        [(place, account.ran) for place, account in accounts],
    )
    yield _histogram(
        "queue_seconds",
        "From the arrival of an event until a handler was begun with it.",
        labels,
        [(place, account.waited) for place, account in accounts],
    )
    yield _gauges(
        "runs_in_flight",
        "Runs of a handler that have begun and not ended.",
        labels,
        {place: account.in_flight for place, account in accounts},
    )
    places: list[tuple[Labels, HandlerReport]] = [
        ((handler.service, handler.handler), handler) for handler in report.handlers
    ]
    yield _gauges(
        "events_waiting",
        "Events that wait for a handler.",
        ("service", "handler"),
        {place: handler.waiting for place, handler in places},
    )
    yield _gauges(
        "breaker_open",
        "Whether a handler's events are shed because it does nothing but fail.",
        ("service", "handler"),
        {place: int(handler.breaker != "closed") for place, handler in places},
    )


def _shed(accounts: Iterable[tuple[Labels, AccountReport]]) -> Counter[Labels]:
    shed: Counter[Labels] = Counter()
    for place, account in accounts:
        for reason, count in account.shed.items():
            shed[*place, _kind(reason)] += count
    return shed


def _kind(reason: str) -> str:
    """The reason without its figures, which operators change."""
    if reason.startswith(LIMIT):
        return AT_ITS_SOURCE if reason.endswith("stopped at its source") else LIMIT
    return NO_ROOM if reason.startswith(NO_ROOM) else reason


def _counter(name: str, told: str, labels: Labels, values: Values) -> Metric:
    family = CounterMetricFamily(f"thence_{name}", told, labels=labels)
    for place, value in values.items():
        family.add_metric(place, value)
    return family


def _gauges(name: str, told: str, labels: Labels, values: Values) -> Metric:
    family = GaugeMetricFamily(f"thence_{name}", told, labels=labels)
    for place, value in values.items():
        family.add_metric(place, value)
    return family


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(f"thence_{name}", told, value=value)


def _histogram(
    name: str, told: str, labels: Labels, histograms: Iterable[tuple[Labels, Histogram]]
) -> Metric:
    family = HistogramMetricFamily(f"thence_{name}", told, labels=labels)
    for place, histogram in histograms:
        family.add_metric(place, _cumulative(histogram), max(0.0, histogram.total))
    return family


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    """How many took at most so long. The bounds are some of the histogram's own, so that each count is exact."""
    told: list[tuple[str, float]] = []
    seen, buckets = 0, list(histogram.buckets)
    for doublings in range(FIRST, LAST + 1):
        last = doublings * PER_DOUBLING
        while buckets and buckets[0][0] <= last:
            seen += buckets.pop(0)[1]
        told.append((f"{BOUNDS[last]:g}", seen))
    return [*told, ("+Inf", histogram.count)]
