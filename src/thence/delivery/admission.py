"""Who may run now, who waits, and what follows whom: the books of a node's arrivals.

An arrival is admitted, or waits for its block, its lane, a free place or its handler's limit, or is shed;
each way it is acknowledged in the end, once. What may run is put into ``ready``; whoever runs it says when
it has ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from operator import itemgetter

from thence.clock import stopwatch
from thence.delivery.advice import advice_on
from thence.delivery.hosted import HostedHandler, HostedService, Subscription
from thence.delivery.outlets import REPLACED
from thence.events.envelope import Arrival, Source, event_id_of, lineage_of
from thence.facts import Observer
from thence.routing.replicas import block_of

__all__ = ["Admission"]

CLOSING = "closing"
BREAKER = "breaker open"
EXPIRED = "expired"
OVERLOADED = "overloaded"
QUEUE_FULL = "queue full"
MOVING = "key is moving"

NEVER = float("inf")

A_MOMENT = 1e-6
"""Seconds added to a wait, so that rounding never makes it end too early."""


class Admission:
    """The arrivals of one node that did not end where they came in.

    ``move(arrival, owner)`` gives an arrival back whose key belongs to another replica; ``wake()`` is called
    when ``ready`` may have something in it.
    """

    def __init__(self, move: Callable[[Arrival, str], None], wake: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = stopwatch(self._loop)
        """Seconds, as limits count them."""
        self.observer: Observer | None = None
        self.ready: deque[tuple[HostedHandler, Arrival]] = deque()
        """What may run: the handler has a place for it."""
        self.wake = wake
        self.lossy: Callable[[], None] = lambda: None
        """Called when something was shed."""
        self._move = move
        self._stopped = False
        self._next: deque[Arrival] = deque()
        """Whose turn it is in their lanes, to be given to their handlers."""
        self._starting = False
        self._lined: set[HostedHandler] = set()
        """The handlers that ever had a line."""

    # -- coming in

    def admit(self, arrival: Arrival) -> None:
        """Let an arrival in: to its handlers, or to wait for its block, its lane or a free place."""
        subscription: Subscription = arrival.subscription
        service = subscription.service
        if self._stopped:
            self._shed(subscription, arrival, CLOSING)
            return
        if subscription.key is not None:
            key = getattr(arrival.body, subscription.key)
            if subscription.owned and not self._may_handle(service, arrival, key):
                return
            if key in service.lanes:
                self._follow(subscription, arrival, key)
                return
            service.lanes.enter(key, arrival)
        service.unfinished[arrival] = len(subscription.handlers)
        self._start(arrival)

    def _follow(self, subscription: Subscription, arrival: Arrival, key: Hashable) -> None:
        """Something of the arrival's key is unfinished: wait in the lane, or take another's place in it."""
        service = subscription.service
        if subscription.newest is not None:
            waiting = subscription.newest.get(key)
            if waiting is not None:
                self._replace(waiting, arrival)
                return
        if subscription.waiting >= subscription.window:
            self._shed(subscription, arrival, QUEUE_FULL)
            return
        if subscription.answers:
            refusal = self._refused_by_all(subscription, arrival)
            if refusal is not None:
                self._shed(subscription, arrival, *refusal)
                return
            arrival.source.judge(subscription.number, arrival.sequence, "", 0.0)
        service.unfinished[arrival] = len(subscription.handlers)
        arrival.since = self.now()
        service.lanes.enter(key, arrival)
        subscription.waiting += 1
        if subscription.newest is not None:
            subscription.newest[key] = arrival

    def _replace(self, waiting: Arrival, newer: Arrival) -> None:
        """The newer event takes the place of one that has not begun, which counts as ended."""
        subscription: Subscription = waiting.subscription
        for handler in subscription.handlers:
            handler.shed[REPLACED] += 1
            self._note_shed(handler, waiting, REPLACED)
        waiting.source.owe(subscription.number, 1, subscription.acknowledge_at)
        newer.since = self.now()
        for field in Arrival.__struct_fields__:
            setattr(waiting, field, getattr(newer, field))

    def _may_handle(self, service: HostedService, arrival: Arrival, key: object) -> bool:
        ownership = service.ownership
        if ownership is None or ownership.complete:
            return True
        block = block_of(key)
        subscription: Subscription = arrival.subscription
        if ownership.must_follow(arrival.source, block):
            self._move(arrival, ownership.owner_of(block))
        elif ownership.may_handle(block):
            return True
        elif ownership.waiting >= subscription.window:
            self._shed(subscription, arrival, MOVING)
        elif ownership.park(block, arrival):
            service.unfinished[arrival] = len(subscription.handlers)
        else:
            ownership.give_back(arrival.source, block)
            self._move(arrival, ownership.owner_of(block))
        return False

    def give_up(self, arrival: Arrival) -> None:
        """Give back an arrival that waited for a block which belongs to another replica now."""
        service: HostedService = arrival.subscription.service
        assert service.ownership is not None
        del service.unfinished[arrival]
        block = block_of(getattr(arrival.body, arrival.subscription.key))
        service.ownership.give_back(arrival.source, block)
        self._move(arrival, service.ownership.owner_of(block))
        if service.fences:
            self._lower_fences(service, arrival)

    def _refused_by_all(
        self, subscription: Subscription, arrival: Arrival
    ) -> tuple[str, float] | None:
        """The mildest refusal, if the limits of all handlers refuse the arrival as things are."""
        now = self.now()
        refusals = [handler.refusal(arrival, now) for handler in subscription.handlers]
        return min(refusals, key=itemgetter(1)) if all(wait for _, wait in refusals) else None

    def _start(self, arrival: Arrival) -> None:
        """Give an arrival to its handlers; and those that follow it in its lane, as far as it is shed."""
        self._next.append(arrival)
        self._start_next()
        if self.ready:
            self.wake()

    def _start_next(self) -> None:
        # Not recursively: a whole lane may be shed, one after the other.
        if self._starting:
            return
        self._starting = True
        try:
            while self._next:
                arrival = self._next.popleft()
                subscription: Subscription = arrival.subscription
                refusals = [self._offer(handler, arrival) for handler in subscription.handlers]
                if subscription.answers:
                    # The mildest: it was let in if one handler has taken it.
                    verdict = min(refusals, key=itemgetter(1))
                    arrival.source.judge(subscription.number, arrival.sequence, *verdict)
        finally:
            self._starting = False

    def _offer(self, handler: HostedHandler, arrival: Arrival) -> tuple[str, float]:
        """Give an arrival to a handler: it starts, waits in line, or is shed for the reason returned."""
        gate, line = handler.gate, handler.line
        reason, early = "", 0.0
        if self._stopped:
            reason = CLOSING
        elif objection := self._objection(handler, arrival, self.now()):
            reason = objection
        # Whoever waits in line goes first, or the followers in a busy lane would take every free place.
        elif not len(line) and handler.has_place:
            if gate is None or not (early := handler.admit(arrival, self.now())):
                self._begin(handler, arrival)
                return "", 0.0
            if handler.overflow in ("drop", "reject"):
                reason = gate.reason
                self._advise(handler, arrival, early)
        elif gate is not None and handler.overflow == "reject":
            reason, early = handler.refusal(arrival, self.now())
            if reason:
                self._advise(handler, arrival, early)
        if not reason:
            victim = line.victim_for(arrival) if len(line) >= handler.queue else None
            if victim is not arrival:
                self._stand_in_line(handler, arrival, early)
                if victim is not None:
                    self._shed_part(handler, victim, QUEUE_FULL)
                return "", 0.0
            reason = QUEUE_FULL
        self._shed_part(handler, arrival, reason)
        return reason, early or NEVER

    def _advise(self, handler: HostedHandler, arrival: Arrival, wait: float) -> None:
        """The limits have refused an arrival: more of them are not worth sending, if nobody else wants them."""
        subscription: Subscription = arrival.subscription
        if len(subscription.handlers) == 1 and handler.gate is not None:
            advice = advice_on(arrival, handler.gate.refused_by.limit, wait)
            if advice is not None:
                arrival.source.advise(advice)

    def _stand_in_line(self, handler: HostedHandler, arrival: Arrival, early: float) -> None:
        subscription: Subscription = arrival.subscription
        now = self.now()
        if arrival.since is None:
            arrival.since = now
        if handler.queue_delay is not None and not len(handler.line):
            handler.queue_delay.was_empty(now)
        handler.line.append(arrival)
        self._lined.add(handler)
        if subscription.newest is not None:
            subscription.newest[subscription.key_of(arrival)] = arrival
        if early:
            handler.postpone_first(now + early + A_MOMENT)
            self._set_alarm(handler, now)
        elif handler.gate is not None and handler.has_place:
            self._move_on(handler)

    def _objection(self, handler: HostedHandler, arrival: Arrival, now: float) -> str:
        """Why an arrival should not begin any more, limits aside."""
        if now >= _expiry_of(arrival):
            return EXPIRED
        delay = handler.queue_delay
        if (
            delay is not None
            and arrival.since is not None
            and not delay.allows(now - arrival.since, now)
        ):
            return OVERLOADED
        if handler.breaker.state != "closed" and not handler.breaker.allows(now):
            return BREAKER
        return ""

    def _shed_part(self, handler: HostedHandler, arrival: Arrival, reason: str) -> None:
        """One handler of an admitted arrival never gets to run. What may start now is noted in ``_next``."""
        handler.shed[reason] += 1
        self._note_shed(handler, arrival, reason)
        self._waits_no_more(arrival)
        after = self._part_ended(arrival)
        if after is not None:
            self._next.append(after)

    def _waits_no_more(self, arrival: Arrival) -> None:
        subscription: Subscription = arrival.subscription
        if subscription.newest is not None:
            key = subscription.key_of(arrival)
            if subscription.newest.get(key) is arrival:
                del subscription.newest[key]

    def _begin(self, handler: HostedHandler, arrival: Arrival) -> None:
        handler.in_flight += 1
        handler.service.in_flight += 1
        self._waits_no_more(arrival)
        self.ready.append((handler, arrival))

    # -- going out

    def ended(self, handler: HostedHandler, arrival: Arrival) -> None:
        """One handler of an admitted arrival has ended: its place, and perhaps its lane, is free."""
        service = handler.service
        handler.in_flight -= 1
        service.in_flight -= 1
        if len(handler.line) or service.concurrency is not None:
            self._next_in_line(handler)
        following = self._part_ended(arrival)
        if following is not None:
            self._next.append(following)
            self._start_next()
        if self.ready:
            self.wake()

    def begun_unasked(self, handler: HostedHandler, arrival: Arrival) -> None:
        """A run that was begun without admission, because nothing was unfinished, has suspended."""
        subscription: Subscription = arrival.subscription
        service = subscription.service
        if subscription.key is not None:
            service.lanes.enter(getattr(arrival.body, subscription.key), arrival)
        service.unfinished[arrival] = 1
        handler.in_flight += 1
        service.in_flight += 1

    def _next_in_line(self, handler: HostedHandler) -> None:
        """A place has become free."""
        service = handler.service
        if service.concurrency is None:
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

    def _move_on(self, handler: HostedHandler, at_most: int | None = None) -> bool:
        """Begin what waits in line, as far as there are places and the limit allows; whether any did."""
        line, gate = handler.line, handler.gate
        begun = 0
        while len(line):
            now = self.now()
            arrival = line.first()
            if reason := self._objection(handler, arrival, now):
                self._shed_part(handler, line.pop(), reason)
                continue
            if begun == at_most or line.due > now or not handler.has_place:
                break
            if gate is not None and (early := handler.admit(arrival, now)):
                if handler.overflow == "drop":
                    self._shed_part(handler, line.pop(), gate.reason)
                else:
                    handler.postpone_first(now + early + A_MOMENT)
                continue
            self._begin(handler, line.pop())
            begun += 1
        if gate is not None and len(line):
            self._set_alarm(handler, self.now())
        self._start_next()
        return begun > 0

    def _set_alarm(self, handler: HostedHandler, now: float) -> None:
        """Look again when the limit lets the first in line go. Without a free place, an end will do that."""
        if handler.alarm is not None:
            handler.alarm.cancel()
            handler.alarm = None
        if self._stopped or not handler.has_place:
            return
        due = min(handler.line.due, _expiry_of(handler.line.first()))
        handler.alarm = self._loop.call_later(max(0.0, due - now), self._alarmed, handler)

    def _alarmed(self, handler: HostedHandler) -> None:
        handler.alarm = None
        self.look_again(handler)

    def _part_ended(self, arrival: Arrival) -> Arrival | None:
        """One handler of an admitted arrival has ended. Returns the next in its lane if that was the last."""
        subscription: Subscription = arrival.subscription
        service = subscription.service
        following = None
        remaining = service.unfinished[arrival] - 1
        if remaining:
            service.unfinished[arrival] = remaining
            return None
        del service.unfinished[arrival]
        source: Source = arrival.source
        source.owe(subscription.number, 1, subscription.acknowledge_at)
        if subscription.key is not None:
            key = getattr(arrival.body, subscription.key)
            following = service.lanes.leave(key)
            if following is not None:
                following.subscription.waiting -= 1
            ownership = service.ownership
            if ownership is not None and ownership.losing and subscription.owned:
                ownership.ended(block_of(key))
        if service.fences:
            self._lower_fences(service, arrival)
        return following

    def _shed(
        self, subscription: Subscription, arrival: Arrival, reason: str, wait: float = 0.0
    ) -> None:
        """Nobody handles this arrival; after ``wait`` seconds it might have been let in."""
        for handler in subscription.handlers:
            handler.shed[reason] += 1
            self._note_shed(handler, arrival, reason)
        arrival.source.owe(subscription.number, 1, subscription.acknowledge_at)
        if subscription.answers:
            arrival.source.judge(subscription.number, arrival.sequence, reason, wait or NEVER)
        service = subscription.service
        if service.unfinished.pop(arrival, None) is not None and service.fences:
            # It had waited for its block.
            self._lower_fences(service, arrival)

    def look_again(self, handler: HostedHandler) -> None:
        """The handler's limits have changed: who waits may perhaps go."""
        self._move_on(handler)
        if self.ready:
            self.wake()

    def _note_shed(self, handler: HostedHandler, arrival: Arrival, reason: str) -> None:
        self.lossy()
        if self.observer is not None:
            self.observer.shed(
                event_id_of(arrival),
                lineage_of(arrival),
                arrival.subscription.event.name,
                handler.service.name,
                handler.name,
                reason,
            )

    # -- fences, and the end of everything

    def fence(self, service: HostedService, source: Source, ended: Callable[[], None]) -> None:
        """Call ``ended`` when all keyed arrivals from ``source`` so far have ended."""
        if service.ownership is not None:
            service.ownership.fenced(source)
        before = {
            a for a in service.unfinished if a.source is source and a.subscription.key is not None
        }
        if before:
            service.fences.append((before, ended))
        else:
            ended()

    def _lower_fences(self, service: HostedService, arrival: Arrival) -> None:
        for fence in list(service.fences):
            before, ended = fence
            before.discard(arrival)
            if not before:
                service.fences.remove(fence)
                ended()

    def stop(self) -> None:
        """Let nothing in any more: what is ready or waits in line is shed."""
        self._stopped = True
        while self.ready:
            handler, arrival = self.ready.popleft()
            handler.in_flight -= 1
            handler.service.in_flight -= 1
            self._shed_part(handler, arrival, CLOSING)
        for handler in self._lined:
            if handler.alarm is not None:
                handler.alarm.cancel()
            while len(handler.line):
                self._shed_part(handler, handler.line.pop(), CLOSING)
        self._start_next()


def _expiry_of(arrival: Arrival) -> float:
    """When an arrival is too old to be handled, by this node's stopwatch."""
    ttl: float | None = arrival.subscription.event.policy.ttl
    return NEVER if ttl is None else arrival.source.emitted_at(arrival.sent) + ttl
