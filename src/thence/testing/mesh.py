"""A whole mesh of services in one test: each on a node of its own, events encoded and sent between them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from itertools import count
from types import TracebackType
from typing import Any, Self, cast

from thence.app.node import Node
from thence.app.runtime import Runtime
from thence.app.service import Service
from thence.app.settings import Settings
from thence.budget import Budget
from thence.clock import stopwatch
from thence.delivery.receipts import CascadeReport
from thence.durations import Duration, seconds
from thence.errors import ConfigurationError, NodeClosed, SettleTimeout, ThenceError
from thence.events import Event
from thence.events.suggestions import did_you_mean
from thence.identifiers import EventId
from thence.testing.cascade import Cascade
from thence.testing.handlers import Faults, HandlerName, KnownHandlers
from thence.testing.recorder import Recorder

__all__ = ["Mesh"]

MEET_WITHIN = 10.0
"""Seconds, virtual or real, within which the services must have found each other."""
SHOWN_CASCADES = 3
"""How many of the last cascades a failed test is told of."""

_numbers = count(1)


class Mesh:
    """Services as they run in production, in one event loop, with no sockets and nothing to set up.

        @in_virtual_time
        async def test_a_clue_moves_the_player_up() -> None:
            async with Mesh(scores, ranks, state={"ranks": {}}) as mesh:
                cascade = await mesh.emit(ClueFound(hunt="h1", player="ana", clue=3))
            assert cascade.handled(ScoreChanged) == [ScoreChanged(player="ana", points=10)]

    Each service has a node of its own, so that events are encoded and sent between them, and its lifespan is
    entered, one service after the other. Time is that of the loop: virtual within :func:`thence.testing.run`, real in any other. Settings
    from the environment and from ``thence.toml`` do not hold here, so that a test says the same everywhere.

    An exception that leaves the ``async with`` block, such as a failed assertion, is given the trees of the last
    cascades as notes, which pytest shows.

    :param services: each once.
    :param state: by the name of a service, what its handlers find as ``ctx.state``; its lifespan is not entered
        then.
    :raises ConfigurationError: there is no service, two share a name, or a state is for none of them.
    """

    def __init__(self, *services: Service, state: Mapping[str, Any] | None = None) -> None:
        for service in services:
            if not isinstance(service, Service):
                raise ConfigurationError(f"Mesh({service!r}): pass Service objects")
        states = dict(state or {})
        names = [service.name for service in services]
        if not services:
            raise ConfigurationError("Mesh(): pass the services to test, as in Mesh(scores, ranks)")
        if len(set(names)) < len(names):
            raise ConfigurationError(
                f"two services of this mesh share a name ({', '.join(sorted(names))}): a mesh for tests runs one "
                "replica of each"
            )
        for name in states:
            if name not in names:
                raise ConfigurationError(
                    f"state for {name!r}: there is no such service.{did_you_mean(name, names)} There are "
                    f"{', '.join(sorted(names))}"
                )
        self._services = [
            _with_state(service, states[service.name]) if service.name in states else service
            for service in services
        ]
        self._handlers = KnownHandlers(services)
        self._faults = Faults()
        self._last: deque[Cascade] = deque(maxlen=SHOWN_CASCADES)
        self._open = AsyncExitStack()
        self._recorder: Recorder | None = None
        self._emitter: Node | None = None
        """Only while the mesh is open."""

    async def __aenter__(self) -> Self:
        if self._recorder is not None:
            raise NodeClosed("this mesh has been entered before: make a new Mesh")
        now = stopwatch(asyncio.get_running_loop())
        recorder = self._recorder = Recorder(self._handlers, self._faults, now)
        mesh = f"memory:thence.testing.Mesh {next(_numbers)}"
        nodes = [_node(mesh, service.name, service) for service in self._services]
        # The last to start, so that it meets all the others.
        emitter = _node(mesh, "test")
        async with AsyncExitStack() as opening:
            for node in (*nodes, emitter):
                await opening.enter_async_context(node)
                recorder.attend(_runtime_of(node))
            await self._acquainted([_runtime_of(node) for node in (*nodes, emitter)])
            self._open = opening.pop_all()
        recorder.emitter = _runtime_of(emitter).node
        self._emitter = emitter
        return self

    async def _acquainted(self, runtimes: list[Runtime]) -> None:
        """Wait until all know each other, so that nothing is lost only because it was early."""
        try:
            async with asyncio.timeout(MEET_WITHIN):
                while not all(
                    runtime.table.replicas(service.name)
                    for runtime in runtimes
                    for service in self._services
                ):
                    await asyncio.sleep(0.001)
        except TimeoutError:
            raise ThenceError(
                f"the services have not found each other within {MEET_WITHIN:g} s; does one of them block the loop?"
            ) from None

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._emitter = None
        if isinstance(exc, Exception):
            for cascade in self._last:
                exc.add_note(str(cascade))
        await self._open.aclose()

    async def emit(
        self, event: Event, *, budget: Budget | None = None, timeout: Duration = "2min"
    ) -> Cascade:
        """Emit an event as somebody outside of all services would, and wait until all that follows has ended.

        :param budget: what its cascade may use up; by default as much as in production.
        :param timeout: how long to wait. The default is longer than the default budget and a handler's default
            timeout together, within which every cascade ends.
        :raises SettleTimeout: it has not ended by then; the message draws what is known, ``report`` holds the
            counts.
        :raises RateLimited: all who want the event refuse it, or the limit of its type does; and whatever else
            :meth:`thence.Node.emit` raises.
        """
        length = seconds(timeout)
        emitter, recorder = self._emitter, self._recorder
        if emitter is None or recorder is None:
            raise NodeClosed("this mesh is not open: emit within 'async with Mesh(...) as mesh'")
        receipt = await emitter.emit(event, budget=budget)
        root = EventId(receipt.sending.node, receipt.sequence)
        recording = recorder.recording(root)
        try:
            report = await receipt.settled(length)
        except SettleTimeout as late:
            known = cast(CascadeReport, late.report)
            cascade = Cascade(known, recording.tree(self._handlers), self._handlers)
            raise SettleTimeout(
                f"the cascade of {type(event).__name__} has not settled within {length:g} s. Give mesh.emit a longer "
                f"timeout=, or see below what it waits for (…):\n{cascade}",
                known,
            ) from None
        finally:
            recorder.forget(root)
        cascade = Cascade(report, recording.tree(self._handlers), self._handlers)
        self._last.append(cascade)
        return cascade

    def fail(
        self,
        handler: HandlerName,
        *,
        times: int = 1,
        error: Exception | type[Exception] | None = None,
    ) -> None:
        """Have the next runs of a handler raise instead of doing their work.

        :param handler: the function, or ``"service.handler"``.
        :param times: how many runs fail. A batch is one run.
        :param error: what they raise, an exception or its class; by default a RuntimeError that says it was planted.
        :raises ConfigurationError: there is no such handler; or the other arguments can't be meant.
        """
        self._faults.plant(self._handlers.find(handler), times, error)

    def __repr__(self) -> str:
        return f"<Mesh of {', '.join(service.name for service in self._services)}>"


def _with_state(service: Service, state: Any) -> Service:
    """The same service, with a state that is there already."""

    @asynccontextmanager
    async def given(node: Any) -> AsyncGenerator[Any]:
        yield state

    other = copy(service)
    other.lifespan = given
    return other


def _node(mesh: str, name: str, *services: Service) -> Node:
    node = Node(*services, mesh=mesh, budget=Budget())
    node._settings = Settings(mesh=mesh, name=name)
    node.name = name
    return node


def _runtime_of(node: Node) -> Runtime:
    assert node._runtime is not None
    return node._runtime
