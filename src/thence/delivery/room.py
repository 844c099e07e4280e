"""Who waits for room at a receiver: first come, first served, each for a limited time.

A line belongs to one outlet, or to all those of a service that may take any event of a type. Whoever waits in
it holds nothing that others wait for, so nobody ever waits in a circle. Room that comes goes to the first in
the same call, so nobody who comes later finds it: as long as somebody waits, there is no room.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

from thence.clock import stopwatch

__all__ = ["RoomLine", "Waiter"]

NEVER = float("inf")
A_MOMENT = 1e-3
"""Seconds by which a loop's timers may be early."""


class Waiter(Protocol):
    """Somebody who waits for room, in one line at a time. Its line forgets it before it calls one of these."""

    due: float
    """Until when; by the loop's stopwatch."""

    def take(self, outlet: Any) -> None:
        """There is room at that outlet: take it, or leave it to the next."""
        ...

    def give_up(self) -> None:
        """None has come in time."""
        ...

    def review(self) -> None:
        """Who takes what has changed. It is still in line, and leaves if there is reason to."""
        ...


class RoomLine:
    """Those who wait for room at one outlet, or at any that ``fits``."""

    __slots__ = ("_alarm", "_dues", "_fits", "_order", "_rings", "barren", "waiting")

    def __init__(self, fits: Callable[[Any], bool] | None = None) -> None:
        self.waiting: OrderedDict[Waiter, None] = OrderedDict()
        self.barren = False
        """Whether somebody has been waiting in vain, and no room has come since."""
        self._fits = fits
        self._dues: list[tuple[float, int, Waiter]] = []
        """Until when they wait. One that has left, or is to wait shorter than it says here, is passed over."""
        self._order = 0
        self._alarm: asyncio.TimerHandle | None = None
        """One for all. It may ring for somebody who has left; that is cheaper than to set it for each."""
        self._rings = NEVER

    def join(self, waiter: Waiter) -> None:
        """Wait from now on, until :attr:`Waiter.due`."""
        self.waiting[waiter] = None
        self.watch(waiter)

    def watch(self, waiter: Waiter) -> None:
        """It has joined, or is to wait until another time."""
        if waiter.due == NEVER:
            return
        if len(self._dues) > 2 * len(self.waiting) + 8:
            self._dues = [one for one in self._dues if self._counts(one)]
            heapify(self._dues)
        self._order += 1
        heappush(self._dues, (waiter.due, self._order, waiter))
        self._set_alarm(waiter.due)

    def leave(self, waiter: Waiter) -> None:
        """Wait no more, if it still does."""
        self.waiting.pop(waiter, None)
        if not self.waiting:
            self._dues.clear()

    def serve(self, outlet: Any) -> None:
        """Room has come at that outlet: it goes to those who wait first."""
        if self._fits is not None and not self._fits(outlet):
            return
        self.barren = False
        waiting = self.waiting
        # Whoever takes room may write so much that the connection is full, and has none any more.
        while waiting and outlet.room > 0:
            waiter, _ = waiting.popitem(last=False)
            waiter.take(outlet)
        if not waiting:
            self._dues.clear()

    def review(self) -> None:
        """Who takes what has changed: let each look whether it is in the right place, in their order."""
        for waiter in list(self.waiting):
            if waiter in self.waiting:
                waiter.review()

    def close(self) -> None:
        """Nobody waits here any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _counts(self, one: tuple[float, int, Waiter]) -> bool:
        due, _, waiter = one
        return waiter in self.waiting and waiter.due == due

    def _set_alarm(self, due: float) -> None:
        if self._alarm is not None:
            if due >= self._rings:
                return
            self._alarm.cancel()
        loop = asyncio.get_running_loop()
        self._rings = due
        self._alarm = loop.call_later(max(0.0, due - stopwatch(loop)()), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        now = stopwatch(asyncio.get_running_loop())() + A_MOMENT
        while self._dues:
            first = self._dues[0]
            if first[0] > now and self._counts(first):
                self._set_alarm(first[0])
                return
            heappop(self._dues)
            waiter = first[2]
            if first[0] <= now and self._counts(first):
                self.leave(waiter)
                self.barren = True
                waiter.give_up()
