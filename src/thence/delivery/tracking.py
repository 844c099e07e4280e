"""Which root events are followed to the end of their cascades: those whose receipts somebody keeps, and a sample.

Tracking has its price, so most events must not be tracked. Whether one is can be decided until it leaves the
process, some microseconds after ``emit`` has returned: by then a receipt that nobody wants is gone.
"""

from __future__ import annotations

import dis
import functools
from collections.abc import Callable
from sys import getrefcount
from types import CodeType, FrameType
from typing import Any

from thence.cascade.settlement import Branches
from thence.delivery.receipts import Receipt, Root

__all__ = ["Tracker", "discards_result"]

SAMPLES_PER_SECOND = 100.0
"""Root events that are tracked unasked, at most."""


class Tracker:
    """The tracked roots of one node."""

    def __init__(self, now: Callable[[], float], branches: Branches) -> None:
        self.fresh: list[Receipt] = []
        """Receipts of events that have not left yet."""
        self.branches = branches
        self.settled: Callable[[float], None] = lambda _seconds: None
        """Called with the duration of every tracked cascade that has ended."""
        self._now = now
        self._next_sample = 0.0

    def decide(self) -> None:
        """Events are about to leave: have those tracked whose receipts somebody keeps."""
        fresh = self.fresh
        while fresh:
            receipt = fresh.pop()
            if getrefcount(receipt) > _UNKEPT and receipt.root is None:
                self.track(receipt)

    def track(self, receipt: Receipt) -> Root:
        """Follow the cascade of an event that has not left yet."""
        root = receipt.root = Root(receipt.event_id, self._now)
        deliveries = receipt.deliveries

        def ended(tally: Any) -> None:
            root.ended(tally)
            self.settled(root.settled_in)

        branch = root.branch = self.branches.open(0, 1 + len(deliveries), ended)
        if receipt.refused:
            branch.refused("shed", len(receipt.refused))
        for delivery in deliveries:
            delivery.track(receipt.sequence, branch)
        branch.part_ended()
        return root

    def sample(self, receipt: Receipt) -> None:
        """Follow this one, unless there were enough lately."""
        now = self._now()
        if now >= self._next_sample:
            self._next_sample = max(self._next_sample, now - 1.0) + 1 / SAMPLES_PER_SECOND
            if receipt.root is None:
                self.track(receipt)


def _references() -> int:
    fresh = [Receipt("", 0, ())]
    while fresh:
        receipt = fresh.pop()
        if getrefcount(receipt) > 0 and receipt.root is None:
            return getrefcount(receipt)
    raise AssertionError


_UNKEPT = _references()
"""What :func:`sys.getrefcount` tells, in a loop as that of :meth:`Tracker.decide`, of a receipt nobody keeps."""


def discards_result(frame: FrameType | None) -> bool:
    """Whether the code of ``frame``, which awaits something, throws the result away.

    False when that can't be told.
    """
    return frame is not None and _discards(frame.f_code, frame.f_lasti)


@functools.lru_cache(maxsize=1024)
def _discards(code: CodeType, offset: int) -> bool:
    instructions = list(dis.get_instructions(code))
    # Some versions tell the place of what belongs to the instruction, just after it.
    running = [one for one in instructions if one.offset <= offset][-1]
    if running.opname != "SEND":
        return False
    after = [one.opname for one in instructions if one.offset >= running.argval]
    return after[0] == "POP_TOP" or after[:2] == ["END_SEND", "POP_TOP"]
