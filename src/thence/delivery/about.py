"""What a log record tells about an event.

Records that are made inside a handler's run, and those that Thence makes about an event outside of one, carry
the same attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from thence.delivery.hosted import HostedHandler, Subscription
from thence.events.envelope import Arrival, event_id_of, lineage_of

__all__ = [
    "ATTRIBUTES",
    "EACH",
    "IDS",
    "NOTHING",
    "PRIVATE",
    "PrivateValues",
    "about",
    "failure_text",
]

IDS = ("event_id", "root_id", "cause_id")
ATTRIBUTES = (*IDS, "event", "service", "handler", "batch")
"""What a record has of its event, each None where it is not known."""
PRIVATE = "_thence_private"
"""The attribute with what may not be shown of it: :class:`PrivateValues`, or None."""
NOTHING: Mapping[str, None] = dict.fromkeys((*ATTRIBUTES, PRIVATE))
"""All of these where no event is known."""

EACH: Mapping[str, None] = {"fingerprint": None}
"""The ``extra`` of a record that is no repeat of any other, so that none of them may be left out: it tells of
each thing once, or sums up already."""

LEAST_PRIVATE = 4
"""Characters from which on a value is looked for in texts: a shorter one would be found everywhere."""
MAX_PRIVATE = 1000
"""Values that are looked for in one record."""
MAX_NESTING = 8


class PrivateValues:
    """The values of the private fields of some events, for those who write texts about them to leave out.

    A copy for another process, or to be stored, has none.
    """

    __slots__ = ("_events", "_texts")

    def __init__(self, events: Sequence[Any] = ()) -> None:
        self._events = events
        self._texts: list[str] | None = None

    def texts(self) -> list[str]:
        """What may not appear, the longest first."""
        if self._texts is None:
            self._texts = self._find()
        return self._texts

    def _find(self) -> list[str]:
        found: set[str] = set()
        for event in self._events:
            for name in event.__event__.private:
                for text in _texts_in(getattr(event, name), MAX_NESTING):
                    if len(found) < MAX_PRIVATE and len(text) >= LEAST_PRIVATE:
                        found.add(text)
        return sorted(found, key=len, reverse=True)

    def __repr__(self) -> str:
        return "•••"

    def __reduce__(self) -> tuple[type[PrivateValues], tuple[()]]:
        return PrivateValues, ()


def about(arrival: Arrival, handler: HostedHandler | None = None) -> dict[str, Any]:
    """The attributes for a record about an event that has arrived, and about its run by that handler.

    To be given as the record's ``extra``. ``cause_id`` is None for a root event; ``batch`` is the number of events
    where a handler takes many at once, and the rest is about the newest of them.
    """
    subscription: Subscription = arrival.subscription
    event_id, lineage = str(event_id_of(arrival)), lineage_of(arrival)
    members = arrival.members
    told: dict[str, Any] = {
        "event_id": event_id,
        "root_id": event_id if lineage is None else str(lineage.root),
        "cause_id": None if lineage is None else str(lineage.cause),
        "event": subscription.event.name,
        "service": subscription.service.name,
        "handler": None if handler is None else handler.name,
        "batch": None if members is None else len(members),
        PRIVATE: None,
    }
    events = [one.body for one in members or (arrival,) if one.subscription.event.private]
    if events:
        told[PRIVATE] = PrivateValues(events)
    return told


def failure_text(error: BaseException) -> str:
    """Type and message of an error, also of one that can't be made a text."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as another:
        return f"{type(error).__name__} (whose message raised {type(another).__name__})"


def _texts_in(value: object, depth: int) -> Iterator[str]:
    """The texts and numbers that a value is made of."""
    if isinstance(value, str):
        yield value
        escaped = repr(value)[1:-1]
        if escaped != value:
            yield escaped
    elif isinstance(value, bytes):
        yield repr(value)[2:-1]
    elif value is not None and not isinstance(value, bool):
        parts = _parts_of(value) if depth else None
        if parts is None:
            yield str(value)
        else:
            for part in parts:
                yield from _texts_in(part, depth - 1)


def _parts_of(value: object) -> Iterable[object] | None:
    """What is in a container; None for anything else."""
    if isinstance(value, Mapping):
        return [*cast("Mapping[object, object]", value).items()]
    if isinstance(value, list | tuple | set | frozenset):
        return cast("Iterable[object]", value)
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.astuple(value)
    return None
