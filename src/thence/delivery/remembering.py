"""What the flight recorder is told of arrivals that took the long way, or ended badly."""

from __future__ import annotations

from typing import Any

from thence.cascade.settlement import MAX_TEXT
from thence.delivery.about import PrivateValues, failure_text
from thence.delivery.hosted import HostedHandler, Subscription
from thence.events.envelope import Arrival, Source
from thence.facts.ring import RAN, REFUSED, shortened

__all__ = ["error_text", "ran", "refused"]


def ran(
    handler: HostedHandler,
    arrival: Arrival,
    began: float | None,
    ended: float,
    error: str | None,
) -> tuple[Any, ...]:
    """A handler has ended, well or with an :func:`error_text`; see :mod:`thence.facts.ring`."""
    subscription: Subscription = arrival.subscription
    source: Source = arrival.source
    since = arrival.since
    if since is None and began is None:  # it was begun as it was read
        since = source.read_at or source.sent_at or None
    return (
        RAN,
        source.node,
        arrival.sequence,
        (subscription.event.name, handler.place) if subscription.several else subscription.what,
        began,
        ended,
        arrival.lineage or arrival.extras,
        source.told,
        since,
        error,
        None if subscription.key_in is None else shortened(subscription.key_in(arrival)),
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
        None if subscription.key_in is None else shortened(subscription.key_in(arrival)),
    )


def error_text(error: BaseException, arrival: Arrival) -> str:
    """Type and message of an error, without what is private of its event, or of those that it came with."""
    text = failure_text(error)
    events = [one.body for one in arrival.members or (arrival,) if one.subscription.event.private]
    if events:
        for hidden in PrivateValues(events).texts():
            text = text.replace(hidden, "•••")
    return text[:MAX_TEXT]
