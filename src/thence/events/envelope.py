"""An event on its way: what travels around the payload, and what the receiver notes on it.

On the wire an envelope is an array: the receiver's number for the subscription, the emitter's sequence
number, the payload; how many handler starts it may cause; and for a consequence, or whatever else is no plain
root event, an array of its path, its cause, its deadline and so on. Node ids and paths travel as numbers that
the two ends of a link agreed on. One class per subscription, so that a whole frame of mixed types is decoded,
validated and led to its handlers by one call.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Protocol, cast

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from thence.budget import DEEPEST, Budget
from thence.events.event import Event
from thence.events.lineage import Lineage, Path
from thence.identifiers import EventId

__all__ = [
    "DEFAULT",
    "FAILED",
    "STALE",
    "TRACKED",
    "UNKNOWN_NODE",
    "Arrival",
    "Extras",
    "Numbers",
    "Source",
    "Told",
    "all_extras_for",
    "depth_of",
    "due_of",
    "envelope_for",
    "event_id_of",
    "extras_for",
    "full_lineage_of",
    "lineage_of",
]

DEFAULT = Budget()
"""What an envelope means that says nothing about it."""
UNKNOWN_NODE = "0" * 20
UNKNOWN_PATH = Path(None, "?")
FAILED = 2
"""What :attr:`Arrival.noted` says of what has failed where it was begun."""
FARTHEST = 2**53
"""Milliseconds that a deadline may be from when a stopwatch began: as many as a float tells apart."""
TRACE_BYTES = 25
"""What a W3C ``traceparent`` takes: trace id, span id and flags."""


class Told(Struct, gc=False):
    """What the numbers in a peer's envelopes stand for. A peer that begins anew gets a new one."""

    names: list[str] = []
    """Node ids, by their numbers."""
    paths: list[Path] = []
    """Paths, from 1 on."""

    def name_of(self, number: int) -> str:
        """The node id that a number stands for."""
        names = self.names
        return names[number] if 0 <= number < len(names) else UNKNOWN_NODE

    def path_of(self, number: int) -> Path:
        """The path that a number stands for."""
        paths = self.paths
        return paths[number - 1] if 0 < number <= len(paths) else UNKNOWN_PATH


class Source(Protocol):
    """Where an arrival came from: a link, or this node itself."""

    is_local: bool
    """Whether it is this node itself, whose arrivals carry their lineage whole."""
    node: str
    label: str
    told: Told
    """What the numbers of its arrivals stand for."""
    read_at: float
    """When what is being handled was read; 0.0 for just now."""
    sent_at: float
    """When what is being handled was sent, in seconds of this node's stopwatch; just now, unless :attr:`stale`."""
    stamp: float
    """The same by the stopwatch of the node that sent it."""
    stale: bool
    """Whether that was long ago."""
    behind: float
    """Seconds to be added to moments that its arrivals carry, to have them by this node's stopwatch."""

    def owe(self, number: int, count: int, at_once: int) -> None:
        """Acknowledge ``count`` arrivals of subscription ``number``."""
        ...

    def settle(self, number: int, sequences: tuple[int, ...], tally: Any) -> None:
        """Report that these tracked events and all their consequences have ended.

        ``tally``: the :class:`thence.cascade.settlement.Tally` of each.
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


class Extras(Struct, array_like=True, frozen=True, gc=False):
    """What there is to mind about an event, unless it is a root event without anything special."""

    path: int = 0
    """0 for a root event."""
    cause_node: int = 0
    cause_sequence: int = 0
    deadline: Annotated[int, Meta(ge=-FARTHEST, le=FARTHEST)] = 0
    """When plain events of its cascade are not begun any more, in milliseconds of the emitter's stopwatch; 0 for
    the default time after it was sent."""
    tracked: int = 0
    """Whether the emitter wants to know when it and all its consequences have ended."""
    root_node: int = -1
    """Below 0 if its cause is its root."""
    root_sequence: int = 0
    max_depth: Annotated[int, Meta(le=DEEPEST)] = DEFAULT.depth
    sent: int = 0
    """When it was emitted, in milliseconds of the emitter's stopwatch; 0 for types without a time to live."""
    began: Annotated[int, Meta(ge=-FARTHEST, le=FARTHEST)] = 0
    """When its root was emitted, by the same; 0 if :attr:`deadline` is the default time later, or nobody asked."""
    trace: Annotated[bytes, Meta(max_length=TRACE_BYTES)] = b""
    """The W3C trace context that its root was emitted in, where others began one, as
    :attr:`~thence.events.lineage.Lineage.trace`."""


