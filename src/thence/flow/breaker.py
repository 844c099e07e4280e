"""A handler that does nothing but fail is left alone for a while: its database is down, or its code broken.

While the breaker is open its events are shed at once, with a reason that says so, instead of each waiting for
a timeout. After a pause one event is let through as a probe; its success closes the breaker, its failure
doubles the pause (the circuit breaker: Nygard, "Release It!", 2007).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Breaker", "BreakerState"]

BreakerState: TypeAlias = Literal["closed", "open", "probing"]

FAILING_FOR = 5.0
"""Seconds without one success after which it opens."""
FAILURES = 20
"""Failures that must have been seen in that time."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0


class Breaker:
    """One handler's breaker. Costs nothing while all goes well: it is told of failures only."""

    __slots__ = ("_failing_since", "_failures", "_handled", "_pause", "_until", "state")

    def __init__(self) -> None:
        self.state: BreakerState = "closed"
        self._failures = 0
        self._failing_since = 0.0
        self._handled = 0
        self._pause = FIRST_PAUSE
        self._until = 0.0

    def failed(self, handled: int, now: float) -> bool:
        """A run has failed; ``handled`` counts the handler's successes so far. Whether this opens it."""
        if self.state == "probing":
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._open(now)
            return True
        if handled != self._handled or not self._failures:
            self._handled = handled
            self._failures = 0
            self._failing_since = now
        self._failures += 1
        if (
            self.state == "closed"
            and self._failures >= FAILURES
            and now - self._failing_since >= FAILING_FOR
        ):
            self._pause = FIRST_PAUSE
            self._open(now)
            return True
        return False

    def succeeded(self) -> bool:
        """A run has ended well; only to be told while it is not closed. Whether this closes it."""
        if self.state == "closed":
            return False
        self.state = "closed"
        self._failures = 0
        return True

    def allows(self, now: float) -> bool:
        """Whether an event may begin: after the pause; and again if the probe is not back in the same time."""
        return self.state == "closed" or now >= self._until

    def began(self, now: float) -> None:
        """An event begins: if it is not closed, that is the probe."""
        if self.state != "closed":
            self.state = "probing"
            self._until = now + self._pause

    def _open(self, now: float) -> None:
        self.state = "open"
        self._until = now + self._pause
