"""Events as JSON objects, for people and for systems that don't speak Thence.

On the wire an event has no field names; here it has. Reading is strict: a field that is unknown or
missing is an error with its name, never a guess, since whoever writes JSON by hand misspells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from thence.errors import InvalidEvent
from thence.events.codec import CODEC_ERRORS, from_plain, to_plain
from thence.events.fields import Field
from thence.events.sealing import refusal, refused_as_a_whole
from thence.events.suggestions import did_you_mean

__all__ = ["parse_document", "read_document", "write_document"]

E = TypeVar("E")


def write_document(fields: Sequence[Field], event: object) -> dict[str, Any]:
    """The event's fields by name, with values that JSON can hold.

    Raises:
        InvalidEvent: a value fits MessagePack but not JSON, as a dict with tuples for keys does.
    """
    document: dict[str, Any] = {}
    for field in fields:
        value = getattr(event, field.name)
        try:
            document[field.name] = to_plain(value)
            continue
        except CODEC_ERRORS as error:
            cause = error
        raise refusal(fields, field.misfit(value, cause), cause)
    return document


def parse_document(event_name: str, text: bytes | str) -> Mapping[str, object]:
    """The JSON object that `text` holds.

    Raises:
        InvalidEvent: it is no JSON, or no object.
    """
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidEvent(
            f"An event {event_name!r} is read from a JSON object with its fields by name, "
            f"and this is none: {error}."
        ) from error


def read_document(
    event_type: type[E], fields: Sequence[Field], document: Mapping[str, object]
) -> E:
    """The event that `document` describes by field names.

    Raises:
        InvalidEvent: a field is unknown, missing or has a value that doesn't fit.
    """
    _check_names(event_type, fields, document)
    values: dict[str, object] = {}
    for field in fields:
        if field.name not in document:
            continue
        try:
            values[field.name] = from_plain(document[field.name], field.annotation)
            continue
        except CODEC_ERRORS as error:
            cause = error
        raise refusal(fields, field.misfit(document[field.name], cause), cause)
    try:
        return event_type(**values)
    except CODEC_ERRORS as error:
        cause = error
    raise refused_as_a_whole(event_type, fields, cause)


def _check_names(event_type: type, fields: Sequence[Field], document: Mapping[str, object]) -> None:
    known = [field.name for field in fields]
    for name in map(str, document):
        if name not in known:
            raise InvalidEvent(
                f"{event_type.__name__} has no field {name!r}.{did_you_mean(name, known)} "
                f"Its fields are {', '.join(known) or 'none'}."
            )
    missing = [field.name for field in fields if field.required and field.name not in document]
    if missing:
        raise InvalidEvent(
            f"{event_type.__name__} lacks {', '.join(missing)}. Add what is missing; only fields "
            "with a default may be left out."
        )
