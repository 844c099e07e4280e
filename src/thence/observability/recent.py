"""What a node has counted in the last two minutes: a look a second at counters that only grow.

A window and the one before it can so be told at once, and exactly, at no cost where the events go by.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

__all__ = ["LONGEST", "Key", "RecentCounts", "Span"]

LONGEST = 60.0
"""Seconds of the longest window that can be told together with the one before it."""
LOOKS = 2 * int(LONGEST) + 2

Key: TypeAlias = tuple[str, ...]
"""What is counted: a word that says what of, and names."""


class Span(NamedTuple):
    """What was counted from one look to another."""

    began: float
    ended: float
    first: int
    """The number of the last event emitted before."""
    last: int
    """And of the last emitted by its end."""
    counts: Mapping[Key, int]
    """Only what has grown."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.ended - self.began


class _Look(NamedTuple):
    time: float
    sequence: int
    grown: dict[Key, int]
    """Since the look before."""


class RecentCounts:
    """Looks at some counters, and remembers by how much they grew.

    :param now: a monotonic clock.
    :param count: all counters as they are; none is ever smaller than before.
    :param sequence: the number of the event that was emitted last.
    """

    def __init__(
        self,
        now: Callable[[], float],
        count: Callable[[], Mapping[Key, int]],
        sequence: Callable[[], int],
    ) -> None:
        self._now = now
        self._count = count
        self._sequence = sequence
        self.born = now()
        self._before: Mapping[Key, int] = {}
        # The first of them serves as a beginning only: what had grown by then is forgotten.
        self._looks: deque[_Look] = deque([_Look(self.born, sequence(), {})], maxlen=LOOKS)

    def look(self) -> None:
        """To be called once a second; more seldom makes windows less exact, no more."""
        latest, self._before = self._look()
        self._looks.append(latest)

    def windows(self, seconds: float) -> tuple[Span, Span]:
        """The window of about that length that ends now, and the one before it.

        They begin with a look, so each is up to half a second longer or shorter; or far shorter, or empty, if the
        node is younger than that.
        """
        latest, _ = self._look()
        looks = [*self._looks, latest]
        end = len(looks) - 1
        begin = _begin(looks, end, seconds)
        return _span(looks, begin, end), _span(looks, _begin(looks, begin, seconds), begin)

    def _look(self) -> tuple[_Look, Mapping[Key, int]]:
        counts, before = self._count(), self._before
        grown = {
            key: more for key, count in counts.items() if (more := count - before.get(key, 0)) > 0
        }
        return _Look(self._now(), self._sequence(), grown), counts


def _begin(looks: list[_Look], end: int, seconds: float) -> int:
    """Which look is nearest to that time before another one; none that leaves less than half of it, if there is."""
    latest = looks[end].time - seconds / 2
    early = (index for index in range(end) if looks[index].time <= latest)
    wanted = looks[end].time - seconds
    return min(early, key=lambda index: abs(looks[index].time - wanted), default=0)


def _span(looks: list[_Look], begin: int, end: int) -> Span:
    counts: Counter[Key] = Counter()
    for look in looks[begin + 1 : end + 1]:
        counts.update(look.grown)
    first, last = looks[begin], looks[end]
    return Span(first.time, last.time, first.sequence, last.sequence, counts)
