"""What a handler declares of each event that it may emit: whether every run emits it, and whether many."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from thence.events import Event, spec_of
from thence.handling.handler import Handler, declared_consequences

__all__ = ["Consequence", "consequences_of"]


@dataclass(frozen=True, slots=True)
class Consequence:
    """An event that a handler declares to emit."""

    event: str
    """Its name on the wire."""
    type: type[Event]
    many: bool = False
    """One run may emit any number of it, as with ``-> list[ClueFound]``."""
    certain: bool = False
    """Every run that succeeds emits it, as with ``-> ScoreChanged``, and not with ``-> ScoreChanged | None``."""


def consequences_of(handler: Handler) -> tuple[Consequence, ...]:
    """What the handler's return annotation and ``emits`` declare, by name.

    :raises ConfigurationError: the annotation names something that can't be found.
    """
    declared = declared_consequences(handler)
    many: set[type[Event]] = set()
    certain: set[type[Event]] = set()
    for event, is_many, is_certain in _walk(_annotation(handler), many=False, certain=True):
        if is_many:
            many.add(event)
        if is_certain:
            certain.add(event)
    return tuple(
        sorted(
            (
                Consequence(spec_of(event).name, event, event in many, event in certain)
                for event in declared
            ),
            key=lambda consequence: consequence.event,
        )
    )


def _annotation(handler: Handler) -> Any:
    """The return annotation as an object; :func:`declared_consequences` has found it to be resolvable."""
    function = inspect.unwrap(handler.function)
    annotations = getattr(function, "__annotations__", None)
    if annotations is None:
        annotations = getattr(type(function).__call__, "__annotations__", {})
    annotation = annotations.get("return")
    if not isinstance(annotation, str):
        return annotation
    known = {event.__name__: event for event in (*handler.events, *handler.policy.emits)}
    scope = getattr(function, "__globals__", {})
    closure = {**inspect.getclosurevars(function).nonlocals} if inspect.isfunction(function) else {}
    return eval(annotation, {**known, **scope}, closure)  # noqa: S307 - the module's own text


def _walk(
    annotation: Any, *, many: bool, certain: bool
) -> Iterator[tuple[type[Event], bool, bool]]:
    """Each event type in the annotation, with whether many may be emitted, and whether one certainly is."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, Event) and annotation is not Event:
            yield annotation, many, certain
        return
    alias = getattr(annotation, "__value__", None)
    if alias is not None:
        yield from _walk(alias, many=many, certain=certain)
        return
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        yield from _walk(arguments[0], many=many, certain=certain)
        return
    if origin is typing.Union or origin is types.UnionType:
        certain = False
    elif origin is not tuple or Ellipsis in arguments:
        many, certain = True, False
    for argument in arguments:
        yield from _walk(argument, many=many, certain=certain)
