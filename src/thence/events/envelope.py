"""An event on its way: what travels around the payload, and what the receiver notes on it.

On the wire an envelope is an array: the receiver's number for the subscription, the emitter's sequence
number, the payload; for a consequence also its depth, its cause and, unless that is the cause, its root.
Node ids travel as numbers that the two ends of a link agreed on. One class per subscription, so that a
whole frame of mixed types is decoded, validated and led to its handlers by one call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, cast

import msgspec
from msgspec import Raw, Struct

from thence.events.event import Event
from thence.events.lineage import Lineage
from thence.identifiers import EventId

__all__ = [
    "Arrival",
    "Source",
    "consequence_form",
    "dated_form",
    "envelope_for",
    "event_id_of",
    "lineage_below",
    "lineage_of",
]


class Source(Protocol):
    """Where an arrival came from: a link, or this node itself."""

    node: str
    label: str
    read_at: float
    """When what is being handled was read; 0.0 for just now."""

    def name_of(self, number: int) -> str:
        """The node id that a number in the arrival's envelope stands for."""
        ...

    def owe(self, number: int, count: int, at_once: int) -> None:
        """Acknowledge ``count`` arrivals of subscription ``number``."""
        ...

    def emitted_at(self, sent: int) -> float:
        """When an event was emitted that carries that moment, in seconds of this node's stopwatch."""
        ...

    def judge(self, number: int, sequence: int, reason: str, wait: float) -> None:
        """Tell whether an event was let in: with an empty reason, or refused for that one.

        ``wait``: in how many seconds it may be tried again.
        """
        ...

    def advise(self, advice: Any) -> None:
        """Tell which events are not worth sending: a :class:`thence.mesh.messages.Advice`."""
        ...


class Arrival(Struct, array_like=True, eq=False, gc=False):
    """An event that has arrived for one subscription. Compared and hashed by identity."""

    subscription: ClassVar[Any]
    sequence: int
    body: Any
    depth: int = 0
    cause_node: int = 0
    cause_sequence: int = 0
    root_node: int = -1
    root_sequence: int = 0
    sent: int = 0
    """When it was emitted, in milliseconds of the emitter's stopwatch; 0 for types without a time to live."""
    lineage: Any = None
    source: Any = None
    since: Any = None
    """When it began to wait for its handler, by the node's stopwatch."""
    members: Any = None
    """For a batch, the arrivals in it. The batch itself is the newest of them, with all their bodies."""


def envelope_for(event_type: type[Event], number: int, subscription: object) -> type[Arrival]:
    """The arrivals of one subscription. ``lineage`` and what follows it can't be sent: the wire's are nil."""
    made = msgspec.defstruct(
        f"{event_type.__name__}Arrival",
        [
            ("body", event_type),
            ("lineage", None, None),
            ("source", None, None),
            ("since", None, None),
            ("members", None, None),
        ],
        bases=(Arrival,),
        namespace={"subscription": subscription},
        tag=number,
        array_like=True,
        eq=False,
        gc=False,
    )
    return cast(type[Arrival], made)


def event_id_of(arrival: Arrival) -> EventId:
    """The identifier of the event that arrived."""
    return EventId(arrival.source.node, arrival.sequence)


def lineage_of(arrival: Arrival) -> Lineage | None:
    """The ancestry of the event that arrived, None for a root."""
    if arrival.depth == 0:
        return None
    if arrival.lineage is None:
        source: Source = arrival.source
        cause = (source.name_of(arrival.cause_node), arrival.cause_sequence)
        root = cause
        if arrival.root_node >= 0:
            root = (source.name_of(arrival.root_node), arrival.root_sequence)
        arrival.lineage = Lineage(arrival.depth, *cause, *root)
    known: Lineage = arrival.lineage
    return known


def lineage_below(arrival: Arrival) -> Lineage:
    """The ancestry of a consequence of the event that arrived."""
    node, sequence = arrival.source.node, arrival.sequence
    if arrival.depth == 0:
        return Lineage(1, node, sequence, node, sequence)
    above = lineage_of(arrival)
    assert above is not None
    return Lineage(above.depth + 1, node, sequence, above.root_node, above.root_sequence)


def consequence_form(
    number: int, sequence: int, payload: bytes, lineage: Lineage, numbers: Callable[[str], int]
) -> tuple[object, ...]:
    """What is encoded for a consequence; ``numbers(node)`` gives the link's number for a node id.

    For a root it is just ``(number, sequence, Raw(payload))``.
    """
    cause = numbers(lineage.cause_node)
    if lineage.depth == 1:
        return (number, sequence, Raw(payload), 1, cause, lineage.cause_sequence)
    return (
        number,
        sequence,
        Raw(payload),
        lineage.depth,
        cause,
        lineage.cause_sequence,
        numbers(lineage.root_node),
        lineage.root_sequence,
    )


def dated_form(
    number: int,
    sequence: int,
    payload: bytes,
    lineage: Lineage | None,
    numbers: Callable[[str], int],
    sent: int,
) -> tuple[object, ...]:
    """What is encoded for an event that carries the moment of its emission."""
    if lineage is None:
        return (number, sequence, Raw(payload), 0, 0, 0, -1, 0, sent)
    form = consequence_form(number, sequence, payload, lineage, numbers)
    return (*form, *(-1, 0)[len(form) - 6 :], sent)
