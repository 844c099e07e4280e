"""Events that come faster than their type's limit lets a node emit them, where only the newest counts.

What is beyond the limit waits, one event a key, and gives way to a newer one in its place; it leaves as soon as
the limit lets it. So a position that changes a hundred times a second costs the network what the limit says, and
whoever listens still ends up with the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

from thence.clock import stopwatch

__all__ = ["Conflation"]

T = TypeVar("T")

A_MOMENT = 1e-6
"""Seconds added to a wait, so that rounding never makes it end too early."""


class Conflation(Generic[T]):
    """What waits of one type, by key; first come, first served, as far as they may go.

    ``release(event)`` emits it, or tells in how many seconds to try again, and whether that holds for all keys.
    """

    def __init__(self, release: Callable[[T], tuple[float, bool]]) -> None:
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._now = stopwatch(self._loop)
        self._kept: dict[Hashable, tuple[int, T]] = {}
        """By key, its turn and what waits."""
        self._turns: list[tuple[float, int, Hashable]] = []
        """Since or from when a key may go, and in which order it came. A turn that is not its key's is void."""
        self._held = 0.0
        """Nobody may go before this time; 0.0 while nobody waits for a limit that all keys share."""
        self._order = 0
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def wait(self) -> float:
        """Seconds that a newcomer waits at least, because others wait for the limit that all keys share."""
        return max(self._held - self._now(), A_MOMENT) if self._held else 0.0

    def keep(self, key: Hashable, event: T, early: float, for_all: bool) -> T | None:
        """Keep an event that is ``early`` seconds too early, as all are if ``for_all``; returns what it replaces."""
        known = self._kept.get(key)
        if known is not None:
            self._kept[key] = known[0], event
            return known[1]
        now = self._now()
        if for_all:
            self._held = max(self._held, now + early)
        self._order += 1
        self._kept[key] = self._order, event
        heappush(self._turns, (now if for_all else now + early, self._order, key))
        self._set_timer()
        return None

    def take(self, key: Hashable) -> T | None:
        """What waits under that key gives way."""
        known = self._kept.pop(key, None)
        return None if known is None else known[1]

    def close(self) -> list[T]:
        """Keep nothing any more; returns what never left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held = 0.0
        left = [event for _, event in self._kept.values()]
        self._kept.clear()
        self._turns.clear()
        return left

    def _set_timer(self) -> None:
        if not self._turns:
            return
        rings = max(self._turns[0][0], self._held) + A_MOMENT
        if self._timer is not None:
            if self._rings <= rings:
                return
            self._timer.cancel()
        self._rings = rings
        self._timer = self._loop.call_later(max(0.0, rings - self._now()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._now() >= self._held:
            self._held = 0.0
        while self._turns:
            now = self._now()
            since, order, key = self._turns[0]
            known = self._kept.get(key)
            if known is None or known[0] != order:
                heappop(self._turns)
                continue
            if since > now or self._held > now:
                break
            early, for_all = self._release(known[1])
            if early and for_all:
                self._held = now + early
                continue
            heappop(self._turns)
            if early:
                heappush(self._turns, (now + early, order, key))
            else:
                del self._kept[key]
        self._set_timer()
