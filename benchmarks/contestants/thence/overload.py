"""Services that get more than they can take, or are stopped, and emitters that keep to their timetable.

An emit is begun when it is due, whatever became of those before it: an emitter that waited for its
receiver would slow down with it, and hide what everybody else has to wait. Events carry the moment
at which they were due, on the machine's monotonic clock, so that lateness anywhere counts.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, ClassVar

import msgspec

from benchmarks.contestants.contract import Contestant, Place
from thence import Event, Node, RateLimited, Service
from thence.app.report import NodeReport
from thence.delivery.reasons import CANCELLED

__all__ = [
    "Bounded",
    "Burning",
    "Dropping",
    "Flood",
    "Other",
    "Stoppable",
    "Targeted",
    "Twofold",
    "Yielding",
]

TICK = 0.001
"""Seconds that the emitter sleeps at least: an emit may begin that much late."""
BURST = 100
"""Emits begun in a row, when late, before they get their turn to run."""
POLL = 0.02

SLEEP = 0.010
BURN = 0.001
CONCURRENCY = 10


class Trial(Event):
    """Its handler has no queue target, no limit: it tells what the process can do."""

    due: float


class Work(Event):
    due: float


class ForOther(Event):
    due: float


class ForStopped(Event):
    due: float


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver has counted of one type."""

    handled: int
    failed: int
    shed: dict[str, int]


class Emitted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of emits, by what they returned, and by the node's own report."""

    emitted: int
    accepted: int
    refused: dict[str, int]
    """By the reason; those among them that still waited for room in the end and were cancelled then."""
    sent: int
    lost: dict[str, int]
    outstanding: int


# -- receivers


class _Receiver(Contestant):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.runs: list[tuple[float, float, float]] = []

    async def close(self) -> None:
        await self.node.close()

    async def host(self, service: Service) -> None:
        self.node = Node(service, mesh=f"local:{self.place.directory}")
        await self.node.start()

    async def take(self) -> list[tuple[float, float, float]]:
        """Return when each run's event was due, when it began and when it ended; since the last time."""
        runs, self.runs = self.runs, []
        return runs

    async def settle(self, seconds: float) -> None:
        """Wait until nothing is running or waiting here, at most ``seconds``."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not any(one.in_flight or one.waiting for one in self.node.report().handlers):
                return
            await asyncio.sleep(POLL)

    async def counted(self, handler: str) -> Counted:
        """Return what the node has counted for a handler."""
        found = next(one for one in self.node.report().handlers if one.handler == handler)
        return Counted(handled=found.handled, failed=found.failed, shed=found.shed)


class _Worker(_Receiver):
    """Handles trials without, and work with the policies of a variant."""

    policies: ClassVar[dict[str, Any]] = {}

    async def open(self) -> None:
        service = Service("worker")
        handle = self.handler()
        service.on(Trial, name="trial", concurrency=CONCURRENCY)(handle)
        service.on(Work, name="work", concurrency=CONCURRENCY, **self.policies)(handle)
        await self.host(service)

    def handler(self) -> Callable[[Any], Awaitable[None]]:
        clock, sleep = time.monotonic, asyncio.sleep

        async def handle(work: Work) -> None:
            began = clock()
            await sleep(SLEEP)
            self.runs.append((work.due, began, clock()))

        return handle


class Targeted(_Worker):
    policies: ClassVar[dict[str, Any]] = {"queue_target": "20ms"}


class Bounded(_Worker):
    """Nothing but the queue's bound, and what follows from it: emits wait for room."""


class Dropping(_Worker):
    policies: ClassVar[dict[str, Any]] = {"limit": "800/s", "overflow": "drop"}


class Burning(Targeted):
    """Takes the processor instead of waiting, and never lets go of the loop."""

    def handler(self) -> Callable[[Any], Awaitable[None]]:
        clock, spent = time.monotonic, time.thread_time

        async def handle(work: Work) -> None:
            began = clock()
            end = spent() + BURN
            while spent() < end:
                pass
            self.runs.append((work.due, began, clock()))

        return handle


class Yielding(Targeted):
    """The same, but lets go of the loop once: whoever suspends is known to need a line."""

    def handler(self) -> Callable[[Any], Awaitable[None]]:
        clock, spent, sleep = time.monotonic, time.thread_time, asyncio.sleep

        async def handle(work: Work) -> None:
            began = clock()
            await sleep(0)
            end = spent() + BURN
            while spent() < end:
                pass
            self.runs.append((work.due, began, clock()))

        return handle


class Stoppable(_Receiver):
    """The service whose process is stopped."""

    event: type[ForOther | ForStopped] = ForStopped

    async def open(self) -> None:
        service = Service(type(self).__name__.lower())
        clock = time.monotonic

        async def handle(event: ForOther | ForStopped) -> None:
            now = clock()
            self.runs.append((event.due, now, now))

        service.on(self.event, name="handle")(handle)
        await self.host(service)


class Other(Stoppable):
    """The service that nobody stops."""

    event = ForOther


# -- emitters


