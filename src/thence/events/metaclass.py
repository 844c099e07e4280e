"""What happens at run time when a class statement declares an event.

A metaclass is what it takes: the class must come out of msgspec's own metaclass, while the keywords
of the statement mean something to Thence rather than to msgspec.
"""

from __future__ import annotations

from contextlib import suppress
from inspect import currentframe
from types import FrameType
from typing import Any, cast

import msgspec

from thence.events.annotations import UnresolvedAnnotation
from thence.events.declaration import check_bases, check_names, explained_refusals
from thence.events.policy import read_policy
from thence.events.spec import EventSpec

__all__ = ["EventMeta", "EventStruct"]


class EventMeta(msgspec.StructMeta):
    """Makes an event type of a class statement, and its spec along with it."""

    __event__: EventSpec[Any]

    def __new__(
        metacls,
        class_name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        **keywords: Any,
    ) -> EventMeta:
        parents = [base for base in bases if isinstance(base, EventMeta)]
        if not parents:  # EventStruct
            return super().__new__(
                metacls, class_name, bases, namespace, frozen=True, array_like=True, gc=False
            )
        if EventStruct in parents:  # Event
            return super().__new__(metacls, class_name, bases, namespace)
        inherited: EventSpec[Any] | None = getattr(parents[0], "__event__", None)
        policy = read_policy(class_name, keywords, inherited.policy if inherited else None)
        check_bases(class_name, bases)
        with explained_refusals(class_name):
            event_type = super().__new__(metacls, class_name, bases, namespace)
        check_names(event_type, policy)
        event_type.__event__ = EventSpec(cast("type[Any]", event_type), policy)
        with suppress(UnresolvedAnnotation):
            event_type.__event__.resolve(_local_names(currentframe()))
        return event_type


class EventStruct(msgspec.Struct, metaclass=EventMeta):
    """The root of all events at run time: frozen, encoded by position, hiding what is private."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        spec: EventSpec[Any] | None = getattr(self, "__event__", None)
        private = spec.private if spec else ()
        return [
            (name, _HIDDEN if name in private else getattr(self, name))
            for name in self.__struct_fields__
        ]


class _Hidden:
    """Stands for the value of a private field."""

    def __repr__(self) -> str:
        return "•••"


_HIDDEN = _Hidden()


def _local_names(metaclass_frame: FrameType | None) -> dict[str, object]:
    """The names that only the function around a class statement knows."""
    frame = metaclass_frame and metaclass_frame.f_back
    return {} if frame is None or frame.f_locals is frame.f_globals else dict(frame.f_locals)
