"""Treasures: each goes to whoever claims it first. One claim of a hunt is handled at a time, everywhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from thence import Context, Node, Service
from treasure_hunt.events import ClaimDecided, TreasureClaimed

__all__ = ["treasures"]


@asynccontextmanager
async def guarding(node: Node) -> AsyncGenerator[dict[str, str]]:
    """Who owns which hunt's treasure."""
    yield {}


treasures = Service("treasures", lifespan=guarding)


@treasures.on(TreasureClaimed)
async def decide(claim: TreasureClaimed, ctx: Context) -> ClaimDecided:
    owners: dict[str, str] = ctx.state
    owner = owners.setdefault(claim.hunt, claim.player)
    return ClaimDecided(player=claim.player, hunt=claim.hunt, accepted=owner == claim.player)
