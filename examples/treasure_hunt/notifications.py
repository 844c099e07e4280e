"""Notifications: what players are told. The end of every cascade."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from thence import Context, Node, Service
from treasure_hunt.events import BadgeEarned, ClaimDecided, RankChanged

__all__ = ["notifications"]


@asynccontextmanager
async def telling(node: Node) -> AsyncGenerator[deque[str]]:
    """The last messages; a phone would get them."""
    yield deque(maxlen=1000)


notifications = Service("notifications", lifespan=telling)


@notifications.on(RankChanged, BadgeEarned, ClaimDecided)
async def tell(event: RankChanged | BadgeEarned | ClaimDecided, ctx: Context) -> None:
    messages: deque[str] = ctx.state
    match event:
        case RankChanged():
            messages.append(f"{event.player}: you are number {event.rank}")
        case BadgeEarned():
            messages.append(f"{event.player}: you are a {event.badge} now")
        case ClaimDecided():
            won = "the treasure is yours" if event.accepted else "somebody was faster"
            messages.append(f"{event.player}: {won}")
