"""An event on its way: what travels around the payload, and what the receiver notes on it.

On the wire an envelope is an array: the receiver's number for the subscription, the emitter's sequence
number, the payload; how many handler starts it may cause; for a consequence also its path, its cause, its
deadline and, unless that is the cause, its root. Node ids and paths travel as numbers that the two ends of a
link agreed on. One class per subscription, so that a whole frame of mixed types is decoded, validated and
led to its handlers by one call.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, cast

import msgspec
from msgspec import Raw, Struct

from thence.budget import Budget
from thence.events.event import Event
from thence.events.lineage import Lineage, Path
from thence.identifiers import EventId

__all__ = [
    "DEFAULT",
    "LOOK_CLOSER",
    "Arrival",
    "Numbers",
    "Source",
    "ancestry_of",
    "consequence_form",
    "due_of",
    "envelope_for",
    "event_id_of",
    "full_form",
    "lineage_of",
]

DEFAULT = Budget()
"""What an envelope means that says nothing about it."""

LOOK_CLOSER = -1
"""In place of a path: a root event with which there is more to do than to run its handler."""


class Source(Protocol):
    """Where an arrival came from: a link, or this node itself."""

    node: str
    label: str
    read_at: float
    """When what is being handled was read; 0.0 for just now."""
    sent_at: float
    """When what is being handled was sent, in seconds of this node's stopwatch."""

    def name_of(self, number: int) -> str:
        """The node id that a number in the arrival's envelope stands for."""
        ...

    def path_of(self, number: int) -> Path:
        """The path that a number in the arrival's envelope stands for."""
        ...

    def owe(self, number: int, count: int, at_once: int) -> None:
        """Acknowledge ``count`` arrivals of subscription ``number``."""
        ...

    def moment(self, milliseconds: int) -> float:
        """A moment that an arrival carries, in seconds of this node's stopwatch."""
        ...

    def settle(self, number: int, sequence: int, tally: Any) -> None:
        """Report that a tracked event and all its consequences have ended.

        ``tally``: a :class:`thence.cascade.settlement.Tally`.
        """
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
    credits: int = 0
    """How many handler starts its own handlers may cause."""
    path: int = 0
    """0 or less for a root event."""
    cause_node: int = 0
    cause_sequence: int = 0
    deadline: int = 0
    """When plain events of its cascade are not begun any more, in milliseconds of the emitter's stopwatch; 0 for
    the default time after it was sent."""
    root_node: int = -1
    root_sequence: int = 0
    max_depth: int = DEFAULT.depth
    tracked: int = 0
    """Whether the emitter wants to know when it and all its consequences have ended."""
    sent: int = 0
    """When it was emitted, in milliseconds of the emitter's stopwatch; 0 for types without a time to live."""
    lineage: Any = None
    source: Any = None
    since: Any = None
    """When it began to wait for its handler, by the node's stopwatch."""
    members: Any = None
    """For a batch, the arrivals in it. The batch itself is the newest of them, with all their bodies."""
    due: Any = None
    """The deadline, in seconds of this node's stopwatch, as soon as it waits for anything."""
    record: Any = None
    """If it is tracked, the :class:`thence.cascade.settlement.Branch` that it is."""


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
            ("due", None, None),
            ("record", None, None),
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


def due_of(arrival: Arrival) -> float:
    """When the arrival must not be begun any more, in seconds of this node's stopwatch.

    To be asked while its frame is being handled, if the answer was not noted then.
    """
    due: float | None = arrival.due
    if due is not None:
        return due
    source: Source = arrival.source
    return source.moment(arrival.deadline) if arrival.deadline else source.sent_at + DEFAULT.seconds


def ancestry_of(arrival: Arrival) -> Lineage | None:
    """The lineage of the event that arrived; None for a root with the default budget."""
    if arrival.lineage is None and (arrival.path > 0 or arrival.deadline):
        source: Source = arrival.source
        due = source.moment(arrival.deadline)
        if arrival.path <= 0:
            arrival.lineage = Lineage(None, "", 0, "", 0, due, arrival.max_depth)
        else:
            cause = (source.name_of(arrival.cause_node), arrival.cause_sequence)
            root = cause
            if arrival.root_node >= 0:
                root = (source.name_of(arrival.root_node), arrival.root_sequence)
            path = source.path_of(arrival.path)
            arrival.lineage = Lineage(path, *cause, *root, due, arrival.max_depth)
    known: Lineage | None = arrival.lineage
    return known


def lineage_of(arrival: Arrival) -> Lineage | None:
    """The ancestry of the event that arrived, None for a root."""
    lineage = ancestry_of(arrival)
    return None if lineage is None or lineage.path is None else lineage


class Numbers(Protocol):
    """What stands for node ids and paths in the envelopes of one link."""

    def number_of(self, node: str) -> int:
        """The number of a node id."""
        ...

    def number_of_path(self, path: Path) -> int:
        """The number of a path, 1 or more."""
        ...


def consequence_form(
    number: int, sequence: int, payload: bytes, credits: int, lineage: Lineage, numbers: Numbers
) -> tuple[object, ...]:
    """What is encoded for a consequence.

    For a root it is just ``(number, sequence, Raw(payload))``, and its credits if there are any.
    """
    path = lineage.path
    assert path is not None
    above = (
        number,
        sequence,
        Raw(payload),
        credits,
        numbers.number_of_path(path),
        numbers.number_of(lineage.cause_node),
        lineage.cause_sequence,
        int(lineage.deadline * 1000),
    )
    if path.above is None:
        return above
    return (*above, numbers.number_of(lineage.root_node), lineage.root_sequence)


def full_form(
    number: int,
    sequence: int,
    payload: bytes,
    credits: int,
    lineage: Lineage | None,
    numbers: Numbers,
    tracked: bool,
    sent: int,
) -> tuple[object, ...]:
    """What is encoded for an event of which there is more to tell."""
    if lineage is None:
        form: tuple[object, ...] = (number, sequence, Raw(payload), credits, 0, 0, 0, 0)
    elif lineage.path is None:
        deadline = int(lineage.deadline * 1000)
        form = (number, sequence, Raw(payload), credits, 0, 0, 0, deadline)
    else:
        form = consequence_form(number, sequence, payload, credits, lineage, numbers)
    if len(form) < 10:
        form = (*form, -1, 0)
    max_depth = DEFAULT.depth if lineage is None else lineage.max_depth
    return (*form, max_depth, int(tracked), sent)
