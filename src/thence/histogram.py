"""How long things take: histograms that are cheap to fill, small enough to be sent, and add up over nodes.

Each bucket is 9 % longer than the one before, so that a percentile is at most that much too long, and never too
short, however many nodes were added up. 400 of them span a microsecond to 35 years; only those in use are kept.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable

from msgspec import Struct

__all__ = ["BOUNDS", "PER_DOUBLING", "SHORTEST", "Histogram", "Recent", "Totals"]

SHORTEST = 1e-6
"""Seconds; what is shorter counts as this."""
PER_DOUBLING = 8
"""Buckets from one length to twice that."""
BOUNDS = (*(SHORTEST * 2 ** (bucket / PER_DOUBLING) for bucket in range(399)), math.inf)
"""The longest that belongs into each bucket, in seconds."""
PART = 10.0
"""Seconds of one part."""
PARTS = 6


class Histogram(Struct, frozen=True):
    """How long some things took."""

    count: int = 0
    p50: float = 0.0
    """Seconds, as are the others."""
    p99: float = 0.0
    greatest: float = 0.0
    buckets: tuple[tuple[int, int], ...] = ()
    """Number of the bucket, and how many are in it; for adding up."""
    total: float = 0.0
    """All of them one after the other."""

    @classmethod
    def of(cls, counts: Counter[int], greatest: float, total: float) -> Histogram:
        """What can be told of so many in each bucket."""
        buckets = tuple(sorted(counts.items()))
        count = counts.total()

        def percentile(share: float) -> float:
            rank, seen = math.ceil(share * count), 0
            for bucket, number in buckets:
                seen += number
                if seen >= rank:
                    return min(BOUNDS[bucket], greatest)
            return 0.0

        return cls(count, percentile(0.50), percentile(0.99), greatest, buckets, total)

    @classmethod
    def together(cls, several: Iterable[Histogram]) -> Histogram:
        """All of them as one, in any order."""
        counts: Counter[int] = Counter()
        greatest = total = 0.0
        for one in several:
            counts.update(dict(one.buckets))
            greatest = max(greatest, one.greatest)
            total += one.total
        return cls.of(counts, greatest, total)

    def since(self, earlier: Histogram) -> Histogram:
        """What has come after an earlier state of the same. Its greatest is that of its longest bucket, if longer
        ones came before.
        """
        counts = Counter(dict(self.buckets)) - Counter(dict(earlier.buckets))
        greatest = min(BOUNDS[max(counts)], self.greatest) if counts else 0.0
        return Histogram.of(counts, greatest, max(0.0, self.total - earlier.total))


class Totals:
    """Collects how long things took, since the beginning."""

    __slots__ = ("_buckets", "_greatest", "_total")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._greatest = self._total = 0.0

    def note(self, seconds: float, times: int = 1) -> None:
        """Something took so long, or several things did."""
        self._buckets[bisect_left(BOUNDS, seconds)] += times
        self._total += seconds * times
        self._greatest = max(self._greatest, seconds)

    def note_all(self, several: list[float]) -> None:
        """The same for several that took differently long. The list is sorted: so it takes least time."""
        several.sort()
        buckets, number, done = self._buckets, len(several), 0
        while done < number:
            bucket = bisect_left(BOUNDS, several[done])
            end = bisect_right(several, BOUNDS[bucket], done)
            buckets[bucket] += end - done
            done = end
        if several:
            self._total += sum(several)
            self._greatest = max(self._greatest, several[-1])

    def histogram(self) -> Histogram:
        """All that was noted."""
        return Histogram.of(self._buckets, self._greatest, self._total)


class Recent:
    """Collects how long things took in the last minute, or up to ten seconds less; and :attr:`ever`.

    :param now: a monotonic clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.ever = Totals()
        """The same since the beginning."""
        self._now = now
        self._parts: deque[tuple[int, Counter[int], float, float]] = deque(maxlen=PARTS)
        """The latest last: which ten seconds, the buckets, the greatest, the sum."""

    def note(self, seconds: float) -> None:
        """Something has ended that took so long."""
        self.ever.note(seconds)
        part = int(self._now() / PART)
        counts, greatest, total = Counter[int](), 0.0, 0.0
        if self._parts and self._parts[-1][0] == part:
            _, counts, greatest, total = self._parts.pop()
        counts[bisect_left(BOUNDS, seconds)] += 1
        self._parts.append((part, counts, max(greatest, seconds), total + seconds))

    def histogram(self) -> Histogram:
        """The last minute."""
        oldest = int(self._now() / PART) - PARTS + 1
        recent = [one for one in self._parts if one[0] >= oldest]
        counts: Counter[int] = Counter()
        for _, part, _, _ in recent:
            counts.update(part)
        greatest = max((one[2] for one in recent), default=0.0)
        return Histogram.of(counts, greatest, sum(one[3] for one in recent))
