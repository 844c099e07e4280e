"""Services and their handlers, as their authors declare them. Nothing here runs anything."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias, TypedDict, TypeVar, Unpack, overload

from thence.app.context import Context
from thence.budget import Budget
from thence.durations import Duration
from thence.errors import ConfigurationError
from thence.events import Event, spec_of
from thence.handling.batch import Batch
from thence.handling.handler import Handler, HandlerPolicy, Overflow
from thence.limits import Limits, check_limits, limits_of

__all__ = ["Handlers", "Lifespan", "Service"]

Consequences: TypeAlias = (
    Event
    | Iterable[Event | None]
    | None
    | Awaitable[Event | Iterable[Event | None] | None]
    | AsyncIterable[Event]
)
"""What a handler returns: an event, an iterable of events, or nothing; async or not."""

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]
"""Takes the node, and yields the service's state for as long as it runs."""

E = TypeVar("E")
E1 = TypeVar("E1", bound=Event)
E2 = TypeVar("E2", bound=Event)
E3 = TypeVar("E3", bound=Event)
E4 = TypeVar("E4", bound=Event)
R = TypeVar("R", bound=Consequences)

_SERVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Policies(TypedDict, total=False):
    """The keywords of :meth:`Handlers.on` that do not change what the function takes."""

    name: str | None
    queue: int
    concurrency: int
    timeout: Duration
    limit: Limits
    overflow: Overflow
    queue_target: Duration | None
    broadcast: bool
    emits: Iterable[type[Event]]
    max_loops: int
    budget: Budget | None


class HandlerDecorator(Protocol[E]):
    """Takes a function of ``(event)`` or ``(event, ctx)``, and returns that function itself."""

    @overload
    def __call__(self, function: Callable[[E], R], /) -> Callable[[E], R]: ...
    @overload
    def __call__(self, function: Callable[[E, Context], R], /) -> Callable[[E, Context], R]: ...


class Handlers:
    """The handlers of one module, for a service to include."""

    def __init__(self) -> None:
        self._handlers: list[Handler] = []

    @property
    def handlers(self) -> Sequence[Handler]:
        """What has been declared so far."""
        return tuple(self._handlers)

    @overload
    def on(self, event: type[E1], /, **policy: Unpack[Policies]) -> HandlerDecorator[E1]: ...
    @overload
    def on(
        self, event: type[E1], second: type[E2], /, **policy: Unpack[Policies]
    ) -> HandlerDecorator[E1 | E2]: ...
    @overload
    def on(
        self,
        event: type[E1],
        second: type[E2],
        third: type[E3],
        /,
        **policy: Unpack[Policies],
    ) -> HandlerDecorator[E1 | E2 | E3]: ...
    @overload
    def on(
        self,
        event: type[E1],
        second: type[E2],
        third: type[E3],
        fourth: type[E4],
        /,
        **policy: Unpack[Policies],
    ) -> HandlerDecorator[E1 | E2 | E3 | E4]: ...
    @overload
    def on(
        self, event: type[E1], /, *, batch: Batch, **policy: Unpack[Policies]
    ) -> HandlerDecorator[list[E1]]: ...
    @overload
    def on(
        self, event: type[E1], second: type[E2], /, *, batch: Batch, **policy: Unpack[Policies]
    ) -> HandlerDecorator[list[E1 | E2]]: ...
    @overload
    def on(
        self,
        event: type[E1],
        second: type[E2],
        third: type[E3],
        /,
        *,
        batch: Batch,
        **policy: Unpack[Policies],
    ) -> HandlerDecorator[list[E1 | E2 | E3]]: ...
    @overload
    def on(
        self,
        event: type[E1],
        second: type[E2],
        third: type[E3],
        fourth: type[E4],
        /,
        *,
        batch: Batch,
        **policy: Unpack[Policies],
    ) -> HandlerDecorator[list[E1 | E2 | E3 | E4]]: ...
    def on(
        self,
        *events: type[Event],
        name: str | None = None,
        queue: int = 1000,
        concurrency: int = 64,
        timeout: Duration = "30s",
        limit: Limits = None,
        overflow: Overflow = "wait",
        queue_target: Duration | None = None,
        broadcast: bool = False,
        emits: Iterable[type[Event]] = (),
        max_loops: int = 0,
        budget: Budget | None = None,
        batch: Batch | None = None,
    ) -> Callable[[Any], Any]:
        """Declare that the decorated function handles events of these types.

        The function takes ``(event)`` or ``(event, ctx)``; what it returns is emitted. It stays the plain
        function it was. An ``async def`` runs on the node's loop, a ``def`` in a thread.

        :param name: the handler's lasting name, up to 128 characters; by default the function's.
        :param queue: how many events may wait for it; what comes then is shed and counted.
        :param concurrency: runs in flight at once.
        :param timeout: time for one run.
        :param limit: how often it may be started, as in ``"200/s"``, a :class:`~thence.Limit`, or a list of
            them which must all hold.
        :param overflow: what becomes of events beyond the limit: ``"wait"`` in line, ``"drop"``,
            ``"latest"`` (the newest of each key stays), or ``"reject"`` (their emitter is told).
        :param queue_target: how long events may stand in a line that never empties, as in ``"100ms"``; what
            has waited longer is shed, the lowest priority first. By default the line has no such bound.
        :param broadcast: each replica of the service handles each event, rather than one of them.
        :param emits: types emitted through ``ctx.emit``.
        :param max_loops: how often one cascade may come back to this handler through its own consequences;
            what comes back more often is cut.
        :param budget: a smaller budget for what one run of this handler causes.
        :param batch: hand the function a list of events, as in ``Batch(size=100, within="50ms")``. What it
            emits follows from the newest of them.
        :raises ConfigurationError: something here can't be kept; the message names what to change.
        """
        for event in events:
            spec_of(event)
        if not events:
            raise ConfigurationError(
                "on() needs at least one event type, for example @service.on(ClueFound)"
            )
        policy = HandlerPolicy.checked(
            queue=queue,
            concurrency=concurrency,
            timeout=timeout,
            broadcast=broadcast,
            emits=emits,
            max_loops=max_loops,
            budget=budget,
            limit=limit,
            overflow=overflow,
            queue_target=queue_target,
            batch=batch,
        )

        def register(function: Any) -> Any:
            self._add(Handler.of(function, tuple(dict.fromkeys(events)), name, policy))
            return function

        return register

    def _add(self, handler: Handler) -> None:
        if any(other.name == handler.name for other in self._handlers):
            raise ConfigurationError(
                f"there is a handler {handler.name!r} already: give one of them another name with name=..."
            )
        for other in self._handlers:
            other.check_beside(handler)
        self._handlers.append(handler)


