"""The two encodings of an event's values, set up once for the whole library.

On the wire an event is positional MessagePack: an array of its field values, with no names in it.
UUIDs travel as their 16 bytes rather than 36 characters. At the edges where people and other
systems look, values are plain JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

__all__ = ["CODEC_ERRORS", "decoder_of", "encode", "from_plain", "to_plain"]

T = TypeVar("T")

CODEC_ERRORS = (ValueError, TypeError, OverflowError, RecursionError)
"""All that msgspec raises for a value it can't encode, or that doesn't fit a type."""

encode: Callable[[object], bytes] = msgspec.msgpack.Encoder(uuid_format="bytes").encode
"""Encodes any value for the wire; a bound method in C, without a Python frame around it."""


def decoder_of(declared: type[T]) -> Callable[[bytes], T]:
    """The bound method in C that decodes values of the `declared` type."""
    return msgspec.msgpack.Decoder(declared).decode


def to_plain(value: object) -> Any:
    """`value` built of only what JSON knows: objects, arrays, text, numbers, true, false, null."""
    return msgspec.to_builtins(value, str_keys=True)


def from_plain(value: object, declared: Any) -> Any:
    """The value of the `declared` type that the plain `value` stands for."""
    return msgspec.convert(value, declared, str_keys=True)
