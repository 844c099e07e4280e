"""Who makes the noise in a mesh: what nodes tell of the last moments, and all of that together. Pure.

Every node answers at once for a window and the one before it, from its counters; rates, growth, runs, sheds and
loops are exact. Bytes, and which handler events came from, are counters times shares that its rings still tell of.
A field may be appended with a default, so that nodes of different versions understand each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from thence.delivery.reasons import kind_of
from thence.observability.recent import LONGEST, Key, Span
from thence.observability.shares import Share

__all__ = [
    "EMITTED",
    "FAILED",
    "HANDLED",
    "LOOPED",
    "MOST",
    "SHED",
    "UNSENT",
    "Amplifier",
    "EventNoise",
    "HandlerNoise",
    "HandlerPlace",
    "Loop",
    "LoopNoise",
    "NodeNoise",
    "Noise",
    "NoiseQuestion",
    "Shedding",
    "Talker",
    "Told",
    "decode_noise",
    "decode_noise_question",
    "node_noise",
    "together",
]

Row = TypeVar("Row")

EMITTED, HANDLED, FAILED, SHED, UNSENT, LOOPED = (
    "emitted", "handled", "failed", "shed", "unsent", "looped",
)  # fmt: skip
"""What is counted, by: event; handler, twice; handler and reason; event, service and reason; loop."""

MOST = 1000
"""Rows of a kind that a node tells, the greatest first."""
LEAST_BEFORE = 1.0
"""Seconds of the window before from which on it is compared with."""


class NoiseQuestion(Struct, frozen=True):
    """How noisy the last ``seconds`` were."""

    seconds: float = LONGEST


class EventNoise(Struct, array_like=True, frozen=True):
    """One event type emitted at a node."""

    event: str
    count: int
    before: int
    """In the window before."""
    bytes: float | None
    """Of the payloads, about; None if nothing is known of their size."""


class HandlerNoise(Struct, array_like=True, frozen=True):
    """One handler at a node."""

    place: str
    events: tuple[str, ...]
    """What it wants."""
    handled: int
    failed: int
    consequences: float | None
    """How many events came from it, about; None if nothing is known of it."""


class LoopNoise(Struct, array_like=True, frozen=True):
    """A loop that cascades went round more often than they may."""

    loop: str
    """Its handlers, the first again at the end."""
    count: int
    mode: str
    """``enforce``: they were cut; ``warn`` or ``observe``: they went on."""


class NodeNoise(Struct, frozen=True):
    """One node's answer."""

    node: str
    name: str
    services: tuple[str, ...]
    seconds: float
    """How long the window is for it: less than asked for if it is younger."""
    seconds_before: float
    """And the one before."""
    covered: float
    """Which share of the events that it emitted the rings still tell of."""
    emitted: tuple[EventNoise, ...] = ()
    handlers: tuple[HandlerNoise, ...] = ()
    shed: tuple[tuple[str, str, int], ...] = ()
    """Where, why, how many: a handler, or ``event`` or ``event for service`` if it was not sent."""
    loops: tuple[LoopNoise, ...] = ()
    left_out: int = 0
    """Rows of any kind beyond :data:`MOST`."""

    def encode(self) -> bytes:
        """For the wire."""
        return msgspec.msgpack.encode(self)


decode_noise = msgspec.msgpack.Decoder[NodeNoise](NodeNoise).decode
decode_noise_question = msgspec.msgpack.Decoder[NoiseQuestion](NoiseQuestion).decode


class HandlerPlace(Struct, frozen=True):
    """What has to be known of a handler to tell of its noise."""

    place: str
    events: tuple[str, ...]
    declared: frozenset[str]
    """The event types that it may emit."""


