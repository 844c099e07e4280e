"""What a node has counted in the last two minutes: a look a second at counters that only grow.

A window and the one before it can so be told at once, and exactly, at no cost where the events go by.
"""

from __future__ import annotations

from array import array
from collections import deque
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
    values: array[int]
    """Of the counters in the order in which they came up; those that came up later were 0."""


class RecentCounts:
    """Looks at some counters, and remembers what they were: eight bytes for each counter and look.

    :param now: a monotonic clock.
    :param count: all counters as they are; none ever goes, or is smaller than before.
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
        self._keys: dict[Key, None] = {}
        """What the values of looks are of."""
        first = _Look(self.born, sequence(), array("Q"))
        self._looks: deque[_Look] = deque([first], maxlen=LOOKS)

    def look(self) -> None:
        """To be called once a second; more seldom makes windows less exact, no more."""
        self._looks.append(self._look())

    def windows(self, seconds: float) -> tuple[Span, Span]:
        """The window of about that length that ends now, and the one before it.

        They begin with a look, so each is up to half a second longer or shorter; or far shorter, or empty, if the
        node is younger than that.
        """
        looks = [*self._looks, self._look()]
        end = len(looks) - 1
        begin = _begin(looks, end, seconds)
        before = _begin(looks, begin, seconds)
        return self._span(looks[begin], looks[end]), self._span(looks[before], looks[begin])

    def _look(self) -> _Look:
        counts = self._count()
        self._keys.update(dict.fromkeys(counts))
        values = array("Q", (counts.get(key, 0) for key in self._keys))
        return _Look(self._now(), self._sequence(), values)

    def _span(self, first: _Look, last: _Look) -> Span:
        later = len(last.values) - len(first.values)
        began = first.values + array("Q", [0]) * later
        counts = {
            key: after - before
            for key, before, after in zip(self._keys, began, last.values, strict=False)
            if after > before
        }
        return Span(first.time, last.time, first.sequence, last.sequence, counts)


def _begin(looks: list[_Look], end: int, seconds: float) -> int:
    """Which look is nearest to that time before another one; none that leaves less than half of it, if there is."""
    latest = looks[end].time - seconds / 2
    early = (index for index in range(end) if looks[index].time <= latest)
    wanted = looks[end].time - seconds
    return min(early, key=lambda index: abs(looks[index].time - wanted), default=0)
