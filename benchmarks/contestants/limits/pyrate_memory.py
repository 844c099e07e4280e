"""``pyrate-limiter``: its ``Limiter``, not blocking, over buckets in memory."""

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from pyrate_limiter import (
    GCRA,
    AbstractBucket,
    AbstractClock,
    Duration,
    FixedWindow,
    InMemoryBucket,
    Limiter,
    MonotonicClock,
    Rate,
    SingleBucketFactory,
    StateBucket,
)

from benchmarks.contestants.contract import Place
from benchmarks.contestants.limits.contract import KEY, RATE, Checker, Clock

__all__ = ["Cells", "Log", "Windowed"]


class Reading(AbstractClock):
    """The controlled clock as the library reads it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def now(self) -> int:
        return self.clock.milliseconds()


class Log(Checker):
    """A log of the last second; the library's default."""

    check = "try_acquire(key, blocking=False)"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.reading: AbstractClock = MonotonicClock()

    def bucket(self, rate: Rate) -> AbstractBucket:
        return InMemoryBucket([rate])

    def fresh(self, burst: int | None) -> dict[str, Any]:
        bucket = self.bucket(Rate(RATE, Duration.SECOND, burst=burst))
        bucket._clock = self.reading  # noqa: SLF001 - as the library's documentation does it
        limiter = Limiter(SingleBucketFactory(bucket, schedule_leak=False))
        return {"try_acquire": limiter.try_acquire, "key": KEY}

    def controlled(self) -> AbstractContextManager[object]:
        return patch.object(self, "reading", Reading(self.clock))

    @staticmethod
    def let_in(result: Any) -> bool:
        return bool(result)


class Windowed(Log):
    """The log, looked at by the second of the calendar."""

    def bucket(self, rate: Rate) -> AbstractBucket:
        return InMemoryBucket([rate], FixedWindow())


class Cells(Log):
    """The generic cell rate algorithm."""

    def bucket(self, rate: Rate) -> AbstractBucket:
        return StateBucket([rate], GCRA())
