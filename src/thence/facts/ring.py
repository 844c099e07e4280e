"""What a node remembers of its events: rings of facts, noted on the hot path and made sense of only when somebody asks.

A fact is a plain tuple of texts and numbers, because nothing is noted faster, and because the garbage collector
soon leaves such tuples alone. What is alike is noted once for many.

``(MOMENT, time, sequence)``
    This node's events up to that sequence number had left by then; once a second, and where time is told anyway.
``(SENT, sequence, event, size, services, lineage)``
    An event of this node leaves. ``size``: the bytes of its payload, or the payload itself for types that ask for
    it; ``services``: where it goes; ``lineage``: None for a root event, unless it belongs to somebody else's trace.
``(ALIKE, sequence, event, size, services)``
    The same for a root event, and for those with the numbers that follow of which nothing else is noted.
``(RAN, node, sequence, what, began, ended, ancestry, told, since, error, key)``
    A handler has ended. ``node`` and ``sequence`` tell which event, ``what`` is the event's name and the handler's
    place; ``ancestry``: a :class:`~thence.events.lineage.Lineage`, or :class:`~thence.events.envelope.Extras` whose
    numbers ``told`` explains, or None for a root event; ``began``: None if it was begun as soon as it might;
    ``since``: when it began to wait, None if it did not; ``error``: None, or the error's type and text; ``key``:
    the value of the field that orders its type, if there is one and it is not private.
``(REFUSED, node, sequence, what, time, ancestry, told, reason, key)``
    An event did not leave for a service, or a handler was not begun. ``what`` is the event's name and the
    handler's place, or the service, or nothing for all that wanted it.
``(node, what, sent, began, ended, sequences, keys, ancestries, told)``
    In a ring of their own: handlers that have ended well for events that came together, one after the other and
    without waiting. ``keys``, the values of the field that orders their type, and ``ancestries`` are in the same
    order, or None.

Times are seconds of the node's stopwatch; but ``sent``, when the events left their node, is by that one's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

__all__ = ["ALIKE", "MOMENT", "RAN", "REFUSED", "SENT", "Ring"]

MOMENT, SENT, ALIKE, RAN, REFUSED = range(5)

FACT_BYTES = 256
"""What one fact takes, with what it refers to; measured, and a little more."""
BATCH_BYTES, RUN_BYTES = 256, 64
"""What a batch takes, and each run in it."""

UNDIGESTED = 64
"""Batches that are made sense of together: while the code is warm, and not while somebody waits."""

_noted_in = attrgetter("noted")
_sequence_in = attrgetter("sequence")
_extras_in = attrgetter("extras")
_lineage_in = attrgetter("lineage")


class Ring:
    """The latest facts of one node. Three kinds have a share of the room each, and take none of the others'.

    :param size: bytes that all of it may take.
    """

    def __init__(self, size: int) -> None:
        most = size // FACT_BYTES
        self.facts: deque[tuple[Any, ...]] = deque(maxlen=most // 2)
        self.refusals: deque[tuple[Any, ...]] = deque(maxlen=most // 4)
        self.batches: deque[tuple[Any, ...]] = deque()
        self.note = self.facts.append
        self.note_refused = self.refusals.append
        self.is_on = most > 0
        self.overwrote = False
        """Whether a batch is gone that others came after."""
        self._undigested: list[tuple[Any, ...]] = []
        self._room = size // 4

    def note_batch(self, batch: tuple[Any, ...]) -> None:
        """Arrivals that came together have been begun, and but for those that note it themselves have ended well.

        ``(source, told, sent, began, ended, arrivals)``; see :class:`~thence.events.envelope.Source`.
        """
        undigested = self._undigested
        undigested.append(batch)
        if len(undigested) >= UNDIGESTED or len(batch[5]) > UNDIGESTED:
            self.digest()

    def digest(self) -> None:
        """Make facts of the latest batches, which else would hold on to their events."""
        undigested, self._undigested = self._undigested, []
        if not self.is_on:
            return
        for source, told, sent, began, ended, batch in undigested:
            for subscription, arrivals in _by_subscription(batch):
                key_in: Callable[[Any], object] | None = subscription.key_in
                ancestries: tuple[Any, ...] = tuple(
                    map(_lineage_in if source.is_local else _extras_in, arrivals)
                )
                self.batches.append(
                    (
                        source.node,
                        subscription.what,
                        sent,
                        began,
                        ended,
                        tuple(map(_sequence_in, arrivals)),
                        None if key_in is None else tuple(map(key_in, arrivals)),
                        ancestries if any(ancestries) else None,
                        told,
                    )
                )
                self._room -= BATCH_BYTES + RUN_BYTES * len(arrivals)
        batches = self.batches
        while self._room < 0 and batches:
            self._room += BATCH_BYTES + RUN_BYTES * len(batches.popleft()[5])
            self.overwrote = True

    def clear(self) -> None:
        """Forget everything."""
        self._undigested.clear()
        for facts in (self.facts, self.refusals, self.batches):
            facts.clear()


def _by_subscription(batch: Sequence[Any]) -> Iterable[tuple[Any, Sequence[Any]]]:
    """The arrivals that are not noted by themselves."""
    if len(set(map(type, batch))) == 1 and not any(map(_noted_in, batch)):
        return ((batch[0].subscription, batch),)
    groups: dict[Any, list[Any]] = {}
    for arrival in batch:
        if not arrival.noted:
            groups.setdefault(arrival.subscription, []).append(arrival)
    return groups.items()
