"""What a service's author declared about one handler, checked and ready to run."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import contextvars
import functools
import inspect
import types
import typing
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from thence.budget import Budget
from thence.durations import Duration, seconds
from thence.errors import ConfigurationError
from thence.events import Event, spec_of
from thence.handling.batch import Batch
from thence.limits import Limit, Limits, check_limits, limits_of

__all__ = [
    "CONTAINERS",
    "Handler",
    "HandlerPolicy",
    "Overflow",
    "ReturnAnnotation",
    "declared_consequences",
]

Overflow: TypeAlias = Literal["wait", "drop", "latest", "reject"]
"""What becomes of events beyond a handler's limit: they wait in line, are dropped, give way to newer ones of
their key, or are refused so that their emitter learns of it."""

LONGEST_NAME = 128
"""Characters of a handler's name, which travels in the paths of consequences and in reports."""


@dataclass(frozen=True, slots=True)
class HandlerPolicy:
    """How a handler is to be run."""

    queue: int = 1000
    """Bound of the line of events that wait for it; what comes when it is full is shed."""
    concurrency: int = 64
    """Runs in flight at once."""
    timeout: float = 30.0
    """Seconds for one run."""
    broadcast: bool = False
    """Whether each replica handles each event, rather than one of them."""
    emits: tuple[type[Event], ...] = ()
    """Types emitted through ``ctx.emit``, besides those the return annotation names."""
    limits: tuple[Limit, ...] = ()
    """How often it may be started; all must hold."""
    overflow: Overflow = "wait"
    """What becomes of the excess."""
    queue_target: float | None = None
    """Seconds that events may stand in line lastingly; what has waited longer is shed."""
    batch: Batch | None = None
    """Whether, and how, it takes a list of events."""
    max_loops: int = 0
    """How often one cascade may come back to it through its own consequences."""
    budget: Budget | None = None
    """Bounds what one run of it causes, within what is left of the cascade's budget."""

    @classmethod
    def checked(
        cls,
        *,
        queue: int,
        concurrency: int,
        timeout: Duration,
        broadcast: bool,
        emits: Any,
        limit: Limits,
        overflow: Overflow,
        queue_target: Duration | None,
        batch: Batch | None,
        max_loops: int,
        budget: Budget | None,
    ) -> HandlerPolicy:
        """The policy, or a ConfigurationError that names the keyword to change."""
        for keyword, number in (("queue", queue), ("concurrency", concurrency)):
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise ConfigurationError(
                    f"{keyword}={number!r}: give a whole number of at least 1, for example {keyword}=64"
                )
        if not isinstance(max_loops, int) or isinstance(max_loops, bool) or max_loops < 0:
            raise ConfigurationError(
                f"max_loops={max_loops!r}: give how often a cascade may come back to the handler, for example "
                "max_loops=2; 0 allows no loop"
            )
        if budget is not None and not isinstance(budget, Budget):
            raise ConfigurationError(
                f"budget={budget!r}: give a Budget, as in budget=Budget(events=100)"
            )
        length = _length("timeout", timeout, "30s")
        target = None if queue_target is None else _length("queue_target", queue_target, "100ms")
        if not isinstance(broadcast, bool):
            raise ConfigurationError(f"broadcast={broadcast!r}: give True or False")
        types_emitted: tuple[Any, ...] = (emits,) if isinstance(emits, type) else tuple(emits)
        for emitted in types_emitted:
            if not (isinstance(emitted, type) and issubclass(emitted, Event)):
                raise ConfigurationError(
                    f"emits={emits!r}: list event types, for example emits=[ScoreChanged]"
                )
        limits = limits_of(limit)
        if overflow not in get_args(Overflow):
            known = ", ".join(f'"{one}"' for one in get_args(Overflow))
            raise ConfigurationError(f"overflow={overflow!r}: give one of {known}")
        if overflow in ("drop", "reject") and not limits:
            raise ConfigurationError(
                f'overflow="{overflow}" says what becomes of events beyond a limit: add limit="100/s", or leave '
                "it out"
            )
        if batch is not None and not isinstance(batch, Batch):
            raise ConfigurationError(
                f'batch={batch!r}: give a Batch, as in batch=Batch(size=100, within="50ms")'
            )
        if batch is not None and batch.size > queue:
            raise ConfigurationError(
                f"batch=Batch(size={batch.size}) with queue={queue} would never be full: raise queue to at "
                f"least {batch.size}"
            )
        if batch is not None and overflow in ("latest", "reject"):
            raise ConfigurationError(
                f'batch=... with overflow="{overflow}" can\'t be kept, as events of a batch are let in together: '
                'use overflow="wait" or "drop"'
            )
        if broadcast and any(one.scope == "service" for one in limits):
            raise ConfigurationError(
                "broadcast=True with a limit over all replicas can't be kept, as each of them handles each "
                'event: leave out scope="service"'
            )
        return cls(
            queue,
            concurrency,
            length,
            broadcast,
            types_emitted,
            limits,
            overflow,
            target,
            batch,
            max_loops,
            budget,
        )

    def check_events(self, handler: str, events: tuple[type[Event], ...]) -> None:
        """Check that these policies make sense for these types.

        :raises ConfigurationError: a limit names a field that one of them does not have, for example.
        """
        for event in events:
            spec = spec_of(event)
            check_limits(f"handler {handler!r}", self.limits, event, spec.key)
            if self.overflow == "latest" and spec.key is None:
                raise ConfigurationError(
                    f'handler {handler!r}: overflow="latest" keeps the newest of each key, and {event.__name__} '
                    f'has none: declare it with key="...", or use another overflow'
                )


