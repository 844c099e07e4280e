"""What became of every event, told by the nodes themselves."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from thence import Node

PATIENCE = 600.0
"""Virtual seconds."""


class Watch:
    """An observer of any number of nodes that keeps what became of every event."""

    def __init__(self, *nodes: Node) -> None:
        self.ends: defaultdict[str, defaultdict[str, list[tuple[str, str]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        """By event id and service: the handlers, and whether each handled or failed or why it was shed."""
        self.reached: dict[str, int] = {}
        """By event id: how many services it left for."""
        self.errors: list[BaseException] = []
        for node in nodes:
            node.observe(self)

    def emitted(self, event_id: Any, lineage: Any, event: str, size: int, targets: int) -> None:
        assert str(event_id) not in self.reached, "two events of one id"
        self.reached[str(event_id)] = targets

    def handled(self, event_id: Any, lineage: Any, event: str, service: str, handler: str) -> None:
        self.ends[str(event_id)][service].append((handler, "handled"))

    def failed(
        self,
        event_id: Any,
        lineage: Any,
        event: str,
        service: str,
        handler: str,
        error: BaseException,
    ) -> None:
        self.errors.append(error)
        self.ends[str(event_id)][service].append((handler, "failed"))

    def shed(
        self, event_id: Any, lineage: Any, event: str, service: str, handler: str, reason: str
    ) -> None:
        self.ends[str(event_id)][service].append((handler, reason))

    def refused(self, event_id: Any, lineage: Any, event: str, service: str, reason: str) -> None:
        """Receipts and reports tell it."""

    def limit_changed(self, place: str, before: str, after: str, by: str) -> None:
        """Logs tell it."""

    def totals(self) -> Counter[str]:
        """How often each end was met."""
        return Counter(end for by in self.ends.values() for ends in by.values() for _, end in ends)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def is_idle(*nodes: Node) -> bool:
    """Whether nothing runs, waits or is under way at these nodes."""
    reports = [node.report() for node in nodes]
    return (
        not any(report.held for report in reports)
        and not any(
            handler.in_flight or handler.waiting
            for report in reports
            for handler in report.handlers
        )
        and not any(route.outstanding for report in reports for route in report.routes)
    )


def lost(*nodes: Node) -> Counter[str]:
    """What these nodes count as lost or refused, by reason."""
    counts: Counter[str] = Counter()
    for node in nodes:
        for _, _, reason, count in node.report().lost:
            counts[reason] += count
    return counts
