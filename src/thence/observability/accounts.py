"""What nodes tell about an event: the questions, and the accounts they answer with.

An account is data only, and made from the node's rings of facts when somebody asks; see
:class:`~thence.observability.witness.Witness`. Moments are seconds of the telling node's stopwatch. A field may be
appended with a default, so that nodes of different versions understand each other.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Struct

from thence.identifiers import EventId

__all__ = [
    "Account",
    "Ancestry",
    "Fact",
    "Found",
    "Pending",
    "Question",
    "Ran",
    "Refused",
    "Sent",
    "decode_account",
    "decode_question",
]


class Ancestry(Struct, array_like=True, frozen=True):
    """Where an event comes from."""

    cause: EventId
    root: EventId
    path: tuple[str, ...]
    """The handlers between the root and it, the root's first, as ``service.handler``."""


class Sent(Struct, array_like=True, frozen=True, tag="sent"):
    """The account's node emitted an event."""

    event_id: EventId
    event: str
    services: tuple[str, ...]
    """Where it went."""
    ancestry: Ancestry | None = None
    size: int | None = None
    """Bytes of its payload."""
    by: float | None = None
    """When it had left at the latest, if that is known."""
    payload: str = ""
    """As JSON, without its private fields, for types that have it recorded."""


class Ran(Struct, array_like=True, frozen=True, tag="ran"):
    """A handler at the account's node has ended."""

    event_id: EventId
    event: str
    place: str
    """``service.handler``."""
    began: float | None
    """None if that was not noted: then it was soon after ``since``."""
    ended: float
    ancestry: Ancestry | None = None
    since: float | None = None
    """When it began to wait."""
    sent: float | None = None
    """When the event left, by the stopwatch of the node that emitted it."""
    error: str | None = None
    company: int = 1
    """How many events the times are for, which were handled one after the other."""
    key: str = ""


class Refused(Struct, array_like=True, frozen=True, tag="refused"):
    """An event did not leave for a service, or a handler at the account's node was not begun."""

    event_id: EventId
    event: str
    place: str
    """``service.handler``, or ``service``, or nothing for all that wanted it."""
    at: float
    reason: str
    kind: str
    """``shed``, ``cut``, ``expired`` or ``merged``."""
    ancestry: Ancestry | None = None
    key: str = ""


class Pending(Struct, array_like=True, frozen=True, tag="pending"):
    """An event has arrived at the account's node, and has not ended."""

    event_id: EventId
    event: str
    place: str
    since: float | None
    ancestry: Ancestry | None = None


Fact: TypeAlias = Sent | Ran | Refused | Pending


class Found(Struct, array_like=True, frozen=True):
    """An event that a question may mean."""

    event_id: EventId
    event: str
    root: EventId
    at: float
    """When something was last noted of it."""
    key: str = ""
    failed: bool = False


class Question(Struct, frozen=True):
    """What somebody wants to know. One of the first four fields is set."""

    prefix: str = ""
    """Which events have identifiers that begin so?"""
    suffix: str = ""
    """And end so?"""
    event: str = ""
    """Which were the last of that type?"""
    key: tuple[str, str] | None = None
    """Which were the last with that value in the field that orders their type? The field, and the value."""
    root: EventId | None = None
    """All about the cascade of that root event."""
    failed: bool = False
    """Just those that a handler failed on."""
    most: int = 5000
    """How many facts to tell."""


class Account(Struct, frozen=True):
    """One node's answer."""

    node: str
    name: str
    clock: float
    """What its stopwatch shows."""
    since: float
    """From when on it has forgotten nothing."""
    born: float
    """When it began to note anything."""
    facts: tuple[Fact, ...] = ()
    found: tuple[Found, ...] = ()
    cut_short: bool = False
    """Whether there was more to tell than was asked for."""
    former: tuple[Account, ...] = ()
    """What runs that have ended left in the file of the flight recorder."""

    def encode(self) -> bytes:
        """For the wire."""
        return msgspec.msgpack.encode(self)


decode_account = msgspec.msgpack.Decoder[Account](Account).decode
decode_question = msgspec.msgpack.Decoder[Question](Question).decode
