"""``throttled-py``: its algorithms over ``MemoryStore``, with the key given once."""

from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from throttled import MemoryStore, RateLimiterType, Throttled, per_sec

from benchmarks.contestants.limits.contract import KEY, RATE, Checker

__all__ = ["FixedWindow", "Gcra", "LeakingBucket", "SlidingWindow", "TokenBucket"]


class Gcra(Checker):
    """The generic cell rate algorithm."""

    check = "limit()"
    using = RateLimiterType.GCRA

    def fresh(self, burst: int | None) -> dict[str, Any]:
        quota = per_sec(RATE, burst=burst)
        throttled = Throttled(key=KEY, using=self.using.value, quota=quota, store=MemoryStore())
        assert throttled.limiter is not None  # made when it is first asked for
        return {"limit": throttled.limit}

    def controlled(self) -> AbstractContextManager[object]:
        read = self.clock.seconds
        return patch("throttled.utils.time", SimpleNamespace(time=read, monotonic=read))

    @staticmethod
    def let_in(result: Any) -> bool:
        return not result.limited


class TokenBucket(Gcra):
    """Tokens, refilled by the full second; the library's default."""

    using = RateLimiterType.TOKEN_BUCKET


class LeakingBucket(Gcra):
    """The same seen from the other side."""

    using = RateLimiterType.LEAKING_BUCKET


class FixedWindow(Gcra):
    """A count for each second of the calendar."""

    using = RateLimiterType.FIXED_WINDOW


class SlidingWindow(Gcra):
    """This second's count and what may be left of the last one's."""

    using = RateLimiterType.SLIDING_WINDOW
