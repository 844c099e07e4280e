"""Curses: a cursed clue lays a curse on its finder, and a curse that was lifted goes on to those who are near.

Only there with ``thence demo --curse``. It makes sense by itself, and so does ``charms.py``; together they would
never end, and there would be twice as many curses each time round. Neither file shows that.
``thence check treasure_hunt.charms:charms treasure_hunt.curses:curses`` does, before anything runs; and Thence cuts
the cascade where it comes back to a handler. If the loop were meant, ``max_loops=`` would say how often.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from thence import Context, Node, Service
from treasure_hunt import world
from treasure_hunt.events import ClueFound, CurseLifted, PlayerCursed

__all__ = ["curses"]

NEAR = 2
"""Players that a curse goes on to."""


class Haunted:
    """The cursed clues, and who was at a clue last: the nearest to one another."""

    def __init__(self, hunt_map: world.World) -> None:
        self.clues = {(clue.hunt, clue.number) for clue in hunt_map.clues if clue.cursed}
        self.near: deque[str] = deque(maxlen=NEAR + 1)


@asynccontextmanager
async def haunting(node: Node) -> AsyncGenerator[Haunted]:
    yield Haunted(world.read())


curses = Service("curses", lifespan=haunting)


@curses.on(ClueFound)
async def strike(found: ClueFound, ctx: Context) -> PlayerCursed | None:
    haunted: Haunted = ctx.state
    if found.player in haunted.near:
        haunted.near.remove(found.player)
    haunted.near.append(found.player)
    return PlayerCursed(player=found.player) if (found.hunt, found.clue) in haunted.clues else None


@curses.on(CurseLifted)
async def move_on(lifted: CurseLifted, ctx: Context) -> list[PlayerCursed]:
    haunted: Haunted = ctx.state
    others = [player for player in reversed(haunted.near) if player != lifted.player]
    return [PlayerCursed(player=player) for player in others[:NEAR] or [lifted.player]]
