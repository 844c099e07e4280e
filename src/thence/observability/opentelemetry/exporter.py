"""One node's part in exporting spans: what it remembers becomes spans, off the hot path.

Either everything does, a little later. Or nothing, until somebody asks for a cascade: then all that the node still
remembers of it, and all that it will note.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from thence.facts.ring import Ring
from thence.identifiers import EventId
from thence.observability.opentelemetry.anomalies import anomalies
from thence.observability.opentelemetry.identifiers import trace_for
from thence.observability.opentelemetry.recollection import (
    Emitted,
    Facts,
    Handled,
    Recollection,
    Refused,
    Remembered,
    Wanted,
)
from thence.observability.opentelemetry.spans import SpanMaker

__all__ = ["Exporter", "Sighting"]

logger = logging.getLogger("thence")

MOST_WANTED = 10_000
"""Cascades whose further spans are exported; for one more the oldest is forgotten."""
TOGETHER = 100
"""Spans made at a stretch; some 3 ms."""
PAUSE = 0.005
"""Seconds between those, for the SDK to send them: what it keeps back is bounded."""


class Sighting(Struct, array_like=True, frozen=True):
    """What a node knows of a root event that was emitted elsewhere."""

    root: EventId
    at: int
    """When it arrived, in nanoseconds since 1970."""
    event: str
    foreign: bytes = b""


class Exporter:
    """What one node exports.

    :param everything: whether that is all; else :meth:`look` finds anomalies, and :meth:`recall` exports.
    :param slower: the seconds that a cascade may take.
    :param behind: seconds by which another node's stopwatch is behind this one's.
    """

    def __init__(
        self,
        node: str,
        name: str,
        ring: Ring,
        now: Callable[[], float],
        *,
        everything: bool,
        slower: float,
        behind: Callable[[str], float],
    ) -> None:
        self.maker = SpanMaker(node, name)
        self._name = name
        self._everything = everything
        self._slower = slower
        self._behind = behind
        self._now = now
        self._recollection = Recollection(node, ring, now)
        self._wanted: dict[EventId, None] = {}
        self._found: dict[EventId, str] = {}
        self._busy = asyncio.Lock()
        self._told: set[str] = set()

    @property
    def fill(self) -> float:
        """The share of the recorder's room that was new at the last look; looked at later, it would be overwritten."""
        return self._recollection.fill

    async def look(self) -> dict[EventId, str]:
        """Export what is new and is to be; the roots of anomalies nobody has asked for yet, and what is wrong."""
        async with self._busy:
            await self._look_at(self._recollection.news(), self._wanted.__contains__)
            found, self._found = self._found, {}
            return {root: why for root, why in found.items() if root not in self._wanted}

    async def recall(self, roots: Iterable[EventId]) -> list[Sighting]:
        """Export all that is remembered of these cascades, and from now on what is noted of them."""
        if self._everything:
            return []
        async with self._busy:
            fresh = {root for root in roots if root not in self._wanted}
            if not fresh:
                return []
            kept, news = self._recollection.everything(), self._recollection.news()
            before = self._wanted.copy()
            self._wanted |= dict.fromkeys(fresh)
            while len(self._wanted) > MOST_WANTED:
                del self._wanted[next(iter(self._wanted))]
            await self._look_at(news, before.__contains__)
            found = await self._recollection.recall(kept, fresh.__contains__)
            await self._export(found)
            return self._sightings(found)

    def send_roots(self, roots: Sequence[EventId], sightings: Iterable[Sighting]) -> None:
        """Make the spans of root events: those of this node, and of nodes that have gone.

        Nothing is noted of when a root event left, but by when: it had before anybody saw it.
        """
        if self._everything:
            return
        seen: dict[EventId, Sighting] = {}
        for one in sightings:
            before = seen.get(one.root)
            seen[one.root] = one if before is None else replace(before, at=min(before.at, one.at))
        node = self._recollection.node
        epoch = self._epoch()
        own = [root for root in roots if root.node == node]
        for emitted in self._recollection.root_events(own) if own else ():
            moments = [] if emitted.at is None else [epoch + int(emitted.at * 1e9)]
            sighting = seen.pop(emitted.event_id, None)
            if sighting is not None:
                moments.append(sighting.at)
            at = min(moments, default=time.time_ns())
            self._make(self.maker.make_emitted, emitted, at)
        for root in roots:
            left = seen.get(root)
            if left is not None:
                gone = Emitted(root, left.event, root, left.foreign, None, (), None, "", None)
                self._make(self.maker.make_emitted, gone, left.at)

    async def _look_at(self, news: Facts, wanted: Wanted) -> None:
        if self._recollection.missed:
            self._tell_once(
                "%s: more happened than the recorder keeps until somebody looks, so some spans were not exported: give "
                "it more room, as in recorder=64MB; this is logged once"
            )
        if self._everything:
            await self._export(await self._recollection.recall(news))
            return
        self._found |= await anomalies(news, self._slower, self._behind)
        if self._wanted:
            await self._export(await self._recollection.recall(news, wanted))

    async def _export(self, found: Sequence[Remembered]) -> None:
        epoch = self._epoch()
        left = TOGETHER
        for one in found:
            if self._everything:
                if not trace_for(one.root, one.foreign).is_sampled:
                    continue
            elif isinstance(one, Emitted) and one.cause is None:
                # See send_roots.
                continue
            self._make(self._make_one, one, epoch)
            left -= 1
            if not left:
                left = TOGETHER
                await asyncio.sleep(PAUSE)

    def _make_one(self, one: Remembered, epoch: int) -> None:
        maker = self.maker
        match one:
            case Emitted(at=at):
                maker.make_emitted(one, epoch + int((self._now() if at is None else at) * 1e9))
            case Handled(began=began, ended=ended):
                maker.make_handled(one, epoch + int(began * 1e9), epoch + int(ended * 1e9))
            case Refused(at=at):
                maker.make_refused(one, epoch + int(at * 1e9))

    def _make(self, make: Callable[..., None], *arguments: object) -> None:
        """What the program's span processors raise must harm nobody else."""
        try:
            make(*arguments)
        except Exception:
            if "raised" not in self._told:
                self._told.add("raised")
                logger.exception(
                    "%s: a span could not be handed over; this is logged once", self._name
                )

    def _sightings(self, found: Iterable[Remembered]) -> list[Sighting]:
        epoch = self._epoch()
        seen: dict[EventId, Sighting] = {}
        for one in found:
            if one.event_id == one.root and isinstance(one, Handled | Refused):
                at = one.at if isinstance(one, Refused) else one.began
                if isinstance(one, Handled) and one.since is not None:
                    at = min(at, one.since)
                moment = epoch + int(at * 1e9)
                before = seen.get(one.root)
                if before is None or moment < before.at:
                    seen[one.root] = Sighting(one.root, moment, one.event, one.foreign)
        return list(seen.values())

    def _epoch(self) -> int:
        """What makes a moment of the stopwatch, in nanoseconds, one of the calendar."""
        return time.time_ns() - int(self._now() * 1e9)

    def _tell_once(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            logger.warning(message, self._name)
