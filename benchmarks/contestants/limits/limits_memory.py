"""The ``limits`` package: its three strategies over ``MemoryStorage``.

Without identifiers, which are optional and would be joined into a key anew for each check.
"""

from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)

from benchmarks.contestants.contract import Place
from benchmarks.contestants.limits.contract import RATE, Checker

__all__ = ["FixedWindow", "MovingWindow", "SlidingWindowCounter"]


class FixedWindow(Checker):
    """A second from the first event; then all begins anew."""

    check = "hit(item)"
    strategy: type[RateLimiter] = FixedWindowRateLimiter

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.storage = MemoryStorage()
        self.limiter = self.strategy(self.storage)
        self.item = RateLimitItemPerSecond(RATE)

    def fresh(self, burst: int | None) -> dict[str, Any]:
        self.storage.reset()
        return {"hit": self.limiter.hit, "item": self.item}

    def controlled(self) -> AbstractContextManager[object]:
        return patch("limits.storage.memory.time", SimpleNamespace(time=self.clock.seconds))

    @staticmethod
    def let_in(result: Any) -> bool:
        return bool(result)


class SlidingWindowCounter(FixedWindow):
    """This second's count and what may be left of the last one's."""

    strategy = SlidingWindowCounterRateLimiter


class MovingWindow(FixedWindow):
    """The moments of the last 100."""

    strategy = MovingWindowRateLimiter
