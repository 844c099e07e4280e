"""What a handler declares of each event that it may emit: whether every run emits it, and whether many."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from thence.events import Event, spec_of
from thence.handling.handler import CONTAINERS, Handler, ReturnAnnotation, declared_consequences

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
    returned = ReturnAnnotation(handler)
    for event, is_many, is_certain in _walk(returned, returned.whole, many=False, certain=True):
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


def _walk(
    returned: ReturnAnnotation, part: Any, *, many: bool, certain: bool
) -> Iterator[tuple[type[Event], bool, bool]]:
    """Each event type in the annotation, with whether many may be emitted, and whether one certainly is."""
    annotation = returned.resolve(part)
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, Event) and annotation is not Event:
            yield annotation, many, certain
        return
    alias = getattr(annotation, "__value__", None)
    if alias is not None:
        yield from _walk(returned, alias, many=many, certain=certain)
        return
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        yield from _walk(returned, arguments[0], many=many, certain=certain)
        return
    if origin is typing.Union or origin is types.UnionType:
        certain = False
    elif origin not in CONTAINERS:
        return
    elif origin is not tuple or Ellipsis in arguments:
        many, certain = True, False
    for argument in arguments:
        yield from _walk(returned, argument, many=many, certain=certain)
