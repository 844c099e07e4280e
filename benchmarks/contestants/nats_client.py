"""nats-py as it is used: bytes, published to one subject and answered on another.

Untyped on purpose: it carries less than the typed contestants do. Batching and buffers are left
at the library's defaults, and no reply inbox is made for each ping (that would be slower).
"""

import asyncio
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.contestants.contract import (
    Contestant,
    Pinger,
    Place,
    Receiver,
    Sender,
    reached,
)
from benchmarks.contestants.payload import MOVED_BYTES, PING_BYTES

__all__ = ["CONNECT_SECONDS", "TRY_ONCE", "Answerer", "Asker", "Reader", "Writer"]

CONNECT_SECONDS = 5
YIELD_EVERY = 1000  # lets the flusher write; without it the stream is a quarter slower


async def silent(error: Exception) -> None:
    """Errors surface as the exception of ``connect``, not as log lines."""


TRY_ONCE: dict[str, Any] = {
    "allow_reconnect": False,
    "connect_timeout": 2,
    "max_reconnect_attempts": 1,
    "reconnect_time_wait": 0,
    "error_cb": silent,
}


async def connect(place: Place) -> Client:
    """Connect, or say soon that there is no server."""
    with reached("NATS", place.nats_url, nats.errors.Error):
        async with asyncio.timeout(CONNECT_SECONDS):
            return await nats.connect(place.nats_url, **TRY_ONCE)


class Answerer(Contestant):
    """Publishes a pong for each ping."""

    async def open(self) -> None:
        self.client = client = await connect(self.place)
        pong = f"{self.place.token}.pong"

        async def answer(message: Msg) -> None:
            await client.publish(pong, message.data)

        await client.subscribe(f"{self.place.token}.ping", cb=answer)
        await client.flush()

    async def close(self) -> None:
        await self.client.close()


class Asker(Pinger):
    """Publishes pings."""

    async def open(self) -> None:
        self.client = await connect(self.place)
        self.subject = f"{self.place.token}.ping"

        async def hear(message: Msg) -> None:
            self.answered()

        await self.client.subscribe(f"{self.place.token}.pong", cb=hear)
        await self.client.flush()

    async def close(self) -> None:
        await self.client.close()

    async def ask(self) -> None:
        await self.client.publish(self.subject, PING_BYTES)


class Reader(Receiver):
    """Counts messages."""

    async def open(self) -> None:
        self.client = await connect(self.place)
        tally = self.tally

        async def handle(message: Msg) -> None:
            tally.count += 1
            if tally.count >= tally.expected:
                tally.finish()

        await self.client.subscribe(f"{self.place.token}.moved", cb=handle)
        await self.client.flush()

    async def close(self) -> None:
        await self.client.close()


class Writer(Sender):
    """Publishes as fast as it can."""

    async def open(self) -> None:
        self.client = await connect(self.place)

    async def close(self) -> None:
        await self.client.close()

    async def send_all(self, count: int) -> None:
        publish = self.client.publish
        subject = f"{self.place.token}.moved"
        for number in range(count):
            await publish(subject, MOVED_BYTES)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        await asyncio.wait_for(self.client.flush(timeout=30), 30)