STALE = Extras()
"""For a root event that has been on its way for long."""
TRACKED = Extras(tracked=1)
"""For a root event that is tracked."""


class Arrival(Struct, array_like=True, eq=False, gc=False):
    """An event that has arrived for one subscription. Compared and hashed by identity."""

    subscription: ClassVar[Any]
    sequence: int
    body: Any
    credits: int = 0
    """How many handler starts its own handlers may cause."""
    extras: Extras | None = None
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
    noted: Any = None
    """Whether the recorder is told of it by itself, and not with the batch that it came in; or :data:`FAILED`."""
    left: Any = None
    """By handler, how many handler starts its run may still cause, where it has paid for some."""


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
            ("noted", None, None),
            ("left", None, None),
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
    extras = arrival.extras
    if extras is not None and extras.deadline:
        return extras.deadline / 1000 + source.behind
    return source.sent_at + DEFAULT.seconds


def full_lineage_of(arrival: Arrival) -> Lineage | None:
    """The lineage of the event that arrived; None for a root with the default budget."""
    extras = arrival.extras
    if arrival.lineage is None and extras is not None and (extras.path or extras.deadline):
        source: Source = arrival.source
        due = extras.deadline / 1000 + source.behind
        if not extras.path:
            arrival.lineage = Lineage(None, "", 0, "", 0, due, extras.max_depth)
        else:
            cause = (source.told.name_of(extras.cause_node), extras.cause_sequence)
            root = cause
            if extras.root_node >= 0:
                root = (source.told.name_of(extras.root_node), extras.root_sequence)
            path = source.told.path_of(extras.path)
            arrival.lineage = Lineage(path, *cause, *root, due, extras.max_depth)
        if extras.began or extras.trace:
            began = extras.began and extras.began / 1000 + source.behind
            arrival.lineage = replace(arrival.lineage, began=began, trace=extras.trace)
    known: Lineage | None = arrival.lineage
    return known


def lineage_of(arrival: Arrival) -> Lineage | None:
    """The ancestry of the event that arrived, None for a root."""
    lineage = full_lineage_of(arrival)
    return None if lineage is None or lineage.path is None else lineage


class Numbers(Protocol):
    """What stands for node ids and paths in the envelopes of one link."""

    path_numbers: dict[Path, int]
    """The numbers of the paths that have one, from 1 on."""

    def number_of(self, node: str) -> int:
        """The number of a node id."""
        ...

    def numbers_of(self, cause: str, root: str) -> tuple[int, int]:
        """The numbers of two nodes, which hold at the same time."""
        ...

    def number_of_path(self, path: Path) -> int:
        """The number of a path, a new one if it has none."""
        ...


def extras_for(lineage: Lineage, numbers: Numbers, tracked: bool = False) -> tuple[int, ...]:
    """What is encoded as the :class:`Extras` of a consequence with the default depth."""
    path = lineage.path
    assert path is not None
    number = numbers.path_numbers.get(path) or numbers.number_of_path(path)
    sequence, deadline = lineage.cause_sequence, int(lineage.deadline * 1000)
    if path.above is None:
        cause = numbers.number_of(lineage.cause_node)
        return (
            (number, cause, sequence, deadline, 1)
            if tracked
            else (number, cause, sequence, deadline)
        )
    cause, root = numbers.numbers_of(lineage.cause_node, lineage.root_node)
    return (number, cause, sequence, deadline, int(tracked), root, lineage.root_sequence)


def all_extras_for(
    lineage: Lineage | None, numbers: Numbers, tracked: bool, sent: int
) -> tuple[int | bytes, ...]:
    """The same for any event."""
    if lineage is None:
        return (0, 0, 0, 0, int(tracked), -1, 0, DEFAULT.depth, sent)
    extras: tuple[int, ...]
    if lineage.path is None:
        extras = (0, 0, 0, int(lineage.deadline * 1000), int(tracked))
    else:
        extras = extras_for(lineage, numbers, tracked)
    if len(extras) < 7:
        extras = (*extras[:4], int(tracked), -1, 0)
    if lineage.began or lineage.trace:
        began = int(lineage.began * 1000)
        return (*extras, lineage.max_depth, sent, began, lineage.trace)
    return (*extras, lineage.max_depth, sent)


def depth_of(arrival: Arrival) -> int:
    """How far from its root the event is that arrived. To be asked while its frame is being handled."""
    if arrival.lineage is not None:
        return cast(Lineage, arrival.lineage).depth
    path = arrival.extras.path if arrival.extras is not None else 0
    return cast(Source, arrival.source).told.path_of(path).depth if path else 0
