"""Why an event is not handled, or not sent. One word or two each: they are counted by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

__all__ = [
    "BREAKER",
    "CANCELLED",
    "CASCADE_EXPIRED",
    "CLOSING",
    "CUT_BY_DEPTH",
    "CUT_BY_EVENTS",
    "EXPIRED",
    "LOOP",
    "MOVING",
    "NO_ROOM",
    "OVERLOADED",
    "QUEUE_FULL",
    "REPLACED",
    "UNDECODABLE",
    "UNREACHABLE",
    "Kind",
    "kind_of",
]

BREAKER = "breaker open"
CANCELLED = "its emit was cancelled"
CASCADE_EXPIRED = "cascade budget: seconds"
CLOSING = "closing"
CUT_BY_DEPTH = "cascade budget: depth"
CUT_BY_EVENTS = "cascade budget: events"
EXPIRED = "expired"
LOOP = "loop"
MOVING = "key is moving"
NO_ROOM = "no room"
OVERLOADED = "overloaded"
QUEUE_FULL = "queue full"
REPLACED = "replaced by a newer one"
UNDECODABLE = "can't be decoded"
UNREACHABLE = "no replica can be reached"

Kind: TypeAlias = Literal["shed", "cut", "expired", "merged"]
"""How a cascade's report counts it."""

_KINDS: Mapping[str, Kind] = {
    CASCADE_EXPIRED: "expired",
    CUT_BY_DEPTH: "cut",
    CUT_BY_EVENTS: "cut",
    EXPIRED: "expired",
    LOOP: "cut",
    REPLACED: "merged",
}


def kind_of(reason: str) -> Kind:
    """How a cascade's report counts what was refused for that reason."""
    return _KINDS.get(reason, "shed")
