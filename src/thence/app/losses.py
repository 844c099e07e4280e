"""Telling in the log what was shed and why, without a line for each: noise must not drown the log as well."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from thence.delivery.about import EACH

__all__ = ["LossLog"]

logger = logging.getLogger("thence.losses")

FIRST_AFTER = 1.0
"""Seconds after a loss, with none before it, in which more of them are awaited."""
EVERY = 10.0
"""Seconds between two summaries while there are losses."""


class LossLog:
    """One line per reason and interval. ``count()`` tells the losses so far, by what and why."""

    def __init__(self, name: str, count: Callable[[], Counter[str]]) -> None:
        self._name = name
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._told: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def note(self) -> None:
        """Something was lost."""
        if self._timer is None:
            self._timer = self._loop.call_later(FIRST_AFTER, self._tell, FIRST_AFTER)

    def close(self) -> None:
        """Tell what was not told yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._tell(0.0)
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self, seconds: float) -> None:
        losses = self._count()
        new = losses - self._told
        self._told = losses
        self._timer = self._loop.call_later(EVERY, self._tell, EVERY) if new else None
        within = f" in {seconds:g} s" if seconds else ""
        for what, count in sorted(new.items()):
            events = "1 event" if count == 1 else f"{count:,} events"
            logger.warning("%s: %s%s: %s", self._name, events, within, what, extra=EACH)
