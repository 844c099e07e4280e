"""What a node remembers of its events: rings of facts, noted on the hot path and made sense of only when somebody asks.

A fact is a plain tuple of texts and numbers, because nothing is noted faster, and because the garbage collector
soon leaves such tuples alone. What is alike is noted once for many.

``(MOMENT, time, sequence)``
    This node's events up to that sequence number had left by then; once a second, and where time is told anyway.
``(SENT, sequence, event, size, services, lineage)``
    An event of this node leaves. ``size``: the bytes of its payload; ``services``: where it goes, or was to go;
    ``lineage``: None for a root event, unless it belongs to somebody else's trace.
``(ALIKE, sequence, event, size, services)``
    The same for a root event, and for those with the numbers that follow of which nothing else is noted.
``(RAN, node, sequence, what, began, ended, ancestry, told, since, error, key)``
    A handler has ended. ``node`` and ``sequence`` tell which event, ``what`` is the event's name and the handler's
    place; ``ancestry``: a :class:`~thence.events.lineage.Lineage`, or :class:`~thence.events.envelope.Extras` whose
    numbers ``told`` explains, or None for a root event; ``began``: None if it was begun as soon as it might;
    ``since``: when it began to wait, or was read where ``began`` is None; None if it did not and that is not known;
    ``error``: None, or the error's type and text; ``key``: the value of the field that orders its type, if there is
    one and it is not private. Those with an error are in a ring of their own, because they are looked for the longest.
``(REFUSED, node, sequence, what, time, ancestry, told, reason, key)``
    An event did not leave for a service, or a handler was not begun. ``what`` is the event's name and the
    handler's place, or the service, or nothing for all that wanted it.
``(node, what, sent, began, ended, sequences, keys, ancestries, told)``
    In a ring of their own: handlers that have ended well for events that came together, one after the other and
    without waiting. ``keys``, the values of the field that orders their type, and ``ancestries`` are in the same
    order, or None.

The payloads of the types that ask for it are kept apart, by sequence number. Whatever is of any length is either
cut, or counted.

Times are seconds of the node's stopwatch; but ``sent``, when the events left their node, is by that one's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from enum import Enum
from operator import attrgetter
from typing import Any, TypeAlias
from uuid import UUID

__all__ = ["ALIKE", "MOMENT", "RAN", "REFUSED", "SENT", "Ring", "bytes_of_batch", "shortened"]

MOMENT, SENT, ALIKE, RAN, REFUSED = range(5)

FACT_BYTES, FAILURE_BYTES = 400, 1024
"""What one fact takes, with what it refers to; measured, and a little more. The texts of errors may be long."""
BATCH_BYTES, RUN_BYTES, KEY_BYTES, ANCESTRY_BYTES = 256, 64, 96, 208
"""What a batch takes, and each run in it; more if it has keys, or ancestries."""
PAYLOAD_BYTES = 256
"""What a payload takes apart from its bytes."""
MAX_KEY = 64
"""Characters of a key that are kept."""

UNDIGESTED = 64
"""Batches that are made sense of together: while the code is warm, and not while somebody waits."""

SMALL = (int, float, UUID, date, Enum)
"""What is small by its nature."""

_NUMBERS, _TEXTS = {int}, {str}
_noted_in = attrgetter("noted")
_sequence_in = attrgetter("sequence")
_extras_in = attrgetter("extras")
_lineage_in = attrgetter("lineage")


class Ring:
    """The latest facts of one node. Five kinds have a share of the room each, and take none of the others'.

    :param size: bytes that all of it may take.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.notes_each = False
        """Whether nothing is to be noted once for many, nor later."""
        self.facts: deque[tuple[Any, ...]] = deque(maxlen=size // 2 // FACT_BYTES)
        self.failures: deque[tuple[Any, ...]] = deque(maxlen=size // 16 // FAILURE_BYTES)
        self.refusals: deque[tuple[Any, ...]] = deque(maxlen=size // 8 // FACT_BYTES)
        self.batches: deque[tuple[Any, ...]] = deque()
        self.payloads: dict[int, bytes] = {}
        """By sequence number, those of this node's latest events whose types ask for it."""
        self.note = self.facts.append
        self.note_failed = self.failures.append
        self.note_refused = self.refusals.append
        self.is_on = bool(self.facts.maxlen)
        self.overwrote = False
        """Whether a batch is gone that others came after."""
        self.watch: Callable[[Batches], object] = list
        """Told of the batches, whether or not they are remembered: when each was begun, when it had ended, its
        arrivals, and which of them are to be noted with it, by subscription.
        """
        self._add_batch = self.batches.append
        self.undigested: list[tuple[Any, ...]] = []
        """What came together, has been begun, and but for those arrivals that note it themselves has ended well:
        ``(source, told, sent, began, ended, arrivals)``. Whoever adds one has them digested if there are many."""
        self.digest_at = UNDIGESTED
        self._room = size // 4
        self._payload_room = size // 16

    def keep_payload(self, sequence: int, payload: bytes) -> None:
        """Remember an event of this node whole, as long as there is room."""
        self.payloads[sequence] = payload
        self._payload_room -= len(payload) + PAYLOAD_BYTES
        while self._payload_room < 0:
            oldest = next(iter(self.payloads))
            self._payload_room += len(self.payloads.pop(oldest)) + PAYLOAD_BYTES

    def digest(self) -> None:
        """Make facts of the latest batches, which else would hold on to their events."""
        undigested = list(self.undigested)
        self.undigested.clear()
        watched: Batches = []
        for source, told, sent, began, ended, batch in undigested:
            groups = _by_subscription(batch)
            watched.append((began, ended, batch, groups))
            if not self.is_on:
                continue
            for subscription, arrivals in groups:
                key_in: Callable[[Any], object] | None = subscription.key_in
                ancestries: tuple[Any, ...] = tuple(
                    map(_lineage_in if source.is_local else _extras_in, arrivals)
                )
                self._add_batch(
                    (
                        source.node,
                        subscription.what,
                        sent,
                        began,
                        ended,
                        tuple(map(_sequence_in, arrivals)),
                        None if key_in is None else _keys(map(key_in, arrivals)),
                        ancestries if any(ancestries) else None,
                        told,
                    )
                )
                self._room -= bytes_of_batch(self.batches[-1])
        batches = self.batches
        while self._room < 0 and batches:
            self._room += bytes_of_batch(batches.popleft())
            self.overwrote = True
        self.watch(watched)

    def keep(self, keep: Callable[[tuple[Any, ...]], None]) -> None:
        """Have each fact kept elsewhere too, as soon as it is noted. To be called before anybody notes anything."""
        self.notes_each = True
        self.digest_at = 1

        def into(
            facts: deque[tuple[Any, ...]],
        ) -> Callable[[tuple[Any, ...]], None]:
            def note(fact: tuple[Any, ...]) -> None:
                facts.append(fact)
                keep(fact)

            return note

        self.note, self.note_failed = into(self.facts), into(self.failures)
        self.note_refused = into(self.refusals)
        self._add_batch = into(self.batches)

    def clear(self) -> None:
        """Forget everything."""
        self.undigested.clear()
        for facts in (self.facts, self.failures, self.refusals, self.batches, self.payloads):
            facts.clear()
        self._room, self._payload_room = self._size // 4, self._size // 16


def bytes_of_batch(batch: tuple[Any, ...]) -> int:
    """What a batch takes, in the ring."""
    run = RUN_BYTES
    if batch[6] is not None:
        run += KEY_BYTES
    if batch[7] is not None:
        run += ANCESTRY_BYTES
    return BATCH_BYTES + run * len(batch[5])


def _keys(found: Iterable[object]) -> tuple[object, ...]:
    keys = tuple(found)
    kinds = set(map(type, keys))
    if kinds == _NUMBERS or (kinds == _TEXTS and max(map(len, keys)) <= MAX_KEY):  # type: ignore[arg-type]
        return keys
    return tuple(map(shortened, keys))


def shortened(key: object) -> object:
    """A key as it is remembered."""
    if isinstance(key, str):
        return key[:MAX_KEY]
    if key is None or isinstance(key, SMALL):
        return key
    return str(key)[:MAX_KEY]


Groups: TypeAlias = Iterable[tuple[Any, Sequence[Any]]]
Batches: TypeAlias = list[tuple[float, float, Sequence[Any], Groups]]


def _by_subscription(batch: Sequence[Any]) -> Groups:
    """The arrivals that are not noted by themselves."""
    if len(set(map(type, batch))) == 1 and not any(map(_noted_in, batch)):
        return ((batch[0].subscription, batch),)
    groups: dict[Any, list[Any]] = {}
    for arrival in batch:
        if not arrival.noted:
            groups.setdefault(arrival.subscription, []).append(arrival)
    return groups.items()
