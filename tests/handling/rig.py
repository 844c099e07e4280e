"""Handlers on a dispatcher, on every kind of loop, without a node around them."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import uvloop

from thence import Event
from thence.cascade.settlement import Branches
from thence.clock import stopwatch
from thence.delivery.dispatch import Dispatcher
from thence.delivery.hosted import PROBE_AFTER, HostedHandler, HostedService, Subscription
from thence.delivery.loop_guard import LoopGuard
from thence.events import spec_of
from thence.events.envelope import Told
from thence.facts import Ring
from thence.handling.handler import Handler, HandlerPolicy
from thence.mesh.cork import Cork

PATIENCE = 10.0

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "asyncio-debug": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}
if sys.version_info >= (3, 12):

    def _eager() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    LOOPS["asyncio-eager"] = _eager


class Ping(Event):
    number: int = 0


class Step(Event, key="lane"):
    lane: str
    number: int = 0


def run(loop: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``main()`` on a loop of that kind; nothing may be left for the loop's exception handler."""
    problems: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, problem: problems.append(problem)
        )
        async with asyncio.timeout(PATIENCE):
            await main()
        # What nobody has retrieved or awaited shows when it is collected.
        gc.collect()
        await asyncio.sleep(0)

    # What was there before is nobody's business here, and to look through it would take long.
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=LOOPS[loop], debug=loop == "asyncio-debug") as runner:
            runner.run(watched())
        gc.collect()
    finally:
        gc.unfreeze()
    assert not problems, problems


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


class Source:
    """Where the arrivals come from; counts what it is told of their ends."""

    node = "0" * 19 + "7"
    label = "source"
    is_local = True
    told = Told()
    read_at = stamp = 0.0

    def __init__(self) -> None:
        self.ended: Counter[int] = Counter()
        self.sent_at = 0.0

    def owe(self, number: int, count: int, at_once: int) -> None:
        self.ended[number] += count


class Failures:
    """An observer that keeps what handlers raise."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.handled_numbers: list[int] = []

    def handled(self, event_id: Any, lineage: Any, event: str, service: str, handler: str) -> None:
        self.handled_numbers.append(event_id.sequence)

    def failed(
        self,
        event_id: Any,
        lineage: Any,
        event: str,
        service: str,
        handler: str,
        error: BaseException,
    ) -> None:
        self.errors.append(error)

    def shed(self, *_: Any) -> None:
        pass


class Rig:
    """One service with the given handlers, all of them of the same event type.

    ``entry`` tells how runs begin: by hand on a carrier, or in a task of their own.
    """

    def __init__(
        self,
        *functions: Callable[..., Any],
        event: type[Event] = Ping,
        entry: str = "carrier",
        service_concurrency: int | None = None,
        **policy: Any,
    ) -> None:
        _alive.add(self)
        self.loop = asyncio.get_running_loop()
        self.cork = Cork(self.loop)
        self.results: list[Any] = []
        self.dispatcher = Dispatcher(
            self.cork,
            self._emit,
            lambda handler, arrival: None,
            lambda a, o: None,
            Branches(),
            LoopGuard("enforce"),
            "rig",
            Ring(0),
        )
        self.observer = Failures()
        self.dispatcher.observe(self.observer)  # type: ignore[arg-type]
        self.service = HostedService("service", service_concurrency)
        self.source = Source()
        self.event = event
        self.entry = entry
        checked = replace(HandlerPolicy(), **policy)
        for function in functions:
            spec = Handler.of(function, (event,), None, checked)
            self.service.handlers.append(HostedHandler(spec, self.service, self.dispatcher.expired))
        # Broadcast, so that no locks on keys are needed.
        self.subscription = Subscription(
            spec_of(event), 0, self.service, self.service.handlers, True
        )
        self.service.subscriptions.append(self.subscription)
        self.sent = 0

    @property
    def handler(self) -> HostedHandler:
        return self.service.handlers[0]

    @property
    def errors(self) -> list[BaseException]:
        return self.observer.errors

    def feed(self, *events: Event) -> None:
        """Let the events arrive as one batch, in the next tick."""
        arrivals = []
        for event in events or (self.event(),):
            self.sent += 1
            arrivals.append(self.subscription.arrival(self.sent, event))
        self.loop.call_soon(self._process, arrivals)

    async def handle(self, *events: Event) -> None:
        """Let the events arrive as one batch, and wait until all of them have ended."""
        self.feed(*events)
        await self.settled()

    async def settled(self) -> None:
        await eventually(lambda: self.source.ended[0] == self.sent)
        assert not self.service.unfinished
        assert self.handler.in_flight == self.service.in_flight == 0
        assert not self.dispatcher._runs
        assert not len(self.service.lanes)

    async def close(self) -> None:
        self.dispatcher.stop()
        for handler in self.service.handlers:
            handler.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def __aenter__(self) -> Rig:
        # Carriers are started in the next tick.
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _process(self, arrivals: list[Any]) -> None:
        if self.entry == "task":
            for handler in self.service.handlers:
                handler.streak, handler.probe = PROBE_AFTER, 0
            self.subscription.refresh()
        self.source.sent_at = stopwatch(self.loop)()
        with self.cork:
            self.dispatcher.process(self.source, arrivals)

    def _emit(self, handler: HostedHandler, arrival: Any, result: Any, context: Any) -> None:
        self.results.append(result)


_alive: weakref.WeakSet[Rig] = weakref.WeakSet()
