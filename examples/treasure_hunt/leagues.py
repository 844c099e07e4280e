"""Leagues: players with an even number play against those with an odd one.

Only there with ``thence demo --fault``. It trusts that a player's name ends with a number, and so it fails on a name
that a phone made up: one that nobody is signed in on tells its own. Neither ``clues.py`` nor ``scores.py``, which
such a name comes through, minds; nothing in this file shows where it comes from. ``thence why`` does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from thence import Context, Node, Service
from treasure_hunt.events import ScoreChanged

__all__ = ["leagues"]

LEAGUES = ("river", "forest")


@asynccontextmanager
async def playing(node: Node) -> AsyncGenerator[dict[str, dict[str, int]]]:
    """The points of each player, by league."""
    yield {league: {} for league in LEAGUES}


leagues = Service("leagues", lifespan=playing)


@leagues.on(ScoreChanged)
async def count(change: ScoreChanged, ctx: Context) -> None:
    points: dict[str, dict[str, int]] = ctx.state
    number = int(change.player.removeprefix("player-"))
    points[LEAGUES[number % len(LEAGUES)]][change.player] = change.points
