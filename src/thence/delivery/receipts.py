"""What whoever emits an event is told about it: at once, and when its whole cascade has ended."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Struct

from thence.cascade.settlement import Failure, Step, Tally
from thence.delivery.running import is_in_cascade_of
from thence.durations import Duration
from thence.durations import seconds as length_of
from thence.errors import SettleTimeout, ThenceError
from thence.identifiers import EventId

__all__ = ["CascadeReport", "Receipt", "Refusal", "Root", "Sending"]


class Refusal(Struct, frozen=True):
    """A service that did not get an event, and why."""

    service: str
    reason: str
    retry_after: float | None = None
    """Seconds after which a limit might let it in."""
    count: int = 1
    """Of a service whose replicas each handle it, how many did not get it for that reason."""


class CascadeReport(Struct, frozen=True, kw_only=True):
    """What became of a root event and of all that followed from it."""

    event_id: str
    """The root event's identifier."""
    events: int
    """Handlers started."""
    depth: int
    """How far from the root the cascade came."""
    seconds: float
    """From the emission until the last report arrived, or until the question was given up."""
    complete: bool
    """Whether the whole cascade has ended and everything in it is accounted for."""
    shed: int = 0
    """Handlers that did not run because of a limit, a full queue or the like."""
    cut: int = 0
    """Handlers that did not run because the cascade's budget was used up, or because of a loop."""
    expired: int = 0
    """Handlers that did not run because their event, or the cascade, was too old."""
    merged: int = 0
    """Events handled together with a newer one; their consequences are that one's."""
    failed: int = 0
    """Handlers that raised or timed out."""
    lost: int = 0
    """Deliveries of which nobody can tell what became of them: their node is gone."""
    failures: tuple[Failure, ...] = ()
    """What went wrong: failed handlers, loops that were cut, lost deliveries; the first 16."""
    critical_path: tuple[Step, ...] = ()
    """The handler runs that ended last, each the cause of the next, from the root on."""

    def __str__(self) -> str:
        counts = [
            f"{count} {what}"
            for what, count in (
                ("failed", self.failed),
                ("shed", self.shed),
                ("cut", self.cut),
                ("expired", self.expired),
                ("merged", self.merged),
                ("lost", self.lost),
            )
            if count
        ]
        state = "settled" if self.complete else "not all known"
        started = f"{self.events} handler{'s' * (self.events != 1)} started"
        deep = f"{self.depth} hop{'s' * (self.depth != 1)} deep"
        parts = [f"{state}: {started}", deep, *counts]
        return f"{', '.join(parts)}, in {self.seconds * 1000:.3g} ms"


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Root:
    """A tracked root event: collects what its deliveries report."""

    __slots__ = ("_began", "_event_id", "_now", "_tally", "_waiting", "branch", "settled_in")

    def __init__(self, event_id: str, now: Any) -> None:
        self._event_id = event_id
        self._now = now
        self._began: float = now()
        self.branch: Any = None
        """Its :class:`~thence.cascade.settlement.Branch`, while it is open."""
        self._tally: Tally | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self.settled_in = 0.0
        """Seconds that the cascade took; 0.0 while it goes on."""

    @property
    def has_ended(self) -> bool:
        """Whether everything has."""
        return self._tally is not None

    def ended(self, tally: Tally) -> None:
        """Everything has ended."""
        self._tally, self.branch = tally, None
        self.settled_in = self._now() - self._began
        for future in self._waiting:
            _resolve(future)

    async def settled(self, timeout: float) -> CascadeReport:
        """Wait for the end, so many seconds at most.

        :raises SettleTimeout: it has not come.
        """
        if self._tally is None:
            await self._end(timeout)
        if self._tally is not None:
            return self._report(self._tally, self.settled_in, ended=True)
        report = self._report(self.branch.tally(), self._now() - self._began, ended=False)
        raise SettleTimeout(
            f"the cascade of {self._event_id} has not settled within {timeout:g} s; it goes on. So far: "
            f"{report}. Give a longer timeout, or see where it waits with 'thence map'",
            report,
        )

    async def _end(self, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append(future)
        alarm = loop.call_later(timeout, _resolve, future)
        try:
            await future
        finally:
            alarm.cancel()
            self._waiting.remove(future)

    def _report(self, tally: Tally, seconds: float, *, ended: bool) -> CascadeReport:
        return CascadeReport(
            event_id=self._event_id,
            events=tally.events,
            depth=tally.depth,
            seconds=seconds,
            complete=ended and not tally.lost,
            shed=tally.shed,
            cut=tally.cut,
            expired=tally.expired,
            merged=tally.merged,
            failed=tally.failed,
            lost=tally.lost,
            failures=tally.failures,
            critical_path=tally.steps,
        )


class Sending(Struct, frozen=True):
    """Where an event went. Events that go the same way share one."""

    node: str
    """The emitting node's identifier."""
    targets: tuple[str, ...]
    deliveries: tuple[Any, ...] = ()
    """Whatever can be asked to track the event: ``track(sequence, branch)``."""
    tracker: Any = None
    """Whoever follows cascades here; None for what belongs to another's cascade."""
    refused: tuple[Refusal, ...] = ()


class Receipt(Struct, gc=False):
    """What became of an event when it was emitted. It says *accepted*, never *handled*.

    As long as it is kept, Thence follows the event's whole cascade; :meth:`settled` waits for its end.
    """

    sequence: int
    sending: Sending
    root: Root | None = None

    @property
    def event_id(self) -> str:
        """The event's identifier, 32 hexadecimal digits."""
        return str(self._id)

    @property
    def _id(self) -> EventId:
        return EventId(self.sending.node, self.sequence)

    @property
    def targets(self) -> tuple[str, ...]:
        """The services that it is on its way to."""
        return self.sending.targets

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """Services that want it and did not get it."""
        return self.sending.refused

    async def settled(self, timeout: Duration = "30s") -> CascadeReport:
        """Wait until the event's whole cascade has ended: everything that was handled because of it.

        What handlers leave running after their end is not waited for.

        :param timeout: how long to wait.
        :raises SettleTimeout: it has not ended by then; ``report`` of the error holds what is known.
        :raises ThenceError: the cascade is the one that waits, which would never end; or the event was
            emitted by a handler, whose cascade it belongs to.
        """
        length = length_of(timeout)
        tracker = self.sending.tracker
        if tracker is None:
            raise ThenceError(
                "this event was emitted inside a handler: it belongs to that handler's cascade, which can't end "
                "before the handler has. Await settled() where the root event was emitted"
            )
        root = self.root or tracker.track(self)
        if not root.has_ended and is_in_cascade_of(self._id):
            raise ThenceError(
                f"the handler that waits here is itself a part of the cascade of {self.event_id}, which can't end "
                "before the handler has. Await settled() where the root event was emitted, outside of its handlers"
            )
        return await root.settled(length)

    def __repr__(self) -> str:
        refused = (
            f", refused by {', '.join(r.service for r in self.refused)}" if self.refused else ""
        )
        return f"<Receipt {self.event_id} to {', '.join(self.targets) or 'nobody'}{refused}>"
