"""Timeouts for runs that suspended, at the price of a dictionary entry each.

Arming and cancelling a loop timer for every run costs more than the run. Runs of one handler all have the
same timeout, so they expire in the order in which they began: one ordered table and one timer a handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Timeouts"]

Run = TypeVar("Run", bound=Hashable)


class Timeouts(Generic[Run]):
    """Calls ``expired(run)`` for each run that is not forgotten within ``length`` seconds."""

    __slots__ = ("_expired", "_length", "_loop", "_runs", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, length: float, expired: Callable[[Run], None]
    ) -> None:
        self._loop = loop
        self._length = length
        self._expired = expired
        self._runs: dict[Run, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, run: Run) -> None:
        """The run has begun now, or nearly so."""
        deadline = self._loop.time() + self._length
        self._runs[run] = deadline
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._check)

    def forget(self, run: Run) -> None:
        """The run has ended. One that is not watched is passed over."""
        self._runs.pop(run, None)

    def close(self) -> None:
        """Forget everything."""
        self._runs.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._runs:
            run, deadline = next(iter(self._runs.items()))
            if deadline > now:
                self._timer = self._loop.call_at(deadline, self._check)
                return
            del self._runs[run]
            self._expired(run)
