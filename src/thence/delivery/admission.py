"""Who may run now, who waits, and what follows whom: the books of a node's arrivals.

An arrival is admitted, or waits for its block, its lane, a free place or its handler's limit, or is shed;
each way it is acknowledged in the end, once. What may run is put into ``ready``; whoever runs it says when
it has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from operator import itemgetter

from thence.cascade.settlement import Branch, Branches
from thence.delivery.hosted import HostedHandler, HostedService, Subscription
from thence.delivery.loop_guard import LoopGuard
from thence.delivery.queueing import NEVER, Queueing
from thence.delivery.reasons import CLOSING, MOVING, OVERLOADED, QUEUE_FULL, REPLACED, kind_of
from thence.delivery.remembering import refused
from thence.events.envelope import (
    DEFAULT,
    Arrival,
    Source,
    depth_of,
    due_of,
    event_id_of,
    full_lineage_of,
    lineage_of,
)
from thence.facts import Observer, Ring
from thence.routing.replicas import block_of

__all__ = ["Admission"]


class Admission:
    """The arrivals of one node that did not end where they came in.

    ``move(arrival, owner)`` gives an arrival back whose key belongs to another replica; ``wake()`` is called
    when ``ready`` may have something in it.
    """

    def __init__(
        self,
        move: Callable[[Arrival, str], None],
        wake: Callable[[], None],
        branches: Branches,
        loops: LoopGuard,
        ring: Ring,
    ) -> None:
        self._note_refused = ring.note_refused
        self.queueing = Queueing(self._shed_part, self._start_next, wake, loops)
        self._branches = branches
        self.now = self.queueing.now
        self.ready = self.queueing.ready
        self.observer: Observer | None = None
        self.wake = wake
        self.lossy: Callable[[], None] = lambda: None
        """Called when something was shed."""
        self._move = move
        self._stopped = False
        self._next: deque[tuple[Arrival, bool]] = deque()
        """Whose turn it is in their lanes, to be given to their handlers; and whether their emitters, if they ask,
        know already that they are in.
        """
        self._starting = False

    # -- coming in

    def admit(self, arrival: Arrival) -> None:
        """Let an arrival in: to its handlers, or to wait for its block, its lane or a free place."""
        subscription: Subscription = arrival.subscription
        service = subscription.service
        arrival.noted = True
        if arrival.extras is not None:
            arrival.due = due_of(arrival)
            # What its numbers stand for may change while it waits.
            full_lineage_of(arrival)
            if arrival.extras.tracked and arrival.record is None:
                self.open_branch(arrival)
        elif arrival.due is None:
            arrival.due = arrival.source.sent_at + DEFAULT.seconds
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

    def open_branch(self, arrival: Arrival) -> Branch:
        """Somebody waits for the end of the arrival and of all that follows from it: keep books for it."""
        subscription: Subscription = arrival.subscription
        source, number, sequences = arrival.source, subscription.number, (arrival.sequence,)
        branch = arrival.record = self._branches.open(
            depth_of(arrival),
            len(subscription.handlers),
            lambda tally: source.settle(number, sequences, tally),
        )
        if arrival.since is None:
            arrival.since = source.read_at or self.now()
        return branch

    def note_begun(self, handler: HostedHandler, arrival: Arrival) -> None:
        """A handler of a tracked arrival begins."""
        branch = arrival.record
        if arrival.subscription.several:
            branch = self._branches.open_run(branch, handler.place)
        branch.began = self.now()

    def _move_on(self, arrival: Arrival, owner: str) -> None:
        """Give an arrival back; whoever gets it next reports on it, if it is tracked."""
        if arrival.record is not None:
            self._branches.forget(arrival.record)
            arrival.record = None
        self._move(arrival, owner)

    def _follow(self, subscription: Subscription, arrival: Arrival, key: Hashable) -> None:
        """Something of the arrival's key is unfinished: wait in the lane, or take another's place in it."""
        service = subscription.service
        if (
            service.lanes.first_waiting(key) is None
            and not subscription.handlers[0].line.size
            and self.queueing.joins_batch(subscription, arrival, key)
        ):
            service.unfinished[arrival] = 1
            if self.ready:
                self.wake()
            return
        if subscription.newest is not None:
            waiting = subscription.newest.get(key)
            if waiting is not None and not self.queueing.comes_back(subscription, arrival):
                self._replace(waiting, arrival)
                return
        if subscription.waiting >= subscription.window:
            self._shed(subscription, arrival, QUEUE_FULL)
            return
        if subscription.answers:
            refusal = self.queueing.refusal_of_all(subscription, arrival)
            if refusal is not None:
                self._shed(subscription, arrival, *refusal)
                return
            arrival.source.judge(subscription.number, arrival.sequence, "", 0.0)
        service.unfinished[arrival] = len(subscription.handlers)
        now = self.now()
        arrival.since = arrival.source.read_at or now
        for handler in subscription.handlers:
            if handler.queue_delay is not None and not handler.backlog:
                handler.queue_delay.was_empty(now)
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
        _close(waiting, REPLACED)
        waiting.source.owe(subscription.number, 1, subscription.acknowledge_at)
        newer.since = self.now()
        service = subscription.service
        if service.unfinished.pop(newer, None) is not None:
            # It had waited for its block; from now on it ends with the one whose place it takes.
            for before, _ in service.fences:
                if newer in before:
                    before.remove(newer)
                    before.add(waiting)
        for field in Arrival.__struct_fields__:
            setattr(waiting, field, getattr(newer, field))

    def _may_handle(self, service: HostedService, arrival: Arrival, key: object) -> bool:
        ownership = service.ownership
        if ownership is None or ownership.complete:
            return True
        block = block_of(key)
        subscription: Subscription = arrival.subscription
        if ownership.must_follow(arrival.source, block):
            self._move_on(arrival, ownership.owner_of(block))
        elif ownership.may_handle(block):
            return True
        elif ownership.waiting >= subscription.window:
            self._shed(subscription, arrival, MOVING)
        elif ownership.park(block, arrival):
            service.unfinished[arrival] = len(subscription.handlers)
        else:
            ownership.give_back(arrival.source, block)
            self._move_on(arrival, ownership.owner_of(block))
        return False

    def give_up(self, arrival: Arrival) -> None:
        """Give back an arrival that waited for a block which belongs to another replica now."""
        service: HostedService = arrival.subscription.service
        assert service.ownership is not None
        del service.unfinished[arrival]
        block = block_of(getattr(arrival.body, arrival.subscription.key))
        service.ownership.give_back(arrival.source, block)
        self._move_on(arrival, service.ownership.owner_of(block))
        if service.fences:
            self._lower_fences(service, arrival)

    def _start(self, arrival: Arrival) -> None:
        """Give an arrival to its handlers; and those that follow it in its lane, as far as it is shed."""
        if not self._taken_plainly(arrival):
            self._next.append((arrival, False))
            self._start_next()
        if self.ready:
            self.wake()

    def _taken_plainly(self, arrival: Arrival) -> bool:
        """Begin an arrival whose one handler has no policies, or put it in line: whether that was possible."""
        handler: HostedHandler | None = arrival.subscription.plain_handler
        if handler is None or self._stopped or arrival.extras is not None:
            return False
        line = handler.line
        if not line.size and handler.has_place:
            handler.take_place()
            self.ready.append((handler, arrival))
        elif line.size < handler.queue:
            self.queueing.lined.add(handler)
            line.append(arrival, 0.0)
        else:
            return False
        return True

    def _start_next(self) -> None:
        # Not recursively: a whole lane may be shed, one after the other.
        if self._starting:
            return
        self._starting = True
        now = self.now()
        try:
            while self._next:
                arrival, told = self._next.popleft()
                if arrival.due > now and self._taken_plainly(arrival):
                    continue
                subscription: Subscription = arrival.subscription
                refusals = self.queueing.offer_to_all(arrival, told)
                if subscription.answers and not told:
                    # The mildest: it was let in if one handler has taken it.
                    verdict = min(refusals, key=itemgetter(1))
                    arrival.source.judge(subscription.number, arrival.sequence, *verdict)
        finally:
            self._starting = False

    def _shed_part(self, handler: HostedHandler, arrival: Arrival, reason: str) -> None:
        """One handler of an admitted arrival never gets to run. What may start now is noted in ``_next``."""
        handler.shed[reason] += 1
        self._note_shed(handler, arrival, reason)
        if arrival.record is not None:
            arrival.record.refused(kind_of(reason))
        self.queueing.waits_no_more(arrival)
        after = self._part_ended(handler, arrival)
        if after is not None:
            self._next.append((after, True))

    # -- going out

    def ended(self, handler: HostedHandler, arrival: Arrival) -> None:
        """One handler of an admitted arrival has ended: its place, and perhaps its lane, is free."""
        service = handler.service
        handler.leave_place()
        if handler.line.size or service.concurrency is not None:
            self.queueing.next_in_line(handler)
        members = arrival.members or (arrival,)
        for member in members:
            if member.record is not None and member is not members[-1]:
                # It was handled together with the newest, whose run it is.
                member.record.refused("merged")
            following = self._part_ended(handler, member)
            if following is not None:
                self._next.append((following, True))
        if self._next:
            self._start_next()
        if self.ready:
            self.wake()

    def sheds_late(self, handler: HostedHandler, arrival: Arrival) -> bool:
        """Shed an arrival that was to run and has waited too long; whether that was so."""
        if arrival.members is not None or not self.queueing.is_late(handler, arrival):
            return False
        handler.leave_place()
        self._shed_part(handler, arrival, OVERLOADED)
        self.queueing.next_in_line(handler)
        self._start_next()
        return True

    def begun_unasked(self, handler: HostedHandler, arrival: Arrival) -> None:
        """A run that was begun without admission, because nothing was unfinished, has suspended."""
        subscription: Subscription = arrival.subscription
        service = subscription.service
        arrival.noted = True
        # Its source knows both for sure only while its frame is being handled.
        arrival.due = due_of(arrival)
        full_lineage_of(arrival)
        if arrival.extras is not None and arrival.extras.tracked and arrival.record is None:
            self.open_branch(arrival)
            self.note_begun(handler, arrival)
        if subscription.key is not None:
            service.lanes.enter(getattr(arrival.body, subscription.key), arrival)
        service.unfinished[arrival] = 1
        handler.take_place()

    def _part_ended(self, handler: HostedHandler, arrival: Arrival) -> Arrival | None:
        """One handler of an admitted arrival has ended. Returns the next in its lane if that was the last."""
        subscription: Subscription = arrival.subscription
        service = subscription.service
        following = None
        if arrival.record is not None:
            arrival.record.branch_of(handler.place).part_ended()
        remaining = service.unfinished[arrival] - 1
        if remaining:
            service.unfinished[arrival] = remaining
            return None
        del service.unfinished[arrival]
        source: Source = arrival.source
        source.owe(subscription.number, 1, subscription.acknowledge_at)
        if subscription.key is not None:
            key = getattr(arrival.body, subscription.key)
            if arrival in self.queueing.beside_others:
                self.queueing.beside_others.remove(arrival)
            else:
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
        _close(arrival, reason)
        arrival.source.owe(subscription.number, 1, subscription.acknowledge_at)
        if subscription.answers:
            arrival.source.judge(subscription.number, arrival.sequence, reason, wait or NEVER)
        service = subscription.service
        if service.unfinished.pop(arrival, None) is not None and service.fences:
            # It had waited for its block.
            self._lower_fences(service, arrival)

    def _note_shed(self, handler: HostedHandler, arrival: Arrival, reason: str) -> None:
        self.lossy()
        arrival.subscription.accounts[handler].shed[reason] += 1
        self._note_refused(refused(handler, arrival, self.now(), reason))
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

    def fence(
        self,
        service: HostedService,
        source: Source,
        blocks: Iterable[int],
        ended: Callable[[], None],
    ) -> None:
        """Call ``ended`` when all keyed arrivals from ``source`` so far have ended.

        None of ``blocks`` come from there before that.
        """

        def passed() -> None:
            if service.ownership is not None:
                service.ownership.fenced(source, blocks)
            ended()

        before = {
            a for a in service.unfinished if a.source is source and a.subscription.key is not None
        }
        if before:
            service.fences.append((before, passed))
        else:
            passed()

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
        self.queueing.stop()


def _close(arrival: Arrival, reason: str) -> None:
    """None of the arrival's handlers ever runs."""
    if arrival.record is not None:
        handlers = len(arrival.subscription.handlers)
        arrival.record.refused(kind_of(reason), handlers)
        for _ in range(handlers):
            arrival.record.part_ended()
