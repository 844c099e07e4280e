"""Time, as the rest of Thence sees it: one small contract, so that tests can inject their own.

Whatever waits, waits on the event loop's timers; whatever measures, asks a clock of that same loop. Under
:class:`thence.testing.VirtualTimeLoop` both jump together, and hours of heartbeats pass in milliseconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "LoopClock", "stopwatch"]


class Clock(Protocol):
    """What time it is."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def now(self) -> datetime:
        """The date and time, in UTC."""
        ...


class LoopClock:
    """The clock of an event loop.

    The date is read once and moves on with the loop's monotonic time, so that setting the machine's clock
    back does not make anything happen twice.
    """

    __slots__ = ("_began", "_loop", "_origin")

    def __init__(self, loop: asyncio.AbstractEventLoop, origin: datetime | None = None) -> None:
        self._loop = loop
        self._began = loop.time()
        self._origin = origin or datetime.now(UTC)

    def monotonic(self) -> float:
        """The loop's time, in seconds."""
        return self._loop.time()

    def now(self) -> datetime:
        """The date and time, in UTC."""
        return self._origin + timedelta(seconds=self._loop.time() - self._began)


def stopwatch(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """What measures time on that loop: seconds, as its timers count them, but exact.

    A loop's own ``time()`` may be what it was when the tick began, and in whole milliseconds (uvloop). A
    loop that bends time says so by a method ``monotonic``.
    """
    return getattr(loop, "monotonic", time.monotonic)
