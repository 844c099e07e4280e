"""How far the stopwatches of nodes are apart, as far as their accounts tell.

First taken from how long the question and its answer were under way (as in Cristian, "Probabilistic clock
synchronization", 1989), and then corrected so far that nothing arrives before it was sent, or before the handler
has begun that emitted it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from thence.identifiers import EventId
from thence.observability.accounts import Account, Fact, Pending, Ran, Refused, Sent

__all__ = ["Heard", "clocks", "left_by", "received_at"]

SAME = 1e-6
"""Seconds by which moments may differ and still be taken for the same."""


class Heard(Struct, frozen=True):
    """An account, and what is known of its node's clock."""

    account: Account
    ahead: float = 0.0
    """Seconds to be added to its moments, to have them by the asker's clock."""
    error: float = 0.0
    """By how many that may be wrong."""


def received_at(fact: Fact) -> float | None:
    """When an event was there, or had at the latest arrived, where it is known."""
    match fact:
        case Ran(began=began, since=since):
            return since if since is not None else began
        case Refused(at=at):
            return at
        case Pending(since=since):
            return since
        case Sent():
            return None


def left_by(fact: Fact) -> float | None:
    """When an event had left at the latest, by the clock of who tells it."""
    if isinstance(fact, Sent):
        return fact.by
    if isinstance(fact, Ran) and received_at(fact) is None:
        return fact.ended
    return received_at(fact)


def clocks(heard: Sequence[Heard], facts: Iterable[tuple[Account, Fact]]) -> dict[str, float]:
    """By node, what is to be added to its moments."""
    ahead: dict[str, float] = {}
    for one in sorted(heard, key=lambda one: (one.account.node, one.error, one.ahead)):
        # On one machine all have the same clock, and there is nothing better than that.
        ahead.setdefault(one.account.node, 0.0 if abs(one.ahead) <= one.error else one.ahead)
    journeys = _journeys(list(facts))
    for _ in ahead:
        moved = False
        for (sender, receiver), journey in sorted(journeys.items()):
            if sender in ahead and receiver in ahead:
                early = ahead[sender] - ahead[receiver] - journey
                if early > SAME:
                    ahead[receiver] += early
                    moved = True
        if not moved:
            break
    return ahead


def _journeys(facts: Sequence[tuple[Account, Fact]]) -> dict[tuple[str, str], float]:
    """By who sent and who received, the seconds of the shortest journey, each by their own clock."""
    began: dict[tuple[EventId, str, str], float] = {}
    for account, fact in facts:
        start = fact.began if isinstance(fact, Ran) else None
        start = received_at(fact) if start is None else start
        if start is not None and isinstance(fact, Ran | Pending):
            key = fact.event_id, fact.place, account.node
            began[key] = min(start, began.get(key, start))
    journeys: dict[tuple[str, str], float] = {}
    for account, fact in facts:
        pair = fact.event_id.node, account.node
        received = received_at(fact)
        if received is None or pair[0] == pair[1]:
            continue
        left = fact.sent if isinstance(fact, Ran) else None
        above = fact.ancestry
        if left is None and above is not None and above.path:
            left = began.get((above.cause, above.path[-1], pair[0]))
        if left is not None:
            journeys[pair] = min(received - left, journeys.get(pair, float("inf")))
    return journeys
