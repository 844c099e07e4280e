"""What each process of the demo tells about itself: counters, and what it saw of cascades."""

from __future__ import annotations

import time

import msgspec
from msgspec import Struct

from thence.app.report import NodeReport
from thence.cascade.loops import loop_in
from thence.cli.demo.tally import is_cut
from thence.events.lineage import Lineage, Path
from thence.identifiers import EventId

__all__ = ["Bulletin", "Cut", "Ending", "Watcher", "decode", "encode"]


class Ending(Struct, array_like=True, frozen=True):
    """A handler has ended with a consequence of some root event."""

    event_id: str
    cause_id: str
    root_id: str
    depth: int
    event: str
    service: str
    handler: str
    at: float
    """Seconds on the machine's monotonic clock, which all its processes share."""
    failed: bool = False
    by: str = ""
    """The handler that caused it, by its full name."""

    @property
    def place(self) -> str:
        """The handler's full name."""
        return f"{self.service}.{self.handler}"


class Cut(Struct, array_like=True, frozen=True):
    """A cascade went no further here: a handler was not started, or an event not sent to a service."""

    event_id: str
    cause_id: str
    root_id: str
    event: str
    service: str
    handler: str
    """Empty if the event was not sent."""
    reason: str
    at: float
    loop: tuple[str, ...] = ()
    """The handlers from the one that the cascade came back to, to that one again; none if it did not."""
    rounds: int = 0
    """How often it had come back there, this time included."""
    by: str = ""
    """The handler that caused it, by its full name."""


class Bulletin(Struct, frozen=True):
    """What happened in one process since it last told."""

    report: NodeReport
    roots: list[tuple[str, str, float]]
    """Root events that were emitted: id, type, and when."""
    endings: list[Ending]
    at: float = 0.0
    """When it was written."""
    cuts: list[Cut] = []


class Watcher:
    """Notes what a node does. Implements :class:`thence.facts.Observer`."""

    def __init__(self) -> None:
        self._roots: list[tuple[str, str, float]] = []
        self._endings: list[Ending] = []
        self._cuts: list[Cut] = []

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
            self._note(event_id, lineage, event, service, handler, failed=False)

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
            self._note(event_id, lineage, event, service, handler, failed=True)

    def shed(
        self,
        event_id: EventId,
        lineage: Lineage | None,
        event: str,
        service: str,
        handler: str,
        reason: str,
    ) -> None:
        """The node's own report counts it. What was cut is of interest by itself."""
        if lineage is not None and is_cut(reason):
            path = Path(lineage.path, f"{service}.{handler}")
            self._note_cut(event_id, lineage, event, service, handler, reason, path)

    def refused(
        self,
        event_id: EventId,
        lineage: Lineage | None,
        event: str,
        service: str,
        reason: str,
    ) -> None:
        """The node's own report counts it. What was cut is of interest by itself."""
        if lineage is not None and lineage.path is not None and is_cut(reason):
            self._note_cut(event_id, lineage, event, service, "", reason, lineage.path)

    def limit_changed(self, place: str, before: str, after: str, by: str) -> None:
        """The node logs it."""

    def _note(
        self,
        event_id: EventId,
        lineage: Lineage,
        event: str,
        service: str,
        handler: str,
        *,
        failed: bool,
    ) -> None:
        self._endings.append(
            Ending(
                str(event_id),
                str(lineage.cause),
                str(lineage.root),
                lineage.depth,
                event,
                service,
                handler,
                time.monotonic(),
                failed,
                _by(lineage),
            )
        )

    def _note_cut(
        self,
        event_id: EventId,
        lineage: Lineage,
        event: str,
        service: str,
        handler: str,
        reason: str,
        path: Path,
    ) -> None:
        looped = path.visits > 1
        self._cuts.append(
            Cut(
                str(event_id),
                str(lineage.cause),
                str(lineage.root),
                event,
                service,
                handler,
                reason,
                time.monotonic(),
                tuple(loop_in(path).split(" → ")) if looped else (),
                path.visits - 1,
                _by(lineage),
            )
        )

    def tell(self, report: NodeReport) -> Bulletin:
        """What was noted since the last call."""
        bulletin = Bulletin(report, self._roots, self._endings, time.monotonic(), self._cuts)
        self._roots, self._endings, self._cuts = [], [], []
        return bulletin


def _by(lineage: Lineage) -> str:
    return "" if lineage.path is None else lineage.path.handler


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Bulletin).decode
