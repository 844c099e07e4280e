"""From ``emit`` to the outlets: validate, number, and put the event where its services are.

Root emits wait for room; what a handler emits never waits, because handlers that wait for each other's
services would be a wait cycle. What finds no room is counted and named in the receipt.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from thence.clock import stopwatch
from thence.delivery.conflation import Conflation
from thence.delivery.hosted import HostedHandler
from thence.delivery.outlets import EMIT_PATIENCE, REPLACED, Outlet, Verdict
from thence.delivery.patience import Choice, GivenUp, PatientEmit
from thence.delivery.routes import RouteTable
from thence.delivery.targets import Route, Target
from thence.errors import RateLimited, SchemaMismatch, ThenceError, UndeclaredEvent
from thence.events import Event, spec_of
from thence.events.envelope import Arrival, lineage_below
from thence.events.lineage import Lineage
from thence.facts import Observer
from thence.identifiers import EventId

__all__ = ["Emitter", "Receipt", "Refusal", "undeclared"]

BURST = 256
"""Events emitted after which a root emit lets the loop go round."""


class Refusal(Struct, frozen=True):
    """A service that did not get an event, and why."""

    service: str
    reason: str
    retry_after: float | None = None
    """Seconds after which a limit might let it in."""


class Receipt(Struct, frozen=True, gc=False):
    """What became of an event when it was emitted. It says *accepted*, never *handled*."""

    node: str
    sequence: int
    targets: tuple[str, ...]
    """The services that it is on its way to."""
    refused: tuple[Refusal, ...] = ()
    """Services that want it and did not get it."""

    @property
    def event_id(self) -> str:
        """The event's identifier, 32 hexadecimal digits."""
        return str(EventId(self.node, self.sequence))


class Emission(Struct, eq=False):
    """An event on its way to its outlets, where that takes more than sending it."""

    route: Route
    payload: bytes
    body: Event
    lineage: Lineage | None
    sent: int = 0
    """Milliseconds of the node's stopwatch, for a type with a time to live."""
    sequence: int = 0
    asks: bool = False
    """Whether somebody waits to be told if it was let in."""


