"""Who may run now, who waits, and what follows whom: the books of a node's arrivals.

An arrival is admitted, or waits for its block, its lane or a free place, or is shed; each way it is
acknowledged in the end, once. What may run is put into ``ready``; whoever runs it says when it has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from thence.delivery.hosted import HostedHandler, HostedService, Subscription
from thence.events.envelope import Arrival, Source, event_id_of, lineage_of
from thence.facts import Observer
from thence.routing.replicas import block_of

__all__ = ["Admission"]


class Admission:
    """The arrivals of one node that did not end where they came in.

    ``move(arrival, owner)`` gives an arrival back whose key belongs to another replica; ``wake()`` is called
    when ``ready`` may have something in it.
    """

    def __init__(self, move: Callable[[Arrival, str], None], wake: Callable[[], None]) -> None:
        self.observer: Observer | None = None
        self.ready: deque[tuple[HostedHandler, Arrival]] = deque()
        """What may run: the handler has a place for it."""
        self.wake = wake
        self._move = move
        self._stopped = False

    # -- coming in

    def admit(self, arrival: Arrival) -> None:
        """Let an arrival in: to its handlers, or to wait for its block, its lane or a free place."""
        subscription: Subscription = arrival.subscription
        service = subscription.service
        if self._stopped:
            self._shed(subscription, arrival, "closing")
            return
        if subscription.key is not None:
            key = getattr(arrival.body, subscription.key)
            if subscription.owned and not self._may_handle(service, arrival, key):
                return
            if key in service.lanes and subscription.waiting >= subscription.window:
                self._shed(subscription, arrival, "queue full")
                return
            service.unfinished[arrival] = len(subscription.handlers)
            if not service.lanes.enter(key, arrival):
                subscription.waiting += 1
                return
        else:
            service.unfinished[arrival] = len(subscription.handlers)
        self._start(arrival)

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
            self._shed(subscription, arrival, "key is moving")
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

    def _start(self, arrival: Arrival) -> None:
        """Give an arrival to its handlers; and those that follow it in its lane, as far as it is shed."""
        following: Arrival | None = arrival
        while following is not None:
            following = self._offer(following)
        if self.ready:
            self.wake()

    def _offer(self, arrival: Arrival) -> Arrival | None:
        """Give an arrival to its handlers. When none of them takes it: the next one in its lane."""
        subscription: Subscription = arrival.subscription
        following = None
        for handler in subscription.handlers:
            # Whoever waits in line goes first, or the followers in a busy lane would take every free place.
            if not (handler.line or self._stopped) and handler.has_place:
                self._begin(handler, arrival)
            elif len(handler.line) < handler.queue and not self._stopped:
                handler.line.append(arrival)
            else:
                following = self._shed_part(
                    handler, arrival, "closing" if self._stopped else "queue full"
                )
        return following

    def _shed_part(self, handler: HostedHandler, arrival: Arrival, reason: str) -> Arrival | None:
        """One handler of an admitted arrival never gets to run. Returns what may start now, if anything."""
        handler.shed[reason] += 1
        self._note_shed(handler, arrival, reason)
        return self._part_ended(arrival)

    def _begin(self, handler: HostedHandler, arrival: Arrival) -> None:
        handler.in_flight += 1
        handler.service.in_flight += 1
        self.ready.append((handler, arrival))

    # -- going out

    def ended(self, handler: HostedHandler, arrival: Arrival) -> None:
        """One handler of an admitted arrival has ended: its place, and perhaps its lane, is free."""
        service = handler.service
        handler.in_flight -= 1
        service.in_flight -= 1
        if handler.line or service.concurrency is not None:
            self._next_in_line(handler)
        following = self._part_ended(arrival)
        if following is not None:
            self._start(following)
        elif self.ready:
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
            while handler.line and handler.in_flight < handler.concurrency:
                self._begin(handler, handler.line.popleft())
            return
        # The place is the service's: its handlers take turns.
        here = service.handlers.index(handler) + 1
        turns = (*service.handlers[here:], *service.handlers[:here])
        begun = True
        while begun:
            begun = False
            for one in turns:
                if one.line and one.has_place:
                    self._begin(one, one.line.popleft())
                    begun = True

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

    def _shed(self, subscription: Subscription, arrival: Arrival, reason: str) -> None:
        """Nobody handles this arrival."""
        for handler in subscription.handlers:
            handler.shed[reason] += 1
            self._note_shed(handler, arrival, reason)
        arrival.source.owe(subscription.number, 1, subscription.acknowledge_at)
        service = subscription.service
        if service.unfinished.pop(arrival, None) is not None and service.fences:
            # It had waited for its block.
            self._lower_fences(service, arrival)

    def _note_shed(self, handler: HostedHandler, arrival: Arrival, reason: str) -> None:
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

    def stop(self, services: set[HostedService]) -> None:
        """Let nothing in any more: what is ready or waits in line at ``services`` is shed."""
        self._stopped = True
        services = services | {handler.service for handler, _ in self.ready}
        while self.ready:
            handler, arrival = self.ready.popleft()
            handler.in_flight -= 1
            handler.service.in_flight -= 1
            self._shed_chain(handler, arrival)
        for service in services:
            for handler in service.handlers:
                while handler.line:
                    self._shed_chain(handler, handler.line.popleft())

    def _shed_chain(self, handler: HostedHandler, arrival: Arrival) -> None:
        following = self._shed_part(handler, arrival, "closing")
        if following is not None:
            self._start(following)
