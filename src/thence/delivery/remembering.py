"""What the flight recorder is told of arrivals that took the long way, or ended badly."""

from __future__ import annotations

from typing import Any

from thence.cascade.settlement import MAX_TEXT
from thence.delivery.about import PrivateValues, failure_text
from thence.delivery.hosted import HostedHandler, Subscription
from thence.events.envelope import Arrival, Source
from thence.facts.ring import RAN, REFUSED

__all__ = ["error_text", "ran", "refused"]


def ran(
    handler: HostedHandler,
    arrival: Arrival,
    began: float | None,
    ended: float,
    error: BaseException | None,
) -> tuple[Any, ...]:
    """A handler has ended; see :mod:`thence.facts.ring`."""
    subscription: Subscription = arrival.subscription
    source: Source = arrival.source
    return (
        RAN,
        source.node,
        arrival.sequence,
        (subscription.event.name, handler.place) if subscription.several else subscription.what,
        began,
        ended,
        arrival.lineage or arrival.extras,
        source.told,
        arrival.since,
        None if error is None else error_text(error, arrival),
        None if subscription.key_in is None else subscription.key_in(arrival),
    )


def refused(handler: HostedHandler, arrival: Arrival, at: float, reason: str) -> tuple[Any, ...]:
    """A handler was not begun."""
    subscription: Subscription = arrival.subscription
    source: Source = arrival.source
    return (
        REFUSED,
        source.node,
        arrival.sequence,
        (subscription.event.name, handler.place),
        at,
        arrival.lineage or arrival.extras,
        source.told,
        reason,
        None if subscription.key_in is None else subscription.key_in(arrival),
    )


def error_text(error: BaseException, arrival: Arrival) -> str:
    """Type and message of an error, without what is private of its event."""
    text = failure_text(error)
    if arrival.subscription.event.private:
        for hidden in PrivateValues([arrival.body]).texts():
            text = text.replace(hidden, "•••")
    return text[:MAX_TEXT]
