"""Where arrivals wait for their handler, and who goes first. Bounded; the caller sheds what it is told to.

Higher priority goes first, and is shed last. Where a limit holds for each value of a key, an arrival whose
value has to wait must not hold up the others, and no value may take the whole line: see :class:`FairLine`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol

from thence.events import PRIORITIES
from thence.events.envelope import Arrival

__all__ = ["FairLine", "Line", "PlainLine"]

NEVER = float("inf")
LEVELS = len(PRIORITIES)


class Line(Protocol):
    """Arrivals that wait for one handler."""

    size: int
    """How many wait."""

    @property
    def due(self) -> float:
        """Nobody may go before this time."""
        ...

    def append(self, arrival: Arrival, now: float) -> None:
        """The arrival waits from now on."""
        ...

    def victim_for(self, arrival: Arrival) -> Arrival:
        """The line is full: who is to be shed, one that waits, which is taken out, or ``arrival`` itself."""
        ...

    def first(self) -> Arrival:
        """Who is next, from :attr:`due` on; it stays in line until :meth:`pop`."""
        ...

    def pop(self, now: float) -> Arrival:
        """Take out the first."""
        ...

    def postpone(self, until: float) -> None:
        """The first, and all of its kind, may not go before that time."""
        ...

    def hold(self, until: float) -> None:
        """Nobody may go before that time."""
        ...


class PlainLine:
    """First in, first out, within each priority."""

    __slots__ = ("_due", "_levels", "size")

    def __init__(self, levels: int = LEVELS) -> None:
        self._due = 0.0
        self._levels: tuple[deque[Arrival], ...] = tuple(deque() for _ in range(levels))
        """The highest priority first."""
        self.size = 0

    @property
    def due(self) -> float:
        """When the first may go."""
        return self._due

    def append(self, arrival: Arrival, now: float) -> None:
        """The arrival waits behind those of its priority."""
        priority: int = arrival.subscription.priority
        self._levels[priority].append(arrival)
        self.size += 1

    def victim_for(self, arrival: Arrival) -> Arrival:
        """The newest of the lowest priority, if that is lower than the newcomer's."""
        for level in reversed(self._levels[arrival.subscription.priority + 1 :]):
            if level:
                self.size -= 1
                return level.pop()
        return arrival

    def first(self) -> Arrival:
        """The one that has waited longest of the highest priority."""
        for level in self._levels:
            if level:
                return level[0]
        raise LookupError("nobody waits")

    def pop(self, now: float) -> Arrival:
        """Take that one out."""
        for level in self._levels:
            if level:
                self.size -= 1
                return level.popleft()
        raise LookupError("nobody waits")

    @property
    def lowest(self) -> int:
        """The lowest priority that somebody has here, as a number: the highest is 0."""
        return next(i for i in reversed(range(len(self._levels))) if self._levels[i])

    def pop_last(self) -> Arrival:
        """Take out the newest of the lowest priority."""
        self.size -= 1
        return next(level for level in reversed(self._levels) if level).pop()

    def hold(self, until: float) -> None:
        """Nobody may go before that time."""
        self._due = until

    postpone = hold


class FairLine:
    """A line for each value of a key, as :class:`PlainLine`; the keys take turns, as far as they may go.

    When the line is full, whoever has most in it gives way (longest queue drop; Suter et al., "Buffer
    management schemes for supporting TCP in gigabit routers with per-flow queueing", 1999).

    ``key_of(arrival)`` tells an arrival's value.
    """

    __slots__ = ("_by_key", "_by_length", "_heap", "_held", "_key_of", "_levels", "_order", "size")

    def __init__(self, key_of: Callable[[Arrival], Hashable]) -> None:
        self._key_of = key_of
        self._by_key: dict[Hashable, PlainLine] = {}
        self._by_length: list[dict[Hashable, None]] = [{}]
        """For each number of arrivals, the keys that have so many in line; the last is never empty."""
        self._heap: list[tuple[float, int, Hashable]] = []
        """For each key in line: since or from when it may go, in which order it came, and itself."""
        self._held = 0.0
        self._levels = [0] * LEVELS
        """How many wait of each priority."""
        self._order = 0
        self.size = 0

    @property
    def due(self) -> float:
        """When the first may go."""
        return max(self._heap[0][0], self._held) if self._heap else NEVER

    def append(self, arrival: Arrival, now: float) -> None:
        """The arrival waits behind those of its key."""
        key = self._key_of(arrival)
        waiting = self._by_key.get(key)
        if waiting is None:
            waiting = self._by_key[key] = PlainLine()
            self._push(now, key)
        waiting.append(arrival, now)
        self._levels[arrival.subscription.priority] += 1
        self._resized(key, waiting.size - 1, waiting.size)

    def victim_for(self, arrival: Arrival) -> Arrival:
        """The last of the key that has most in line; if that is the newcomer's own, the least of them."""
        most = len(self._by_length) - 1
        key = self._key_of(arrival)
        if key in self._by_length[most]:
            victim = self._by_key[key].victim_for(arrival)
            if victim is arrival:
                return arrival
        else:
            # Of those that have most, one with something unimportant; the newcomer, if all are alike.
            lowest = max(level for level in range(LEVELS) if self._levels[level])
            if most == 1 and lowest <= arrival.subscription.priority:
                return arrival
            longest = self._by_length[most]
            key = next((one for one in longest if self._least(one) == lowest), None)
            if key is None:
                key = max(longest, key=self._least)
            victim = self._by_key[key].pop_last()
        self._levels[victim.subscription.priority] -= 1
        self._resized(key, most, most - 1)
        if most == 1:
            self._remove(key)
        return victim

    def _least(self, key: Hashable) -> int:
        return self._by_key[key].lowest

    def first(self) -> Arrival:
        """The longest waiting of the key that may go first."""
        return self._by_key[self._heap[0][2]].first()

    def pop(self, now: float) -> Arrival:
        """Take that one out. It is the next key's turn."""
        _, _, key = heapq.heappop(self._heap)
        waiting = self._by_key[key]
        arrival = waiting.pop(now)
        self._levels[arrival.subscription.priority] -= 1
        self._resized(key, waiting.size + 1, waiting.size)
        if waiting.size:
            self._push(now, key)
        else:
            del self._by_key[key]
        return arrival

    def postpone(self, until: float) -> None:
        """That one's key may not go before that time."""
        _, order, key = self._heap[0]
        heapq.heapreplace(self._heap, (until, order, key))

    def hold(self, until: float) -> None:
        """Nobody may go before that time."""
        self._held = until

    def _remove(self, key: Hashable) -> None:
        """Forget a key that has nothing in line any more."""
        del self._by_key[key]
        self._heap = [turn for turn in self._heap if turn[2] != key]
        heapq.heapify(self._heap)

    def _push(self, since: float, key: Hashable) -> None:
        self._order += 1
        heapq.heappush(self._heap, (since, self._order, key))

    def _resized(self, key: Hashable, before: int, after: int) -> None:
        self.size += after - before
        by_length = self._by_length
        if before:
            del by_length[before][key]
        if after:
            if after == len(by_length):
                by_length.append({})
            by_length[after][key] = None
        if not by_length[-1] and len(by_length) > 1:
            by_length.pop()