def node_noise(
    node: str,
    name: str,
    services: tuple[str, ...],
    window: Span,
    before: Span,
    sent: Mapping[tuple[str, str], Share],
    covered: float,
    handlers: Iterable[HandlerPlace],
    mode: str,
) -> NodeNoise:
    """One node's answer from what it has counted.

    :param sent: by handler and event, what the rings tell of those emitted in the window.
    :param mode: what becomes of loops there.
    """
    counts = window.counts
    known: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for (_, event), share in sent.items():
        known[event] += share.count
        sizes[event] += share.size

    def events_of(place: HandlerPlace) -> float | None:
        emitted = [event for event in place.declared if counts.get((EMITTED, event))]
        if not all(known[event] for event in emitted):
            return None
        none = Share()
        return sum(
            counts[EMITTED, event] * sent.get((place.place, event), none).count / known[event]
            for event in emitted
        )

    emitted = [
        EventNoise(
            key[1],
            counts.get(key, 0),
            before.counts.get(key, 0),
            counts.get(key, 0) * sizes[key[1]] / known[key[1]] if known[key[1]] else None,
        )
        for key in sorted({*_keys(counts, EMITTED), *_keys(before.counts, EMITTED)})
    ]
    handling = [
        HandlerNoise(one.place, one.events, handled, failed, events_of(one))
        for one in handlers
        if (handled := counts.get((HANDLED, one.place), 0))
        + (failed := counts.get((FAILED, one.place), 0))
    ]
    shed = [(key[1], key[2], counts[key]) for key in _keys(counts, SHED)]
    shed += [
        (f"{key[1]} for {key[2]}" if key[2] else key[1], key[3], counts[key])
        for key in _keys(counts, UNSENT)
    ]
    loops = [LoopNoise(key[1], counts[key], mode) for key in _keys(counts, LOOPED)]
    rows = emitted, handling, shed, loops
    return NodeNoise(
        node,
        name,
        services,
        window.seconds,
        before.seconds,
        covered,
        _greatest(emitted, lambda one: one.count + one.before),
        _greatest(handling, lambda one: one.handled + one.failed),
        _greatest(shed, lambda one: one[2]),
        _greatest(loops, lambda one: one.count),
        sum(max(0, len(kind) - MOST) for kind in rows),
    )


def _keys(counts: Mapping[Key, int], what: str) -> list[Key]:
    return [key for key in counts if key[0] == what]


def _greatest(rows: list[Row], size: Callable[[Row], float]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=size, reverse=True)[:MOST])


class Talker(Struct):
    """One event type from one service, all its replicas together."""

    event: str
    source: str
    """The services of the nodes that emit it, or the name of one without any."""
    count: int = 0
    rate: float = 0.0
    """A second."""
    bytes_rate: float | None = 0.0
    """About; None if that is not known of all."""
    rate_before: float | None = None
    """In the window before; None if nobody had one. What was not there yet counts as 0."""

    @property
    def growth(self) -> float:
        """By how many events a second there are more than before."""
        return 0.0 if self.rate_before is None else self.rate - self.rate_before


class Amplifier(Struct):
    """One handler, all its replicas together."""

    place: str
    events: list[str]
    """What it wants."""
    handled: int = 0
    failed: int = 0
    rate: float = 0.0
    """Events that it ended with, a second, well or not."""
    failed_rate: float = 0.0
    consequences_rate: float | None = 0.0
    """Events that came from it, a second, about; None if that is not known of all."""

    @property
    def amplification(self) -> float | None:
        """Events that came from it for each that it handled."""
        if self.consequences_rate is None or not self.rate:
            return None
        return self.consequences_rate / self.rate


class Shedding(Struct):
    """What did not get anywhere."""

    place: str
    reason: str
    kind: str
    """``shed``, ``cut``, ``expired`` or ``merged``."""
    count: int = 0
    rate: float = 0.0


class Loop(Struct):
    """A loop in any cascade, wherever it is entered."""

    loop: str
    count: int = 0
    """How often cascades came back to any of its handlers more often than it allows."""
    rate: float = 0.0
    cut: int = 0
    """How many of them; the others went on."""


class Told(Struct, frozen=True):
    """What one node could tell."""

    name: str
    seconds: float
    seconds_before: float
    covered: float
    left_out: int


