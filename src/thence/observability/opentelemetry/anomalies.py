"""Which cascades went wrong, or took long: what one node can tell from what it has just noted.

A cascade is an anomaly if one of its handlers failed, if its budget or a loop cut it, or if one of its handlers ended
longer after its root was emitted than is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from thence.delivery.reasons import CASCADE_EXPIRED, kind_of
from thence.events.envelope import DEFAULT, Extras
from thence.events.lineage import Lineage
from thence.facts.ring import RAN, REFUSED
from thence.identifiers import EventId
from thence.observability.opentelemetry.recollection import Facts, Raw, in_chunks, root_of

__all__ = ["anomalies"]

_deadline_in = attrgetter("deadline")

MOMENTS = 0.001
"""Deadlines travel in whole milliseconds."""


async def anomalies(
    facts: Facts, slower: float, behind: Callable[[str], float]
) -> dict[EventId, str]:
    """The roots of those cascades, and what is wrong with each: ``failed``, ``cut`` or ``slow``.

    :param slower: the seconds that a cascade may take.
    :param behind: seconds by which another node's stopwatch is behind this one's.
    """
    found: dict[EventId, str] = {}
    allowed = slower + MOMENTS
    async for some in in_chunks((*facts.facts, *facts.bad)):
        for raw in some:
            kind = raw[0]
            if kind == RAN:
                _, node, sequence, _, began, ended, ancestry, told, since, error, _ = raw
                if error is not None:
                    found[root_of(node, sequence, ancestry, told)] = "failed"
                    continue
                emitted = _root_emitted(ancestry, behind, node)
                if emitted is None:
                    emitted = since if since is not None else began
                if emitted is not None and ended - emitted > allowed:
                    found.setdefault(root_of(node, sequence, ancestry, told), "slow")
            elif kind == REFUSED:
                _, node, sequence, _, _, ancestry, told, reason, _ = raw
                if reason == CASCADE_EXPIRED or kind_of(reason) == "cut":
                    found.setdefault(root_of(node, sequence, ancestry, told), "cut")
    async for some in in_chunks(facts.batches):
        for raw in some:
            for root in _slow_in(raw, allowed):
                found.setdefault(root, "slow")
    return found


def _slow_in(raw: Raw, slower: float) -> list[EventId]:
    node, _, sent, began, ended, sequences, _, ancestries, told = raw
    if ancestries is None:
        if ended - began <= slower:
            return []
        return [EventId(node, sequence) for sequence in sequences]
    # The time that the events were on their way is not counted, which is little: else they were not noted together.
    behind = began - sent
    if ended - began <= slower and not any(
        isinstance(one, Lineage) or one.began for one in ancestries if one is not None
    ):
        # Nearly always: not even the cascade that was emitted first was emitted too long ago.
        earliest = min(_deadline_in(one) for one in ancestries if one is not None)
        if earliest and ended - (earliest / 1000 + behind - DEFAULT.seconds) <= slower:
            return []
    found: list[EventId] = []
    for sequence, ancestry in zip(sequences, ancestries, strict=True):
        emitted = _root_emitted(ancestry, lambda _: behind, node)
        if ended - (began if emitted is None else emitted) > slower:
            found.append(root_of(node, sequence, ancestry, told))
    return found


def _root_emitted(
    ancestry: Lineage | Extras | None, behind: Callable[[str], float], node: str
) -> float | None:
    """When the root of the cascade was emitted, by this node's stopwatch; None if that is not told."""
    if ancestry is None or not ancestry.deadline:
        return None
    if isinstance(ancestry, Lineage):
        return ancestry.began or ancestry.deadline - DEFAULT.seconds
    if ancestry.began:
        return ancestry.began / 1000 + behind(node)
    return ancestry.deadline / 1000 + behind(node) - DEFAULT.seconds
