"""Ranks: the table of all players, so there is one of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from thence import Context, Node, Service
from treasure_hunt.events import RankChanged, ScoreChanged

__all__ = ["ranks"]


@asynccontextmanager
async def ranking(node: Node) -> AsyncGenerator[dict[str, int]]:
    """The points of each player, the best first."""
    yield {}


ranks = Service("ranks", lifespan=ranking)


@ranks.on(ScoreChanged)
async def rank(change: ScoreChanged, ctx: Context) -> list[RankChanged]:
    points: dict[str, int] = ctx.state
    before = places(points)
    points[change.player] = change.points
    after = places(points)
    return [
        RankChanged(player=p, rank=place) for p, place in after.items() if before.get(p) != place
    ][:3]


def places(points: dict[str, int]) -> dict[str, int]:
    """Each player's place in the table; those with equal points share one."""
    ladder = sorted(set(points.values()), reverse=True)
    return {player: ladder.index(value) + 1 for player, value in points.items()}
