"""Who goes first where several share one limit and more want than it lets in: they take turns.

Each asks for itself and at its own time, so whoever asks at the right moment could take everything. Here
whoever was turned away first has the next turn (round robin: Nagle, "On packet switches with infinite
storage", 1985), and the others leave what may come to it for a moment.
"""

from __future__ import annotations

from thence.limits import Limit

__all__ = ["Turns"]

PATIENCE = 0.002
"""Seconds for which the others leave its turn to one that does not come."""
TURN = 0.01
"""Seconds' worth of events in a turn, at least one event and no more than a burst."""
POLL = 0.0001


class Turns:
    """The turns of those who share one limit."""

    __slots__ = ("_left", "_since", "line")

    def __init__(self) -> None:
        self.line: dict[object, None] = {}
        """Those who were turned away since their last turn, whoever was first in front."""
        self._left = 0
        """Events that are left of the turn of the first."""
        self._since: float | None = None
        """Since when another one leaves to the first what it could have."""

    def wait(self, who: object, early: float, limit: Limit, now: float) -> float:
        """Seconds until one of them may go that is ``early`` by as many as the limit says; 0.0 for now."""
        line = self.line
        if not early:
            while line and (first := next(iter(line))) is not who:
                if self._since is None:
                    self._since = now
                early = self._since + PATIENCE - now
                if early > 0.0:
                    early = min(early, max(1 / limit.rate, POLL))
                    break
                self.leave(first)
                early = 0.0
        if early:
            line[who] = None
        return early

    def take(self, who: object, limit: Limit) -> None:
        """It goes now; :meth:`wait` has allowed it."""
        self._since = None
        if self.line and next(iter(self.line)) is who:
            if not self._left:
                self._left = min(limit.burst, max(1, int(limit.rate * TURN)))
            self._left -= 1
            if not self._left:
                del self.line[who]

    def leave(self, who: object) -> None:
        """It does not wait for its turn."""
        if self.line and next(iter(self.line)) is who:
            self._left, self._since = 0, None
        self.line.pop(who, None)
