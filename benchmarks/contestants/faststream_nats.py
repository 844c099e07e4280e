"""FastStream over NATS: the typed framework nearest to what Thence offers.

Typed handlers and typed publishing, its log of every message switched off.
"""

import asyncio

from fast_depends.msgspec import MsgSpecSerializer
from faststream.nats import NatsBroker
from msgspec import Struct
from nats.errors import Error as NatsError

from benchmarks.contestants.contract import (
    Contestant,
    Pinger,
    Place,
    Receiver,
    Sender,
    reached,
)
from benchmarks.contestants.nats_client import CONNECT_SECONDS, TRY_ONCE
from benchmarks.contestants.payload import CLUE, LATITUDE, LONGITUDE, PLAYER

__all__ = ["Answerer", "Asker", "Reader", "Writer"]


class Ping(Struct):
    player: str
    clue: int


class Pong(Struct):
    player: str
    clue: int


class Moved(Struct):
    player: str
    latitude: float
    longitude: float


def make_broker(place: Place) -> NatsBroker:
    """Make a broker that says soon when its server isn't there."""
    serializer = MsgSpecSerializer(use_fastdepends_errors=False)
    return NatsBroker(place.nats_url, logger=None, serializer=serializer, **TRY_ONCE)


async def start(broker: NatsBroker, place: Place) -> None:
    """Start a broker."""
    with reached("NATS", place.nats_url, NatsError):
        async with asyncio.timeout(CONNECT_SECONDS):
            await broker.start()


class Answerer(Contestant):
    """Returns a Pong for each Ping; the decorator publishes it."""

    async def open(self) -> None:
        self.broker = broker = make_broker(self.place)

        @broker.subscriber(f"{self.place.token}.ping")
        @broker.publisher(f"{self.place.token}.pong")
        async def answer(ping: Ping) -> Pong:
            return Pong(player=ping.player, clue=ping.clue)

        await start(broker, self.place)

    async def close(self) -> None:
        await self.broker.stop()


class Asker(Pinger):
    """Publishes Pings."""

    async def open(self) -> None:
        self.broker = broker = make_broker(self.place)
        self.subject = f"{self.place.token}.ping"

        @broker.subscriber(f"{self.place.token}.pong")
        async def hear(pong: Pong) -> None:
            self.answered()

        await start(broker, self.place)

    async def close(self) -> None:
        await self.broker.stop()

    async def ask(self) -> None:
        await self.broker.publish(Ping(player=PLAYER, clue=CLUE), self.subject)


class Reader(Receiver):
    """Counts typed messages."""

    async def open(self) -> None:
        self.broker = broker = make_broker(self.place)
        tally = self.tally

        @broker.subscriber(f"{self.place.token}.moved")
        async def handle(moved: Moved) -> None:
            tally.count += 1
            if tally.count >= tally.expected:
                tally.finish()

        await start(broker, self.place)

    async def close(self) -> None:
        await self.broker.stop()


class Writer(Sender):
    """Publishes typed messages."""

    async def open(self) -> None:
        self.broker = make_broker(self.place)
        await start(self.broker, self.place)

    async def close(self) -> None:
        await self.broker.stop()

    async def send_all(self, count: int) -> None:
        publish = self.broker.publish
        subject = f"{self.place.token}.moved"
        for _ in range(count):
            moved = Moved(player=PLAYER, latitude=LATITUDE, longitude=LONGITUDE)
            await publish(moved, subject)
