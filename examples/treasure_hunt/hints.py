"""Hints: how far it is to the nearest clue that a player has not found. Each player gets one a second at most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from thence import Context, Limit, Node, Service
from treasure_hunt import world
from treasure_hunt.events import ClueFound, HintAsked, HintOffered

__all__ = ["hints"]


class Missing:
    """The clues, and what each player has found of them."""

    def __init__(self, hunt_map: world.World) -> None:
        self.map = hunt_map
        self.found: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)


@asynccontextmanager
async def advising(node: Node) -> AsyncGenerator[Missing]:
    yield Missing(world.read())


hints = Service("hints", lifespan=advising)


@hints.on(HintAsked, limit=Limit("1/s", per="player", burst=2), overflow="drop")
async def offer(asked: HintAsked, ctx: Context) -> HintOffered | None:
    missing: Missing = ctx.state
    here = (asked.latitude, asked.longitude)
    found = missing.found[asked.player]
    left = [clue for clue in missing.map.clues if (clue.hunt, clue.number) not in found]
    if not left:
        return None
    nearest = min(left, key=lambda clue: world.distance(here, clue.place))
    metres = round(world.distance(here, nearest.place))
    return HintOffered(player=asked.player, hunt=nearest.hunt, metres=metres)


@hints.on(ClueFound)
async def cross_off(clue: ClueFound, ctx: Context) -> None:
    missing: Missing = ctx.state
    missing.found[clue.player].add((clue.hunt, clue.clue))
