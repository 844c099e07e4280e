"""The floor: the same bytes over a Unix socket between two uvloop protocols, and nothing else."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from benchmarks.contestants.contract import WARM_UP_PINGS, Contestant, Pinger
from benchmarks.contestants.payload import PING_BYTES

__all__ = ["Asker", "Echo"]


class _EchoProtocol(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class _AnswerProtocol(asyncio.Protocol):
    def __init__(self, heard: Callable[[], None]) -> None:
        self.heard = heard

    def data_received(self, data: bytes) -> None:
        self.heard()


class Echo(Contestant):
    """Sends back what it receives."""

    async def open(self) -> None:
        path = Path(self.place.directory) / "echo.socket"
        self.server = await asyncio.get_running_loop().create_unix_server(_EchoProtocol, str(path))

    async def close(self) -> None:
        self.server.close()


class Asker(Pinger):
    """Writes, and waits for the bytes to come back. They fit one packet: no framing.

    Its block does without a future and a task's switch for each ping: the floor is what the
    sockets and the event loop cost, whoever uses them.
    """

    async def open(self) -> None:
        path = Path(self.place.directory) / "echo.socket"
        loop = asyncio.get_running_loop()
        self.transport, self.protocol = await loop.create_unix_connection(
            lambda: _AnswerProtocol(self.answered), str(path)
        )

    async def close(self) -> None:
        self.transport.close()

    async def ask(self) -> None:
        self.transport.write(PING_BYTES)

    async def block(self, count: int) -> list[int]:
        clock = time.perf_counter_ns
        write = self.transport.write
        samples: list[int] = []
        total = WARM_UP_PINGS + count
        done = asyncio.get_running_loop().create_future()
        before = 0

        def next_ping() -> None:
            nonlocal before
            now = clock()
            samples.append(now - before)
            if len(samples) == total:
                done.set_result(None)
                return
            before = clock()
            write(PING_BYTES)

        self.protocol.heard = next_ping
        before = clock()
        write(PING_BYTES)
        await done
        self.protocol.heard = self.answered
        return samples[WARM_UP_PINGS:]