def _length(keyword: str, duration: Duration, example: str) -> float:
    try:
        length = seconds(duration)
    except ConfigurationError as error:
        raise ConfigurationError(f"{keyword}={duration!r}: {error}") from None
    if length <= 0:
        raise ConfigurationError(
            f'{keyword}={duration!r}: give a time above zero, for example {keyword}="{example}"'
        )
    return length


@dataclass(frozen=True, slots=True)
class Handler:
    """One function that handles events of one or more types."""

    function: Callable[..., Any]
    name: str
    events: tuple[type[Event], ...]
    policy: HandlerPolicy
    takes_context: bool

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        events: tuple[type[Event], ...],
        name: str | None,
        policy: HandlerPolicy,
    ) -> Handler:
        """Check the function's parameters and wrap up what was declared.

        :raises ConfigurationError: it can't be called as ``(event)`` or ``(event, ctx)``.
        """
        shown = name or getattr(function, "__name__", None)
        if not shown:
            raise ConfigurationError(
                f"handler {function!r} has no name of its own: give it one with name=..."
            )
        if not isinstance(shown, str) or len(shown) > LONGEST_NAME:
            raise ConfigurationError(
                f"handler {shown!r}: a name is a text of 1 to {LONGEST_NAME} characters: give it another with name=..."
            )
        policy.check_events(shown, events)
        return cls(function, shown, events, policy, _takes_context(function, shown))

    def check_beside(self, other: Handler) -> None:
        """See that both can handle the events that both want.

        :raises ConfigurationError: one of them keeps only the newest, and the other is to get each.
        """
        policy, others = self.policy, other.policy
        if policy.broadcast != others.broadcast or (policy.overflow == "latest") == (
            others.overflow == "latest"
        ):
            return
        for event in self.events:
            if event in other.events:
                raise ConfigurationError(
                    f"handlers {self.name!r} and {other.name!r} both want {event.__name__}, which their service "
                    'gets once for both; overflow="latest" of only one of them can\'t be kept: give it to both, or '
                    "put one of them into another service"
                )

    def run_in(self, threads: Executor | None) -> Callable[..., Coroutine[Any, Any, Any]]:
        """The function as an async one, whatever it was declared as; a plain one runs in ``threads``."""
        function = self.function
        if inspect.isasyncgenfunction(self._called):
            return functools.partial(_collect, function)
        if inspect.iscoroutinefunction(self._called):
            return function
        return functools.partial(_in_thread, threads, function)

    @property
    def suspends(self) -> bool:
        """Whether it certainly suspends: a plain function waits for its thread."""
        called = self._called
        return not (inspect.isasyncgenfunction(called) or inspect.iscoroutinefunction(called))

    @property
    def _called(self) -> Any:
        function = self.function
        return function if inspect.isroutine(function) else type(function).__call__


