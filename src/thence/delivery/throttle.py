"""The limits of event types: how many of each this node emits, and what becomes of those beyond.

They are refused; or the newest of each key is kept until the limit, and its receivers' room, let it go.
"""

from __future__ import annotations

from collections.abc import Hashable

from thence.delivery.conflation import Conflation
from thence.delivery.patience import PatientEmit
from thence.delivery.reasons import CLOSING, REPLACED
from thence.delivery.receipts import Receipt
from thence.delivery.sending import Choice, Emission, Sender
from thence.delivery.targets import Route
from thence.errors import RateLimited

__all__ = ["Throttle"]

MAX_KEPT = 10_000
"""Keys of one type that may have an event waiting."""


class Kept:
    """What waits of one type of which only the newest counts."""

    def __init__(self, sender: Sender, route: Route) -> None:
        self._sender = sender
        self._route = route
        self._limited = Conflation(self._release)
        """By key, what waits for the limit."""
        self._without_room: dict[Hashable, PatientEmit] = {}
        """By key, what waits for room at its receivers; the limit has let it go."""
        self._closed = False

    def keeps(self, emission: Emission) -> Receipt | None:
        """None if the event may go at once and everybody has room for it; a receipt if it waits.

        :raises RateLimited: too many wait.
        """
        route, sender, limited = self._route, self._sender, self._limited
        assert route.gate is not None
        key = route.spec.key_of(emission.body)
        waiting = self._without_room.get(key)
        if waiting is not None:
            if not waiting.emission.deliveries:
                receipt = self._kept(emission)
                older = waiting.exchange(emission)
                self._close(older, REPLACED)
                return receipt
            waiting.withdraw(REPLACED)
            self._ended(key)
        early, for_all = limited.wait(), True
        if not early:
            early, for_all = self._early(emission)
        room = len(limited) + len(self._without_room) < MAX_KEPT
        if early and not self._closed and (room or key in limited):
            receipt = self._kept(emission)
            replaced = limited.keep(key, emission, early, for_all)
            if replaced is not None:
                self._close(replaced, REPLACED)
            return receipt
        if early:
            raise refusal(sender, emission, CLOSING if self._closed else route.gate.reason, early)
        replaced = limited.take(key)
        if replaced is not None:
            self._close(replaced, REPLACED)
        chosen = sender.choose(route, emission.body)
        if not room or self._closed or all(outlet.room > 0 for _, outlet in chosen):
            return None
        receipt = self._kept(emission)
        self._go(key, emission, chosen)
        return receipt

    def close(self) -> None:
        """Send nothing more that was kept, and keep nothing more."""
        self._closed = True
        for emission in self._limited.close():
            self._close(emission, CLOSING)
        for key, emit in list(self._without_room.items()):
            emit.withdraw(CLOSING)
            self._ended(key)

    def _early(self, emission: Emission) -> tuple[float, bool]:
        gate = self._route.gate
        assert gate is not None
        early = gate.admit(emission.body, "", self._sender.now())
        return early, bool(early) and gate.refused_by.limit.per is None

    def _kept(self, emission: Emission) -> Receipt:
        """The event is kept: whoever emits it gets this receipt, also if it has ended when it gets it, and what
        it is a part of waits.
        """
        self._sender.number(emission)
        emission.asks = False
        if emission.branch is not None:
            emission.branch.grows()
        return self._sender.receipt(emission, self._route.services, (emission,))

    def _release(self, emission: Emission) -> tuple[float, bool]:
        early, for_all = self._early(emission)
        if not early:
            key = self._route.spec.key_of(emission.body)
            self._go(key, emission, self._sender.choose(self._route, emission.body))
        return early, for_all

    def _go(self, key: Hashable, emission: Emission, chosen: Choice) -> None:
        """Send what was kept to all who have room; to the others when they have."""
        sender = self._sender
        if any(outlet.room <= 0 for _, outlet in chosen):
            if emission.branch is None and emission.is_root:
                # Part of it leaves now, too late to see whether anybody keeps the receipt.
                assert emission.receipt is not None
                sender.tracker.track(emission.receipt)
            emit = PatientEmit(sender, emission, lambda: self._ended(key), hurries=False)
            self._without_room[key] = emit
            emit.begin(chosen)
            if not emit.places:
                self._ended(key)
        else:
            sender.send_whole(emission, chosen)
            self._finish(emission)
            if sender.cork.overdue:
                sender.cork.flush()
            sender.cork.release()

    def _ended(self, key: Hashable) -> None:
        self._finish(self._without_room.pop(key).emission)

    def _finish(self, emission: Emission) -> None:
        receipt = self._sender.finish(emission)
        emission.receipt = None
        if emission.branch is not None:
            emission.branch.part_ended()
        elif emission.is_root:
            self._sender.tracker.undecided.append(receipt)

    def _close(self, emission: Emission, reason: str) -> None:
        """What was kept back is not sent."""
        sender = self._sender
        sender.note_unsent(emission, reason)
        for service in self._route.services:
            emission.refuse(service, reason)
        sender.receipt(emission, (), ())
        emission.receipt = None
        if emission.branch is not None:
            emission.branch.part_ended()


class Throttle:
    """What holds the limits of all types that one node emits."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._kept: dict[Route, Kept] = {}
        self._closed = False

    def keeps(self, emission: Emission) -> Receipt | None:
        """None if its type's limit lets the event go; a receipt if it waits, and may give way to another.

        :raises RateLimited: it is refused.
        """
        route = emission.route
        assert route.gate is not None
        if route.spec.policy.overflow == "latest":
            kept = self._kept.get(route)
            if kept is None:
                kept = self._kept[route] = Kept(self._sender, route)
                if self._closed:
                    kept.close()
            return kept.keeps(emission)
        early = route.gate.admit(emission.body, "", self._sender.now())
        if early:
            raise refusal(self._sender, emission, route.gate.reason, early)
        return None

    def close(self) -> None:
        """Send nothing more that was kept, and keep nothing more."""
        self._closed = True
        for kept in self._kept.values():
            kept.close()


def refusal(sender: Sender, emission: Emission, reason: str, early: float) -> RateLimited:
    """The error for an event beyond the limit of its type, which is counted."""
    sender.note_unsent(emission, reason)
    return RateLimited(
        f"event {emission.route.spec.name!r} is beyond the limit of its type ({reason}): emit it again in "
        f"{early:.3g} s, emit fewer, or raise limit= of the class",
        early,
    )
