"""What happened in a mesh between two rounds of reports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TypeAlias

from thence.app.report import AccountReport, NodeReport
from thence.histogram import Histogram

__all__ = ["Place", "accounts_of", "rounds", "times_between"]

Place: TypeAlias = tuple[str, str, str]
"""Service, handler, event."""


def rounds(
    before: list[NodeReport], after: list[NodeReport]
) -> tuple[tuple[int, list[NodeReport]], tuple[int, list[NodeReport]]]:
    """What to add and what to take away for what happened in between, at nodes that told both times."""
    both = {report.node for report in before} & {report.node for report in after}
    return (
        (1, [report for report in after if report.node in both]),
        (-1, [report for report in before if report.node in both]),
    )


def accounts_of(
    reports: list[NodeReport],
) -> Iterator[tuple[Place, AccountReport, NodeReport, int]]:
    """What is told of each type of event at each handler, by whom, and the number of the handler there."""
    for report in reports:
        for number, handler in enumerate(report.handlers):
            for account in handler.accounts:
                yield (handler.service, handler.handler, account.event), account, report, number


def times_between(
    before: list[NodeReport], after: list[NodeReport]
) -> dict[Place, tuple[Histogram, Histogram]]:
    """How long runs took, and events waited, at nodes that told both times."""
    known = {(report.node, place): account for place, account, report, _ in accounts_of(before)}
    ran: defaultdict[Place, list[Histogram]] = defaultdict(list)
    waited: defaultdict[Place, list[Histogram]] = defaultdict(list)
    for place, account, report, _ in accounts_of(after):
        earlier = known.get((report.node, place))
        if earlier is not None:
            ran[place].append(account.ran.since(earlier.ran))
            waited[place].append(account.waited.since(earlier.waited))
    return {
        place: (Histogram.together(ran[place]), Histogram.together(waited[place])) for place in ran
    }
