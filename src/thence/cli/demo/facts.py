"""What each process of the demo tells about itself: counters, and what it saw of cascades."""

from __future__ import annotations

import time

import msgspec
from msgspec import Struct

from thence.app.report import NodeReport
from thence.events.lineage import Lineage
from thence.identifiers import EventId

__all__ = ["Bulletin", "Ending", "Watcher", "decode", "encode"]


class Ending(Struct, array_like=True, frozen=True):
    """A handler has ended with a consequence of some root event."""

    event_id: str
    cause_id: str
    root_id: str
    depth: int
    event: str
    service: str
    at: float
    """Seconds on the machine's monotonic clock, which all its processes share."""
    failed: bool = False


class Bulletin(Struct, frozen=True):
    """What happened in one process since it last told."""

    report: NodeReport
    roots: list[tuple[str, str, float]]
    """Root events that were emitted: id, type, and when."""
    endings: list[Ending]
    at: float = 0.0
    """When it was written."""


class Watcher:
    """Notes what a node does. Implements :class:`thence.facts.Observer`."""

    def __init__(self) -> None:
        self._roots: list[tuple[str, str, float]] = []
        self._endings: list[Ending] = []

    def emitted(
        self, event_id: EventId, lineage: Lineage | None, event: str, size: int, targets: int
    ) -> None:
        """A root is the beginning of a cascade."""
        if lineage is None:
            self._roots.append((str(event_id), event, time.monotonic()))

    def handled(
        self, event_id: EventId, lineage: Lineage | None, event: str, service: str, handler: str
    ) -> None:
        """A consequence has been handled."""
        if lineage is not None:
            self._note(event_id, lineage, event, service, failed=False)

    def failed(
        self,
        event_id: EventId,
        lineage: Lineage | None,
        event: str,
        service: str,
        handler: str,
        error: BaseException,
    ) -> None:
        """A consequence has been handled, badly."""
        if lineage is not None:
            self._note(event_id, lineage, event, service, failed=True)

    def shed(
        self,
        event_id: EventId,
        lineage: Lineage | None,
        event: str,
        service: str,
        handler: str,
        reason: str,
    ) -> None:
        """The node's own report counts it."""

    def refused(
        self,
        event_id: EventId,
        lineage: Lineage | None,
        event: str,
        service: str,
        reason: str,
    ) -> None:
        """The node's own report counts it."""

    def limit_changed(self, place: str, before: str, after: str, by: str) -> None:
        """The node logs it."""

    def _note(
        self, event_id: EventId, lineage: Lineage, event: str, service: str, *, failed: bool
    ) -> None:
        self._endings.append(
            Ending(
                str(event_id),
                str(lineage.cause),
                str(lineage.root),
                lineage.depth,
                event,
                service,
                time.monotonic(),
                failed,
            )
        )

    def tell(self, report: NodeReport) -> Bulletin:
        """What was noted since the last call."""
        bulletin = Bulletin(report, self._roots, self._endings, time.monotonic())
        self._roots, self._endings = [], []
        return bulletin


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Bulletin).decode
