"""Running many handlers for the price of one task.

A new :class:`asyncio.Task` for each event costs several times what the event itself costs, and most
handlers never suspend. Stepping their coroutines by hand would be cheap but unsound: ``current_task()``,
``asyncio.timeout``, task groups, anyio and context variables would all see the wrong task, or none.

A carrier is the sound way. It is a real task, started and parked, with that task's own context. While
handlers finish without suspending, their coroutine is stepped by hand *with the carrier's task entered as
the current one, inside its context*. The first suspension hands the coroutine, with everything that was
bound to the task, over to that task for good: nobody can tell that it had been running elsewhere.
"""

from __future__ import annotations

import asyncio
import contextvars
import types
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeAlias

__all__ = ["Carrier", "CarrierPool", "Work", "next_job"]

_IDLE = object()
"""What work yields when it has done its job; asyncio's own awaitables never yield it."""


@types.coroutine
def next_job() -> Generator[Any, Any, Any]:
    """Wait, by hand, for what :meth:`Carrier.step` is given next."""
    return (yield _IDLE)


class Carrier:
    """A parked task, and the work that is stepped in its name until it suspends.

    The work is a coroutine that does one job after another, each got with ``await next_job()``. Once it has
    suspended it is the task's for good, and must end with the job that it has. ``started`` tells that the
    task has reached its parking place: before that it could not take work over. ``left`` is where
    the work finds, once it has gone over to the task, what is to be known then, and ``context_kept`` is where the work says whether it left the
    context as it was, so that the carrier may be used again.
    """

    __slots__ = (
        "_awaited",
        "_loop",
        "_passed_on",
        "_suspended",
        "_work",
        "context",
        "context_kept",
        "left",
        "parked",
        "started",
        "task",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, base: contextvars.Context, work: Work
    ) -> None:
        self.context = base.copy()
        self.parked: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._work = work(self)
        self._work.send(None)
        self._suspended = False
        self._awaited: Any = None
        self._passed_on = False
        self.started = False
        self.left: Any = None
        self.context_kept = True
        self.task = loop.create_task(_carry(self), context=self.context, name="thence carrier")

    def step(self, job: object) -> bool:
        """Do a job until it is done (True), or suspends and goes over to this carrier's task (False).

        To be called from a plain callback of the loop, never from inside a task.
        """
        _enter_task(self._loop, self.task)
        try:
            awaited = self.context.run(self._work.send, job)
        finally:
            _leave_task(self._loop, self.task)
        if awaited is _IDLE:
            return True
        _unclaim(awaited)
        self._suspended, self._awaited = True, awaited
        if self.parked.cancelled() and asyncio.isfuture(awaited):
            # The work has cancelled its own task; a task passes that on to what it waits for, at once.
            self._passed_on = awaited.cancel(getattr(self.parked, "_cancel_message", None))
        self.retire()
        return False

    def retire(self) -> None:
        """Let the task go on: with the work if it has suspended, else to its end."""
        if not self.parked.done():
            self.parked.set_result(None)


Work: TypeAlias = Callable[[Carrier], Coroutine[Any, Any, None]]
"""Makes the work of a carrier."""


def _unclaim(awaited: Any) -> None:
    """A future that says it is being awaited must not be given to anybody but a task's step."""
    if getattr(awaited, "_asyncio_future_blocking", None):
        awaited._asyncio_future_blocking = False


def _claim(awaited: Any) -> None:
    """The inverse of :func:`_unclaim`, just before the task itself yields the future."""
    if getattr(awaited, "_asyncio_future_blocking", None) is False:
        awaited._asyncio_future_blocking = True


@types.coroutine
def _parking(parked: asyncio.Future[None]) -> Generator[Any, None, None]:
    parked._asyncio_future_blocking = True
    yield parked


@types.coroutine
def _resume(work: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """Wait for what ``work`` awaits, in the task's name, then go on with it."""
    while True:
        _claim(awaited)
        try:
            yield awaited
        except BaseException as error:
            try:
                awaited = work.throw(error)
            except StopIteration:
                return
            _unclaim(awaited)
        else:
            break
    yield from work


async def _carry(carrier: Carrier) -> None:
    interruption: BaseException | None = None
    carrier.started = True
    try:
        await _parking(carrier.parked)
    except asyncio.CancelledError as error:
        # Cancelled while its work ran by hand, or while parked and idle.
        interruption = error
    awaited, carrier._awaited = carrier._awaited, None
    if not carrier._suspended:
        carrier._work.close()
        return
    if interruption is not None and not carrier._passed_on:
        # It was meant for what the work awaits. Asked for once more, the task meets it there: it cancels
        # the future as soon as it waits for it. The count of requests stays as it was.
        carrier.task.cancel(*interruption.args)
        carrier.task.uncancel()
    await _resume(carrier._work, awaited)


class CarrierPool:
    """A few started carriers, so that a batch with a suspension or two needs no task of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Work, *, spare: int = 2) -> None:
        self._loop = loop
        self._work = work
        self.base = contextvars.copy_context()
        """The context in which every run begins."""
        self._spare = spare
        self.idle: list[Carrier] = []
        """The last is the first one to be used."""
        self._replenish()

    def first(self) -> Carrier | None:
        """A usable carrier, or None when all are busy or have not reached their parking place yet.

        It stays the first one until it is said to be lost.
        """
        idle = self.idle
        while idle:
            carrier = idle[-1]
            if carrier.started and not carrier.parked.done():
                return carrier
            if not (carrier.parked.done() or carrier.task.done()):
                return None
            # Somebody has cancelled its task, as code does that cancels all tasks of the loop.
            self.lose(carrier)
        return None

    def lose(self, carrier: Carrier) -> None:
        """The carrier's work has suspended, or changed its context: it carries nothing more from now on."""
        carrier.retire()
        if carrier in self.idle:
            self.idle.remove(carrier)
        self._replenish()

    def _replenish(self) -> None:
        # They start in the next tick.
        while len(self.idle) < self._spare:
            self.idle.insert(0, Carrier(self._loop, self.base, self._work))

    def close(self) -> None:
        """End the idle carriers; those at work end with their work."""
        self._spare = 0
        for carrier in self.idle:
            carrier.retire()
        self.idle.clear()
