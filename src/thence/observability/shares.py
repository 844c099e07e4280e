"""Which handlers the events of a node came from, and how large they were: as far as its rings still hold them.

Counters on the hot path tell how many events of a type there were, and no more. Their shares and mean sizes are
taken from the facts, when somebody asks, in small steps so that events go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from thence.facts.ring import ALIKE, RAN, SENT, Ring

__all__ = ["ROOT", "Share", "Shares", "shares_in"]

STEP = 500
"""Facts looked at before other things get their turn; some 0.1 ms."""
ROOT = ""
"""Stands in the place of a handler for what came from outside."""


class Share(Struct):
    """Events of one type from one handler."""

    count: int = 0
    size: int = 0
    """Bytes of all of them; of those alike only some were measured, and count for the others."""


class Shares(Struct):
    """What was found."""

    sent: dict[tuple[str, str], Share] = {}
    """By handler, as ``service.handler`` or :data:`ROOT`, and event."""
    ran: set[tuple[str, str]] = set()
    """Which events ended at which handlers, also badly."""
    undeclared: dict[str, tuple[int, str]] = {}
    """By handler, how often it failed because it emitted what it does not declare, and the last error's text."""
    covered: float = 1.0
    """The share of the events asked for that the rings still tell of."""
    forgot: bool = False
    """Whether anything has been overwritten, or is not noted at all."""
    since: float | None = None
    """From when on nothing has been; None if that is not known."""


async def shares_in(ring: Ring, first: int, last: int) -> Shares:
    """Look through the rings of a node for the events that it emitted after number ``first`` and up to ``last``."""
    ring.digest()
    facts = list(ring.facts)
    is_full = len(facts) == ring.facts.maxlen
    found, sent = Shares(forgot=is_full), _Sent(first, last)
    oldest: int | None = None
    for index, fact in enumerate(facts, 1):
        kind = fact[0]
        if kind == SENT or kind == ALIKE:
            oldest = fact[1] if oldest is None else oldest
            sent.add(fact)
        elif kind == RAN:
            if is_full and found.since is None:
                found.since = fact[5]
            _note_run(found, fact)
        elif is_full and found.since is None:
            found.since = fact[1]
        if not index % STEP:
            await asyncio.sleep(0)
    sent.end()
    for fact in tuple(ring.failures):
        _note_run(found, fact)
    for index, batch in enumerate(tuple(ring.batches), 1):
        found.ran.add(batch[1])
        if not index % STEP:
            await asyncio.sleep(0)
    found.sent = dict(sent.shares)
    found.covered = _covered(ring, first, last, is_full, oldest)
    return found


def _covered(ring: Ring, first: int, last: int, is_full: bool, oldest: int | None) -> float:
    if last <= first:
        return 1.0
    if not ring.is_on:
        return 0.0
    if not is_full:
        return 1.0
    begin = last if oldest is None else max(first, oldest - 1)
    return max(0, last - begin) / (last - first)


def _note_run(found: Shares, fact: Sequence[Any]) -> None:
    place, error = fact[3][1], fact[9]
    found.ran.add(fact[3])
    if error is not None and error.startswith("UndeclaredEvent:"):
        found.undeclared[place] = (found.undeclared.get(place, (0, ""))[0] + 1, error)


class _Sent:
    """Counts emitted events by where they came from. Numbers of which nothing is noted belong to the last root
    events that were noted once for many.
    """

    def __init__(self, first: int, last: int) -> None:
        self.shares: defaultdict[tuple[str, str], Share] = defaultdict(Share)
        self._first, self._last = first, last
        self._upto = first
        self._alike: Sequence[Any] | None = None

    def add(self, fact: Sequence[Any]) -> None:
        sequence = fact[1]
        if sequence > self._upto:
            self._stand_for(min(sequence, self._last + 1) - self._upto - 1)
        elif sequence > self._first:
            # It took longer to leave, and was taken for one of those alike.
            self._stand_for(-1)
        if self._first < sequence <= self._last:
            place, size = ROOT, fact[3]
            if fact[0] == SENT and fact[5] is not None and fact[5].path is not None:
                place = fact[5].path.handler
            self._count(place, fact[2], 1, len(size) if isinstance(size, bytes) else size)
        if fact[0] == ALIKE:
            self._alike = fact
        self._upto = max(self._upto, min(sequence, self._last))

    def end(self) -> None:
        self._stand_for(self._last - self._upto)

    def _stand_for(self, count: int) -> None:
        if self._alike is not None and count:
            event, size = self._alike[2], self._alike[3]
            if count > 0 or self.shares[ROOT, event].count > 0:
                self._count(ROOT, event, count, size)

    def _count(self, place: str, event: str, count: int, size: int) -> None:
        share = self.shares[place, event]
        share.count += count
        share.size += count * size
