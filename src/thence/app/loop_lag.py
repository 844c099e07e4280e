"""How late the timers of a node's event loop are: what a handler that blocks costs everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from thence.histogram import Recent

__all__ = ["LoopLag"]

EVERY = 0.25
"""Seconds from one look to the next."""


class LoopLag:
    """Looks at the clock each quarter of a second, from :meth:`start` to :meth:`close`.

    :param now: the node's stopwatch.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.times = Recent(now)
        """Seconds that timers were late."""
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        """Begin to look."""
        self._set()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        self._due = self._now() + EVERY
        self._timer = self._loop.call_later(EVERY, self._rang)

    def _rang(self) -> None:
        # A loop that counts whole milliseconds may be early.
        self.times.note(max(0.0, self._now() - self._due))
        self._set()
