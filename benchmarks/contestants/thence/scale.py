"""Emits in two memory meshes that differ only in how many services are known.

Ten nodes host the services in both, one each or a hundred each, so that links and nodes are the
same. One service subscribes to the emitted type, every other to a type of its own.
"""

import asyncio
import time
import types
from typing import Any

from benchmarks.contestants.contract import Contestant, Tally
from benchmarks.contestants.payload import LATITUDE, LONGITUDE, PLAYER
from thence import Event, Node, Service

__all__ = ["Scale"]

NODES = 10
DRAIN_TIMEOUT = 30.0


class Moved(Event):
    player: str
    latitude: float
    longitude: float


class _Mesh:
    """An emitter and its peers."""

    def __init__(self, name: str, others: list[type[Event]]) -> None:
        mesh = f"memory:{name}"
        self.tally = Tally()
        services = [self._subscriber(), *(_listener(other) for other in others)]
        self.peers = [Node(*services[start::NODES], mesh=mesh) for start in range(NODES)]
        self.emitter = Node(mesh=mesh)

    def _subscriber(self) -> Service:
        service = Service("subscriber")
        tally = self.tally

        @service.on(Moved)
        async def handle(moved: Moved) -> None:
            tally.count += 1
            if tally.count >= tally.expected:
                tally.finish()

        return service

    async def start(self) -> None:
        for peer in self.peers:
            await peer.start()
        await self.emitter.start()

    async def close(self) -> None:
        await self.emitter.close()
        for peer in self.peers:
            await peer.close()

    async def block(self, count: int) -> int:
        """Return the nanoseconds that ``count`` emits took; their handling is not timed."""
        tally = self.tally
        tally.done.clear()
        tally.count = 0
        tally.expected = count
        emit = self.emitter.emit
        began = time.perf_counter_ns()
        for _ in range(count):
            await emit(Moved(player=PLAYER, latitude=LATITUDE, longitude=LONGITUDE))
        spent = time.perf_counter_ns() - began
        async with asyncio.timeout(DRAIN_TIMEOUT):
            await tally.done.wait()
        return spent


class Scale(Contestant):
    """Both meshes in one process, measured in turn."""

    async def start_meshes(self, known: list[int]) -> None:
        """Start one mesh for each number of known services."""
        others = [_event_type(number) for number in range(max(known) - 1)]
        self.meshes = [_Mesh(f"{self.place.token}.{count}", others[: count - 1]) for count in known]
        for mesh in self.meshes:
            await mesh.start()

    async def close(self) -> None:
        for mesh in self.meshes:
            await mesh.close()

    async def rounds(self, rounds: int, emits: int) -> list[list[float]]:
        """Return, for each mesh, the nanoseconds of an emit in each round."""
        samples: list[list[float]] = [[] for _ in self.meshes]
        for _ in range(rounds):
            for mesh, spent in zip(self.meshes, samples, strict=True):
                spent.append(await mesh.block(emits) / emits)
        return samples


def _event_type(number: int) -> type[Event]:
    def fill(namespace: dict[str, Any]) -> None:
        namespace["__annotations__"] = {"number": int}
        namespace["__module__"] = __name__

    return types.new_class(f"Other{number}", (Event,), {}, fill)


def _listener(event_type: type[Event]) -> Service:
    async def handle(event: Any) -> None:
        """Never called: nobody emits this type."""

    handle.__annotations__ = {"event": event_type, "return": None}
    service = Service(f"listener-{event_type.__name__.lower()}")
    service.on(event_type)(handle)
    return service
