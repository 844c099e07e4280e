"""Events that come faster than their type's limit lets a node emit them, where only the newest counts.

What is beyond the limit waits, one event a key, and gives way to a newer one; it leaves as soon as the limit
lets it. So a position that changes a hundred times a second costs the network what the limit says, and
whoever listens still ends up with the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Conflation"]

T = TypeVar("T")

A_MOMENT = 1e-6
"""Seconds added to a wait, so that rounding never makes it end too early."""
MAX_KEPT = 10_000
"""Keys that may have an event waiting."""


class Conflation(Generic[T]):
    """What waits, by type and key. ``release(event)`` emits it, or tells in how many seconds to try again."""

    def __init__(self, release: Callable[[T], float]) -> None:
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._kept: dict[Hashable, T] = {}
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}

    def keep(self, key: Hashable, event: T, early: float) -> bool:
        """Keep an event that is ``early`` seconds too early; False if there is no room."""
        if key not in self._timers:
            if len(self._timers) >= MAX_KEPT:
                return False
            self._timers[key] = self._loop.call_later(early + A_MOMENT, self._try, key)
        self._kept[key] = event
        return True

    def take(self, key: Hashable) -> T | None:
        """What waits under that key gives way."""
        timer = self._timers.pop(key, None)
        if timer is None:
            return None
        timer.cancel()
        return self._kept.pop(key)

    def close(self) -> list[T]:
        """Keep nothing any more; returns what never left."""
        for timer in self._timers.values():
            timer.cancel()
        left = list(self._kept.values())
        self._timers.clear()
        self._kept.clear()
        return left

    def _try(self, key: Hashable) -> None:
        early = self._release(self._kept[key])
        if early:
            self._timers[key] = self._loop.call_later(early + A_MOMENT, self._try, key)
        else:
            del self._timers[key], self._kept[key]
