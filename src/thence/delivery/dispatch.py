"""Running the handlers of a node's arrivals.

Most arrivals take the short way: nothing of their service is unfinished, their handler is run at once on a
carrier and ends without suspending. :meth:`Dispatcher._work` is that way, and all of it. Everything else,
an arrival whose key is busy, a full line, a handler that suspends, several handlers, goes through
:class:`~thence.delivery.admission.Admission`, which keeps the books.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from inspect import CORO_CREATED, getcoroutinestate
from operator import attrgetter
from typing import Any

from msgspec import Struct

from thence.cascade.settlement import ENDED, Branch, Branches, Failure, Step, Tally
from thence.delivery.about import about, failure_text
from thence.delivery.accounts import MANY, Account
from thence.delivery.admission import Admission
from thence.delivery.hosted import HostedHandler, Subscription
from thence.delivery.loop_guard import LoopGuard
from thence.delivery.remembering import error_text, ran
from thence.delivery.running import RUNNING
from thence.delivery.timing import Timing
from thence.errors import ThenceError
from thence.events.envelope import (
    DEFAULT,
    FAILED,
    Arrival,
    Extras,
    Source,
    Told,
    depth_of,
    event_id_of,
    lineage_of,
)
from thence.facts import Observer, Ring
from thence.handling.carrier import Carrier, CarrierPool, next_job
from thence.mesh.cork import Cork

__all__ = ["Dispatcher"]

logger = logging.getLogger("thence.handling")


DEFAULT_SECONDS = DEFAULT.seconds

_sequence_in = attrgetter("sequence")
_lineage_in = attrgetter("lineage")
_path_in = attrgetter("extras.path")


class Run(Struct, eq=False):
    """A run that has suspended, or was given a task from the start."""

    handler: HostedHandler
    arrival: Arrival
    task: Any = None
    timed_out: bool = False
    began: float = 0.0


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
        branches: Branches,
        loops: LoopGuard,
        name: str,
        ring: Ring,
    ) -> None:
        self.observer: Observer | None = None
        self.admission = Admission(move, self._wake, branches, loops, ring)
        self._note, self._note_failed = ring.note, ring.note_failed
        self._undigested, self._digest = ring.undigested, ring.digest
        self._digest_at = ring.digest_at
        self._now = self.admission.now
        self._timing = Timing(self._now)
        self._sampled = self._timing.sampled
        ring.watch = self._timing.fold
        self._loops = loops
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._cork = cork
        self._emit = emit
        self._make_context = make_context
        self._ready = self.admission.ready
        self._processing = False
        self._scheduled = False
        self._arrival: Arrival | None = None
        self._handler: HostedHandler | None = None
        """What is being run by hand; the handler only when it was admitted."""
        self._began = 0.0
        """When that was begun; only when it was admitted."""
        self._touched: list[Subscription] = []
        self._childless: list[Arrival] = []
        """Tracked arrivals that have ended in this batch, and could cause nothing."""
        self._runs: set[Run] = set()
        self._carriers = CarrierPool(self._loop, self._work)

    def observe(self, observer: Observer | None) -> None:
        """Tell ``observer`` what happens from now on."""
        self.observer = self.admission.observer = observer

    # -- the short way

    def process(self, source: Source, batch: Sequence[Arrival]) -> None:
        """Handle a batch that has arrived from ``source``.

        To be called from a callback of the loop, and with the cork in, so that all consequences of the
        batch leave together.
        """
        self._processing = True
        carriers = self._carriers
        idle = carriers.idle
        arrivals = iter(batch) if len(batch) == 1 else self._sampled(source, batch)
        try:
            while True:
                carrier = idle[-1] if idle else None
                if carrier is None or not carrier.started or carrier.parked.done():
                    carrier = carriers.first()
                if carrier is None:
                    self._process_without_carrier(source, arrivals)
                    break
                through = False
                try:
                    through = carrier.step((source, arrivals))
                except BaseException:
                    carriers.lose(carrier)
                    raise
                finally:
                    # What the batch has ended so far.
                    for subscription in self._touched:
                        source.owe(
                            subscription.number, subscription.done, subscription.acknowledge_at
                        )
                        subscription.account.handled += subscription.done
                        subscription.done = 0
                    self._touched.clear()
                    if self._childless:
                        self._report_childless(source)
                if through and carrier.context_kept:
                    break
                if not through:
                    self._hand_over(carrier, source.sent_at if len(batch) == 1 else 0.0)
                carriers.lose(carrier)
            # Made sense of later: here it would be done cold.
            undigested = self._undigested
            undigested.append(
                (source, source.told, source.stamp, source.sent_at, self._now(), batch)
            )
            if len(undigested) >= self._digest_at or len(batch) >= self._digest_at:
                self._digest()
        finally:
            self._processing = False
            self._arrival = None

    async def _work(self, carrier: Carrier) -> None:
        """One batch after another, on one carrier."""
        now = self.admission.now
        while True:
            source, batch = await next_job()
            self._handler = None
            for arrival in batch:
                arrival.source = source
                subscription: Subscription = arrival.subscription
                handler, extras = subscription.direct, arrival.extras
                if (
                    handler is None
                    or subscription.service.unfinished
                    or (
                        extras is not None
                        and (
                            handler.declared
                            or source.stale
                            or extras.deadline / 1000 + source.behind <= source.sent_at
                        )
                        and not self._may_begin(handler, arrival, extras)
                    )
                    or (handler.gate is not None and handler.admit(arrival, now()))
                ):
                    self.admission.admit(arrival)
                    continue
                self._arrival = arrival
                RUNNING.set(arrival)
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
                if carrier.left is not None:
                    self._end(handler, arrival, error, carrier.left, carrier.left.began)
                    return
                if extras is not None and extras.tracked:
                    if arrival.record is None and error is None:
                        # It has caused nothing: one report will do for all such of the batch.
                        arrival.record = ENDED
                        self._childless.append(arrival)
                    else:
                        self._end_tracked(handler, arrival, error)
                if error is not None:
                    arrival.noted = FAILED
                    text = error_text(error, arrival)
                    self._note_failed(ran(handler, arrival, None, now(), text))
                if not subscription.done:
                    self._touched.append(subscription)
                subscription.done += 1
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
                        break
                except Exception:
                    # The values of context variables are compared; not all can be.
                    carrier.context_kept = False
                    break
            else:
                if self._ready:
                    await self._run_admitted(carrier)
                    if carrier.left is not None:
                        return

    def _may_begin(self, handler: HostedHandler, arrival: Arrival, extras: Extras) -> bool:
        """Whether an arrival with which there is more to do than to run its handler may run at once."""
        source: Source = arrival.source
        if source.stale:
            return False
        due = arrival.due
        if due is None and extras.deadline:
            due = extras.deadline / 1000 + source.behind
        if due is not None and due <= source.sent_at:
            return False
        if handler.declared and self._loops.back_at(handler, arrival):
            return False
        if extras.tracked and handler.declared:
            self.admission.open_branch(arrival)
            self.admission.note_begun(handler, arrival)
        return True

    def _end_tracked(
        self, handler: HostedHandler, arrival: Arrival, error: BaseException | None
    ) -> None:
        branch: Branch | None = arrival.record
        if branch is None:
            branch = self.admission.open_branch(arrival)
            self.admission.note_begun(handler, arrival)
        self._note_ran(handler, arrival, branch, error)
        branch.part_ended()

    def _report_childless(self, source: Source) -> None:
        """Report the end of tracked arrivals that caused nothing, in one for all of a subscription."""
        ended, self._childless = self._childless, []
        ran = (self.admission.now() - source.sent_at) / len(ended)
        if len(set(map(type, ended))) == 1:
            self._report_alike(source, ended, ran)
            return
        by_subscription: dict[Subscription, list[Arrival]] = {}
        for arrival in ended:
            by_subscription.setdefault(arrival.subscription, []).append(arrival)
        for arrivals in by_subscription.values():
            self._report_alike(source, arrivals, ran)

    def _report_alike(self, source: Source, ended: list[Arrival], ran: float) -> None:
        subscription: Subscription = ended[0].subscription
        # One of each lineage will do. On links it is a number that tells the path.
        ways = map(id, map(_lineage_in, ended)) if source.is_local else map(_path_in, ended)
        depth = max(map(depth_of, dict(zip(ways, ended, strict=True)).values()))
        place = subscription.handlers[0].place
        step = Step(subscription.event.name, place, self._name, 0.0, ran)
        sequences = tuple(map(_sequence_in, ended))
        source.settle(subscription.number, sequences, Tally(1, depth, steps=(step,)))

    def is_at_work_on(self, handler: HostedHandler, arrival: Arrival) -> bool:
        """Whether a run for that arrival goes on; perhaps another handler's, where it goes to several."""
        if self._processing and self._arrival is arrival:
            return True
        # A batch is a copy of the newest in it.
        one = arrival if arrival.members is None else arrival.members[-1]
        return one in handler.service.unfinished

    def in_flight(self) -> Counter[Account]:
        """How many runs have suspended and not ended, by type of event and handler."""
        return Counter(run.arrival.subscription.accounts[run.handler] for run in self._runs)

    # -- the long way

    def _wake(self) -> None:
        """Run what has been admitted outside of a batch, in the next tick."""
        if self._ready and not self._processing and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run_scheduled)

    def _run_scheduled(self) -> None:
        self._scheduled = False
        if self._ready:
            with self._cork:
                self.process(NOWHERE, ())

    async def _run_admitted(self, carrier: Carrier) -> None:
        now = self.admission.now
        # What follows does not belong to the time that the rest of the batch took.
        self._undigested.append((NOWHERE, NOWHERE.told, 0.0, 0.0, now(), ()))
        while self._ready:
            handler, arrival = self._ready.popleft()
            if handler.queue_delay is not None and self.admission.sheds_late(handler, arrival):
                continue
            if handler.wants_task:
                self._give_task(handler, arrival)
                continue
            self._arrival, self._handler = arrival, handler
            RUNNING.set((arrival, handler) if arrival.subscription.several else arrival)
            before = copy_context()
            self._began = began = now()
            await self._run(handler, arrival, carrier, None, began)
            if carrier.left is not None:
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

    async def _run(
        self,
        handler: HostedHandler,
        arrival: Arrival,
        carrier: Carrier | None,
        run: Run | None,
        began: float,
    ) -> None:
        """Run a handler for an admitted arrival: on a carrier, or in the task of ``run``.

        The same lines stand in :meth:`_work`, where one more coroutine for each event would show.
        """
        RUNNING.set((arrival, handler) if arrival.subscription.several else arrival)
        if arrival.record is not None:
            self.admission.note_begun(handler, arrival)
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
        self._end(handler, arrival, error, run if carrier is None else carrier.left, began)

    def _process_without_carrier(self, source: Source, batch: Iterator[Arrival]) -> None:
        """All carriers are busy or not started yet: a task for each run."""
        for arrival in batch:
            arrival.source = source
            self.admission.admit(arrival)
        while self._ready:
            self._give_task(*self._ready.popleft())

    def _give_task(self, handler: HostedHandler, arrival: Arrival) -> None:
        # In a context of its own: the present one may be that of another run, whose end let this one begin.
        run = Run(handler, arrival, began=self.admission.now())
        loop, base = self._loop, self._carriers.base
        work = self._run(handler, arrival, None, run, run.began)
        task: asyncio.Task[None]
        if loop.get_task_factory() is None:
            # What the loop does too, in three quarters of the time.
            task = asyncio.Task(work, loop=loop, name=handler.task_name, context=base.copy())
        else:
            task = loop.create_task(work, name=handler.task_name, context=base.copy())
        if not task.done():
            run.task = task
            self._keep(run)

    def _hand_over(self, carrier: Carrier, began: float) -> None:
        """The run in progress has suspended and goes on in the carrier's own task: keep books for it.

        ``began``: when it was begun if it was not admitted, or 0.0 for a moment ago.
        """
        arrival, handler = self._arrival, self._handler
        assert arrival is not None
        if handler is not None:
            began = self._began
        else:
            handler = arrival.subscription.direct
            assert handler is not None
            self.admission.begun_unasked(handler, arrival)
        handler.suspended()
        began = began or self.admission.now()
        carrier.left = run = Run(handler, arrival, carrier.task, began=began)
        self._keep(run)

    def _keep(self, run: Run) -> None:
        self._runs.add(run)
        run.handler.timeouts.watch(run)

    # -- the end

    def _end(
        self,
        handler: HostedHandler,
        arrival: Arrival,
        error: BaseException | None,
        run: Run | None,
        began: float,
    ) -> None:
        """What was admitted has been run; in a task of its own if there is a ``run``."""
        if run is not None:
            self._runs.discard(run)
            handler.timeouts.forget(run)
            if run.timed_out and isinstance(error, asyncio.CancelledError):
                run.task.uncancel()
                error = TimeoutError(
                    f"did not end within its timeout of {handler.spec.policy.timeout:g} s"
                )
        ended = self._now()
        text = None if error is None else error_text(error, arrival)
        note = self._note if text is None else self._note_failed
        for one in arrival.members or (arrival,):
            account: Account = one.subscription.accounts[handler]
            account.handled += 1
            if one.since is None:
                # Nothing is noted when it only has to wait for a free place, but its deadline tells.
                came = one.due - DEFAULT_SECONDS if one.extras is None else began
            else:
                came = one.since
            account.note_delay(began - came)
            if len(account.delays) >= MANY:
                account.fold()
            note(ran(handler, one, None if run is None else began, ended, text))
        arrival.subscription.accounts[handler].note_took(ended - began)
        if arrival.record is not None:
            self._note_ran(handler, arrival, arrival.record.branch_of(handler.place), error)
        if error is not None:
            self._note_failure(handler, arrival, error)
        else:
            if handler.breaker.state != "closed":
                handler.note_recovery()
            if self.observer is not None:
                self._note_handled(handler, arrival)
        self.admission.ended(handler, arrival)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error

    def _note_handled(self, handler: HostedHandler, arrival: Arrival) -> None:
        assert self.observer is not None
        for one in arrival.members or (arrival,):
            self.observer.handled(
                event_id_of(one),
                lineage_of(one),
                one.subscription.event.name,
                handler.service.name,
                handler.name,
            )

    def _note_ran(
        self,
        handler: HostedHandler,
        arrival: Arrival,
        branch: Branch,
        error: BaseException | None,
    ) -> None:
        event, now = arrival.subscription.event.name, self.admission.now()
        began = branch.began or now
        waited, ran = began - arrival.since, now - began
        failure = None
        if error is not None:
            event_id = str(event_id_of(arrival))
            failure = Failure("failed", event, event_id, handler.place, error_text(error, arrival))
        branch.ran(Step(event, handler.place, self._name, waited, ran), failure)

    def _note_failure(self, handler: HostedHandler, arrival: Arrival, error: BaseException) -> None:
        events = arrival.members or (arrival,)
        for one in events:
            account = one.subscription.accounts[handler]
            account.handled -= 1
            account.failed += 1
        opened = handler.note_failure(self.admission.now())
        name = arrival.subscription.event.name
        told = about(arrival, handler)
        event_id, root_id = told["event_id"], told["root_id"]
        logger.error(
            "handler %s of service %s failed on %s: %s (%s)",
            handler.name,
            handler.service.name,
            name if arrival.members is None else f"{len(events)} events, the newest {name}",
            failure_text(error),
            f"root event {event_id}"
            if event_id == root_id
            else f"event {event_id}, root {root_id}",
            exc_info=None if isinstance(error, ThenceError) else error,
            extra={**told, "error_type": type(error).__name__},
        )
        if opened:
            logger.warning(
                "handler %s of service %s does nothing but fail: its events are shed for a while, then one is "
                "tried (breaker open)",
                handler.name,
                handler.service.name,
                extra=told,
            )
        if self.observer is not None:
            for one in events:
                self.observer.failed(
                    event_id_of(one),
                    lineage_of(one),
                    one.subscription.event.name,
                    handler.service.name,
                    handler.name,
                    error,
                )

    # -- timeouts, the end of everything

    def expired(self, run: Run) -> None:
        """A run has reached its timeout."""
        if run.task.done():
            self._never_began(run)
        else:
            run.timed_out = True
            run.task.cancel()

    def _never_began(self, run: Run) -> None:
        """A task that is cancelled before its first step never runs its coroutine: nothing else would end it."""
        if run in self._runs:
            if run.arrival.record is not None:
                self.admission.note_begun(run.handler, run.arrival)
            error = asyncio.CancelledError("cancelled before it began")
            self._end(run.handler, run.arrival, error, run, run.began)

    def stop(self) -> None:
        """Begin no further run: what is waiting here, and what still arrives, is shed."""
        self._carriers.close()
        self.admission.stop()

    def cancel(self) -> list[asyncio.Task[Any]]:
        """Cancel every run in flight, begin no other, and return their tasks."""
        self.stop()
        for run in list(self._runs):
            run.task.cancel()
            if getcoroutinestate(run.task.get_coro()) == CORO_CREATED:
                self._never_began(run)
        return [run.task for run in self._runs]


class _Nowhere:
    """The source of a batch without arrivals."""

    is_local = True
    node = label = ""
    told = Told()
    read_at = sent_at = stamp = behind = 0.0
    stale = False

    def owe(self, number: int, count: int, at_once: int) -> None:
        raise LookupError(number)

    def settle(self, number: int, sequences: tuple[int, ...], tally: object) -> None:
        raise LookupError(number)

    def judge(self, number: int, sequence: int, reason: str, wait: float) -> None:
        raise LookupError(number)

    def advise(self, advice: object) -> None:
        raise LookupError(advice)


NOWHERE = _Nowhere()
