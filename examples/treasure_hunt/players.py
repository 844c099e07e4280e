"""Players: they walk, tell where they are, and claim the treasure of a hunt that they have completed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from thence import Node, NodeClosed, Service
from treasure_hunt import world
from treasure_hunt.events import HuntCompleted, PlayerMoved, TreasureClaimed

__all__ = ["players"]


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
    """One step of every player after the other, spread evenly over time, until the walks end."""
    hunt_map = world.read()
    loop = asyncio.get_running_loop()
    steps = [
        (f"player-{number}", latitude, longitude)
        for places in zip(*hunt_map.walks, strict=True)
        for number, (latitude, longitude) in enumerate(places)
    ]
    pause = 1 / (hunt_map.moves_per_second * len(hunt_map.walks))
    began = loop.time()
    for number, (player, latitude, longitude) in enumerate(steps):
        ahead = began + number * pause - loop.time()
        if ahead > 0:
            await asyncio.sleep(ahead)
        await node.emit(PlayerMoved(player=player, latitude=latitude, longitude=longitude))
