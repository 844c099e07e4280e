"""What an event's class statement may say besides its fields, checked where it is written.

A keyword that is unknown is refused, never ignored: a policy that silently doesn't hold is found
out in production.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, cast, get_args

from thence.durations import seconds
from thence.errors import ConfigurationError
from thence.events.suggestions import did_you_mean
from thence.limits import Limit, Source, limits_of

__all__ = ["DEFAULT_MAX_BYTES", "PRIORITIES", "EventPolicy", "Priority", "read_policy"]

Priority: TypeAlias = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
"""What is shed last comes first."""

Excess: TypeAlias = Literal["reject", "latest"]

DEFAULT_MAX_BYTES = 65_536
_LARGEST_MAX_BYTES = 4 * 1024 * 1024
_LONGEST_NAME = 128
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class EventPolicy:
    """The policy of one event type; each attribute is a keyword of the class statement."""

    name: str
    key: str | None = None
    max_bytes: int = DEFAULT_MAX_BYTES
    private: tuple[str, ...] = ()
    limit: tuple[Limit, ...] = ()
    overflow: Excess = "reject"
    priority: Priority = "normal"
    ttl: float | None = None
    record: bool = False


def read_policy(
    class_name: str, keywords: Mapping[str, Any], inherited: EventPolicy | None
) -> EventPolicy:
    """The policy that `keywords` declare, on top of what the base event's policy says.

    The name is never inherited, for two types can't share one. What a base hides stays hidden.

    Raises:
        ConfigurationError: a keyword is unknown, or its value can't be kept.
    """
    _refuse_unknown(class_name, keywords)
    base = inherited or EventPolicy(name="")
    return EventPolicy(
        name=_checked_name(class_name, keywords.get("name")),
        key=_checked_key(class_name, keywords.get("key", base.key)),
        max_bytes=_checked_max_bytes(class_name, keywords.get("max_bytes", base.max_bytes)),
        private=_joined(base.private, _checked_private(class_name, keywords.get("private", ()))),
        limit=_checked_limit(class_name, keywords.get("limit", base.limit)),
        overflow=_checked_choice(
            class_name, "overflow", keywords.get("overflow", base.overflow), get_args(Excess)
        ),
        priority=_checked_choice(
            class_name, "priority", keywords.get("priority", base.priority), PRIORITIES
        ),
        ttl=_checked_ttl(class_name, keywords.get("ttl", base.ttl)),
        record=_checked_record(class_name, keywords.get("record", base.record)),
    )


def _refuse_unknown(class_name: str, keywords: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(EventPolicy)]
    for keyword in keywords:
        if keyword not in known:
            raise ConfigurationError(
                f"class {class_name}: {keyword!r} is no keyword of an event."
                f"{did_you_mean(keyword, known)} The keywords are {', '.join(known)}."
            )


def _checked_name(class_name: str, name: object) -> str:
    if name is None:
        name = _WORD_START.sub("_", class_name).lower()
    if not isinstance(name, str) or not name or len(name) > _LONGEST_NAME:
        problem = f"must be a text of 1 to {_LONGEST_NAME} characters"
    elif not name.isprintable() or " " in name:
        problem = "must hold no spaces and no control characters"
    else:
        return name
    raise ConfigurationError(
        f"class {class_name}: name={name!r} {problem}. It names the event on the wire, "
        'as in name="clue_found".'
    )


def _checked_key(class_name: str, key: object) -> str | None:
    if key is None or isinstance(key, str):
        return key
    raise ConfigurationError(
        f"class {class_name}: key={key!r} must be the name of a field, as in "
        'key="player", or None for events that need no order.'
    )


def _checked_max_bytes(class_name: str, max_bytes: object) -> int:
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
        raise ConfigurationError(
            f"class {class_name}: max_bytes={max_bytes!r} must be a whole number of bytes, "
            "at least 1, as in max_bytes=256."
        )
    if max_bytes > _LARGEST_MAX_BYTES:
        raise ConfigurationError(
            f"class {class_name}: max_bytes={max_bytes:_} is over {_LARGEST_MAX_BYTES:_} (4 MiB), "
            "the most an event may carry. Store what is large elsewhere and let the event carry "
            "its address (a claim check)."
        )
    return max_bytes


def _checked_private(class_name: str, private: object) -> tuple[str, ...]:
    if isinstance(private, tuple | list):
        names = tuple(cast("Iterable[object]", private))
        if all(isinstance(name, str) for name in names):
            return cast("tuple[str, ...]", names)
    raise ConfigurationError(
        f"class {class_name}: private={private!r} must be a tuple of field names, as in "
        'private=("email",).'
    )


def _checked_limit(class_name: str, limit: Any) -> tuple[Limit, ...]:
    if limit == ():
        return ()
    try:
        limits = limits_of(limit)
    except ConfigurationError as error:
        raise ConfigurationError(f"class {class_name}: {error}") from None
    for one in limits:
        if one.scope == "service" or isinstance(one.per, Source):
            raise ConfigurationError(
                f"class {class_name}: limit={str(one)!r} holds for each node that emits the event, so it can't "
                "be over all replicas or per source. Put such a limit on a handler."
            )
    return limits


def _checked_choice(class_name: str, keyword: str, value: Any, choices: tuple[Any, ...]) -> Any:
    if value in choices:
        return value
    known = ", ".join(f'"{choice}"' for choice in choices)
    raise ConfigurationError(f"class {class_name}: {keyword}={value!r} must be one of {known}.")


def _checked_ttl(class_name: str, ttl: Any) -> float | None:
    if ttl is None:
        return None
    try:
        length = seconds(ttl)
    except ConfigurationError as error:
        raise ConfigurationError(f"class {class_name}: ttl={ttl!r}: {error}") from None
    if length < 0.001:
        raise ConfigurationError(
            f'class {class_name}: ttl={ttl!r} must be at least a millisecond, as in ttl="5s".'
        )
    return length


def _checked_record(class_name: str, record: object) -> bool:
    if isinstance(record, bool):
        return record
    raise ConfigurationError(
        f"class {class_name}: record={record!r} must be True, to have the flight recorder keep payloads of this "
        "type, or False."
    )


def _joined(inherited: tuple[str, ...], own: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*inherited, *own)))
