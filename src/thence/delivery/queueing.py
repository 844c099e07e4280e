"""One handler's arrivals, from when they are given to it until they may run: its line, its limits, its batches.

What may run is put into ``ready``. What is not to run is shed, for a reason; nothing is dropped in silence.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from copy import copy
from operator import itemgetter

from thence.clock import stopwatch
from thence.delivery.advice import advice_on
from thence.delivery.hosted import HostedHandler, Subscription
from thence.delivery.loop_guard import LoopGuard
from thence.delivery.reasons import (
    BREAKER,
    CASCADE_EXPIRED,
    CLOSING,
    EXPIRED,
    LOOP,
    OVERLOADED,
    QUEUE_FULL,
)
from thence.events.envelope import Arrival

__all__ = ["NEVER", "Queueing"]

NEVER = float("inf")

AHEAD = 0.005
"""Seconds before the first of its events expires that a batch is closed, so that it can still begin."""
A_MOMENT = 1e-6
"""Seconds added to a wait, so that rounding never makes it end too early."""


class Queueing:
    """The lines of one node's handlers.

    ``shed(handler, arrival, reason)`` is called for what never gets to run, ``settle()`` after some of it was,
    and ``wake()`` when ``ready`` may have something in it.
    """

    def __init__(
        self,
        shed: Callable[[HostedHandler, Arrival, str], None],
        settle: Callable[[], None],
        wake: Callable[[], None],
        loops: LoopGuard,
    ) -> None:
        self._loops = loops
        self._loop = asyncio.get_running_loop()
        self.now = stopwatch(self._loop)
        """Seconds, as limits count them."""
        self.ready: deque[tuple[HostedHandler, Arrival]] = deque()
        """What may run: the handler has a place for it."""
        self.beside_others: set[Arrival] = set()
        """Arrivals of a batch that are in the lane of another one in it."""
        self._shed = shed
        self._settle = settle
        self._wake = wake
        self._stopped = self._hurries = False
        self._untouched: Arrival | None = None
        """What is being given to its handlers, as long as none has begun with it or shed it."""
        self.lined: set[HostedHandler] = set()
        """The handlers that ever had a line."""
        self._filling: set[HostedHandler] = set()
        """The handlers that ever had a batch."""

    # -- coming in

    def offer_to_all(self, arrival: Arrival, told: bool) -> list[tuple[str, float]]:
        """Give an arrival to its handlers; see :meth:`offer`."""
        subscription: Subscription = arrival.subscription
        self._untouched = arrival
        refusals = [self.offer(handler, arrival, told) for handler in subscription.handlers]
        if subscription.newest is not None and self._untouched is arrival:
            # It waits at all of them. Later, no newer one could take its place for those that it began at.
            subscription.newest[subscription.key_of(arrival)] = arrival
        return refusals

    def offer(
        self, handler: HostedHandler, arrival: Arrival, told: bool = False
    ) -> tuple[str, float]:
        """Give an arrival to a handler: it starts, waits in line, or is shed for the reason returned.

        ``told``: its emitter knows that it is in, so it waits for limits that would have refused it.
        """
        gate, line = handler.gate, handler.line
        refuses = handler.overflow == "drop" or (handler.overflow == "reject" and not told)
        reason, early = "", 0.0
        if handler.queue_delay is not None and arrival.since is None:
            arrival.since = arrival.source.read_at or self.now()
        if self._stopped:
            reason = CLOSING
        elif arrival.extras is not None and self._loops.cuts(handler, arrival):
            reason = LOOP
        elif objection := self._objection(handler, arrival, self.now()):
            reason = objection
        # Whoever waits in line goes first, or the followers in a busy lane would take every free place.
        elif not line.size and handler.has_place:
            if gate is None or not (early := handler.admit(arrival, self.now())):
                self._begin(handler, arrival)
                return "", 0.0
            if refuses:
                reason = gate.reason
                gate.refused_by.refused()
                self._advise(handler, arrival, early)
        elif gate is not None and refuses:
            reason, early = handler.refusal(arrival, self.now())
            if reason:
                gate.refused_by.refused()
                self._advise(handler, arrival, early)
        if not reason:
            if line.size >= handler.queue:
                self._shed_expired(handler)
            victim = line.victim_for(arrival) if line.size >= handler.queue else None
            if victim is not arrival:
                self._stand_in_line(handler, arrival, early)
                if victim is not None:
                    self._shed(handler, victim, QUEUE_FULL)
                return "", 0.0
            reason = QUEUE_FULL
        self._shed(handler, arrival, reason)
        return reason, early or NEVER

    def comes_back(self, subscription: Subscription, arrival: Arrival) -> bool:
        """Whether the arrival's cascade has been at one of its handlers too often: each of them is to be asked,
        by :meth:`offer`, so it must not get to one in another's company or place.
        """
        return arrival.extras is not None and any(
            self._loops.back_at(handler, arrival) for handler in subscription.handlers
        )

    def refusal_of_all(
        self, subscription: Subscription, arrival: Arrival
    ) -> tuple[str, float] | None:
        """The mildest refusal, if the limits of all handlers refuse the arrival as things are."""
        now = self.now()
        refusals = [handler.refusal(arrival, now) for handler in subscription.handlers]
        return min(refusals, key=itemgetter(1)) if all(wait for _, wait in refusals) else None

    def _shed_expired(self, handler: HostedHandler) -> None:
        """Shed those first in a full line that are too old, before somebody who is not."""
        line, now = handler.line, self.now()
        while line.size:
            first = line.first()
            if not (reason := _expired(first, now)):
                return
            self._shed(handler, line.pop(now), reason)

    def _advise(self, handler: HostedHandler, arrival: Arrival, wait: float) -> None:
        """The limits have refused an arrival: more of them are not worth sending, if nobody else wants them."""
        subscription: Subscription = arrival.subscription
        if len(subscription.handlers) == 1 and handler.gate is not None:
            advice = advice_on(arrival, handler.gate.refused_by.limit, wait)
            if advice is not None:
                arrival.source.advise(advice)

    def _stand_in_line(self, handler: HostedHandler, arrival: Arrival, early: float) -> None:
        now = self.now()
        if arrival.since is None:
            arrival.since = arrival.source.read_at or now
        if handler.queue_delay is not None and not handler.backlog:
            handler.queue_delay.was_empty(now)
        handler.line.append(arrival, now)
        self.lined.add(handler)
        if early:
            handler.postpone_first(now + early + A_MOMENT)
            self._set_alarm(handler, now)
        elif handler.gate is not None and handler.has_place:
            self._move_on(handler)

    def _objection(self, handler: HostedHandler, arrival: Arrival, now: float) -> str:
        """Why an arrival should not begin any more, limits aside."""
        if reason := _expired(arrival, now):
            return reason
        if handler.queue_delay is not None and self.is_late(handler, arrival):
            return OVERLOADED
        if handler.breaker.state != "closed" and not handler.breaker.allows(now):
            return BREAKER
        return ""

    def is_late(self, handler: HostedHandler, arrival: Arrival) -> bool:
        """Whether an arrival that may run has waited too long by now, behind others that ran at once."""
        delay, now = handler.queue_delay, self.now()
        return (
            delay is not None
            and arrival.since is not None
            and not delay.allows(now - arrival.since, now)
        )

    def waits_no_more(self, arrival: Arrival) -> None:
        """The arrival has begun or was shed: no newer one can take its place."""
        if self._untouched is arrival:
            self._untouched = None
        subscription: Subscription = arrival.subscription
        if subscription.newest is not None:
            key = subscription.key_of(arrival)
            if subscription.newest.get(key) is arrival:
                del subscription.newest[key]

    def _begin(self, handler: HostedHandler, arrival: Arrival) -> None:
        self.waits_no_more(arrival)
        if handler.breaker.state != "closed":
            handler.breaker.began(self.now())
        if handler.batch is not None:
            self._collect(handler, arrival)
            self._collect_lane(arrival)
            return
        handler.take_place()
        self.ready.append((handler, arrival))

    # -- moving on

    def next_in_line(self, handler: HostedHandler) -> None:
        """A place has become free."""
        service = handler.service
        if service.concurrency is None:
            if handler.is_plain:
                self._move_on_plainly(handler)
            else:
                self._move_on(handler)
            return
        # The place is the service's: its handlers take turns.
        here = service.handlers.index(handler) + 1
        turns = (*service.handlers[here:], *service.handlers[:here])
        begun = True
        while begun:
            begun = False
            for one in turns:
                begun |= self._move_on(one, at_most=1)

    def _move_on_plainly(self, handler: HostedHandler) -> None:
        """The same for a handler of whose arrivals nothing but a place is asked."""
        line = handler.line
        now = self.now()
        while line.size and handler.in_flight < handler.concurrency:
            arrival = line.pop(0.0)
            if arrival.due <= now:
                self._shed(handler, arrival, CASCADE_EXPIRED)
                continue
            handler.take_place()
            self.ready.append((handler, arrival))

    def _move_on(self, handler: HostedHandler, at_most: int | None = None) -> bool:
        """Begin what waits in line, as far as there are places and the limit allows; whether any did."""
        line, gate = handler.line, handler.gate
        begun = 0
        while line.size:
            now = self.now()
            arrival = line.first()
            if reason := self._objection(handler, arrival, now):
                self._shed(handler, line.pop(now), reason)
                continue
            if begun == at_most or line.due > now or not handler.has_place:
                break
            if gate is not None and (early := handler.admit(arrival, now)):
                if handler.overflow == "drop":
                    gate.refused_by.refused()
                    self._shed(handler, line.pop(now), gate.reason)
                else:
                    handler.postpone_first(now + early + A_MOMENT)
                continue
            self._begin(handler, line.pop(now))
            begun += 1
        if gate is not None and line.size:
            self._set_alarm(handler, self.now())
        self._settle()
        return begun > 0

    def _set_alarm(self, handler: HostedHandler, now: float) -> None:
        """Look again when the limit lets the first in line go. Without a free place, an end will do that."""
        if handler.alarm is not None:
            handler.alarm.cancel()
            handler.alarm = None
        if self._stopped or not handler.has_place:
            return
        first = handler.line.first()
        due = min(handler.line.due, _expiry_of(first), first.due)
        handler.alarm = self._loop.call_later(max(0.0, due - now), self._alarmed, handler)

    def _alarmed(self, handler: HostedHandler) -> None:
        handler.alarm = None
        self.look_again(handler)

    def look_again(self, handler: HostedHandler) -> None:
        """The handler's limits have changed: who waits may perhaps go."""
        handler.line.hold(0.0)
        self._move_on(handler)
        if self.ready:
            self._wake()

    def stop(self) -> None:
        """Let nothing run any more: what is ready or waits is shed."""
        self._stopped = True
        for handler in self._filling:
            if handler.open_batch:
                self.ready.append((handler, self._closed_batch(handler)))
        while self.ready:
            handler, arrival = self.ready.popleft()
            handler.leave_place()
            for member in arrival.members or (arrival,):
                self._shed(handler, member, CLOSING)
        for handler in self.lined:
            if handler.alarm is not None:
                handler.alarm.cancel()
            while handler.line.size:
                self._shed(handler, handler.line.pop(0.0), CLOSING)
        self._settle()

    # -- batches

    def joins_batch(self, subscription: Subscription, arrival: Arrival, key: Hashable) -> bool:
        """Put the arrival into the batch in which the one before it still waits, if that may be."""
        handler = subscription.handlers[0]
        if key not in handler.open_keys or len(subscription.handlers) > 1:
            return False
        if self.comes_back(subscription, arrival):
            return False
        now = self.now()
        if self._objection(handler, arrival, now):
            return False
        if handler.gate is not None and handler.admit(arrival, now):
            return False
        self.beside_others.add(arrival)
        self._collect(handler, arrival)
        return True

    def _collect(self, handler: HostedHandler, arrival: Arrival) -> None:
        """The arrival may begin, as a part of the batch that is being filled."""
        assert handler.batch is not None
        subscription: Subscription = arrival.subscription
        now = self.now()
        if not handler.open_batch:
            handler.take_place()
            self._filling.add(handler)
            handler.batch_due = NEVER
            self._close_batch_by(handler, now if self._hurries else now + handler.batch.within, now)
        handler.open_batch.append(arrival)
        if subscription.key is not None and not subscription.several:
            # What is busy with an event elsewhere too must not get another one of its key.
            handler.open_keys.add(subscription.key_of(arrival))
        if len(handler.open_batch) >= handler.batch.size:
            self.ready.append((handler, self._closed_batch(handler)))
        else:
            self._close_batch_by(handler, min(_expiry_of(arrival), arrival.due) - AHEAD, now)

    def _close_batch_by(self, handler: HostedHandler, due: float, now: float) -> None:
        if due >= handler.batch_due:
            return
        if handler.batch_timer is not None:
            handler.batch_timer.cancel()
        handler.batch_due = due
        handler.batch_timer = self._loop.call_later(
            max(0.0, due - now), self._batch_is_due, handler
        )

    def close_batches(self) -> None:
        """Wait for no more events to fill batches, now or later."""
        self._hurries = True
        for handler in self._filling:
            if handler.open_batch:
                self._batch_is_due(handler)

    def _collect_lane(self, arrival: Arrival) -> None:
        """Put those who wait behind the arrival in its lane into the same batch."""
        subscription: Subscription = arrival.subscription
        if subscription.key is None:
            return
        key, lanes = subscription.key_of(arrival), subscription.service.lanes
        while (waiting := lanes.first_waiting(key)) is not None:
            if not self.joins_batch(waiting.subscription, waiting, key):
                return
            lanes.take_first(key)
            waiting.subscription.waiting -= 1

    def _closed_batch(self, handler: HostedHandler) -> Arrival:
        if handler.batch_timer is not None:
            handler.batch_timer.cancel()
            handler.batch_timer = None
        members, handler.open_batch = handler.open_batch, []
        handler.open_keys.clear()
        batch = copy(members[-1])
        batch.members = members
        batch.body = [member.body for member in members]
        return batch

    def _batch_is_due(self, handler: HostedHandler) -> None:
        batch = self._closed_batch(handler)
        now = self.now()
        expired = [member for member in batch.members if _expired(member, now)]
        if not expired:
            self.ready.append((handler, batch))
        else:
            self._shed_members(handler, batch.members, expired, now)
        if self.ready:
            self._wake()

    def _shed_members(
        self, handler: HostedHandler, members: list[Arrival], expired: list[Arrival], now: float
    ) -> None:
        """Some of a batch have become too old while it was filled: the others go on without them."""
        handler.leave_place()
        left = [member for member in members if member not in expired]
        for member in expired:
            self._pass_lane_on(member, left)
        if left:
            handler.open_batch = left
            handler.take_place()
            self.ready.append((handler, self._closed_batch(handler)))
        for member in expired:
            self._shed(handler, member, _expired(member, now))
        self.next_in_line(handler)
        self._settle()

    def _pass_lane_on(self, member: Arrival, left: list[Arrival]) -> None:
        """Another one of its key in the batch has the lane from now on, if the member has it."""
        subscription: Subscription = member.subscription
        if subscription.key is None or member in self.beside_others:
            return
        key = subscription.key_of(member)
        for other in left:
            if other in self.beside_others and other.subscription.key_of(other) == key:
                self.beside_others.remove(other)
                self.beside_others.add(member)
                return


def _expired(arrival: Arrival, now: float) -> str:
    """Why an arrival is too old to begin, if it is."""
    if now >= _expiry_of(arrival):
        return EXPIRED
    return CASCADE_EXPIRED if now >= arrival.due else ""


def _expiry_of(arrival: Arrival) -> float:
    """When an arrival is too old to be handled, by this node's stopwatch."""
    ttl: float | None = arrival.subscription.event.policy.ttl
    if ttl is None or arrival.extras is None:
        return NEVER
    emitted: float = arrival.extras.sent / 1000 + arrival.source.behind
    return emitted + ttl
