"""The operator's hand on limits: set without code, and changed on live nodes.

A place is a handler (``hints.offer``) or a service (``hints``). What is set here holds in place of what the
code declares, until the node ends.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from thence.delivery.about import EACH
from thence.delivery.hosted import HostedService
from thence.errors import ConfigurationError
from thence.events.suggestions import did_you_mean
from thence.limits import Limit, check_limits, limits_of

__all__ = [
    "OFF",
    "LimitChange",
    "LimitOrder",
    "apply_limit",
    "decode_order",
    "note_elsewhere",
    "parse_limits",
    "places",
]

logger = logging.getLogger("thence")

OFF = "off"
"""In place of a limit: none."""


class LimitOrder(Struct, frozen=True):
    """A limit that somebody wants changed, as it travels to every node."""

    place: str
    limit: str
    """Limits separated by commas, or "off"."""
    by: str


class LimitChange(Struct, frozen=True):
    """A limit that was changed at one node, or could not be."""

    node: str
    place: str
    before: str
    after: str
    refused: str = ""
    """Why it could not; before and after are empty then."""


def parse_limits(text: str) -> tuple[Limit, ...]:
    """The limits that an operator writes: separated by commas, or "off".

    :raises ConfigurationError: it can't be understood.
    """
    if text.strip() == OFF:
        return ()
    return limits_of([one.strip() for one in text.split(",")])


def places(services: Iterable[HostedService]) -> dict[str, tuple[Limit, ...]]:
    """Where a limit can be set, and what holds there now."""
    found: dict[str, tuple[Limit, ...]] = {}
    for service in services:
        found[service.name] = tuple(gate.limit for gate in service.gates)
        for handler in service.handlers:
            found[f"{service.name}.{handler.name}"] = handler.limits
    return found


def in_words(limits: Iterable[Limit]) -> str:
    """As :func:`parse_limits` reads it."""
    return ", ".join(map(str, limits)) or OFF


def apply_limit(
    services: Mapping[str, HostedService], place: str, text: str, now: float
) -> tuple[str, str] | None:
    """Set the limits of a place; returns what held before and what does now, None if it is not here.

    :raises ConfigurationError: the limit can't be understood, or can't be kept there; or the service is
        here and has no such handler.
    """
    limits = parse_limits(text)
    # A service's name may have dots itself: the longest that fits.
    fitting = [s for s in services.values() if place == s.name or place.startswith(f"{s.name}.")]
    if not fitting:
        return None
    service = max(fitting, key=lambda one: len(one.name))
    known = places([service])
    if place not in known:
        raise ConfigurationError(
            f"limit for {place!r}: service {service.name!r} has no such handler."
            f"{did_you_mean(place, known)} It has {', '.join(sorted(known.keys() - {service.name})) or 'none'}."
        )
    handlers = [h for h in service.handlers if place in (service.name, f"{service.name}.{h.name}")]
    for handler in handlers:
        if handler.spec.policy.broadcast and any(limit.scope == "service" for limit in limits):
            raise ConfigurationError(
                f"limit for {place!r}: over all replicas it can't be kept, as handler {handler.name!r} handles "
                "each event in each of them (broadcast=True): give a limit for a replica"
            )
        for subscription in handler.subscriptions:
            spec = subscription.event
            check_limits(f"limit for {place!r}", limits, spec.type, spec.key)
    if place == service.name:
        service.set_limits(limits, now)
    else:
        handlers[0].set_limits(limits, now)
    return in_words(known[place]), in_words(limits)


def note_elsewhere(node: str, place: str, services: Iterable[HostedService]) -> None:
    """Tell of a limit in the settings for what is not hosted here: perhaps elsewhere, perhaps by a slip."""
    guess = did_you_mean(place, places(services))
    level = logging.WARNING if guess else logging.INFO
    logger.log(
        level,
        "%s: the settings limit %r, which is not hosted here.%s",
        node, place, guess, extra=EACH,
    )  # fmt: skip


decode_order = msgspec.msgpack.Decoder(LimitOrder).decode
