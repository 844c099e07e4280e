"""The services that a node hosts, as they run: lines, lanes, what is unfinished, what is counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from typing import Any

from thence.delivery.accounts import Account
from thence.delivery.lines import FairLine, Line, PlainLine
from thence.delivery.ownership import Ownership
from thence.events import PRIORITIES, EventSpec
from thence.events.envelope import Arrival, envelope_for
from thence.events.lineage import Path
from thence.flow.breaker import Breaker
from thence.flow.limit import Gate, RateGate, changed_gates, gate_for, key_function
from thence.flow.shedding import QueueDelay
from thence.handling.handler import Handler, declared_consequences
from thence.handling.timeouts import Timeouts
from thence.limits import Limit
from thence.routing.lanes import Lanes

__all__ = ["HostedHandler", "HostedService", "Subscription"]

PROBE_AFTER = 4
"""Suspensions in a row after which a handler is given a task from the start."""


class HostedHandler:
    """One handler of a hosted service."""

    __slots__ = (
        "accounts",
        "alarm",
        "always_suspends",
        "batch",
        "batch_due",
        "batch_timer",
        "breaker",
        "budget",
        "call",
        "concurrency",
        "declared",
        "gate",
        "gates",
        "in_flight",
        "is_plain",
        "line",
        "loops",
        "name",
        "open_batch",
        "open_keys",
        "overflow",
        "path",
        "place",
        "probe",
        "queue",
        "queue_delay",
        "service",
        "shed",
        "spec",
        "streak",
        "subscriptions",
        "takes_context",
        "task_name",
        "threads",
        "timeouts",
    )

    def __init__(
        self, spec: Handler, service: HostedService, expired: Callable[[Any], None]
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.task_name = f"thence {spec.name}"
        self.place = f"{service.name}.{spec.name}"
        self.path = Path(None, self.place)
        """The path to the consequences of root events."""
        self.service = service
        self.threads = _threads_for(spec)
        self.call: Callable[..., Coroutine[Any, Any, Any]] = spec.run_in(self.threads)
        self.takes_context = spec.takes_context
        self.declared = declared_consequences(spec)
        self.budget = spec.policy.budget
        self.concurrency = spec.policy.concurrency
        self.queue = spec.policy.queue
        self.timeouts: Timeouts[Any] = Timeouts(
            asyncio.get_running_loop(), spec.policy.timeout, expired
        )
        self.subscriptions: list[Subscription] = []
        self.gates = [service.make_gate(limit) for limit in spec.policy.limits]
        """Its own limits, apart from its service's."""
        self.gate: Gate | None = None
        """What each start has to pass."""
        self.overflow = spec.policy.overflow
        target = spec.policy.queue_target
        self.queue_delay = None if target is None else QueueDelay(target)
        """How long events may wait in line."""
        self.breaker = Breaker()
        self.batch = spec.policy.batch
        self.is_plain = False
        """Whether all that its arrivals need to begin is a free place."""
        self.open_batch: list[Arrival] = []
        """The batch that is being filled. It has its place already."""
        self.open_keys: set[Hashable] = set()
        """The keys in it."""
        self.batch_timer: asyncio.TimerHandle | None = None
        self.batch_due = 0.0
        """When that rings."""
        self.line: Line = PlainLine()
        self.alarm: asyncio.Handle | None = None
        """Rings when the line may move on."""
        self.in_flight = 0
        self.always_suspends = spec.suspends
        self.streak = PROBE_AFTER if spec.suspends else 0
        """Suspensions in a row, up to where a task is given from the start."""
        self.probe = 0
        self.accounts: list[Account] = []
        """One for each type of event."""
        self.loops = 0
        """Arrivals that came back to it more often than it allows, whatever became of them."""
        self.shed: Counter[str] = Counter()
        self.assemble()

    @property
    def handled(self) -> int:
        """Events whose runs have ended well."""
        return sum(account.handled for account in self.accounts)

    @property
    def failed(self) -> int:
        """Events whose runs have failed."""
        return sum(account.failed for account in self.accounts)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Its own limits, apart from its service's."""
        return tuple(gate.limit for gate in self.gates)

    def set_limits(self, limits: Sequence[Limit], now: float) -> None:
        """Hold these limits from now on. Where only a rate changes nothing is gained by the change itself."""
        self.gates = changed_gates(self.gates, limits, now, self.service.make_gate)
        self.assemble()

    def assemble(self) -> None:
        """Put together what the handler's and the service's limits ask for; who waits goes on waiting."""
        gates = [*self.gates, *self.service.gates]
        self.gate = Gate(gates) if gates else None
        waiting, self.line = self.line, _line_for(self.gate)
        while waiting.size:
            self.line.append(waiting.pop(0.0), 0.0)
        self._refresh()

    @property
    def backlog(self) -> int:
        """Arrivals that wait, in line or in their lanes."""
        return self.line.size + sum(subscription.waiting for subscription in self.subscriptions)

    @property
    def has_place(self) -> bool:
        """Whether the bounds of runs in flight, its own and its service's, let one more begin."""
        service = self.service
        return bool(self.open_batch) or (
            self.in_flight < self.concurrency
            and (service.concurrency is None or service.in_flight < service.concurrency)
        )

    def take_place(self) -> None:
        """One more run is in flight, or about to be."""
        self.in_flight += 1
        self.service.in_flight += 1

    def leave_place(self) -> None:
        """One less is."""
        self.in_flight -= 1
        self.service.in_flight -= 1

    def admit(self, arrival: Arrival, now: float) -> float:
        """Let the arrival start as far as the limits go (0.0), or tell how many seconds it is too early."""
        assert self.gate is not None
        return self.gate.admit(arrival.body, arrival.source.label, now)

    def refusal(self, arrival: Arrival, now: float) -> tuple[str, float]:
        """Why the limits would refuse the arrival, and for how many seconds; "" and 0.0 if they would not."""
        if self.gate is None:
            return "", 0.0
        wait = self.gate.wait(arrival.body, arrival.source.label, now)
        return (self.gate.reason if wait else ""), wait

    def postpone_first(self, until: float) -> None:
        """The limits have refused the first in line: until then nobody may go, or none of its kind."""
        assert self.gate is not None
        if self.gate.refused_by.limit.per is None:
            self.line.hold(until)
        else:
            self.line.postpone(until)

    @property
    def wants_task(self) -> bool:
        """Whether to give the next run a task of its own: it will suspend anyway. Every 64th is a probe."""
        if self.streak < PROBE_AFTER:
            return False
        self.probe += 1
        return self.always_suspends or bool(self.probe & 63)

    def note_failure(self, now: float) -> bool:
        """A run has failed. Whether the breaker has opened by that."""
        opened = self.breaker.failed(self.handled, now)
        if opened:
            self._refresh()
        return opened

    def note_recovery(self) -> None:
        """A run has ended well that was a probe of the breaker."""
        if self.breaker.succeeded():
            self._refresh()

    def _refresh(self) -> None:
        for subscription in self.subscriptions:
            subscription.refresh()

    def suspended(self) -> None:
        """A run that was stepped by hand has suspended."""
        if self.streak < PROBE_AFTER:
            self.streak += 1
            if self.streak == PROBE_AFTER:
                self._refresh()

    def went_through(self) -> None:
        """A run has ended without suspending, after others that had not."""
        self.streak = 0
        self._refresh()

    def close(self) -> None:
        """Let go of timers and threads; a thread that is still at work ends when its function does."""
        self.timeouts.close()
        if self.threads is not None:
            self.threads.shutdown(wait=False)


