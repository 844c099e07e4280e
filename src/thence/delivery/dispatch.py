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

RUNNING: ContextVar[tuple[HostedHandler, Arrival] | None] = ContextVar("thence_running", default=None)
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
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timed_out: set[asyncio.Task[Any]] = set()

    # -- the short way

    def process(self, source: Source, batch: Iterable[Arrival]) -> None:
        """Handle a batch that has arrived from ``source``.

        To be called from a callback of the loop, and with the cork in, so that all consequences of the
        batch leave together.
        """
        self._processing = True
        try:
            self._process(source, iter(batch))
        finally:
            self._processing = False

    def _process(self, source: Source, batch: Iterator[Arrival]) -> None:
        while True:
            carrier = self._carriers.take()
            if carrier is None:
                self._process_without_carrier(source, batch)
                return
            through = False
            try:
                through = carrier.step(self._run(source, batch, carrier))
            finally:
                self._acknowledge(source)
                if not through:
                    self._carriers.replenish()
            if not through:
                self._hand_over(carrier)
            elif carrier.context_kept:
                self._carriers.give_back(carrier)
                return
            else:
                carrier.retire()
                self._carriers.replenish()

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
            elif self.observer is not None:
                self.observer.handled(event_id_of(arrival), lineage_of(arrival), handler.service.name, handler.name)
            if copy_context() != before or carrier.parked.done():
                carrier.context_kept = False
                return
        if self._work:
            await self._run_admitted(carrier)

    # -- the long way

    def admit(self, arrival: Arrival) -> None:
        """Let an arrival in: to its handlers, or to wait for its block, its lane or a free place."""
        subscription: Subscription = arrival.subscription
        service = subscription.service
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
        if ownership.may_handle(block):
            return True
        subscription: Subscription = arrival.subscription
        if ownership.waiting >= subscription.window:
            self._shed(subscription, arrival, "key is moving")
        elif ownership.park(block, arrival):
            service.unfinished[arrival] = len(subscription.handlers)
        else:
            self._move(arrival, ownership.owner_of(block))
        return False

    def give_up(self, arrival: Arrival) -> None:
        """Give back an arrival that waited for a block which belongs to another replica now."""
        service: HostedService = arrival.subscription.service
        assert service.ownership is not None
        del service.unfinished[arrival]
        key = getattr(arrival.body, arrival.subscription.key)
        self._move(arrival, service.ownership.owner_of(block_of(key)))
        if service.fences:
            self._lower_fences(service, arrival)

    def _start(self, arrival: Arrival) -> None:
        subscription: Subscription = arrival.subscription
        for handler in subscription.handlers:
            if handler.in_flight < handler.concurrency and handler.service.has_capacity:
                self._begin(handler, arrival)
            elif len(handler.line) < handler.queue:
                handler.line.append(arrival)
            else:
                handler.shed["queue full"] += 1
                self._note_shed(handler, arrival, "queue full")
                self._part_ended(arrival)
        self.wake()

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
            if copy_context() != before or carrier.parked.done():
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
        task = self._loop.create_task(self._run_alone(handler, arrival), name=f"thence {handler.name}")
        self._tasks.add(task)
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
        self._tasks.add(carrier.task)

    # -- the end

    def _end(self, handler: HostedHandler, arrival: Arrival, error: BaseException | None) -> None:
        """One handler of an admitted arrival has ended."""
        handler.handled += 1
        task = asyncio.current_task()
        if task is not None:
            self._tasks.discard(task)
            handler.timeouts.forget(task)
            if task in self._timed_out:
                self._timed_out.discard(task)
                if isinstance(error, asyncio.CancelledError):
                    task.uncancel()
                    error = TimeoutError(f"did not end within its timeout of {handler.spec.policy.timeout:g} s")
        if error is not None:
            self._note_failure(handler, arrival, error)
        elif self.observer is not None:
            self.observer.handled(event_id_of(arrival), lineage_of(arrival), handler.service.name, handler.name)
        service = handler.service
        handler.in_flight -= 1
        service.in_flight -= 1
        self._part_ended(arrival)
        self._next_in_line(handler)
        self.wake()

    def _next_in_line(self, handler: HostedHandler) -> None:
        service = handler.service
        waiting = (handler, *service.handlers) if service.concurrency is not None else (handler,)
        for one in waiting:
            while one.line and one.in_flight < one.concurrency and service.has_capacity:
                self._begin(one, one.line.popleft())

    def _part_ended(self, arrival: Arrival) -> None:
        subscription: Subscription = arrival.subscription
        service = subscription.service
        remaining = service.unfinished[arrival] - 1
        if remaining:
            service.unfinished[arrival] = remaining
            return
        del service.unfinished[arrival]
        source: Source = arrival.source
        source.owe(subscription.number, 1, subscription.acknowledge_at)
        if subscription.key is not None:
            key = getattr(arrival.body, subscription.key)
            following = service.lanes.leave(key)
            if following is not None:
                following.subscription.waiting -= 1
                self._start(following)
            ownership = service.ownership
            if ownership is not None and ownership.losing and subscription.owned:
                ownership.ended(block_of(key))
        if service.fences:
            self._lower_fences(service, arrival)

    def _acknowledge(self, source: Source) -> None:
        """Acknowledge what the batch has ended so far."""
        for subscription in self._touched:
            source.owe(subscription.number, subscription.done, subscription.acknowledge_at)
            subscription.done = 0
        self._touched.clear()

    def _note_failure(self, handler: HostedHandler, arrival: Arrival, error: BaseException) -> None:
        handler.handled -= 1
        handler.failed += 1
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error
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
            self.observer.failed(event_id, lineage, handler.service.name, handler.name, error)

    def _shed(self, subscription: Subscription, arrival: Arrival, reason: str) -> None:
        """Nobody handles this arrival."""
        for handler in subscription.handlers:
            handler.shed[reason] += 1
            self._note_shed(handler, arrival, reason)
        arrival.source.owe(subscription.number, 1, subscription.acknowledge_at)

    def _note_shed(self, handler: HostedHandler, arrival: Arrival, reason: str) -> None:
        if self.observer is not None:
            self.observer.shed(event_id_of(arrival), lineage_of(arrival), handler.service.name, handler.name, reason)

    # -- fences, timeouts, the end of everything

    def fence(self, service: HostedService, source: Source, ended: Callable[[], None]) -> None:
        """Call ``ended`` when all keyed arrivals from ``source`` so far have ended."""
        before = {a for a in service.unfinished if a.source is source and a.subscription.key is not None}
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
        self._timed_out.add(task)
        task.cancel()

    def cancel(self) -> list[asyncio.Task[Any]]:
        """Cancel every run in flight and return their tasks."""
        for task in self._tasks:
            task.cancel()
        return list(self._tasks)

    def close(self) -> None:
        """Run nothing any more."""
        self._work.clear()
        self._carriers.close()


class _Nowhere:
    """The source of a batch without arrivals."""

    node = label = ""

    def name_of(self, number: int) -> str:
        raise LookupError(number)

    def owe(self, number: int, count: int, at_once: int) -> None:
        raise LookupError(number)


NOWHERE = _Nowhere()
