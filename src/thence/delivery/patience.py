"""One event that waits for room at some of those who want it, and has gone to the others.

It stands in line at each receiver that has no room, and goes there in the moment in which room comes, not when
the task that emitted it gets its turn: whoever emits meanwhile would overtake it. It holds no room while it
waits. A receiver that is slower than another one may hold up the emitter for a moment only, and one that is at
a standstill not even that: its events are given up, and counted.
"""

from __future__ import annotations

from collections.abc import Callable

from thence.cascade.credits import CUT, divide
from thence.delivery.outlets import Outlet
from thence.delivery.reasons import CASCADE_EXPIRED, CUT_BY_EVENTS, EXPIRED, UNREACHABLE
from thence.delivery.room import RoomLine
from thence.delivery.sending import HOLD_FULL, Choice, Emission, Sender
from thence.delivery.targets import HeldOutlet, Target

__all__ = ["COURTESY", "PatientEmit"]

COURTESY = 0.05
"""Seconds that an event which somebody has got waits for others: one slow receiver must not hold up the rest."""


class Place:
    """Where an event stands in line for one of its receivers."""

    __slots__ = ("_emit", "due", "line", "outlet", "reason", "share", "target")

    def __init__(self, emit: PatientEmit, target: Target, outlet: Outlet, share: int) -> None:
        self._emit = emit
        self.target = target
        self.outlet = outlet
        """The one that it waits for, as far as that matters."""
        self.share = share
        """What it may cause there."""
        self.line: RoomLine = outlet.line
        self.due = 0.0
        self.reason = ""
        """Why it is given up when that time comes."""

    def take(self, outlet: Outlet) -> None:
        """There is room."""
        self._emit.goes(self, outlet)

    def give_up(self) -> None:
        """There was none in time."""
        self._emit.refused(self, self.reason)

    def review(self) -> None:
        """Replicas have come or gone, or keys have moved."""
        target, emit = self.target, self._emit
        if target.broadcast:
            outlet = self.outlet if self.outlet in target.candidates else None
        else:
            outlet = target.choose(emit.emission.body)
        if outlet is None:
            self.line.leave(self)
            emit.refused(self, "" if target.broadcast else UNREACHABLE)
        elif outlet.room > 0:
            self.line.leave(self)
            emit.goes(self, outlet)
        elif isinstance(outlet, HeldOutlet):
            self.line.leave(self)
            emit.refused(self, HOLD_FULL)
        elif outlet.line is not self.line:
            # Those of one key are in the same line, and follow each other to the next in their order.
            self.line.leave(self)
            self.outlet, self.line = outlet, outlet.line
            self.line.join(self)


class PatientEmit:
    """Sends an event wherever there is room, and then wherever room comes; ``ended()`` is called after all that.

    :param hurries: somebody waits for it to end, so it does not wait for a receiver that is much slower than
        another.
    :param is_over: nobody wants it sent any more.
    """

    __slots__ = ("_begun", "_ended", "_hurries", "_is_over", "_sender", "emission", "places")

    def __init__(
        self,
        sender: Sender,
        emission: Emission,
        ended: Callable[[], None],
        *,
        hurries: bool = True,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self.emission = emission
        self.places: dict[Place, None] = {}
        """Where it waits."""
        self._begun = False
        self._sender = sender
        self._ended = ended
        self._hurries = hurries
        self._is_over = is_over

    def begin(self, chosen: Choice) -> None:
        """Send it to those who have room. Whether it waits for others, :attr:`places` tells."""
        self._sender.send(self.emission, chosen, self._wait)
        if self.emission.deliveries:
            self._hurry()
        self._begun = True
        self._sender.cork.release()

    def exchange(self, newer: Emission) -> Emission:
        """Wait with a newer event in place of this one, which has not gone anywhere; returns the older one."""
        older, self.emission = self.emission, newer
        self._sender.number(newer)
        places = list(self.places)
        needs = [(place.outlet.starts, place.outlet.spreads) for place in places]
        for place, share in zip(places, divide(newer.credits, needs), strict=True):
            place.share = share
            if share == CUT:
                place.line.leave(place)
                self.refused(place, CUT_BY_EVENTS)
            else:
                self._set_due(place)
                place.line.watch(place)
        return older

    def withdraw(self, reason: str) -> None:
        """Let go of all places: it does not go there, for that reason. What was sent stays sent."""
        for place in list(self.places):
            place.line.leave(place)
            self.emission.refuse(place.target.service, reason)
        self.places.clear()

    def goes(self, place: Place, outlet: Outlet) -> None:
        """It has its turn, and there is room at that outlet; it is in that line no more."""
        if self._is_over():
            # Cancelled; whoever awaited it withdraws it in the next tick.
            return
        objection = self._sender.objection(self.emission)
        share = place.share + place.outlet.starts - outlet.starts
        if not objection and share < 0:
            objection = CUT_BY_EVENTS
        if objection:
            self.refused(place, objection)
            return
        first = not self.emission.deliveries
        self._sender.deliver(self.emission, place.target, outlet, share if outlet.spreads else 0)
        del self.places[place]
        if first and self.emission.deliveries:
            self._hurry()
        self._go_on()

    def refused(self, place: Place, reason: str = "") -> None:
        """It does not go there, and is in that line no more."""
        if reason:
            self.emission.refuse(place.target.service, reason)
        del self.places[place]
        self._go_on()

    def _go_on(self) -> None:
        self._sender.cork.release()
        if self._begun and not self.places:
            self._ended()

    def _wait(self, target: Target, outlet: Outlet, share: int) -> None:
        place = Place(self, target, outlet, share)
        self.places[place] = None
        self._set_due(place)
        place.line.join(place)

    def _set_due(self, place: Place) -> None:
        emission, now = self.emission, self._sender.now()
        place.due = now + place.outlet.patience
        place.reason = f"no room within {place.outlet.patience:g} s"
        ttl = emission.route.spec.policy.ttl
        if ttl is not None and emission.sent / 1000 + ttl <= place.due:
            place.due, place.reason = emission.sent / 1000 + ttl, EXPIRED
        if emission.lineage is not None and emission.lineage.deadline <= place.due:
            place.due, place.reason = emission.lineage.deadline, CASCADE_EXPIRED

    def _hurry(self) -> None:
        """Somebody has got the event: wait for the others for a moment, or not at all."""
        if not self._hurries:
            return
        due = self._sender.now() + COURTESY
        for place in list(self.places):
            if place.line.barren:
                place.line.leave(place)
                del self.places[place]
                self.emission.refuse(place.target.service, "no room within 0 s")
            elif due < place.due:
                place.due, place.reason = due, f"no room within {COURTESY:g} s"
                place.line.watch(place)
