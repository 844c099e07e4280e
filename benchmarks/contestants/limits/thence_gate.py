"""Thence's gate as a handler's start pays for it: the clock is read, the event is let in or told to wait.

Not part of the public surface, as limits are declared: this is what ``limit=`` comes down to.
"""

import time
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from benchmarks.contestants.contract import Place
from benchmarks.contestants.limits.contract import KEY, RATE, Checker
from thence import Event
from thence.flow.limit import Gate, gate_for
from thence.limits import Limit

__all__ = ["PerKey", "Plain"]


class Moved(Event):
    player: str


class Plain(Checker):
    """One limit for all events of a handler."""

    check = "admit(event, source, clock())"
    per: str | None = None

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.event = Moved(player=KEY)
        self.read = time.monotonic

    def fresh(self, burst: int | None) -> dict[str, Any]:
        gate = Gate([gate_for(Limit(f"{RATE}/s", burst=burst, per=self.per))])
        return {"admit": gate.admit, "event": self.event, "source": "map", "clock": self.read}

    def controlled(self) -> AbstractContextManager[object]:
        return patch.object(self, "read", self.clock.seconds)

    @staticmethod
    def let_in(result: Any) -> bool:
        return not result


class PerKey(Plain):
    """A limit for each value of a field, as the peers have it."""

    per = "player"
