"""The fields of an event type, and what is wrong with a value that doesn't fit one.

Nothing here runs while events flow. The decoder in C accepts or refuses an event as a whole; only
once it has refused one are the values looked at singly, to say which of them it was and why.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, get_type_hints

from msgspec import inspect as types

from thence.events.codec import CODEC_ERRORS, decoder_of, encode
from thence.events.instants import explain_naive_datetime, naive_datetime_in

__all__ = ["Field"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event type, its annotation resolved.

    `shape` is what msgspec says of its type, `parts` the shapes of all that it is made of.
    """

    owner: type
    name: str
    annotation: Any
    shape: types.Type
    parts: tuple[types.Type, ...]
    required: bool
    private: bool

    @property
    def label(self) -> str:
        """How messages call it, as in `ClueFound.player`."""
        return f"{self.owner.__name__}.{self.name}"

    @property
    def hides_datetimes(self) -> bool:
        """Whether its values may hold datetimes that the decoder in C can't be told to check."""
        return any(
            isinstance(part, types.AnyType)
            or (isinstance(part, types.DateTimeType) and not part.tz)
            for part in self.parts
        )

    def objection_to(self, value: object) -> str | None:
        """Why this field can't carry `value`, or None if it can. Never shows a private value."""
        try:
            payload = encode(value)
            objection = self.naive_datetime_in(value)
            if objection is None:
                decoder_of(self.annotation)(payload)
        except CODEC_ERRORS as error:
            return self.misfit(value, error)
        return objection

    def naive_datetime_in(self, value: object) -> str | None:
        """The message for a datetime without a timezone within `value`, or None."""
        path = naive_datetime_in(value)
        if path is None:
            return None
        return explain_naive_datetime(self.label if self.private else self.label + path)

    def misfit(self, value: object, error: Exception) -> str:
        """The message for a `value` that was refused with `error`."""
        declared = inspect.formatannotation(get_type_hints(self.owner)[self.name])
        detail = "the field is private, so no more is shown" if self.private else error
        return (
            f"{self.label} is declared as {declared}, which the {type(value).__name__} given "
            f"doesn't fit ({detail}). Give it a value of the declared type."
        )
