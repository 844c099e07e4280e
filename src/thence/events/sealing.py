"""Sealing: one step that encodes an event, holds it to its budget and makes the copy to deliver.

Decoding what was just encoded is the validation: it costs no more than a check in Python would,
runs in C, and hands a local handler exactly what a remote one gets. The path of an event that fits
is three calls long; all explaining happens after it has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from thence.errors import InvalidEvent, PayloadTooLarge
from thence.events.codec import CODEC_ERRORS, encode
from thence.events.fields import Field

__all__ = ["refusal", "sealer"]

E = TypeVar("E")

_FIELDS_SHOWN = 3


def sealer(
    event_name: str,
    fields: Sequence[Field],
    decode: Callable[[bytes], E],
    max_bytes: int,
) -> Callable[[E], tuple[bytes, E]]:
    """A function that turns an event into its payload and the decoded copy of it.

    The function raises `InvalidEvent` for values that don't fit their fields, and
    `PayloadTooLarge` for a payload over `max_bytes`.
    """

    def seal(event: E) -> tuple[bytes, E]:
        try:
            payload = encode(event)
            if len(payload) <= max_bytes:
                return payload, decode(payload)
        except CODEC_ERRORS as error:
            cause = error
        else:
            raise PayloadTooLarge(_overweight(event_name, fields, event, len(payload), max_bytes))
        raise _misfit(fields, event, cause)

    unchecked = [field for field in fields if field.hides_datetimes]
    if not unchecked:
        return seal

    def seal_and_search(event: E) -> tuple[bytes, E]:
        sealed = seal(event)
        for field in unchecked:
            objection = field.naive_datetime_in(getattr(event, field.name))
            if objection is not None:
                raise InvalidEvent(objection)
        return sealed

    return seal_and_search


def refusal(fields: Sequence[Field], message: str, cause: Exception) -> InvalidEvent:
    """The error to raise for `cause`, which it shows only if that can't give a private value away.

    To be raised outside of the `except` block, as Python would attach the cause there by itself.
    """
    refused = InvalidEvent(message)
    if not any(field.private for field in fields):
        refused.__cause__ = cause
    return refused


def _misfit(fields: Sequence[Field], event: object, cause: Exception) -> InvalidEvent:
    for field in fields:
        objection = field.objection_to(getattr(event, field.name))
        if objection is not None:
            return refusal(fields, objection, cause)
    return refused_as_a_whole(type(event), fields, cause)


def refused_as_a_whole(event_type: type, fields: Sequence[Field], cause: Exception) -> InvalidEvent:
    """The error for values that fit their fields singly, but not the event's `__post_init__`."""
    hidden = any(field.private for field in fields)
    detail = "it has private fields, so no more is shown" if hidden else cause
    message = f"{event_type.__name__} refused its values ({detail}). Correct them before emitting."
    return refusal(fields, message, cause)


def _overweight(
    event_name: str, fields: Sequence[Field], event: object, size: int, max_bytes: int
) -> str:
    weights = {field.name: len(encode(getattr(event, field.name))) for field in fields}
    heaviest = sorted(weights, key=weights.__getitem__, reverse=True)[:_FIELDS_SHOWN]
    shown = ", ".join(f"{name} ({weights[name]:_} bytes)" for name in heaviest)
    return (
        f"An event {event_name!r} takes {size:_} bytes of {max_bytes:_} allowed; its largest "
        f"fields are {shown}. Store what is "
        "large elsewhere and send its address (a claim check), or raise max_bytes= of the class."
    )
