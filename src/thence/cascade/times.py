"""How long cascades take: a histogram of the last minute, small enough to be sent and added up over nodes.

Each bucket is 9 % longer than the one before, so that a percentile is at most that much too long, and never too
short. 330 of them span a microsecond to a month; only those in use are kept.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable

from msgspec import Struct

__all__ = ["CascadeTimes", "RecentTimes"]

SHORTEST = 1e-6
"""Seconds; what is shorter counts as this."""
PER_DOUBLING = 8
"""Buckets from one length to twice that."""
PART = 10.0
"""Seconds of one part."""
PARTS = 6


class CascadeTimes(Struct, frozen=True):
    """How long some cascades took."""

    count: int = 0
    p50: float = 0.0
    """Seconds, as are the others."""
    p99: float = 0.0
    greatest: float = 0.0
    buckets: tuple[tuple[int, int], ...] = ()
    """Number of the bucket, and how many are in it; for adding up."""

    @classmethod
    def of(cls, counts: Counter[int], greatest: float) -> CascadeTimes:
        """What can be told of so many in each bucket."""
        buckets = tuple(sorted(counts.items()))

        def percentile(share: float) -> float:
            rank, seen = math.ceil(share * counts.total()), 0
            for bucket, count in buckets:
                seen += count
                if seen >= rank:
                    return min(SHORTEST * 2 ** (bucket / PER_DOUBLING), greatest)
            return 0.0

        return cls(counts.total(), percentile(0.50), percentile(0.99), greatest, buckets)

    @classmethod
    def together(cls, several: Iterable[CascadeTimes]) -> CascadeTimes:
        """All of them as one, in any order."""
        counts: Counter[int] = Counter()
        greatest = 0.0
        for times in several:
            counts.update(dict(times.buckets))
            greatest = max(greatest, times.greatest)
        return cls.of(counts, greatest)


class RecentTimes:
    """Collects the times of the last minute, or up to ten seconds less.

    :param now: a monotonic clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._parts: deque[tuple[int, Counter[int], float]] = deque(maxlen=PARTS)
        """The latest last: which ten seconds, the buckets, the greatest."""

    def note(self, seconds: float) -> None:
        """A cascade has ended that took so long."""
        part = int(self._now() / PART)
        counts, greatest = Counter[int](), 0.0
        if self._parts and self._parts[-1][0] == part:
            _, counts, greatest = self._parts.pop()
        counts[math.ceil(PER_DOUBLING * math.log2(max(seconds / SHORTEST, 1)))] += 1
        self._parts.append((part, counts, max(greatest, seconds)))

    def times(self) -> CascadeTimes:
        """The last minute."""
        oldest = int(self._now() / PART) - PARTS + 1
        recent = [one for one in self._parts if one[0] >= oldest]
        counts: Counter[int] = Counter()
        for _, part, _ in recent:
            counts.update(part)
        return CascadeTimes.of(counts, max((greatest for *_, greatest in recent), default=0.0))
