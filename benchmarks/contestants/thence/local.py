"""Emit and handle within one process and one node."""

import asyncio
import time

from benchmarks.contestants.contract import Contestant, Tally
from benchmarks.contestants.payload import LATITUDE, LONGITUDE, PLAYER
from thence import Event, Node, Service

__all__ = ["Local"]

ROUND_TIMEOUT = 30.0


class Moved(Event):
    player: str
    latitude: float
    longitude: float


class Local(Contestant):
    """One node that emits to its own service."""

    async def open(self) -> None:
        service = Service("local")
        self.tally = tally = Tally()

        @service.on(Moved)
        async def handle(moved: Moved) -> None:
            tally.count += 1
            if tally.count >= tally.expected:
                tally.finish()

        self.node = Node(service, mesh=f"memory:{self.place.token}")
        await self.node.start()

    async def close(self) -> None:
        await self.node.close()

    async def round(self, count: int) -> float:
        """Return the seconds from the first emit until the last event was handled."""
        tally = self.tally
        tally.done.clear()
        tally.count = 0
        tally.expected = count
        emit = self.node.emit
        began = time.perf_counter_ns()
        for _ in range(count):
            await emit(Moved(player=PLAYER, latitude=LATITUDE, longitude=LONGITUDE))
        async with asyncio.timeout(ROUND_TIMEOUT):
            await tally.done.wait()
        return (tally.ended - began) / 1e9
