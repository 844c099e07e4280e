"""A typed round trip: Ping there, Pong back."""

from benchmarks.contestants.contract import Contestant, Pinger
from benchmarks.contestants.payload import CLUE, PLAYER
from thence import Event, Node, Service

__all__ = ["Answerer", "Asker"]


class Ping(Event):
    player: str
    clue: int


class Pong(Event):
    player: str
    clue: int


class Answerer(Contestant):
    """Returns a Pong for each Ping."""

    async def open(self) -> None:
        service = Service("answerer")

        @service.on(Ping)
        async def answer(ping: Ping) -> Pong:
            return Pong(player=ping.player, clue=ping.clue)

        self.node = Node(service, mesh=f"local:{self.place.directory}")
        await self.node.start()

    async def close(self) -> None:
        await self.node.close()


class Asker(Pinger):
    """Emits Pings."""

    async def open(self) -> None:
        service = Service("asker")

        @service.on(Pong)
        async def hear(pong: Pong) -> None:
            self.answered()

        self.node = Node(service, mesh=f"local:{self.place.directory}")
        await self.node.start()

    async def close(self) -> None:
        await self.node.close()

    async def ask(self) -> None:
        await self.node.emit(Ping(player=PLAYER, clue=CLUE))
