"""What a running node tells of its noise: its counters, looked at each second, and its rings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from thence.app.hosting import Hosting
from thence.delivery.emission import Emitter
from thence.delivery.loop_guard import LoopGuard
from thence.delivery.routes import RouteTable
from thence.facts import Ring
from thence.observability.noise import (
    EMITTED,
    FAILED,
    HANDLED,
    LOOPED,
    SHED,
    UNSENT,
    HandlerPlace,
    NodeNoise,
    NoiseQuestion,
    node_noise,
)
from thence.observability.recent import LONGEST, Key, RecentCounts
from thence.observability.shares import Shares, shares_in
from thence.observability.sightings import Sightings, sightings_of

__all__ = ["Counting"]


class Counting:
    """The counters of one node."""

    def __init__(
        self,
        node: str,
        name: str,
        hosting: Hosting,
        table: RouteTable,
        emitter: Emitter,
        guard: LoopGuard,
        ring: Ring,
        now: Callable[[], float],
    ) -> None:
        self._node = node
        self._name = name
        self._hosting = hosting
        self._table = table
        self._emitter = emitter
        self._guard = guard
        self._ring = ring
        self._now = now
        self._recent = RecentCounts(now, self._counts, self._last_sent)
        self.look = self._recent.look

    async def noise(self, question: NoiseQuestion) -> NodeNoise:
        """How noisy this node was."""
        window, before = self._recent.windows(min(max(question.seconds, 0.0), LONGEST))
        shares = await shares_in(self._ring, window.first, window.last)
        handlers = [
            HandlerPlace(
                handler.place,
                tuple(subscription.event.name for subscription in handler.subscriptions),
                frozenset(event.__event__.name for event in handler.declared),
            )
            for handler in self._hosting.handlers
        ]
        return node_noise(
            self._node,
            self._name,
            tuple(self._hosting.services),
            window,
            before,
            shares.sent,
            shares.covered,
            handlers,
            self._guard.mode,
        )

    async def sightings(self) -> Sightings:
        """What its handlers were seen to do, as far as its rings tell."""
        shares: Shares = await shares_in(self._ring, 0, self._last_sent())
        now = self._now()
        return sightings_of(self._node, self._name, now - self._recent.born, now, shares)

    def _last_sent(self) -> int:
        return self._emitter.sender.sequence

    def _counts(self) -> Mapping[Key, int]:
        counts: Counter[Key] = Counter()
        for route in self._table.routes.values():
            # Several classes have one name where one was declared again, as in a notebook.
            counts[EMITTED, route.spec.name] += route.emitted
        for handler in self._hosting.handlers:
            counts[HANDLED, handler.place] = handler.handled
            counts[FAILED, handler.place] = handler.failed
            for reason, count in handler.shed.items():
                counts[SHED, handler.place, reason] = count
        for losses in (self._table.lost, self._emitter.refused):
            for key, count in losses.items():
                counts[UNSENT, *key] += count
        for loop, count in self._guard.seen.items():
            counts[LOOPED, loop] = count
        return counts
