"""What is done about cascades that come back to a handler they have been through."""

from __future__ import annotations

import logging
from collections import Counter

from thence.cascade.loops import LoopMode, Paths, loop_in
from thence.cascade.settlement import MAX_TEXT, Failure
from thence.delivery.about import EACH, about
from thence.delivery.hosted import HostedHandler
from thence.events.envelope import Arrival, event_id_of, lineage_of
from thence.events.lineage import Path

__all__ = ["LoopGuard"]

logger = logging.getLogger("thence.handling")

MAX_TOLD = 100
"""Different loops that are logged, and told of by themselves; the others are only counted."""


class LoopGuard:
    """The loops of one node."""

    def __init__(self, mode: LoopMode) -> None:
        self.mode = mode
        self.paths = Paths()
        self.seen: Counter[str] = Counter()
        """How often cascades came back, by loop; beyond :data:`MAX_TOLD` of them, by the handler they came back to."""
        self._told: set[str] = set()

    def cuts(self, handler: HostedHandler, arrival: Arrival) -> bool:
        """Whether the arrival comes back to the handler too often, and must not run.

        To be asked once for each handler of each arrival.
        """
        path = self.back_at(handler, arrival)
        if path is None:
            return False
        handler.loops += 1
        loop, rounds = loop_in(path), path.visits - 1
        self._count(loop, handler.place)
        enforced = self.mode == "enforce"
        if self.mode != "observe" and loop not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(loop)
            logger.error(
                "loop: %s. The cascade has come back to %s %d times through its own consequences, max_loops=%d "
                "allows; %s. Break the loop, or allow it with max_loops=%d (event %s; this loop is logged once)",
                loop,
                handler.place,
                rounds,
                handler.spec.policy.max_loops,
                "the event was cut" if enforced else "it goes on, as loops are only warned of here",
                rounds,
                event_id_of(arrival),
                extra={**about(arrival, handler), **EACH},
            )
        if enforced and arrival.record is not None:
            arrival.record.note(
                Failure(
                    "loop",
                    arrival.subscription.event.name,
                    str(event_id_of(arrival)),
                    handler.place,
                    f"CascadeLimit: the cascade comes back too often: {loop}"[:MAX_TEXT],
                )
            )
        return enforced

    def _count(self, loop: str, place: str) -> None:
        known = loop in self.seen or len(self.seen) < MAX_TOLD
        self.seen[loop if known else f"{place} → … → {place}"] += 1

    def back_at(self, handler: HostedHandler, arrival: Arrival) -> Path | None:
        """The path of the arrival with the handler at its end, if that is there too often."""
        lineage = lineage_of(arrival) if handler.declared else None
        if lineage is None:
            return None
        path = self.paths.below(lineage.path, handler.place)
        return path if path.visits - 1 > handler.spec.policy.max_loops else None
