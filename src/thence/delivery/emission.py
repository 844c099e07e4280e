"""From ``emit`` to the outlets: validate, number, and put the event where its services are.

Root emits wait for room; what a handler emits never waits, because handlers that wait for each other's
services would be a wait cycle. What finds no room is counted and named in the receipt.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
from collections import Counter
from collections.abc import Callable
from sys import getrefcount
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from thence.budget import Budget
from thence.cascade.credits import CUT, divide, part
from thence.cascade.loops import Paths
from thence.cascade.settlement import Branch
from thence.clock import stopwatch
from thence.delivery.conflation import Conflation
from thence.delivery.hosted import HostedHandler
from thence.delivery.outlets import EMIT_PATIENCE, Outlet, Verdict
from thence.delivery.patience import Choice, GivenUp, PatientEmit
from thence.delivery.reasons import (
    CASCADE_EXPIRED,
    CLOSING,
    CUT_BY_DEPTH,
    CUT_BY_EVENTS,
    EXPIRED,
    REPLACED,
    kind_of,
)
from thence.delivery.receipts import Receipt, Refusal, Sending
from thence.delivery.routes import RouteTable
from thence.delivery.targets import Route, Target
from thence.delivery.tracking import UNKEPT, Tracker
from thence.errors import RateLimited, SchemaMismatch, ThenceError, UndeclaredEvent
from thence.events import Event, spec_of
from thence.events.envelope import DEFAULT, Arrival, due_of, full_lineage_of
from thence.events.lineage import Lineage
from thence.facts import Observer
from thence.identifiers import EventId
from thence.mesh.cork import Cork

__all__ = ["Emitter", "undeclared"]

BURST = 256
"""Events emitted after which a root emit lets the loop go round, and one may be tracked as a sample."""


class Emission(Struct, eq=False):
    """An event on its way to its outlets, where that takes more than sending it."""

    route: Route
    payload: bytes
    body: Event
    lineage: Lineage | None
    credits: int
    """Handler starts that it may cause, all together."""
    branch: Branch | None = None
    """What it is a consequence of, if that is tracked."""
    sent: int = 0
    """Milliseconds of the node's stopwatch, for a type with a time to live."""
    sequence: int = 0
    asks: bool = False
    """Whether somebody waits to be told if it was let in."""

    def track(self, sequence: int, branch: Branch) -> None:
        """``branch`` waits for the end of this root event, which is kept back."""
        self.branch = branch


