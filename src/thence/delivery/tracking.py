"""Which root events are followed to the end of their cascades: those whose receipts somebody keeps, and a sample.

Tracking has its price, so most events must not be tracked. Whether one is can be decided until it leaves the
process, some microseconds after ``emit`` has returned: by then a receipt that nobody wants is gone.
"""

from __future__ import annotations

import dis
import math
import random
from collections.abc import Callable
from sys import getrefcount
from types import CodeType, FrameType

from msgspec.structs import replace

from thence.cascade.settlement import Branches, Tally
from thence.delivery.reasons import kind_of
from thence.delivery.receipts import Receipt, Root, Sending
from thence.events.envelope import TRACKED, Arrival

__all__ = ["Tracker", "discards_result", "mark_tracked"]

SAMPLES_PER_SECOND = 100.0
"""Root events that are tracked unasked, at most."""


class Tracker:
    """The tracked roots of one node."""

    def __init__(
        self, now: Callable[[], float], branches: Branches, sample_share: float = 0.01
    ) -> None:
        self.undecided: list[Receipt] = []
        """Those of events that have not left yet."""
        self.discarding: CodeType | None = None
        self.discarding_at = 0
        """The place in a piece of code that last threw a receipt away: it does so always."""
        self.branches = branches
        self.settled: Callable[[float], None] = lambda _seconds: None
        """Called with the duration of every tracked cascade that has ended."""
        self.watch: Callable[[str, float, Tally], None] | None = None
        """Called with the root event, the duration and the tally of each, if somebody wants to know."""
        self._now = now
        self._next_sample = 0.0
        self._sample_every = round(1 / sample_share) if sample_share else 0

    def forget(self) -> None:
        """Keep no receipt any more: the garbage collector does not see what it refers to."""
        self.undecided.clear()

    def decide(self) -> None:
        """Events are about to leave: have those tracked whose receipts somebody keeps."""
        undecided = self.undecided
        if undecided:
            counts = list(map(getrefcount, undecided))
            if max(counts) > UNKEPT:
                for receipt, count in zip(undecided, counts, strict=True):
                    if count > UNKEPT and receipt.root is None:
                        self.track(receipt)
            undecided.clear()

    def decide_for(self, frame: FrameType, receipt: Receipt) -> None:
        """Decide about an event that leaves while ``frame``, which awaits its receipt, has not got it."""
        if self.undecided and self.undecided[-1] is receipt:
            self.undecided.pop()
        if discards_result(frame):
            self.discarding, self.discarding_at = frame.f_code, frame.f_lasti
        elif receipt.root is None:
            self.track(receipt)

    def track(self, receipt: Receipt) -> Root:
        """Follow the cascade of an event that has not left yet."""
        deliveries = receipt.sending.deliveries
        root = receipt.root = self.open(receipt.event_id, 1 + len(deliveries))
        branch = root.branch
        for refusal in receipt.refused:
            branch.refused(kind_of(refusal.reason), refusal.count)
        for delivery in deliveries:
            delivery.track(receipt.sequence, branch)
        branch.part_ended()
        return root

    def open(self, event_id: str, parts: int = 1) -> Root:
        """Follow the cascade of an event of which so many parts are to end: its deliveries, and whoever else says.

        The root's branch may be asked to grow as long as one of them has not ended.
        """
        root = Root(event_id, self._now)

        def ended(tally: Tally) -> None:
            root.ended(tally)
            self.settled(root.settled_in)
            if self.watch is not None:
                self.watch(event_id, root.settled_in, tally)

        root.branch = self.branches.open(0, parts, ended)
        return root

    def until_sample(self) -> float:
        """How many root events after one the next is to be followed unasked.

        By chance, as events may have a rhythm that a fixed number would fall in with.
        """
        every = self._sample_every
        return random.randint(1, 2 * every - 1) if every else math.inf

    def sample(self, receipt: Receipt) -> None:
        """Follow this one, unless there were enough lately, or nobody can be asked to track it any more."""
        if receipt.root is None and receipt.sending.deliveries and self._is_sample_due():
            self.track(receipt)

    def samples_now(self) -> bool:
        """Whether to follow unasked an event that leaves now, and has no turn to wait for."""
        every = self._sample_every
        return bool(every) and not random.randrange(every) and self._is_sample_due()

    def _is_sample_due(self) -> bool:
        """Whether there were not enough lately; if so, there is one more."""
        now = self._now()
        if not self._sample_every or now < self._next_sample:
            return False
        self._next_sample = now + 1 / SAMPLES_PER_SECOND
        return True


(UNKEPT,) = map(getrefcount, [Receipt(0, Sending("", ()))])
"""What :func:`sys.getrefcount` tells of a receipt that only the tracker has."""


def discards_result(frame: FrameType | None) -> bool:
    """Whether the code of ``frame``, which awaits something, throws the result away.

    False when that can't be told.
    """
    if frame is None:
        return False
    code, offset = frame.f_code, frame.f_lasti
    known = _known.get((id(code), offset))
    if known is None or known[0] is not code:
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        known = _known[id(code), offset] = (code, _discards(code, offset))
    return known[1]


MAX_KNOWN = 1000

_known: dict[tuple[int, int], tuple[CodeType, bool]] = {}
"""By the identity of a code and a place in it: the code itself, and the answer."""


def _discards(code: CodeType, offset: int) -> bool:
    instructions = list(dis.get_instructions(code))
    # Some versions tell the place of what belongs to the instruction, just after it.
    running = [one for one in instructions if one.offset <= offset][-1]
    if running.opname != "SEND":
        return False
    after = [one.opname for one in instructions if one.offset >= running.argval]
    return after[0] == "POP_TOP" or after[:2] == ["END_SEND", "POP_TOP"]


def mark_tracked(arrivals: list[Arrival], wanted: set[tuple[int, int]]) -> None:
    """Note which arrivals somebody wants tracked, and take them off the list.

    :param wanted: subscription and sequence numbers.
    """
    for arrival in arrivals:
        key = (arrival.subscription.number, arrival.sequence)
        if key in wanted:
            wanted.remove(key)
            extras = arrival.extras
            arrival.extras = TRACKED if extras is None else replace(extras, tracked=1)
