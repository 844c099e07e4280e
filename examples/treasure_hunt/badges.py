"""Badges: for round numbers of points, each once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from thence import Context, Node, Service
from treasure_hunt.events import BadgeEarned, ScoreChanged

__all__ = ["badges"]

THRESHOLDS = {10: "first find", 50: "scout", 100: "ranger", 150: "treasure hunter"}


@asynccontextmanager
async def remembering(node: Node) -> AsyncGenerator[set[tuple[str, str]]]:
    """Who has which badge."""
    yield set()


badges = Service("badges", lifespan=remembering)


@badges.on(ScoreChanged)
async def reward(change: ScoreChanged, ctx: Context) -> list[BadgeEarned]:
    earned: set[tuple[str, str]] = ctx.state
    new = [
        badge
        for points, badge in THRESHOLDS.items()
        if change.points >= points and (change.player, badge) not in earned
    ]
    earned.update((change.player, badge) for badge in new)
    return [BadgeEarned(player=change.player, badge=badge) for badge in new]
