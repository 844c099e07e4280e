"""redis-py's asyncio pub/sub: bytes, without types.

A single publish waits for the server's answer before the next may go; sending in pipelines of
1,000 is the best shape we know for a stream, and what its users do.
"""

import asyncio
import contextlib
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from benchmarks.contestants.contract import (
    Contestant,
    Pinger,
    Place,
    Receiver,
    Sender,
    reached,
)
from benchmarks.contestants.payload import MOVED_BYTES, PING_BYTES

__all__ = ["Answerer", "Asker", "Reader", "Writer"]

PIPELINE = 1000


class _Connection:
    """A client, and a task that reads one channel."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, place: Place) -> "_Connection":
        client = Redis.from_url(place.redis_url, socket_connect_timeout=2)
        with reached("Redis", place.redis_url, RedisError):
            await client.ping()
        return cls(client)

    async def read(self, channel: str, handle: Callable[[bytes], object]) -> None:
        """Call ``handle`` with each message of the channel."""
        subscription = self.client.pubsub(ignore_subscribe_messages=True)
        await subscription.subscribe(channel)

        async def read() -> None:
            async for message in subscription.listen():
                answer = handle(message["data"])
                if answer is not None:
                    await answer  # type: ignore[misc]

        self._reading = asyncio.create_task(read())

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        await self.client.aclose()


class Answerer(Contestant):
    """Publishes a pong for each ping."""

    async def open(self) -> None:
        self.connection = await _Connection.open(self.place)
        publish = self.connection.client.publish
        pong = f"{self.place.token}.pong"
        await self.connection.read(f"{self.place.token}.ping", lambda data: publish(pong, data))

    async def close(self) -> None:
        await self.connection.close()


class Asker(Pinger):
    """Publishes pings."""

    async def open(self) -> None:
        self.connection = await _Connection.open(self.place)
        self.channel = f"{self.place.token}.ping"
        await self.connection.read(f"{self.place.token}.pong", lambda data: self.answered())

    async def close(self) -> None:
        await self.connection.close()

    async def ask(self) -> None:
        await self.connection.client.publish(self.channel, PING_BYTES)


class Reader(Receiver):
    """Counts messages."""

    async def open(self) -> None:
        self.connection = await _Connection.open(self.place)
        tally = self.tally

        def handle(data: bytes) -> None:
            tally.count += 1
            if tally.count >= tally.expected:
                tally.finish()

        await self.connection.read(f"{self.place.token}.moved", handle)

    async def close(self) -> None:
        await self.connection.close()


class Writer(Sender):
    """Publishes in pipelines."""

    async def open(self) -> None:
        self.connection = await _Connection.open(self.place)

    async def close(self) -> None:
        await self.connection.close()

    async def send_all(self, count: int) -> None:
        channel = f"{self.place.token}.moved"
        left = count
        async with self.connection.client.pipeline(transaction=False) as pipeline:
            while left:
                burst = min(left, PIPELINE)
                for _ in range(burst):
                    pipeline.publish(channel, MOVED_BYTES)
                await pipeline.execute()
                left -= burst
