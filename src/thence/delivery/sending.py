"""Putting events into outlets: what everything that a node emits has in common.

An event goes at once to each receiver that has room. What it waits for, and how long, is up to whoever emits it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeAlias

from msgspec import Struct

from thence.cascade.credits import CUT, divide
from thence.cascade.settlement import Branch
from thence.clock import stopwatch
from thence.delivery.outlets import Outlet, Verdict
from thence.delivery.reasons import (
    CASCADE_EXPIRED,
    CUT_BY_DEPTH,
    CUT_BY_EVENTS,
    EXPIRED,
    NO_ROOM,
    UNREACHABLE,
    kind_of,
)
from thence.delivery.receipts import Receipt, Refusal, Sending
from thence.delivery.routes import RouteTable
from thence.delivery.targets import HeldOutlet, Route, Target
from thence.delivery.tracking import Tracker
from thence.errors import RateLimited, SchemaMismatch
from thence.events import Event, spec_of
from thence.events.lineage import Lineage
from thence.facts import Observer, Ring
from thence.facts.ring import MOMENT, REFUSED, SENT
from thence.identifiers import EventId
from thence.mesh.cork import Cork

__all__ = ["Choice", "Emission", "Sender", "heeded"]

Choice: TypeAlias = list[tuple[Target, Outlet]]
"""Who is to get an event, and through which outlet."""

A_MOMENT = 0.001
"""Seconds within which it does not matter when an event has left."""
HOLD_FULL = "too many events wait for their key to move"


class Emission(Struct, eq=False):
    """An event on its way to its outlets, where that takes more than sending it; and what became of it so far."""

    route: Route
    payload: bytes
    body: Event
    lineage: Lineage | None
    credits: int
    """Handler starts that it may cause, all together."""
    branch: Branch | None = None
    """What it is a consequence of, or its own root, if that is tracked."""
    sent: int = 0
    """Milliseconds of the node's stopwatch, for a type with a time to live."""
    sequence: int = 0
    asks: bool = False
    """Whether somebody waits to be told if it was let in."""
    receipt: Receipt | None = None
    """What its emitter was given, if that was before it left."""
    deliveries: list[Outlet] = []
    """Where it went."""
    reached: list[str] = []
    """The services behind these."""
    refusals: dict[tuple[str, str], Refusal] = {}
    """By service and reason, where it did not go."""
    asked: list[tuple[str, Outlet, asyncio.Future[Verdict]]] = []
    """The services that will say whether they let it in."""

    @property
    def is_root(self) -> bool:
        """Whether no other event has caused it."""
        return self.lineage is None or self.lineage.path is None

    @property
    def noted_lineage(self) -> Lineage | None:
        """What the recorder is told of where it comes from."""
        return None if self.is_root and not (self.lineage and self.lineage.trace) else self.lineage

    def track(self, sequence: int, branch: Branch) -> None:
        """``branch`` waits for the end of this root event, which is kept back."""
        self.branch = branch

    def refuse(self, service: str, reason: str, retry_after: float | None = None) -> None:
        """It does not go to that service, or not to all of its replicas that want it."""
        known = self.refusals.get((service, reason))
        count = 1 if known is None else known.count + 1
        self.refusals[service, reason] = Refusal(service, reason, retry_after, count)


