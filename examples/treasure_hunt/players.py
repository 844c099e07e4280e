"""Players: they walk, tell where they are, ask for a hint with every 20th move, and claim the treasure of a hunt
that they have completed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from thence import Node, NodeClosed, Service
from treasure_hunt import world
from treasure_hunt.events import HintAsked, HuntCompleted, PlayerMoved, TreasureClaimed

__all__ = ["players"]

MOVES_A_QUESTION = 20
LATE = 0.1
"""Seconds."""


@asynccontextmanager
async def walking(node: Node) -> AsyncGenerator[None]:
    """All players walk while the service runs."""
    walk = asyncio.create_task(walk_everybody(node))
    try:
        yield
    finally:
        walk.cancel()
        with suppress(asyncio.CancelledError, NodeClosed):
            await walk


players = Service("players", lifespan=walking)


@players.on(HuntCompleted)
async def claim(completed: HuntCompleted) -> TreasureClaimed:
    return TreasureClaimed(hunt=completed.hunt, player=completed.player)


async def walk_everybody(node: Node) -> None:
    """One move of every player after the other, each when it is due, until the walks end."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    hunt_map = world.read()
    for move in hunt_map.moves():
        ahead = began + move.due - loop.time()
        if ahead > 0:
            await asyncio.sleep(ahead)
        elif ahead < -LATE:
            began -= ahead  # Go on at the usual pace, rather than run after the time.
        player = hunt_map.name_of(move.player)
        latitude, longitude = move.place
        await node.emit(PlayerMoved(player=player, latitude=latitude, longitude=longitude))
        if (move.number + move.player) % MOVES_A_QUESTION == 0:
            await node.emit(HintAsked(player=player, latitude=latitude, longitude=longitude))