def _takes_context(function: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    keyword_only = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if keyword_only or len(required) > 2 or (not positional and not variadic):
        raise ConfigurationError(
            f"handler {name!r} has the parameters {inspect.signature(function)}: a handler takes (event) or "
            "(event, ctx); give any other parameter a default"
        )
    return len(required) == 2 or (len(positional) >= 2 and positional[1].name in ("ctx", "context"))


async def _collect(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    return [consequence async for consequence in function(*arguments)]


async def _in_thread(
    threads: Executor | None, function: Callable[..., Any], *arguments: Any
) -> Any:
    """Run a plain function in a thread.

    A thread can't be stopped: when the run is cancelled, by its timeout for example, this still waits for
    the function to return, so that the next event of the same key never runs beside it.
    """

    def call() -> Any:
        try:
            result = function(*arguments)
            return list(result) if inspect.isgenerator(result) else result
        except StopIteration as error:
            # No future can hold it.
            raise RuntimeError("the handler raised StopIteration") from error

    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    running = loop.run_in_executor(threads, context.run, call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                continue
        if not running.cancelled():
            running.exception()
        raise


CONTAINERS = (
    list,
    tuple,
    set,
    frozenset,
    collections.abc.Iterable,
    collections.abc.Iterator,
    collections.abc.Sequence,
    collections.abc.Collection,
    collections.abc.Set,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)


def declared_consequences(handler: Handler) -> frozenset[type[Event]]:
    """The event types that the handler may emit: those its return annotation names, and ``emits``.

    Resolved when a node starts, so that annotations may name what is defined further down.

    :raises ConfigurationError: the annotation names something that can't be found.
    """
    declared = ReturnAnnotation(handler)
    return frozenset(_events_in(declared, declared.whole)) | frozenset(handler.policy.emits)


class ReturnAnnotation:
    """What a handler's signature says that it returns. Names in quotes may stand anywhere in it."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._function = function = inspect.unwrap(handler.function)
        annotations = getattr(function, "__annotations__", None)
        if annotations is None:
            annotations = getattr(type(function).__call__, "__annotations__", {})
        self.whole: Any = annotations.get("return")

    def resolve(self, part: Any) -> Any:
        """A part of it, or what it names if it is in quotes.

        :raises ConfigurationError: that can't be found.
        """
        if isinstance(part, typing.ForwardRef):
            part = part.__forward_arg__
        if not isinstance(part, str):
            return part
        handler, function = self._handler, self._function
        closure: dict[str, Any] = {}
        if inspect.isfunction(function):
            for name, cell in zip(
                function.__code__.co_freevars, function.__closure__ or (), strict=True
            ):
                # A name that gets its value later, as ``node`` in ``async with Node(service) as node``.
                with contextlib.suppress(ValueError):
                    closure[name] = cell.cell_contents
        known = {event.__name__: event for event in (*handler.events, *handler.policy.emits)}
        scope = getattr(function, "__globals__", {})
        try:
            return eval(part, {**known, **scope}, closure)  # noqa: S307 - the module's own text
        except Exception as error:
            raise ConfigurationError(
                f"handler {handler.name!r}: its return annotation {part!r} can't be resolved ({error}); "
                "import the types it names in the handler's module, or declare them with emits=[...]"
            ) from error


def _events_in(declared: ReturnAnnotation, part: Any) -> typing.Iterator[type[Event]]:
    annotation = declared.resolve(part)
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, Event) and annotation is not Event:
            yield annotation
        return
    alias = getattr(annotation, "__value__", None)
    if alias is not None:
        yield from _events_in(declared, alias)
        return
    origin = typing.get_origin(annotation)
    if origin is typing.Union or origin is types.UnionType or origin in CONTAINERS:
        for argument in typing.get_args(annotation):
            yield from _events_in(declared, argument)
    elif origin is typing.Annotated:
        yield from _events_in(declared, typing.get_args(annotation)[0])
