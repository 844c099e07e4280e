"""Finding datetimes without a timezone, wherever they hide in a value.

A naive datetime means a different instant on every machine, so no event may carry one. Fields that
name `datetime` in their own annotation are held by the decoder, in C. This walk covers what the
decoder can't be told about: classes of the user's own, `Any`, and defaults. It also finds the
place to name in an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import cast

__all__ = ["explain_naive_datetime", "naive_datetime_in"]


def naive_datetime_in(value: object) -> str | None:
    """Where a naive datetime stands within `value`, as in "[2].at"; None if there is none.

    The empty path is `value` itself. A path never shows a dictionary's keys: they may be private.
    `value` must not contain itself; what has been encoded doesn't.
    """
    waiting = [("", value)]
    while waiting:
        path, part = waiting.pop()
        if isinstance(part, datetime):
            if part.tzinfo is None:
                return path
        else:
            waiting.extend((path + step, inner) for step, inner in _parts_of(part))
    return None


def explain_naive_datetime(place: str) -> str:
    """The message for a naive datetime that was found at `place`."""
    return (
        f"{place} holds a datetime without a timezone, which is another instant on every machine. "
        "Use datetime.now(timezone.utc), or attach the zone that is meant: "
        "value.replace(tzinfo=timezone.utc)."
    )


def _parts_of(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            yield "[...]", key
            yield "[...]", item
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(cast("Iterable[object]", value)):
            yield f"[{index}]", item
    elif isinstance(value, (set, frozenset)):
        for item in cast("Iterable[object]", value):
            yield "[...]", item
    else:
        for name in _field_names(type(value)):
            yield f".{name}", getattr(value, name, None)


def _field_names(owner: type) -> Iterable[str]:
    """The fields of a msgspec Struct, a dataclass or an attrs class; nothing for any other type."""
    for listing in ("__struct_fields__", "__dataclass_fields__"):
        if (names := getattr(owner, listing, None)) is not None:
            return cast("Iterable[str]", names)
    return [attribute.name for attribute in getattr(owner, "__attrs_attrs__", ())]
