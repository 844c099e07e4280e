"""The services that a node hosts, as they run: lines, lanes, what is unfinished, what is counted."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from typing import Any

from thence.delivery.ownership import Ownership
from thence.events import EventSpec
from thence.events.envelope import Arrival, envelope_for
from thence.handling.handler import Handler, declared_consequences
from thence.handling.timeouts import Timeouts
from thence.routing.lanes import Lanes

__all__ = ["HostedHandler", "HostedService", "Subscription"]

PROBE_AFTER = 4
"""Suspensions in a row after which a handler is given a task from the start."""


class HostedHandler:
    """One handler of a hosted service."""

    __slots__ = (
        "always_suspends",
        "call",
        "concurrency",
        "declared",
        "failed",
        "handled",
        "in_flight",
        "line",
        "name",
        "probe",
        "queue",
        "service",
        "shed",
        "spec",
        "streak",
        "subscriptions",
        "takes_context",
        "task_name",
        "timeouts",
    )

    def __init__(
        self, spec: Handler, service: HostedService, expired: Callable[[Any], None]
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.task_name = f"thence {spec.name}"
        self.service = service
        self.call: Callable[..., Coroutine[Any, Any, Any]] = spec.run
        self.takes_context = spec.takes_context
        self.declared = declared_consequences(spec)
        self.concurrency = spec.policy.concurrency
        self.queue = spec.policy.queue
        self.timeouts: Timeouts[Any] = Timeouts(
            asyncio.get_running_loop(), spec.policy.timeout, expired
        )
        self.subscriptions: list[Subscription] = []
        self.line: deque[Arrival] = deque()
        self.in_flight = 0
        self.always_suspends = spec.suspends
        self.streak = PROBE_AFTER if spec.suspends else 0
        """Suspensions in a row, up to where a task is given from the start."""
        self.probe = 0
        self.handled = self.failed = 0
        self.shed: Counter[str] = Counter()

    @property
    def has_place(self) -> bool:
        """Whether the bounds of runs in flight, its own and its service's, let one more begin."""
        service = self.service
        return self.in_flight < self.concurrency and (
            service.concurrency is None or service.in_flight < service.concurrency
        )

    @property
    def wants_task(self) -> bool:
        """Whether to give the next run a task of its own: it will suspend anyway. Every 64th is a probe."""
        if self.streak < PROBE_AFTER:
            return False
        self.probe += 1
        return self.always_suspends or bool(self.probe & 63)

    def suspended(self) -> None:
        """A run that was stepped by hand has suspended."""
        if self.streak < PROBE_AFTER:
            self.streak += 1
            if self.streak == PROBE_AFTER:
                for subscription in self.subscriptions:
                    subscription.refresh()

    def went_through(self) -> None:
        """A run has ended without suspending, after others that had not."""
        self.streak = 0
        for subscription in self.subscriptions:
            subscription.refresh()


class Subscription:
    """One type of event that a hosted service wants, and the handlers it goes to."""

    __slots__ = (
        "acknowledge_at",
        "arrival",
        "broadcast",
        "direct",
        "done",
        "event",
        "handlers",
        "key",
        "number",
        "service",
        "waiting",
        "window",
    )

    def __init__(
        self,
        event: EventSpec[Any],
        number: int,
        service: HostedService,
        handlers: list[HostedHandler],
        broadcast: bool,
    ) -> None:
        self.event = event
        self.number = number
        self.service = service
        self.handlers = handlers
        self.broadcast = broadcast
        self.key = event.key
        self.window = min(handler.queue for handler in handlers)
        self.acknowledge_at = max(1, self.window // 4)
        self.arrival = envelope_for(event.type, number, self)
        self.waiting = 0
        """Arrivals that wait for their lane."""
        self.done = 0
        """Arrivals of the current batch that have ended."""
        self.direct: HostedHandler | None = None
        """The handler, when arrivals may go straight to it as long as nothing in the service is unfinished."""
        for handler in handlers:
            handler.subscriptions.append(self)
        self.refresh()

    @property
    def owned(self) -> bool:
        """Whether a replica must hold a key's block to handle this."""
        return self.key is not None and not self.broadcast

    def refresh(self) -> None:
        """Something that decides about :attr:`direct` has changed."""
        ownership = self.service.ownership
        simple = len(self.handlers) == 1 and self.handlers[0].streak < PROBE_AFTER
        owns_all = not self.owned or (ownership is not None and ownership.complete)
        self.direct = self.handlers[0] if simple and owns_all else None


class HostedService:
    """One service of this node."""

    __slots__ = (
        "concurrency",
        "fences",
        "handlers",
        "in_flight",
        "lanes",
        "name",
        "ownership",
        "state",
        "subscriptions",
        "unfinished",
    )

    def __init__(self, name: str, concurrency: int | None) -> None:
        self.name = name
        self.state: Any = None
        self.concurrency = concurrency
        self.in_flight = 0
        self.handlers: list[HostedHandler] = []
        self.subscriptions: list[Subscription] = []
        self.lanes: Lanes[Arrival] = Lanes()
        self.unfinished: dict[Arrival, int] = {}
        """Arrivals that did not end within their batch, and how many of their handlers are still to end."""
        self.ownership: Ownership | None = None
        self.fences: list[tuple[set[Arrival], Callable[[], None]]] = []

    def refresh(self) -> None:
        """The blocks held have changed."""
        for subscription in self.subscriptions:
            subscription.refresh()
