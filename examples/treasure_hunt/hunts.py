"""Hunts: knows when a player has found all clues of one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from thence import Context, Node, Service
from treasure_hunt import world
from treasure_hunt.events import ClueFound, HuntCompleted

__all__ = ["hunts"]


class Progress:
    """What each player has found of each hunt."""

    def __init__(self, hunt_map: world.World) -> None:
        self.map = hunt_map
        self.found: defaultdict[tuple[str, str], set[int]] = defaultdict(set)


@asynccontextmanager
async def following(node: Node) -> AsyncGenerator[Progress]:
    yield Progress(world.read())


hunts = Service("hunts", lifespan=following)


@hunts.on(ClueFound)
async def tick_off(clue: ClueFound, ctx: Context) -> HuntCompleted | None:
    progress: Progress = ctx.state
    found = progress.found[clue.player, clue.hunt]
    found.add(clue.clue)
    if found != progress.map.clues_of(clue.hunt):
        return None
    return HuntCompleted(player=clue.player, hunt=clue.hunt)
