"""Making texts of what was logged, whatever it is: never raising, never too long, without secrets.

An event is shown by its ``repr``, which hides its private fields, wherever it stands; no encoder is let near it,
which would show them.
"""

from __future__ import annotations

import logging
import math
import re
import traceback
from collections import deque
from collections.abc import Collection, Mapping
from datetime import date, time
from decimal import Decimal
from itertools import islice
from pathlib import PurePath
from typing import Any, cast
from uuid import UUID

from thence.delivery.about import IDS, NOTHING, PRIVATE, PrivateValues, failure_text
from thence.identifiers import EventId
from thence.observability.fingerprints import fingerprint_of
from thence.observability.masking import HIDDEN, is_secret_name, mask

__all__ = [
    "clean",
    "extras_of",
    "message_of",
    "plain_value",
    "safe_repr",
    "stack_of",
    "type_and_text",
]

MAX_CHARACTERS = 16_384
"""Of one text; what is longer loses its middle."""
MAX_ITEMS = 100
MAX_DEPTH = 5

STANDARD = {
    *vars(logging.LogRecord("", 0, "", 0, "", None, None)),
    "message",
    "asctime",
    "taskName",
    *NOTHING,
    "fingerprint",
    "error_type",
    "repeats",
    "window",
}
"""The attributes of a record that somebody else's ``extra`` has not added."""


def message_of(record: logging.LogRecord) -> str:
    """The message; if its arguments don't fit it, what they are."""
    try:
        return record.getMessage()
    except Exception as error:
        template = record.msg if isinstance(record.msg, str) else safe_repr(record.msg)
        arguments = record.args
        given = (
            ", ".join(map(safe_repr, arguments))
            if isinstance(arguments, tuple)
            else safe_repr(arguments)
        )
        return f"{template} (can't be formatted with {given}: {failure_text(error)})"


def safe_repr(value: object) -> str:
    """``repr(value)``, or what it raised."""
    try:
        text = repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return shortened(text)


def shortened(text: str, limit: int = MAX_CHARACTERS) -> str:
    """The text, without its middle if it is longer than the limit."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters … {text[-half:]}"


def clean(text: str, record: logging.LogRecord) -> str:
    """The text without secrets, without the private values of the record's events, and not too long."""
    text = mask(text)
    private = record.__dict__.get(PRIVATE)
    if isinstance(private, PrivateValues):
        text = _without(text, private.texts(), record)
    return shortened(text)


def _without(text: str, values: list[str], record: logging.LogRecord) -> str:
    """The text without these values, but with the record's ids, even if a value happens to be in them."""
    ids = {i for name in IDS if isinstance(i := record.__dict__.get(name), str) and i}
    parts = re.split(f"({'|'.join(map(re.escape, ids))})", text) if ids else [text]
    for number, part in enumerate(parts):
        if part not in ids:
            for value in values:
                part = part.replace(value, HIDDEN)
            parts[number] = part
    return "".join(parts)


def type_and_text(record: logging.LogRecord) -> tuple[str, str] | None:
    """The type of the record's exception, with its module, and its message."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return None
    try:
        text = str(error)
    except Exception as another:
        text = f"<its message raised {type(another).__name__}>"
    return fingerprint_of(error).error, text


def stack_of(record: logging.LogRecord) -> str:
    """The traceback of the record's exception, and its stack if it was asked for; mostly empty."""
    parts: list[str] = []
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        try:
            parts.append("".join(traceback.format_exception(error)))
        except Exception as another:
            parts.append(f"{failure_text(error)} (its traceback raised {type(another).__name__})")
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(part.rstrip("\n") for part in parts)


def extras_of(record: logging.LogRecord) -> dict[str, Any]:
    """What its ``extra`` has added to a record, as JSON can hold it."""
    extras = {
        name: value
        for name, value in record.__dict__.items()
        if name not in STANDARD and not name.startswith("_")
    }
    if not extras:
        return extras
    return cast("dict[str, Any]", plain_value(extras, record))


def plain_value(value: object, record: logging.LogRecord, depth: int = MAX_DEPTH) -> Any:
    """The value as JSON can hold it. What JSON does not know is a text; secrets are hidden."""
    try:
        return _plain(value, record, depth)
    except Exception:
        return clean(safe_repr(value), record)


def _plain(value: object, record: logging.LogRecord, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int or (kind is float and math.isfinite(cast(float, value))):
        shown = str(value)
        return value if clean(shown, record) == shown else HIDDEN
    if isinstance(value, str):
        return clean(str(value), record)
    if isinstance(value, EventId | UUID | date | time | Decimal | PurePath):
        return clean(str(value), record)
    if isinstance(value, BaseException):
        return clean(failure_text(value), record)
    if depth and isinstance(value, dict):
        return _plain_mapping(cast("Mapping[object, object]", value), record, depth)
    if depth and (kind is tuple or isinstance(value, list | set | frozenset | deque)):
        return _plain_items(cast("Collection[object]", value), record, depth)
    return clean(safe_repr(value), record)


def _plain_mapping(
    value: Mapping[object, object], record: logging.LogRecord, depth: int
) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for key, one in value.items():
        if len(shown) == MAX_ITEMS:
            shown["…"] = f"{len(value) - MAX_ITEMS:,} more"
            break
        name = clean(key if isinstance(key, str) else safe_repr(key), record)
        shown[name] = HIDDEN if is_secret_name(name) else plain_value(one, record, depth - 1)
    return shown


def _plain_items(value: Collection[object], record: logging.LogRecord, depth: int) -> list[Any]:
    shown = [plain_value(one, record, depth - 1) for one in islice(value, MAX_ITEMS)]
    if len(value) > MAX_ITEMS:
        shown.append(f"… {len(value) - MAX_ITEMS:,} more")
    return shown