class Emitter:
    """Everything that one node emits."""

    def __init__(
        self, node: str, table: RouteTable, cork: Cork, tracker: Tracker, paths: Paths
    ) -> None:
        self.observer: Observer | None = None
        self.refused: Counter[tuple[str, str, str]] = Counter()
        """What was not sent: by event, service (empty if it was meant for nobody yet) and reason."""
        self.lossy: Callable[[], None] = lambda: None
        """Called when something was not sent."""
        self.tracker = tracker
        self._node = node
        self._table = table
        self._cork = cork
        self._paths = paths
        self._routes = table.routes
        self._sequence = 0
        self._loop = asyncio.get_running_loop()
        self._now = stopwatch(self._loop)
        self._conflation: Conflation[Emission] = Conflation(self._release)
        self._asked: dict[int, list[tuple[str, asyncio.Future[Verdict]]]] = {}
        """By sequence number, the services that will say whether they let an event in."""

    # -- roots

    async def emit_root(self, event: Event, budget: Budget | None = None) -> Receipt:
        """Emit an event that nothing caused. Waits while a receiver has no room."""
        route = self._routes.get(event.__class__) or self._table.route(spec_of(event.__class__))
        payload, body = route.seal(event)
        if budget is None and self._put_root(route, payload, body):
            receipt = Receipt(self._sequence, route.sending)
            tracker = self.tracker
            if getrefcount(tracker.last) > UNKEPT:
                tracker.keep_last()
            tracker.last = receipt
        else:
            receipt = await self._emit_patiently(route, payload, body, budget)
        if self._cork.alone:
            self.tracker.decide_on(receipt, sys._getframe(1))
            self._cork.flush()
        if not receipt.sequence % BURST:
            self.tracker.sample(receipt)
            self.tracker.decide_on(receipt, sys._getframe(1))
            # A loop of emits that never has to wait would keep everything else from running.
            await asyncio.sleep(0)
        return receipt

    def _put_root(self, route: Route, payload: bytes, body: Event) -> bool:
        """Send, if there is no choice to make and room everywhere: whether that was so."""
        outlet = route.root_outlet
        if outlet is not None:
            if outlet.room <= 0:
                return False
            self._sequence = sequence = self._sequence + 1
            outlet.room -= 1
            outlet.send_root(sequence, payload, body)
        else:
            outlets = route.root_outlets
            if outlets is None:
                return False
            for outlet in outlets:
                if outlet.room <= 0:
                    return False
            self._sequence = sequence = self._sequence + 1
            for outlet in outlets:
                outlet.room -= 1
                outlet.send_root(sequence, payload, body)
            if not outlets:
                route.unheard += 1
        route.emitted += 1
        if self.observer is not None:
            self._note_emitted(route, sequence, None, len(payload), len(route.targets))
        return True

    async def _emit_patiently(
        self, route: Route, payload: bytes, body: Event, budget: Budget | None
    ) -> Receipt:
        budget = budget or self._table.budget
        lineage = None
        if (budget.depth, budget.seconds) != (DEFAULT.depth, DEFAULT.seconds):
            deadline = self._now() + budget.seconds
            lineage = Lineage(None, "", 0, "", 0, deadline, budget.depth)
        emission = self._emission(route, payload, body, lineage, budget.events, asks=True)
        kept = self._kept_back(emission)
        if kept is not None:
            return kept
        chosen = self._choose(route, body, {})
        if all(outlet.room > 0 for _, outlet in chosen):
            receipt = self._send(emission, chosen, {})
        else:
            waiting = PatientEmit(
                lambda given_up: self._choose(route, body, given_up),
                lambda choice, given_up: self._send(emission, choice, given_up, leaves_now=True),
            )
            try:
                receipt = await waiting.sent
            except asyncio.CancelledError:
                waiting.withdraw()
                raise
        if receipt.sequence in self._asked:
            if receipt.root is None:
                self.tracker.track(receipt)
            self._cork.release()
            receipt = await self._judged(receipt)
        return _heeded(route, receipt)

    async def _judged(self, receipt: Receipt) -> Receipt:
        """The receipt, when all receivers that tell have told whether they let the event in."""
        asked = self._asked.pop(receipt.sequence)
        await asyncio.wait([answer for _, answer in asked], timeout=EMIT_PATIENCE)
        taken = set[str]()
        refusals: dict[str, Refusal] = {}
        for service, answer in asked:
            verdict = answer.result() if answer.done() else Verdict("", 0.0)
            if not verdict.reason:
                taken.add(service)
            else:
                retry_after = verdict.wait if math.isfinite(verdict.wait) else None
                refusals[service] = Refusal(service, verdict.reason, retry_after)
        refused = tuple(r for service, r in refusals.items() if service not in taken)
        names = {one.service for one in refused}
        targets = tuple(service for service in receipt.targets if service not in names)
        sending = receipt.sending
        receipt.sending = replace(sending, targets=targets, refused=sending.refused + refused)
        return receipt

    # -- consequences

    async def emit_joined(
        self, event: Event, handler: HostedHandler, arrival: Arrival, budget: Budget | None = None
    ) -> Receipt:
        """Emit an event out of the running handler of ``arrival``, at once, as a part of its cascade.

        It may cause half of what the handler may, if it can cause anything.

        :raises UndeclaredEvent: the handler does not declare its type.
        """
        if event.__class__ not in handler.declared:
            raise undeclared(event, handler)
        route, payload, body = self._sealed(event)
        lineage = self._lineage_below(handler, arrival, budget)
        chosen = self._choose(route, body, {})
        starts = sum(outlet.starts for _, outlet in chosen)
        left = self.credits_of(handler, arrival)
        spreads = any(outlet.spreads for _, outlet in chosen)
        credits = min(left, starts + (max(0, left - starts) // 2 if spreads else 0))
        self._leave(handler, arrival, left - credits)
        if budget is not None:
            credits = min(credits, budget.events)
        emission = self._emission(route, payload, body, lineage, credits, arrival.record)
        receipt = self._kept_back(emission)
        if receipt is None:
            receipt = self._send(emission, chosen, {})
            self._cork.release()
        receipt.sending = replace(receipt.sending, tracker=None, deliveries=())
        return _heeded(route, receipt)

    def emit_consequences(
        self, handler: HostedHandler, arrival: Arrival, result: Any, context: Any
    ) -> None:
        """Emit what a successful run returned, and what it gave its context: all, or nothing.

        :raises UndeclaredEvent: one of the types is not declared.
        :raises InvalidEvent: one of the events is not valid.
        :raises PayloadTooLarge: one of them is too large.
        """
        if result.__class__ in handler.declared and (context is None or not context.emitted):
            # By far the most frequent case: one event.
            route = self._routes.get(result.__class__) or self._table.route(
                spec_of(result.__class__)
            )
            payload, body = route.seal(result)
            lineage = self._lineage_below(handler, arrival)
            credits = self.credits_of(handler, arrival)
            self._leave(handler, arrival, 0)
            if arrival.record is not None or not self._put(route, payload, body, lineage, credits):
                self._send_consequence(route, payload, body, lineage, credits, arrival.record)
        else:
            sealed = self._sealed_all(handler, result, context)
            if sealed:
                self._emit_all(handler, arrival, sealed)
        self._cork.release()

    def _emit_all(
        self, handler: HostedHandler, arrival: Arrival, sealed: list[tuple[Route, bytes, Event]]
    ) -> None:
        lineage = self._lineage_below(handler, arrival)
        needs: list[tuple[int, bool]] = []
        ends: list[int] = []
        for route, _, body in sealed:
            needs += route.needs or [
                (outlet.starts, outlet.spreads) for _, outlet in self._choose(route, body, {})
            ]
            ends.append(len(needs))
        shares = divide(self.credits_of(handler, arrival), needs)
        self._leave(handler, arrival, 0)
        began = 0
        for (route, payload, body), end in zip(sealed, ends, strict=True):
            credits = sum(
                needs[i][0] + shares[i] for i in range(began, end) if shares[i] is not CUT
            )
            began = end
            if arrival.record is not None or not self._put(route, payload, body, lineage, credits):
                self._send_consequence(route, payload, body, lineage, credits, arrival.record)

    def _send_consequence(
        self,
        route: Route,
        payload: bytes,
        body: Event,
        lineage: Lineage,
        credits: int,
        branch: Branch | None,
    ) -> None:
        emission = self._emission(route, payload, body, lineage, credits, branch)
        # Beyond the limit of its type it is counted; the handler has done nothing wrong.
        with contextlib.suppress(RateLimited):
            if self._kept_back(emission) is None:
                self._send(emission, self._choose(route, body, {}), {})

    def _put(
        self, route: Route, payload: bytes, body: Event, lineage: Lineage, credits: int
    ) -> bool:
        """Send, if there is no choice to make, room everywhere, and enough of the budget: whether that was so."""
        if lineage.depth > lineage.max_depth:
            return False
        outlet = route.single
        if outlet is not None:
            credits -= outlet.starts
            if outlet.room <= 0 or credits < 0:
                return False
            self._sequence = sequence = self._sequence + 1
            outlet.room -= 1
            outlet.send(sequence, payload, body, lineage, credits if outlet.spreads else 0)
        else:
            outlets = route.outlets
            if outlets is None:
                return False
            for outlet in outlets:
                if outlet.room <= 0:
                    return False
            shares = divide(credits, route.needs)
            if CUT in shares:
                return False
            self._sequence = sequence = self._sequence + 1
            for outlet, share in zip(outlets, shares, strict=True):
                outlet.room -= 1
                outlet.send(sequence, payload, body, lineage, share)
            if not outlets:
                route.unheard += 1
        route.emitted += 1
        if self.observer is not None:
            self._note_emitted(route, sequence, lineage, len(payload), len(route.targets))
        return True

    def credits_of(self, handler: HostedHandler, arrival: Arrival) -> int:
        """How many handler starts a run of that handler may cause, apart from those that it has paid for."""
        left: dict[HostedHandler, int] | None = arrival.left
        if left is not None and handler in left:
            return left[handler]
        spreading = arrival.subscription.spreading
        if handler not in spreading:
            return 0
        credits = arrival.credits
        if len(spreading) > 1:
            credits = part(credits, spreading.index(handler), len(spreading))
        budget = handler.budget
        return credits if budget is None else min(credits, budget.events)

    def _leave(self, handler: HostedHandler, arrival: Arrival, credits: int) -> None:
        """A run has paid for what it emits, and may cause so much more: also after its end, if a task of it
        is still at work.
        """
        if arrival.left is not None:
            arrival.left[handler] = credits
        elif credits or arrival.subscription.several:
            arrival.left = {handler: credits}
        else:
            arrival.credits = 0

    def _lineage_below(
        self, handler: HostedHandler, arrival: Arrival, budget: Budget | None = None
    ) -> Lineage:
        """The lineage of a consequence of the event that arrived."""
        node, sequence = arrival.source.node, arrival.sequence
        above = full_lineage_of(arrival)
        root_node, root_sequence = node, sequence
        max_depth = DEFAULT.depth
        if above is None:
            path = self._paths.below(None, handler.place)
            deadline = due_of(arrival)
        else:
            path = self._paths.below(above.path, handler.place)
            deadline, max_depth = above.deadline, above.max_depth
            if above.path is not None:
                root_node, root_sequence = above.root_node, above.root_sequence
        if budget is not None or handler.budget is not None:
            for one in filter(None, (handler.budget, budget)):
                deadline = min(deadline, self._now() + one.seconds)
                max_depth = min(max_depth, path.depth - 1 + one.depth)
        return Lineage(path, node, sequence, root_node, root_sequence, deadline, max_depth)

    def _sealed_all(
        self, handler: HostedHandler, result: Any, context: Any
    ) -> list[tuple[Route, bytes, Event]]:
        events: tuple[Event, ...] = () if context is None else tuple(context.emitted)
        if isinstance(result, Event):
            events = (*events, result)
        elif result is not None:
            events = (*events, *_events_of(result, handler))
        for event in events:
            if event.__class__ not in handler.declared:
                raise undeclared(event, handler)
        return [self._sealed(event) for event in events]

    def _sealed(self, event: Event) -> tuple[Route, bytes, Event]:
        route = self._routes.get(event.__class__) or self._table.route(spec_of(event.__class__))
        return (route, *route.seal(event))

    # -- both

    def _note_emitted(
        self, route: Route, sequence: int, lineage: Lineage | None, size: int, targets: int
    ) -> None:
        assert self.observer is not None
        if lineage is not None and lineage.path is None:
            lineage = None
        event_id = EventId(self._node, sequence)
        self.observer.emitted(event_id, lineage, route.spec.name, size, targets)

    def _choose(self, route: Route, body: Event, given_up: GivenUp) -> list[tuple[Target, Outlet]]:
        chosen: list[tuple[Target, Outlet]] = []
        for target in route.targets:
            if target in given_up:
                continue
            if target.broadcast:
                chosen.extend(
                    (target, outlet) for outlet in target.candidates if outlet not in given_up
                )
                continue
            outlet = target.only or target.choose(body)
            if outlet is not None:
                chosen.append((target, outlet))
        return chosen

    def _emission(
        self,
        route: Route,
        payload: bytes,
        body: Event,
        lineage: Lineage | None,
        credits: int,
        branch: Branch | None = None,
        *,
        asks: bool = False,
    ) -> Emission:
        sent = 0 if route.spec.policy.ttl is None else max(1, int(self._now() * 1000))
        return Emission(route, payload, body, lineage, credits, branch, sent, asks=asks)

    def _kept_back(self, emission: Emission) -> Receipt | None:
        """None if the limit of its type lets the event go; a receipt if it waits and may give way to another.

        :raises RateLimited: it is refused.
        """
        route = emission.route
        if route.gate is None:
            return None
        policy = route.spec.policy
        early = route.gate.admit(emission.body, "", self._now())
        if policy.overflow == "latest":
            key = (route.spec.name, route.spec.key_of(emission.body))
            replaced = self._conflation.take(key)
            if replaced is not None:
                self._count(route.spec.name, "", REPLACED)
                _close_kept(replaced, REPLACED)
            if not early:
                return None
            self._sequence = emission.sequence = self._sequence + 1
            emission.asks = False
            if self._conflation.keep(key, emission, early):
                if emission.branch is not None:
                    emission.branch.grows()
                sending = Sending(self._node, route.services, (emission,), self.tracker)
                return Receipt(emission.sequence, sending)
        elif not early:
            return None
        reason = route.gate.reason
        self._count(route.spec.name, "", reason)
        if emission.branch is not None:
            emission.branch.refused("shed")
        raise RateLimited(
            f"event {route.spec.name!r} is beyond the limit of its type ({reason}): emit it again in "
            f"{early:.3g} s, emit fewer, or raise limit= of the class",
            early,
        )

    def _release(self, emission: Emission) -> float:
        """Send what was kept back, or tell in how many seconds to try again."""
        route = emission.route
        assert route.gate is not None
        early = route.gate.admit(emission.body, "", self._now())
        if not early:
            branch = emission.branch
            self._send(emission, self._choose(route, emission.body, {}), {})
            self._cork.release()
            if branch is not None:
                branch.part_ended()
        return early

    def stop(self) -> None:
        """Send nothing more that was kept back."""
        for emission in self._conflation.close():
            self._count(emission.route.spec.name, "", CLOSING)
            _close_kept(emission, CLOSING)

    def _send(
        self, emission: Emission, chosen: Choice, given_up: GivenUp, *, leaves_now: bool = False
    ) -> Receipt:
        """Put an event into its outlets, as far as that may be; ``leaves_now``: there is no time to decide
        whether it is tracked.
        """
        route, lineage, branch = emission.route, emission.lineage, emission.branch
        sequence = emission.sequence
        if not sequence:
            self._sequence = sequence = self._sequence + 1
        reached: list[str] = []
        deliveries: list[Outlet] = []
        reasons: dict[str, str] = {
            (one.target if isinstance(one, Outlet) else one).service: reason
            for one, reason in given_up.items()
        }
        asked: list[tuple[str, asyncio.Future[Verdict]]] = []
        waits: dict[str, float] = {}
        objection = self._objection(emission)
        needs = [(outlet.starts, outlet.spreads) for _, outlet in chosen]
        for (target, outlet), share in zip(chosen, divide(emission.credits, needs), strict=True):
            service = target.service
            if objection:
                reasons[service] = objection
            elif share == CUT:
                reasons[service] = CUT_BY_EVENTS
            elif outlet.advice is not None and (
                early := outlet.advice.wait(emission.body, self._now())
            ):
                reasons[service] = outlet.advice.reason
                if outlet.answers:
                    waits[service] = early
            elif outlet.room > 0:
                outlet.room -= 1
                if branch is not None:
                    branch.grows()
                    outlet.children[sequence] = branch
                outlet.send(
                    sequence,
                    emission.payload,
                    emission.body,
                    lineage,
                    share,
                    branch is not None,
                    emission.sent,
                )
                deliveries.append(outlet)
                if service not in reached:
                    reached.append(service)
                if emission.asks and outlet.answers:
                    answer: asyncio.Future[Verdict] = self._loop.create_future()
                    outlet.asked[sequence] = answer
                    asked.append((service, answer))
            else:
                reasons[service] = "no room"
        if asked:
            self._asked[sequence] = asked
        for target in route.targets:
            if target.service not in reached:
                reasons.setdefault(
                    target.service, route.refusals.get(target.service, "no replica can be reached")
                )
        for service, reason in reasons.items():
            self._count(route.spec.name, service, _label(reason, route))
            if branch is not None:
                branch.refused(kind_of(reason))
        route.emitted += 1
        if not route.targets:
            route.unheard += 1
        if self.observer is not None:
            self._note_emitted(route, sequence, lineage, len(emission.payload), len(reached))
            for service, reason in reasons.items():
                event_id = EventId(self._node, sequence)
                self.observer.refused(event_id, lineage, route.spec.name, service, reason)
        refused = tuple(
            Refusal(service, reason, waits.get(service)) for service, reason in reasons.items()
        )
        sending = Sending(self._node, tuple(reached), tuple(deliveries), self.tracker, refused)
        receipt = Receipt(sequence, sending)
        if leaves_now:
            self.tracker.track(receipt)
            self._cork.release()
        elif branch is None:
            self.tracker.fresh.append(receipt)
        return receipt

    def _objection(self, emission: Emission) -> str:
        """Why an event should not be sent at all any more."""
        lineage, ttl = emission.lineage, emission.route.spec.policy.ttl
        if ttl is not None and self._now() >= emission.sent / 1000 + ttl:
            return EXPIRED
        if lineage is not None:
            if lineage.depth > lineage.max_depth:
                return CUT_BY_DEPTH
            if self._now() >= lineage.deadline:
                return CASCADE_EXPIRED
        return ""

    def _count(self, event: str, service: str, reason: str) -> None:
        self.refused[event, service, reason] += 1
        self.lossy()


def _close_kept(emission: Emission, reason: str) -> None:
    """What was kept back is not sent."""
    if emission.branch is not None:
        emission.branch.refused(kind_of(reason))
        emission.branch.part_ended()


def _heeded(route: Route, receipt: Receipt) -> Receipt:
    """The receipt, unless all who want the event have refused it, or understand something else by it.

    Only whoever awaits an emit is told so. The consequences of a handler leave all or none: there is nobody
    to tell when one of several finds no taker, and no reason to call the handler failed.
    """
    if (
        route.refusals
        and not receipt.targets
        and all(r.service in route.refusals for r in receipt.refused)
    ):
        raise SchemaMismatch("; ".join(route.refusals.values()))
    waits = [one.retry_after for one in receipt.refused if one.retry_after is not None]
    if waits and not receipt.targets:
        reasons = "; ".join(f"{one.service}: {one.reason}" for one in receipt.refused)
        raise RateLimited(
            f"event {route.spec.name!r} was refused by all who want it ({reasons}): emit it again in "
            f"{min(waits):.3g} s, or emit fewer",
            min(waits),
        )
    return receipt


def _label(reason: str, route: Route) -> str:
    """A reason that is short enough to count by."""
    return "schema" if reason in route.refusals.values() else reason


def _events_of(result: Any, handler: HostedHandler) -> tuple[Event, ...]:
    if isinstance(result, str | bytes) or not hasattr(result, "__iter__"):
        raise UndeclaredEvent(
            f"handler {handler.name!r} of service {handler.service.name!r} returned "
            f"{type(result).__name__}: a handler returns an event, an iterable of events, or None"
        )
    events = tuple(event for event in result if event is not None)
    for event in events:
        if not isinstance(event, Event):
            raise UndeclaredEvent(
                f"handler {handler.name!r} of service {handler.service.name!r} returned an iterable "
                f"with {type(event).__name__} in it: it may hold events only"
            )
    return events


def undeclared(event: Event, handler: HostedHandler) -> ThenceError:
    """The error for an event that its handler does not declare."""
    name = type(event).__name__
    declared = ", ".join(sorted(one.__name__ for one in handler.declared)) or "no events"
    return UndeclaredEvent(
        f"handler {handler.name!r} of service {handler.service.name!r} emitted {name}, but declares {declared}: "
        f"name it in the return annotation (-> {name}) or in emits=[{name}]"
    )