class _Emitter(Contestant):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.accepted: Counter[str] = Counter()
        self.refused: dict[str, Counter[str]] = {}
        self.begun: Counter[str] = Counter()
        self.emits: list[tuple[str, float, float, float]] = []
        """Of each emit that was not withdrawn: its type, when it was due, began and returned."""
        self._waiting: dict[asyncio.Task[None], None] = {}

    async def open(self) -> None:
        self.node = Node(mesh=f"local:{self.place.directory}")
        await self.node.start()

    async def close(self) -> None:
        await self.node.close()

    def begin(self, event: Any) -> None:
        """Begin an emit, in a task of its own."""
        task = asyncio.get_running_loop().create_task(self._emit(event))
        self._waiting[task] = None
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._waiting[task]

    async def _emit(self, event: Any) -> None:
        name = type(event).__name__
        self.begun[name] += 1
        began = time.monotonic()
        try:
            receipt = await self.node.emit(event)
        except asyncio.CancelledError:
            # Its node counts it so too.
            self._refuse(name, CANCELLED)
            return
        except RateLimited:
            self._refuse(name, "rate limited")
        else:
            if receipt.targets:
                self.accepted[name] += 1
            else:
                self._refuse(name, receipt.refused[0].reason if receipt.refused else "unheard")
        self.emits.append((name, event.due, began, time.monotonic()))

    def _refuse(self, name: str, reason: str) -> None:
        self.refused.setdefault(name, Counter())[reason] += 1

    async def end(self, grace: float) -> None:
        """Give the emits that still wait ``grace`` seconds, then withdraw them."""
        # Where nothing waits there is nothing to wait for. The oldest are withdrawn first.
        if self._waiting:
            await asyncio.wait(list(self._waiting), timeout=grace)
        late = list(self._waiting)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def settle(self, seconds: float) -> None:
        """Wait until all that was sent has been acknowledged, at most ``seconds``."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not any(route.outstanding for route in self.node.report().routes):
                return
            await asyncio.sleep(POLL)

    async def told(self, event: str, name: str) -> Emitted:
        """Return what became of the events of a class; ``name`` is what its type is called."""
        report = self.node.report()
        return Emitted(
            emitted=self.begun[event],
            accepted=self.accepted[event],
            refused=dict(self.refused.get(event, {})),
            sent=sum(route.sent for route in report.routes if route.event == name),
            lost=_lost(report, name),
            outstanding=sum(route.outstanding for route in report.routes if route.event == name),
        )

    async def take_emits(self) -> list[tuple[str, float, float, float]]:
        """Return when each emit was due, began and returned."""
        return self.emits


class Flood(_Emitter):
    """Emits according to a timetable that has a spike in it."""

    async def saturate(self, count: int) -> None:
        """Keep the queue full, with as many emits as it lets through."""
        for _ in range(count):
            await self.node.emit(Trial(due=0.0))

    async def flood(self, phases: list[tuple[float, float]], grace: float) -> list[float]:
        """Emit at each phase's rate for its seconds; return when each phase began, and the end."""
        edges = [time.monotonic() + 10 * TICK]
        for _, seconds in phases:
            edges.append(edges[-1] + seconds)
        await _keep_to(_timetable(edges[0], phases), lambda due: self.begin(Work(due=due)))
        await self.end(grace)
        return edges


class Twofold(_Emitter):
    """Emits to two services by turns."""

    async def start(self, rate: float, seconds: float) -> float:
        """Begin to emit ``rate`` events a second to each; return when the first is due."""
        began = time.monotonic() + 10 * TICK
        self._emitting = asyncio.create_task(self._alternate(began, rate, seconds))
        return began

    async def _alternate(self, began: float, rate: float, seconds: float) -> None:
        turn = 0

        def emit(due: float) -> None:
            nonlocal turn
            turn ^= 1
            self.begin(ForOther(due=due) if turn else ForStopped(due=due))

        await _keep_to(_timetable(began, [(2 * rate, seconds)]), emit)

    async def finish(self, grace: float) -> None:
        """Wait until everything has been emitted."""
        await self._emitting
        await self.end(grace)


def _timetable(began: float, phases: Iterable[tuple[float, float]]) -> Iterator[float]:
    for rate, seconds in phases:
        for number in range(round(rate * seconds)):
            yield began + number / rate
        began += seconds


async def _keep_to(timetable: Iterable[float], emit: Callable[[float], None]) -> None:
    """Call ``emit`` for each moment when it has come."""
    clock = time.monotonic
    in_a_row = 0
    for due in timetable:
        while (early := due - clock()) > 0:
            await asyncio.sleep(max(early, TICK))
            in_a_row = 0
        emit(due)
        in_a_row += 1
        if in_a_row == BURST:
            await asyncio.sleep(0)
            in_a_row = 0


def _lost(report: NodeReport, name: str) -> dict[str, int]:
    lost: Counter[str] = Counter()
    for event, _, reason, count in report.lost:
        if event == name:
            lost[reason] += count
    return dict(lost)
