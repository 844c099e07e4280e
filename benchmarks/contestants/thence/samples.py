"""One plausible event of every type of the treasure hunt, made from the fields' names and types.

Not by hand, so that the sizes follow the example as it changes.
"""

import enum
import functools
import importlib
import types
import typing
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import msgspec
import msgspec.structs

from thence import Event

__all__ = ["event_types", "field_names", "key_field", "sample", "wire_name"]

EXAMPLE = "examples.treasure_hunt.events"

TEXTS = {
    "player": "player-17",
    "hunt": "old-town",
    "clue": "clue-03",
    "treasure": "treasure-05",
    "team": "team-4",
    "name": "Ana",
    "text": "Below the clock, behind the third arch.",
    "message": "Ana found a clue",
    "badge": "first-find",
}
NUMBERS = {"points": 10, "score": 140, "total": 140, "clue": 3, "rank": 2, "accuracy": 5}
COORDINATES = {"latitude": 47.376887, "longitude": 8.541694, "lat": 47.376887, "lon": 8.541694}
MOMENT = datetime(2026, 5, 17, 14, 3, 21, 250_000, tzinfo=UTC)


def event_types() -> list[type[Event]]:
    """Return the treasure hunt's event types, without their limits.

    Those are about how many, not about how large: here one player moves as fast as can be measured.

    :raises ImportError: the example isn't there.
    """
    module = importlib.import_module(EXAMPLE)
    return [
        _unlimited(value)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Event) and value.__module__ == EXAMPLE
    ]


def sample(event_type: type[Event]) -> Event:
    """Return a plausible event of a type."""
    hints = typing.get_type_hints(event_type)
    values: dict[str, Any] = {n: _value(n, hints[n]) for n in field_names(event_type)}
    return event_type(**values)


def field_names(event_type: type[Event]) -> tuple[str, ...]:
    """Return the names of the payload's fields; at run time an event is a msgspec Struct."""
    struct = cast(type[msgspec.Struct], event_type)
    return tuple(field.name for field in msgspec.structs.fields(struct))


def wire_name(event_type: type[Event]) -> str:
    """Return a type's name on the wire."""
    return event_type.__event__.name


def key_field(event_type: type[Event]) -> str | None:
    """Return the field that orders a type's events, if any."""
    return event_type.__event__.key


@functools.cache
def _unlimited(event_type: type[Event]) -> type[Event]:
    if not event_type.__event__.policy.limit:
        return event_type
    keywords = {"name": wire_name(event_type), "limit": None, "overflow": "reject"}
    return types.new_class(event_type.__name__, (event_type,), keywords)


def _value(name: str, hint: Any) -> Any:
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is typing.Literal:
        return arguments[0]
    if origin is typing.Annotated:
        return _value(name, arguments[0])
    if origin in (list, tuple, set, frozenset):
        return origin(_value(name, argument) for argument in arguments if argument is not ...)
    if origin is dict:
        return {_value("", arguments[0]): _value("", arguments[1])}
    if arguments:  # a union: what is there says more than what is absent
        return _value(name, next(one for one in arguments if one is not type(None)))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return next(iter(hint))
    return _plain_value(name, hint)


def _plain_value(name: str, hint: Any) -> Any:
    values: dict[Any, Any] = {
        str: TEXTS.get(name, "player-17"),
        bool: True,
        int: NUMBERS.get(name, 7),
        float: COORDINATES.get(name, 12.345678),
        bytes: b"\x01\x02\x03\x04",
        datetime: MOMENT,
        timedelta: timedelta(seconds=90),
        UUID: UUID("0196dd4e-6d5b-7c3a-9d57-3b7a3d6f1c20"),
    }
    if hint in values:
        return values[hint]
    nested = {field: _value(field, kind) for field, kind in typing.get_type_hints(hint).items()}
    return hint(**nested)