class Emitter:
    """Everything that one node emits."""

    def __init__(self, node: str, table: RouteTable) -> None:
        self.observer: Observer | None = None
        self.refused: Counter[tuple[str, str, str]] = Counter()
        """What was not sent: by event, service (empty if it was meant for nobody yet) and reason."""
        self.lossy: Callable[[], None] = lambda: None
        """Called when something was not sent."""
        self._node = node
        self._table = table
        self._routes = table.routes
        self._sequence = 0
        self._loop = asyncio.get_running_loop()
        self._now = stopwatch(self._loop)
        self._conflation: Conflation[Emission] = Conflation(self._release)
        self._asked: dict[int, list[tuple[str, asyncio.Future[Verdict]]]] = {}
        """By sequence number, the services that will say whether they let an event in."""

    # -- roots

    async def emit_root(self, event: Event) -> Receipt:
        """Emit an event that nothing caused. Waits while a receiver has no room."""
        route = self._routes.get(event.__class__) or self._table.route(spec_of(event.__class__))
        payload, body = route.seal(event)
        if self._put(route, payload, body, None):
            receipt = Receipt(self._node, self._sequence, route.services)
        else:
            receipt = await self._emit_patiently(route, payload, body)
        if not receipt.sequence % BURST:
            # A loop of emits that never has to wait would keep everything else from running.
            await asyncio.sleep(0)
        return receipt

    async def _emit_patiently(self, route: Route, payload: bytes, body: Event) -> Receipt:
        emission = self._emission(route, payload, body, None, asks=True)
        kept = self._kept_back(emission)
        if kept is not None:
            return kept
        chosen = self._choose(route, body, {})
        if all(outlet.room > 0 for _, outlet in chosen):
            receipt = self._send(emission, chosen, {})
        else:
            waiting = PatientEmit(
                lambda given_up: self._choose(route, body, given_up),
                lambda choice, given_up: self._send(emission, choice, given_up),
            )
            try:
                receipt = await waiting.sent
            except asyncio.CancelledError:
                waiting.withdraw()
                raise
        if receipt.sequence in self._asked:
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
        return Receipt(receipt.node, receipt.sequence, targets, receipt.refused + refused)

    # -- consequences

    async def emit_joined(self, event: Event, arrival: Arrival) -> Receipt:
        """Emit an event out of the running handler of ``arrival``, at once, as a part of its cascade."""
        route, payload, body = self._sealed(event)
        lineage = lineage_below(arrival)
        if self._put(route, payload, body, lineage):
            return Receipt(self._node, self._sequence, route.services)
        emission = self._emission(route, payload, body, lineage)
        kept = self._kept_back(emission)
        return kept or _heeded(route, self._send(emission, self._choose(route, body, {}), {}))

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
            lineage = lineage_below(arrival)
            if not self._put(route, payload, body, lineage):
                self._send_consequence(route, payload, body, lineage)
            return
        sealed = self._sealed_all(handler, result, context)
        lineage = lineage_below(arrival)
        for route, payload, body in sealed:
            if not self._put(route, payload, body, lineage):
                self._send_consequence(route, payload, body, lineage)

    def _send_consequence(
        self, route: Route, payload: bytes, body: Event, lineage: Lineage
    ) -> None:
        emission = self._emission(route, payload, body, lineage)
        # Beyond the limit of its type it is counted; the handler has done nothing wrong.
        with contextlib.suppress(RateLimited):
            if self._kept_back(emission) is None:
                self._send(emission, self._choose(route, body, {}), {})

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

    def _put(self, route: Route, payload: bytes, body: Event, lineage: Lineage | None) -> bool:
        """Send, if there is no choice to make and room everywhere: whether that was so."""
        outlet = route.single
        if outlet is not None:
            if outlet.room <= 0:
                return False
            self._sequence = sequence = self._sequence + 1
            outlet.room -= 1
            outlet.send(sequence, payload, body, lineage)
        else:
            outlets = route.outlets
            if outlets is None:
                return False
            for outlet in outlets:
                if outlet.room <= 0:
                    return False
            self._sequence = sequence = self._sequence + 1
            for outlet in outlets:
                outlet.room -= 1
                outlet.send(sequence, payload, body, lineage)
            if not outlets:
                route.unheard += 1
        route.emitted += 1
        if self.observer is not None:
            event_id = EventId(self._node, sequence)
            reached = len(route.targets)
            self.observer.emitted(event_id, lineage, route.spec.name, len(payload), reached)
        return True

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
        *,
        asks: bool = False,
    ) -> Emission:
        sent = 0 if route.spec.policy.ttl is None else max(1, int(self._now() * 1000))
        return Emission(route, payload, body, lineage, sent, asks=asks)

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
            if self._conflation.take(key) is not None:
                self._count(route.spec.name, "", REPLACED)
            if not early:
                return None
            self._sequence = emission.sequence = self._sequence + 1
            emission.asks = False
            if self._conflation.keep(key, emission, early):
                return Receipt(self._node, emission.sequence, route.services)
        elif not early:
            return None
        reason = route.gate.reason
        self._count(route.spec.name, "", reason)
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
            self._send(emission, self._choose(route, emission.body, {}), {})
        return early

    def stop(self) -> None:
        """Send nothing more that was kept back."""
        for emission in self._conflation.close():
            self._count(emission.route.spec.name, "", "closing")

    def _send(self, emission: Emission, chosen: Choice, given_up: GivenUp) -> Receipt:
        route, lineage = emission.route, emission.lineage
        sequence = emission.sequence
        if not sequence:
            self._sequence = sequence = self._sequence + 1
        reached: list[str] = []
        reasons: dict[str, str] = {
            (one.target if isinstance(one, Outlet) else one).service: reason
            for one, reason in given_up.items()
        }
        asked: list[tuple[str, asyncio.Future[Verdict]]] = []
        waits: dict[str, float] = {}
        expired = self._is_expired(emission)
        for target, outlet in chosen:
            if expired:
                reasons[target.service] = "expired"
            elif outlet.advice is not None and (
                early := outlet.advice.wait(emission.body, self._now())
            ):
                reasons[target.service] = outlet.advice.reason
                if outlet.answers:
                    waits[target.service] = early
            elif outlet.room > 0:
                outlet.room -= 1
                outlet.send(sequence, emission.payload, emission.body, lineage, emission.sent)
                if target.service not in reached:
                    reached.append(target.service)
                if emission.asks and outlet.answers:
                    answer: asyncio.Future[Verdict] = self._loop.create_future()
                    outlet.asked[sequence] = answer
                    asked.append((target.service, answer))
            else:
                reasons[target.service] = "no room"
        if asked:
            self._asked[sequence] = asked
        for target in route.targets:
            if target.service not in reached:
                reasons.setdefault(
                    target.service, route.refusals.get(target.service, "no replica can be reached")
                )
        for service, reason in reasons.items():
            self._count(route.spec.name, service, _label(reason, route))
        route.emitted += 1
        if not route.targets:
            route.unheard += 1
        if self.observer is not None:
            size, reach = len(emission.payload), len(reached)
            event_id = EventId(self._node, sequence)
            self.observer.emitted(event_id, lineage, route.spec.name, size, reach)
        refused = tuple(
            Refusal(service, reason, waits.get(service)) for service, reason in reasons.items()
        )
        return Receipt(self._node, sequence, tuple(reached), refused)

    def _count(self, event: str, service: str, reason: str) -> None:
        self.refused[event, service, reason] += 1
        self.lossy()

    def _is_expired(self, emission: Emission) -> bool:
        ttl = emission.route.spec.policy.ttl
        return ttl is not None and self._now() >= emission.sent / 1000 + ttl


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
