"""From an arrival to the end of its handlers.

Most arrivals take the short way: nothing of their service is unfinished, their handler is run at once on a
carrier and ends without suspending. :meth:`Dispatcher._run` is that way, and all of it. Everything else,
an arrival whose key is busy, a full line, a handler that suspends, several handlers, goes through
:meth:`Dispatcher.admit`, which keeps the books.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, copy_context
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any

from thence.delivery.hosted import HostedHandler, HostedService, Subscription
from thence.errors import ThenceError
from thence.events.envelope import Arrival, Source, event_id_of, lineage_of
from thence.facts import Observer
from thence.handling.carrier import Carrier, CarrierPool
from thence.mesh.cork import Cork
from thence.routing.replicas import block_of

__all__ = ["RUNNING", "Dispatcher"]

logger = logging.getLogger("thence.handling")

RUNNING: ContextVar[tuple[HostedHandler, Arrival] | None] = ContextVar(
    "thence_running", default=None
)
"""The run that the current code belongs to, so that what it emits joins its cascade."""


class Dispatcher:
    """Runs the handlers of one node.

    ``emit(handler, arrival, result, context)`` emits what a successful run returned, all or nothing;
    ``make_context(handler, arrival)`` makes what a handler gets as ``ctx``; ``move(arrival, owner)`` gives
    an arrival back whose key belongs to another replica.
    """

    def __init__(
        self,
        cork: Cork,
        emit: Callable[[HostedHandler, Arrival, Any, Any], None],
        make_context: Callable[[HostedHandler, Arrival], Any],
        move: Callable[[Arrival, str], None],
    ) -> None:
        self.observer: Observer | None = None
        self._loop = asyncio.get_running_loop()
        self._cork = cork
        self._emit = emit
        self._make_context = make_context
        self._move = move
        self._carriers = CarrierPool(self._loop)
        self._work: deque[tuple[HostedHandler, Arrival]] = deque()
        """Admitted and ready to run."""
        self._processing = False
        self._scheduled = False
        self._arrival: Arrival | None = None
        self._handler: HostedHandler | None = None
        """What is being run by hand; the handler only when it was admitted."""
        self._touched: list[Subscription] = []
        self._tasks: dict[asyncio.Task[Any], tuple[HostedHandler, Arrival]] = {}
        self._timed_out: set[asyncio.Task[Any]] = set()
        self._stopped = False

    # -- the short way

    def process(self, source: Source, batch: Iterable[Arrival]) -> None:
        """Handle a batch that has arrived from ``source``.

        To be called from a callback of the loop, and with the cork in, so that all consequences of the
        batch leave together.
        """
        self._processing = True
        carriers = self._carriers
        arrivals = iter(batch)
        try:
            while True:
                carrier = carriers.take()
                if carrier is None:
                    self._process_without_carrier(source, arrivals)
                    return
                through = False
                try:
                    through = carrier.step(self._run(source, arrivals, carrier))
                except BaseException:
                    carrier.retire()
                    raise
                finally:
                    if self._touched:
                        self._acknowledge(source)
                    if not through:
                        carriers.replenish()
                if not through:
                    self._hand_over(carrier)
                elif carrier.context_kept:
                    carriers.give_back(carrier)
                    return
                else:
                    carrier.retire()
                    carriers.replenish()
        finally:
            self._processing = False

    async def _run(self, source: Source, batch: Iterator[Arrival], carrier: Carrier) -> None:
        self._handler = None
        for arrival in batch:
            arrival.source = source
            subscription: Subscription = arrival.subscription
            handler = subscription.direct
            if handler is None or subscription.service.unfinished:
                self.admit(arrival)
                continue
            self._arrival = arrival
            RUNNING.set((handler, arrival))
            before = copy_context()
            error = None
            try:
                if handler.takes_context:
                    context = self._make_context(handler, arrival)
                    result = await handler.call(arrival.body, context)
                    self._emit(handler, arrival, result, context)
                else:
                    result = await handler.call(arrival.body)
                    if result is not None:
                        self._emit(handler, arrival, result, None)
            except BaseException as raised:
                error = raised
            if carrier.left:
                self._end(handler, arrival, error)
                return
            if not subscription.done:
                self._touched.append(subscription)
            subscription.done += 1
            handler.handled += 1
            if handler.streak:
                handler.went_through()
            if error is not None:
                self._note_failure(handler, arrival, error)
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    raise error
            elif self.observer is not None:
                self._note_handled(handler, arrival)
            try:
                if copy_context() != before or carrier.parked.done():
                    carrier.context_kept = False
                    return
            except Exception:
                # The values of context variables are compared; not all can be.
                carrier.context_kept = False
                return
        if self._work:
            await self._run_admitted(carrier)

    # -- the long way

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

    def wake(self) -> None:
        """Run what has been admitted outside of a batch, in the next tick."""
        if self._work and not self._processing and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run_scheduled)

    def _run_scheduled(self) -> None:
        self._scheduled = False
        if self._work:
            with self._cork:
                self.process(NOWHERE, ())

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
        self.wake()

    def _offer(self, arrival: Arrival) -> Arrival | None:
        """Give an arrival to its handlers. When none of them takes it: the next one in its lane."""
        subscription: Subscription = arrival.subscription
        following = None
        for handler in subscription.handlers:
            # Whoever waits in line goes first, or the followers in a busy lane would take every free place.
            free = (
                not handler.line
                and handler.in_flight < handler.concurrency
                and handler.service.has_capacity
            )
            if free and not self._stopped:
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
        self._work.append((handler, arrival))

    async def _run_admitted(self, carrier: Carrier) -> None:
        while self._work:
            handler, arrival = self._work.popleft()
            if handler.wants_task:
                self._give_task(handler, arrival)
                continue
            self._arrival, self._handler = arrival, handler
            RUNNING.set((handler, arrival))
            before = copy_context()
            error = await self._attempt(handler, arrival)
            self._end(handler, arrival, error)
            if carrier.left:
                return
            if handler.streak:
                handler.went_through()
            try:
                if copy_context() != before or carrier.parked.done():
                    carrier.context_kept = False
                    return
            except Exception:
                carrier.context_kept = False
                return

    async def _attempt(self, handler: HostedHandler, arrival: Arrival) -> BaseException | None:
        try:
            if handler.takes_context:
                context = self._make_context(handler, arrival)
                result = await handler.call(arrival.body, context)
                self._emit(handler, arrival, result, context)
            else:
                result = await handler.call(arrival.body)
                if result is not None:
                    self._emit(handler, arrival, result, None)
        except BaseException as error:
            return error
        return None

    def _process_without_carrier(self, source: Source, batch: Iterator[Arrival]) -> None:
        """All carriers are busy or not started yet: a task for each run."""
        for arrival in batch:
            arrival.source = source
            self.admit(arrival)
        while self._work:
            self._give_task(*self._work.popleft())

    def _give_task(self, handler: HostedHandler, arrival: Arrival) -> None:
        # In a context of its own: the present one may be that of another run, whose end let this one begin.
        task = self._loop.create_task(
            self._run_alone(handler, arrival),
            name=f"thence {handler.name}",
            context=self._carriers.base.copy(),
        )
        if not task.done():
            self._tasks[task] = (handler, arrival)
            handler.timeouts.watch(task)

    async def _run_alone(self, handler: HostedHandler, arrival: Arrival) -> None:
        RUNNING.set((handler, arrival))
        error = await self._attempt(handler, arrival)
        self._end(handler, arrival, error)

    def _hand_over(self, carrier: Carrier) -> None:
        """The run in progress has suspended and goes on in the carrier's own task: keep books for it."""
        carrier.left = True
        arrival, handler = self._arrival, self._handler
        assert arrival is not None
        if handler is None:
            subscription: Subscription = arrival.subscription
            handler = subscription.direct
            assert handler is not None
            service = subscription.service
            if subscription.key is not None:
                service.lanes.enter(getattr(arrival.body, subscription.key), arrival)
            service.unfinished[arrival] = 1
            handler.in_flight += 1
            service.in_flight += 1
        handler.suspended()
        handler.timeouts.watch(carrier.task)
        self._tasks[carrier.task] = (handler, arrival)

    # -- the end

    def _end(self, handler: HostedHandler, arrival: Arrival, error: BaseException | None) -> None:
        """One handler of an admitted arrival has ended."""
        handler.handled += 1
        task = asyncio.current_task()
        if task is not None:
            self._tasks.pop(task, None)
            handler.timeouts.forget(task)
            if task in self._timed_out:
                self._timed_out.discard(task)
                if isinstance(error, asyncio.CancelledError):
                    task.uncancel()
                    error = TimeoutError(
                        f"did not end within its timeout of {handler.spec.policy.timeout:g} s"
                    )
        if error is not None:
            self._note_failure(handler, arrival, error)
        elif self.observer is not None:
            self._note_handled(handler, arrival)
        service = handler.service
        handler.in_flight -= 1
        service.in_flight -= 1
        self._next_in_line(handler)
        following = self._part_ended(arrival)
        if following is not None:
            self._start(following)
        self.wake()
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error

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
                if one.line and one.in_flight < one.concurrency and service.has_capacity:
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

    def _acknowledge(self, source: Source) -> None:
        """Acknowledge what the batch has ended so far."""
        for subscription in self._touched:
            source.owe(subscription.number, subscription.done, subscription.acknowledge_at)
            subscription.done = 0
        self._touched.clear()

    def _note_handled(self, handler: HostedHandler, arrival: Arrival) -> None:
        assert self.observer is not None
        self.observer.handled(
            event_id_of(arrival),
            lineage_of(arrival),
            arrival.subscription.event.name,
            handler.service.name,
            handler.name,
        )

    def _note_failure(self, handler: HostedHandler, arrival: Arrival, error: BaseException) -> None:
        handler.handled -= 1
        handler.failed += 1
        event_id, lineage = event_id_of(arrival), lineage_of(arrival)
        logger.error(
            "handler %s of service %s failed on %s: %s: %s (event %s, root %s, cause %s)",
            handler.name,
            handler.service.name,
            arrival.subscription.event.name,
            type(error).__name__,
            error,
            event_id,
            lineage.root if lineage else event_id,
            lineage.cause if lineage else "none",
            exc_info=None if isinstance(error, ThenceError) else error,
        )
        if self.observer is not None:
            event = arrival.subscription.event.name
            self.observer.failed(
                event_id, lineage, event, handler.service.name, handler.name, error
            )

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

    # -- fences, timeouts, the end of everything

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

    def expired(self, task: asyncio.Task[Any]) -> None:
        """A run has reached its timeout."""
        if task.done():
            self._never_began(task)
        else:
            self._timed_out.add(task)
            task.cancel()

    def _never_began(self, task: asyncio.Task[Any]) -> None:
        """A task that is cancelled before its first step never runs its coroutine: nothing else would end it."""
        run = self._tasks.pop(task, None)
        if run is not None:
            self._end(*run, asyncio.CancelledError("cancelled before it began"))

    def stop(self) -> None:
        """Begin no further run: what is waiting here, and what still arrives, is shed."""
        self._stopped = True
        self._carriers.close()
        services = {handler.service for handler, _ in (*self._work, *self._tasks.values())}
        while self._work:
            handler, arrival = self._work.popleft()
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

    def cancel(self) -> list[asyncio.Task[Any]]:
        """Cancel every run in flight, begin no other, and return their tasks."""
        self.stop()
        for task in list(self._tasks):
            task.cancel()
            if getcoroutinestate(task.get_coro()) == CORO_CREATED:  # type: ignore[arg-type]
                self._never_began(task)
        return list(self._tasks)

    def close(self) -> None:
        """Run nothing any more."""
        self.stop()


class _Nowhere:
    """The source of a batch without arrivals."""

    node = label = ""

    def name_of(self, number: int) -> str:
        raise LookupError(number)

    def owe(self, number: int, count: int, at_once: int) -> None:
        raise LookupError(number)


NOWHERE = _Nowhere()
