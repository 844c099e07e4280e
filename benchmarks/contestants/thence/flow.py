"""A one-way stream of typed events; policies, recorder and limits at their defaults."""

import asyncio

from benchmarks.contestants.contract import Receiver, Sender
from benchmarks.contestants.payload import LATITUDE, LONGITUDE, PLAYER
from thence import Event, Node, Service

__all__ = ["KeyedReader", "KeyedWriter", "Reader", "SuspendingReader", "Writer"]

PLAYERS = [f"player-{number:02}" for number in range(100)]


class Moved(Event):
    player: str
    latitude: float
    longitude: float


class KeyedMoved(Event, key="player"):
    player: str
    latitude: float
    longitude: float


class _Reader(Receiver):
    async def listen(self, service: Service) -> None:
        self.node = Node(service, mesh=f"local:{self.place.directory}")
        await self.node.start()

    async def close(self) -> None:
        await self.node.close()


class Reader(_Reader):
    """Counts events in a handler that never suspends."""

    async def open(self) -> None:
        service = Service("reader")
        tally = self.tally

        @service.on(Moved)
        async def handle(moved: Moved) -> None:
            tally.count += 1
            if tally.count >= tally.expected:
                tally.finish()

        await self.listen(service)


class KeyedReader(_Reader):
    """The same with events that are ordered by player."""

    async def open(self) -> None:
        service = Service("reader")
        tally = self.tally

        @service.on(KeyedMoved)
        async def handle(moved: KeyedMoved) -> None:
            tally.count += 1
            if tally.count >= tally.expected:
                tally.finish()

        await self.listen(service)


class SuspendingReader(_Reader):
    """Counts events in a handler that suspends once."""

    async def open(self) -> None:
        service = Service("reader")
        tally = self.tally

        @service.on(Moved)
        async def handle(moved: Moved) -> None:
            await asyncio.sleep(0)
            tally.count += 1
            if tally.count >= tally.expected:
                tally.finish()

        await self.listen(service)


class _Writer(Sender):
    async def open(self) -> None:
        self.node = Node(mesh=f"local:{self.place.directory}")
        await self.node.start()

    async def close(self) -> None:
        await self.node.close()


class Writer(_Writer):
    """Emits in a plain loop, as a program would."""

    async def send_all(self, count: int) -> None:
        emit = self.node.emit
        for _ in range(count):
            await emit(Moved(player=PLAYER, latitude=LATITUDE, longitude=LONGITUDE))


class KeyedWriter(_Writer):
    """Emits the moves of 100 players."""

    async def send_all(self, count: int) -> None:
        emit = self.node.emit
        players = PLAYERS
        for number in range(count):
            player = players[number % 100]
            await emit(KeyedMoved(player=player, latitude=LATITUDE, longitude=LONGITUDE))