def _threads_for(spec: Handler) -> ThreadPoolExecutor | None:
    """Threads enough for every run in flight, so that a run that was let in does begin."""
    if not spec.suspends:
        return None
    return ThreadPoolExecutor(spec.policy.concurrency, f"thence {spec.name}")


def _line_for(gate: Gate | None) -> Line:
    keyed = [g.limit for g in gate.gates if g.limit.per is not None] if gate is not None else []
    if not keyed:
        return PlainLine()
    functions = [function for limit in keyed if (function := key_function(limit)) is not None]

    def key_of(arrival: Arrival) -> Hashable:
        label = arrival.source.label
        return tuple(function(arrival.body, label) for function in functions)

    return FairLine(key_of)


class Subscription:
    """One type of event that a hosted service wants, and the handlers it goes to."""

    __slots__ = (
        "account",
        "accounts",
        "acknowledge_at",
        "answers",
        "arrival",
        "broadcast",
        "direct",
        "done",
        "event",
        "handlers",
        "key",
        "key_in",
        "newest",
        "number",
        "patience",
        "plain_handler",
        "priority",
        "service",
        "several",
        "spreading",
        "waiting",
        "what",
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
        self.accounts = {handler: Account(event.name) for handler in handlers}
        self.account = self.accounts[handlers[0]]
        """The first handler's, which mostly is the only one."""
        self.what = event.name, handlers[0].place
        """What the recorder is told of a run, where there is one handler."""
        shows_key = event.key is not None and event.key not in event.private
        self.key_in = attrgetter(f"body.{event.key}") if shows_key else None
        """What gets the key that the recorder is told out of an arrival."""
        self.broadcast = broadcast
        self.spreading = tuple(handler for handler in handlers if handler.declared)
        """The handlers that may emit something."""
        self.several = len(handlers) > 1
        self.key = event.key
        self.window = min(handler.queue for handler in handlers)
        self.acknowledge_at = max(1, self.window // 4)
        self.arrival = envelope_for(event.type, number, self)
        self.priority = PRIORITIES.index(event.policy.priority)
        """0 is the highest."""
        self.answers = any(handler.overflow == "reject" for handler in handlers)
        """Whether emitters are told of each event if it was let in."""
        delays = [h.queue_delay for h in handlers]
        self.patience = (
            2 * max(d.target for d in delays if d is not None) if None not in delays else None
        )
        """Seconds after which it is pointless that an event goes on waiting to get here."""
        latest = all(handler.overflow == "latest" for handler in handlers)
        self.newest: dict[Hashable, Arrival] | None = {} if latest else None
        """By key, the arrival that waits and will give way to a newer one."""
        self.waiting = 0
        """Arrivals that wait for their lane."""
        self.done = 0
        """Arrivals of the current batch that have ended."""
        self.direct: HostedHandler | None = None
        """The handler, when arrivals may go straight to it as long as nothing in the service is unfinished."""
        self.plain_handler: HostedHandler | None = None
        """The handler, when all that an arrival needs to begin is a free place."""
        for handler in handlers:
            handler.subscriptions.append(self)
            handler.accounts.append(self.accounts[handler])
        self.refresh()

    def key_of(self, arrival: Arrival) -> Hashable:
        """The value that orders the arrival among others; only for events with a key."""
        assert self.key is not None
        key: Hashable = getattr(arrival.body, self.key)
        return key

    @property
    def owned(self) -> bool:
        """Whether a replica must hold a key's block to handle this."""
        return self.key is not None and not self.broadcast

    def refresh(self) -> None:
        """Something that decides about :attr:`direct` has changed."""
        ownership = self.service.ownership
        handler = self.handlers[0]
        simple = (
            len(self.handlers) == 1
            and handler.breaker.state == "closed"
            and handler.batch is None
            and handler.queue_delay is None
            and not self.answers
            and self.newest is None
            and self.event.policy.ttl is None
        )
        owns_all = not self.owned or (ownership is not None and ownership.complete)
        self.direct = handler if simple and owns_all and handler.streak < PROBE_AFTER else None
        self.plain_handler = handler if simple and handler.gate is None else None
        for one in self.handlers:
            one.is_plain = all(s.plain_handler is one for s in one.subscriptions)


class HostedService:
    """One service of this node."""

    __slots__ = (
        "concurrency",
        "fences",
        "gates",
        "handlers",
        "in_flight",
        "lanes",
        "make_gate",
        "name",
        "ownership",
        "state",
        "subscriptions",
        "unfinished",
    )

    def __init__(
        self,
        name: str,
        concurrency: int | None,
        limits: Sequence[Limit] = (),
        make_gate: Callable[[Limit], RateGate] = gate_for,
    ) -> None:
        self.name = name
        self.state: Any = None
        self.make_gate = make_gate
        self.gates = [make_gate(limit) for limit in limits]
        """The service's own limits, which all its handlers share."""
        self.concurrency = concurrency
        self.in_flight = 0
        self.handlers: list[HostedHandler] = []
        self.subscriptions: list[Subscription] = []
        self.lanes: Lanes[Arrival] = Lanes()
        self.unfinished: dict[Arrival, int] = {}
        """Arrivals that did not end within their batch, and how many of their handlers are still to end."""
        self.ownership: Ownership | None = None
        self.fences: list[tuple[set[Arrival], Callable[[], None]]] = []

    def set_limits(self, limits: Sequence[Limit], now: float) -> None:
        """Hold these limits, over all its handlers together, from now on."""
        self.gates = changed_gates(self.gates, limits, now, self.make_gate)
        for handler in self.handlers:
            handler.assemble()

    def refresh(self) -> None:
        """The blocks held have changed."""
        for subscription in self.subscriptions:
            subscription.refresh()