class Sender:
    """Numbers the events of one node, and puts them where they are to go."""

    def __init__(
        self, node: str, table: RouteTable, cork: Cork, tracker: Tracker, ring: Ring
    ) -> None:
        self.observer: Observer | None = None
        self.ring = ring
        self.note, self.note_refused = ring.note, ring.note_refused
        self.notes_each = ring.notes_each
        self.refused: Counter[tuple[str, str, str]] = Counter()
        """What was not sent: by event, service (empty if it was meant for nobody yet) and reason."""
        self.lossy: Callable[[], None] = lambda: None
        """Called when something was not sent."""
        self.node = node
        self.table = table
        self.routes = table.routes
        self.cork = cork
        self.tracker = tracker
        self._noted = 0
        """The last event of which the recorder knows when it left."""
        self._moment = 0.0
        """When the recorder was last told a moment that others had not come shortly before."""
        self.sequence = 0
        """Of the event that was emitted last."""
        self.loop = asyncio.get_running_loop()
        self.now = stopwatch(self.loop)

    def sealed(self, event: Event) -> tuple[Route, bytes, Event]:
        """The event's route, its payload, and its decoded copy.

        :raises InvalidEvent: its values don't fit its types.
        :raises PayloadTooLarge: it is over its type's byte budget.
        """
        route = self.routes.get(event.__class__) or self.table.route(spec_of(event.__class__))
        return (route, *route.seal(event))

    def emission(
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
        """An event that is emitted now."""
        sent = 0 if route.spec.policy.ttl is None else max(1, int(self.now() * 1000))
        return Emission(route, payload, body, lineage, credits, branch, sent, asks=asks)

    def number(self, emission: Emission) -> int:
        """The event's sequence number; its next one if it has none."""
        if not emission.sequence:
            self.sequence = emission.sequence = self.sequence + 1
        return emission.sequence

    def choose(self, route: Route, body: Event) -> Choice:
        """Who is to get the event, as things are now."""
        chosen: Choice = []
        for target in route.targets:
            if target.broadcast:
                chosen.extend((target, outlet) for outlet in target.candidates)
                continue
            outlet = target.only or target.choose(body)
            if outlet is not None:
                chosen.append((target, outlet))
        return chosen

    def send(
        self,
        emission: Emission,
        chosen: Choice,
        wait: Callable[[Target, Outlet, int], None] | None = None,
    ) -> None:
        """Send an event wherever there is room, as far as that may be.

        :param wait: called with each target, outlet and share of the credits for which there is none; without
            it, the event does not go there.
        """
        self.number(emission)
        objection = self.objection(emission)
        needs = [(outlet.starts, outlet.spreads) for _, outlet in chosen]
        for (target, outlet), share in zip(chosen, divide(emission.credits, needs), strict=True):
            if objection:
                emission.refuse(target.service, objection)
            elif share == CUT:
                emission.refuse(target.service, CUT_BY_EVENTS)
            elif outlet.room > 0:
                self.deliver(emission, target, outlet, share)
            elif wait is None or isinstance(outlet, HeldOutlet):
                emission.refuse(target.service, NO_ROOM if wait is None else HOLD_FULL)
            else:
                wait(target, outlet, share)

    def send_whole(self, emission: Emission, chosen: Choice) -> None:
        """The same for a root event: none of it leaves before it can be decided whether to follow it, and no
        connection is full before all of it is sent.
        """
        cork = self.cork
        cork.whole = True
        try:
            self.send(emission, chosen)
        finally:
            cork.whole = False

    def deliver(self, emission: Emission, target: Target, outlet: Outlet, share: int) -> None:
        """Put an event into an outlet that has room, unless its receiver has advised against it."""
        advice = outlet.advice
        if advice is not None and (early := advice.wait(emission.body, self.now())):
            emission.refuse(target.service, advice.reason, early if outlet.answers else None)
            return
        sequence, branch = emission.sequence, emission.branch
        outlet.room -= 1
        if branch is not None:
            branch.grows()
            outlet.children[sequence] = branch
        outlet.send(
            sequence,
            emission.payload,
            emission.body,
            emission.lineage,
            share,
            branch is not None,
            emission.sent,
        )
        emission.deliveries.append(outlet)
        if target.service not in emission.reached:
            emission.reached.append(target.service)
        if emission.asks and outlet.answers:
            answer: asyncio.Future[Verdict] = self.loop.create_future()
            outlet.asked[sequence] = answer
            emission.asked.append((target.service, outlet, answer))

    def finish(self, emission: Emission) -> Receipt:
        """An event has gone wherever it goes: count and tell where it did not."""
        route, lineage, branch = emission.route, emission.lineage, emission.branch
        refusals = emission.refusals
        accounted = {*emission.reached, *(service for service, _ in refusals)}
        for target in route.targets:
            service = target.service
            if service not in accounted:
                emission.refuse(service, route.refusals.get(service, UNREACHABLE))
        for refusal in refusals.values():
            self.count(
                route.spec.name, refusal.service, _label(refusal.reason, route), refusal.count
            )
            if branch is not None:
                branch.refused(kind_of(refusal.reason), refusal.count)
        route.emitted += 1
        if not route.targets:
            route.unheard += 1
        self._note_sent(emission)
        if self.observer is not None:
            self.note_emitted(
                route, emission.sequence, lineage, len(emission.payload), len(emission.reached)
            )
            event_id = EventId(self.node, emission.sequence)
            if lineage is not None and lineage.path is None:
                lineage = None
            for refusal in refusals.values():
                for _ in range(refusal.count):
                    self.observer.refused(
                        event_id, lineage, route.spec.name, refusal.service, refusal.reason
                    )
        return self.receipt(emission, emission.reached, emission.deliveries)

    def note_moment(self) -> None:
        """What has been emitted so far has left."""
        if self._noted == self.sequence:
            return
        self._noted = self.sequence
        now, facts = self.now(), self.ring.facts
        if facts and facts[-1][0] == MOMENT and now - self._moment < A_MOMENT:
            # Else events that nobody wants would leave room for little else.
            facts[-1] = (MOMENT, now, self.sequence)
        else:
            self._moment = now
            self.note((MOMENT, now, self.sequence))

    def _note_sent(self, emission: Emission) -> None:
        route, now = emission.route, self.now()
        lineage = emission.noted_lineage
        services = _meant_for(emission)
        if route.spec.policy.record:
            self.ring.keep_payload(emission.sequence, emission.payload)
        size = len(emission.payload)
        self.note((SENT, emission.sequence, route.name, size, services, lineage))
        self.note((MOMENT, now, emission.sequence))
        for refusal in emission.refusals.values():
            self._note_refused(emission, refusal.service, refusal.reason, now)

    def _note_refused(self, emission: Emission, service: str, reason: str, now: float) -> None:
        what = emission.route.name, service
        lineage = emission.noted_lineage
        sequence = self.number(emission)
        self.note_refused((REFUSED, self.node, sequence, what, now, lineage, None, reason, None))

    def receipt(
        self, emission: Emission, services: Iterable[str], deliveries: Iterable[object]
    ) -> Receipt:
        """What its emitter is told of an event; once it was told something, that is set right."""
        refused = tuple(emission.refusals.values())
        if emission.is_root:
            sending = Sending(self.node, tuple(services), tuple(deliveries), self.tracker, refused)
        else:
            # It can't be followed: it belongs to another's cascade.
            sending = Sending(self.node, tuple(services), (), None, refused)
        receipt = emission.receipt
        if receipt is None:
            receipt = emission.receipt = Receipt(emission.sequence, sending)
        else:
            receipt.sending = sending
        return receipt

    def objection(self, emission: Emission) -> str:
        """Why an event should not be sent at all any more."""
        lineage, ttl = emission.lineage, emission.route.spec.policy.ttl
        if ttl is not None and self.now() >= emission.sent / 1000 + ttl:
            return EXPIRED
        if lineage is not None:
            if lineage.depth > lineage.max_depth:
                return CUT_BY_DEPTH
            if self.now() >= lineage.deadline:
                return CASCADE_EXPIRED
        return ""

    def note_unsent(self, emission: Emission, reason: str) -> None:
        """An event does not leave at all: count it, and tell the observer."""
        event = emission.route.spec.name
        self.count(event, "", reason)
        if emission.branch is not None:
            emission.branch.refused(kind_of(reason))
        self._note_refused(emission, "", reason, self.now())
        if self.observer is not None:
            event_id = EventId(self.node, self.number(emission))
            lineage = None if emission.is_root else emission.lineage
            self.observer.refused(event_id, lineage, event, "", reason)

    def count(self, event: str, service: str, reason: str, count: int = 1) -> None:
        """An event does not go to that service, or to so many of its replicas."""
        self.refused[event, service, reason] += count
        self.lossy()

    def note_emitted(
        self, route: Route, sequence: int, lineage: Lineage | None, size: int, targets: int
    ) -> None:
        """Tell the observer, which there is."""
        assert self.observer is not None
        if lineage is not None and lineage.path is None:
            lineage = None
        event_id = EventId(self.node, sequence)
        self.observer.emitted(event_id, lineage, route.spec.name, size, targets)


def heeded(route: Route, receipt: Receipt) -> Receipt:
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


def _meant_for(emission: Emission) -> tuple[str, ...]:
    """The services that somebody is to tell of what became of the event there, once for each replica."""
    reached = emission.reached
    if len(emission.deliveries) > len(reached):
        homes = dict.fromkeys((one.target.service, one.node) for one in emission.deliveries)
        reached = [service for service, _ in homes]
    if not emission.refusals:
        return tuple(reached)
    return (*reached, *dict.fromkeys(service for service, _ in emission.refusals))


def _label(reason: str, route: Route) -> str:
    """A reason that is short enough to count by."""
    return "schema" if reason in route.refusals.values() else reason