class Noise(Struct):
    """The noise of a mesh."""

    seconds: float
    """What was asked for."""
    answered: list[Told]
    silent: list[str]
    talkers: list[Talker]
    """The most events a second first."""
    handlers: list[Amplifier]
    """What most came from first; where that is not known, as if one came from each event."""
    shed: list[Shedding]
    loops: list[Loop]

    @property
    def by_bytes(self) -> list[Talker]:
        """The most bytes a second first."""
        return sorted(
            (one for one in self.talkers if one.bytes_rate),
            key=lambda one: -(one.bytes_rate or 0.0),
        )

    @property
    def growing(self) -> list[Talker]:
        """What grows by most first."""
        growing = [one for one in self.talkers if one.growth > 0]
        return sorted(growing, key=lambda one: -one.growth)

    @property
    def by_amplification(self) -> list[Amplifier]:
        """Handlers that emit more than they handle, the greatest amplification first."""
        amplifying = [one for one in self.handlers if (one.amplification or 0.0) > 1]
        return sorted(amplifying, key=lambda one: -(one.amplification or 0.0))

    @property
    def is_exact(self) -> bool:
        """Whether bytes and amplification are of all events, and not of those still remembered."""
        return all(one.covered >= 1 for one in self.answered)


def together(seconds: float, answers: Sequence[NodeNoise], silent: Sequence[str]) -> Noise:
    """All that was answered. A node that is younger than the window tells of the time that it had."""
    talkers: dict[tuple[str, str], Talker] = {}
    handlers: dict[str, Amplifier] = {}
    shed: dict[tuple[str, str], Shedding] = {}
    loops: dict[tuple[str, ...], Loop] = {}
    for one in answers:
        length = max(one.seconds, 1e-3)
        source = "+".join(one.services) or one.name
        for event in one.emitted:
            talker = talkers.setdefault((event.event, source), Talker(event.event, source))
            talker.count += event.count
            talker.rate += event.count / length
            if event.count:
                talker.bytes_rate = _plus(talker.bytes_rate, event.bytes, length)
            if one.seconds_before >= LEAST_BEFORE:
                before = event.before / one.seconds_before
                talker.rate_before = (talker.rate_before or 0.0) + before
        for handler in one.handlers:
            amplifier = handlers.setdefault(
                handler.place, Amplifier(handler.place, list(handler.events))
            )
            amplifier.events = sorted({*amplifier.events, *handler.events})
            amplifier.handled += handler.handled
            amplifier.failed += handler.failed
            amplifier.rate += (handler.handled + handler.failed) / length
            amplifier.failed_rate += handler.failed / length
            amplifier.consequences_rate = _plus(
                amplifier.consequences_rate, handler.consequences, length
            )
        for place, reason, count in one.shed:
            row = shed.setdefault((place, reason), Shedding(place, reason, kind_of(reason)))
            row.count += count
            row.rate += count / length
        for told in one.loops:
            loop = loops.setdefault(_around(told.loop), Loop(told.loop))
            loop.count += told.count
            loop.rate += told.count / length
            loop.cut += told.count if told.mode == "enforce" else 0
    return Noise(
        seconds,
        [
            Told(one.name, one.seconds, one.seconds_before, one.covered, one.left_out)
            for one in sorted(answers, key=lambda one: one.name)
        ],
        sorted(silent),
        sorted(talkers.values(), key=lambda one: (-one.rate, one.event, one.source)),
        sorted(handlers.values(), key=lambda one: (-_size(one), one.place)),
        sorted(shed.values(), key=lambda one: (-one.rate, one.place, one.reason)),
        sorted(loops.values(), key=lambda one: (-one.rate, one.loop)),
    )


def _size(one: Amplifier) -> float:
    return one.rate if one.consequences_rate is None else one.consequences_rate


def _around(loop: str) -> tuple[str, ...]:
    """The same for a loop from whichever of its handlers on it is told."""
    handlers = loop.split(" → ")[1:]
    first = handlers.index(min(handlers))
    return (*handlers[first:], *handlers[:first])


def _plus(rate: float | None, count: float | None, seconds: float) -> float | None:
    return None if rate is None or count is None else rate + count / seconds
