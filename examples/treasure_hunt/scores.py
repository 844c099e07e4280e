"""Scores: ten points for a clue, a hundred for a treasure."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from thence import Context, Node, Service
from treasure_hunt.events import ClaimDecided, ClueFound, ScoreChanged

__all__ = ["scores"]


@asynccontextmanager
async def counting(node: Node) -> AsyncGenerator[Counter[str]]:
    """The points of each player."""
    yield Counter()


scores = Service("scores", lifespan=counting)


@scores.on(ClueFound)
async def award(found: ClueFound, ctx: Context) -> ScoreChanged:
    return add(ctx.state, found.player, 10)


@scores.on(ClaimDecided)
async def reward(claim: ClaimDecided, ctx: Context) -> ScoreChanged | None:
    return add(ctx.state, claim.player, 100) if claim.accepted else None


def add(points: Counter[str], player: str, more: int) -> ScoreChanged:
    points[player] += more
    return ScoreChanged(player=player, points=points[player])