class Service(Handlers):
    """A named set of handlers that is run together. Its replicas, in whatever process, share the name.

    :param name: up to 64 letters, digits, ``_``, ``.`` and ``-``.
    :param lifespan: an async context manager that takes the node and yields the state which handlers find
        as ``ctx.state``; entered before the service takes events, left after its last handler has ended.
    :param concurrency: handler runs in flight at once, over all the service's handlers; by default only the
        handlers' own bounds hold.
    :param limit: how often its handlers may be started, all together.
    """

    def __init__(
        self,
        name: str,
        *,
        lifespan: Lifespan | None = None,
        limit: Limits = None,
        concurrency: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(name, str) or not _SERVICE_NAME.fullmatch(name):
            raise ConfigurationError(
                f"Service({name!r}): a service name has 1 to 64 letters, digits, '_', '.' or '-' and begins "
                "with a letter or digit"
            )
        if concurrency is not None and (not isinstance(concurrency, int) or concurrency < 1):
            raise ConfigurationError(
                f"concurrency={concurrency!r}: give a whole number of at least 1, or leave it out"
            )
        self.name = name
        self.lifespan = lifespan
        self.concurrency = concurrency
        self.limits = limits_of(limit)

    def _add(self, handler: Handler) -> None:
        if handler.policy.broadcast and any(limit.scope == "service" for limit in self.limits):
            raise ConfigurationError(
                f"handler {handler.name!r}: broadcast=True can't be kept with the limit of service {self.name!r} "
                'over all replicas, as each of them handles each event: leave out scope="service" there'
            )
        for event in handler.events:
            check_limits(f"service {self.name!r}", self.limits, event, spec_of(event).key)
        super()._add(handler)

    def include(self, *handlers: Handlers) -> None:
        """Take over the handlers declared elsewhere.

        :raises ConfigurationError: two handlers have the same name.
        """
        for group in handlers:
            for handler in group.handlers:
                self._add(handler)

    def __repr__(self) -> str:
        return f"Service({self.name!r}, {len(self._handlers)} handlers)"
