"""Stopping noise where it starts: what a receiver would only refuse is not sent for a while.

A receiver that refuses events beyond a limit advises their emitter of it. The advice leaves headroom, because
nobody knows who else emits, so an emitter that has all the demand still reaches the limit; and it is
short-lived, because things change. The receiver goes on to hold its limit, whatever emitters make of it.
"""

from __future__ import annotations

import math

from thence.errors import ConfigurationError
from thence.events import Event
from thence.events.envelope import Arrival
from thence.flow.limit import KeyedCells, hashable
from thence.limits import FASTEST, Limit
from thence.mesh.messages import Advice

__all__ = ["HeededAdvice", "advice_on"]

HEADROOM = 1.25
"""How much more than the limit an emitter may send."""
SECONDS = 0.2
"""How long advice holds at least; it is renewed while there is reason to."""
LONGEST = 5.0


def advice_on(arrival: Arrival, limit: Limit, wait: float) -> Advice | None:
    """What to tell the emitter of an event that a limit refused for ``wait`` seconds, if it can be told."""
    if callable(limit.per):
        return None
    per = key = None
    if isinstance(limit.per, str):
        per = limit.per
        value = getattr(arrival.body, per)
        key = value if isinstance(value, str | int) else None
    if limit.burst > 1 or (limit.scope == "service" and per is None):
        # Headroom makes up for a moment that is missed. And of a share in a limit over all replicas there is
        # no telling when the next event may come: it is now larger, now smaller.
        wait = 0.0
    number = arrival.subscription.number
    # An emitter that forgets sends a burst again, for each key: not more often than the limit lets it.
    holds = min(max(SECONDS + wait, limit.burst / limit.rate), LONGEST)
    return Advice(
        number, str(limit), min(limit.rate * HEADROOM, FASTEST), limit.burst, per, holds, key, wait
    )


class HeededAdvice:
    """Advice that an emitter has got about one outlet, as long as it holds."""

    __slots__ = ("_cells", "_per", "_terms", "reason", "until")

    def __init__(self, advice: Advice, event: type[Event], now: float) -> None:
        """Heed it.

        :raises ConfigurationError: it makes no sense for events of that type.
        """
        if advice.per is not None and not hasattr(event, advice.per):
            raise ConfigurationError(f"advice per {advice.per!r}, which is no field")
        limit = Limit(advice.rate, burst=advice.burst)
        self._per = advice.per
        self._cells = KeyedCells(limit.rate, limit.burst)
        self._terms = _terms(advice)
        self.reason = f"limit {advice.limit}, stopped at its source"
        """Why an event was not sent."""
        self.until = now
        self.renew(advice, now)

    def renew(self, advice: Advice, now: float) -> bool:
        """Heed the advice for another while; False if it is another one.

        :raises ConfigurationError: it makes no sense.
        """
        if not (math.isfinite(advice.seconds) and math.isfinite(advice.wait)):
            raise ConfigurationError("advice for ever")
        if _terms(advice) != self._terms:
            return False
        self.until = now + min(advice.seconds, LONGEST)
        if advice.wait > 0 and (self._per is None or advice.key is not None):
            # Without a burst, a moment that is missed is lost: evenly spaced events would miss most.
            self._cells.hold(advice.key, now + min(advice.wait, LONGEST))
        return True

    def wait(self, body: Event, now: float) -> float:
        """Seconds until such an event would be worth sending; 0.0 when it is, and is sent."""
        if now >= self.until:
            return 0.0
        key = None if self._per is None else hashable(getattr(body, self._per))
        early = self._cells.wait(key, now)
        if not early:
            self._cells.take(key, now)
        return early


def _terms(advice: Advice) -> tuple[object, ...]:
    return advice.limit, advice.rate, advice.burst, advice.per
