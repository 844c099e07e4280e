"""One event at a time for each key value of a service, in the order of arrival.

A lane is a service and a key value. Only lanes with something unfinished take any memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Lanes"]

Item = TypeVar("Item")


class Lanes(Generic[Item]):
    """Who may go, and who goes next. Not bounded: whoever lets items in bounds them."""

    __slots__ = ("_busy",)

    def __init__(self) -> None:
        self._busy: dict[Hashable, deque[Item] | None] = {}

    def enter(self, key: Hashable, item: Item) -> bool:
        """Whether ``item`` may go at once; if not, it waits and :meth:`leave` will return it."""
        if key not in self._busy:
            self._busy[key] = None
            return True
        waiting = self._busy[key]
        if waiting is None:
            waiting = self._busy[key] = deque()
        waiting.append(item)
        return False

    def first_waiting(self, key: Hashable) -> Item | None:
        """Who waits in this lane and is next, if anybody."""
        waiting = self._busy.get(key)
        return waiting[0] if waiting else None

    def take_first(self, key: Hashable) -> None:
        """Let the first who waits go beside the one that is unfinished; it must not :meth:`leave`."""
        waiting = self._busy[key]
        assert waiting
        waiting.popleft()

    def leave(self, key: Hashable) -> Item | None:
        """The item in this lane has ended: the next that may go, already in the lane, or None."""
        waiting = self._busy[key]
        if waiting:
            return waiting.popleft()
        del self._busy[key]
        return None

    def __contains__(self, key: Hashable) -> bool:
        """Whether something in this lane is unfinished."""
        return key in self._busy

    def __len__(self) -> int:
        """How many lanes have something unfinished."""
        return len(self._busy)
