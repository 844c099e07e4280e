"""Notifications: what players are told. The end of every cascade.

Messages cost money, so there is a limit for all replicas together. Beyond it the newest of each kind waits
for a player, in place of the one before it; when more than that stays too much, hints are let go first. Claims
are told at once, whatever else there is to tell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from thence import Context, Limit, Node, Service
from treasure_hunt.events import BadgeEarned, ClaimDecided, HintOffered, RankChanged

__all__ = ["notifications"]


@asynccontextmanager
async def telling(node: Node) -> AsyncGenerator[deque[str]]:
    """The last messages; a phone would get them."""
    yield deque(maxlen=1000)


notifications = Service("notifications", lifespan=telling)


@notifications.on(
    RankChanged,
    BadgeEarned,
    HintOffered,
    limit=Limit("200/s", burst=100, scope="service"),
    overflow="latest",
    queue=500,
    queue_target="100ms",
)
async def tell(event: RankChanged | BadgeEarned | HintOffered, ctx: Context) -> None:
    messages: deque[str] = ctx.state
    match event:
        case RankChanged():
            messages.append(f"{event.player}: you are number {event.rank}")
        case BadgeEarned():
            messages.append(f"{event.player}: you are a {event.badge} now")
        case HintOffered():
            messages.append(f"{event.player}: it is {event.metres} m to a clue of {event.hunt}")


@notifications.on(ClaimDecided)
async def announce(claim: ClaimDecided, ctx: Context) -> None:
    messages: deque[str] = ctx.state
    won = "the treasure is yours" if claim.accepted else "somebody was faster"
    messages.append(f"{claim.player}: {won}")
