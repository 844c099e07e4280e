"""Clues: sees who comes close to one. Its replicas share the players."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from thence import Context, Node, Service
from treasure_hunt import world
from treasure_hunt.events import ClueFound, PlayerMoved

__all__ = ["clues"]


class Hidden:
    """The clues, where each player was last, and what each has found already."""

    def __init__(self, hunt_map: world.World) -> None:
        self.map = hunt_map
        self.last: dict[str, world.Place] = {}
        self.found: defaultdict[str, set[world.Clue]] = defaultdict(set)


@asynccontextmanager
async def hiding(node: Node) -> AsyncGenerator[Hidden]:
    yield Hidden(world.read())


clues = Service("clues", lifespan=hiding)


@clues.on(PlayerMoved)
async def look_around(moved: PlayerMoved, ctx: Context) -> list[ClueFound]:
    hidden: Hidden = ctx.state
    here = (moved.latitude, moved.longitude)
    before = hidden.last.get(moved.player, here)
    hidden.last[moved.player] = here
    found = hidden.found[moved.player]
    near = [
        clue
        for clue in hidden.map.clues
        if clue not in found and world.passes(before, here, clue.place, hidden.map.reach)
    ]
    found.update(near)
    return [ClueFound(player=moved.player, hunt=clue.hunt, clue=clue.number) for clue in near]
