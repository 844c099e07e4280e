"""What a node emits to its own services: a line that is handled in the next tick."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from thence.cascade.settlement import Tally
from thence.delivery.hosted import Subscription
from thence.delivery.outlets import EMIT_PATIENCE, LocalOutlet
from thence.delivery.tracking import Tracker, mark_tracked
from thence.events.envelope import Arrival, Told
from thence.mesh.messages import Advice

__all__ = ["LocalLine"]


class LocalLine:
    """The line, and the :class:`~thence.events.envelope.Source` of what stands in it.

    ``process(line, arrivals)`` handles what has come together within a tick.
    """

    is_local = True

    def __init__(
        self,
        node: str,
        label: str,
        tracker: Tracker,
        now: Callable[[], float],
        process: Callable[[LocalLine, list[Arrival]], None],
    ) -> None:
        self.node = node
        self.label = label
        self.told = Told()
        """Local arrivals carry their lineage whole: nothing in them is a number."""
        self.read_at = 0.0
        self.sent_at = self.stamp = 0.0
        self.stale = False
        self.behind = 0.0
        self.outlets: dict[int, LocalOutlet] = {}
        self._tracker = tracker
        self._to_track: set[tuple[int, int]] = set()
        self._now = now
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Arrival] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def outlet_for(self, subscription: Subscription) -> LocalOutlet:
        """The way to a service of this node."""
        number = subscription.number
        outlet = self.outlets[number] = LocalOutlet(
            self.node,
            subscription.window,
            subscription.arrival,
            self._append,
            partial(self._track, number),
            subscription.answers,
            len(subscription.handlers),
            bool(subscription.spreading),
        )
        outlet.patience = min(subscription.patience or EMIT_PATIENCE, EMIT_PATIENCE)
        return outlet

    def _append(self, arrival: Arrival) -> None:
        if not self._waiting:
            self._loop.call_soon(self._move_on)
        self._waiting.append(arrival)

    def _track(self, number: int, sequence: int) -> None:
        self._to_track.add((number, sequence))

    def _move_on(self) -> None:
        self._tracker.decide()
        arrivals, self._waiting = self._waiting, []
        self.sent_at = self.stamp = self._now()
        if self._to_track:
            mark_tracked(arrivals, self._to_track)
            self._to_track.clear()
        self._process(self, arrivals)

    def close(self) -> None:
        """What stands here still is never handled. Let go of everything."""
        self._process = _ignore
        self._waiting.clear()
        self.outlets.clear()

    # -- as a source

    def owe(self, number: int, count: int, at_once: int) -> None:
        """Acknowledge at once: there is nobody to wait for."""
        self.outlets[number].acknowledged(count)

    def settle(self, number: int, sequences: tuple[int, ...], tally: Tally) -> None:
        """Tell whoever waits for it at this node."""
        self.outlets[number].settled(sequences, tally)

    def judge(self, number: int, sequence: int, reason: str, wait: float) -> None:
        """Tell the emitter of this node."""
        self.outlets[number].judged(sequence, reason, wait)

    def advise(self, advice: Advice) -> None:
        """Between here and here nothing is saved by it."""


def _ignore(line: LocalLine, arrivals: list[Arrival]) -> None:
    """There is nobody any more to handle them."""
