"""Bytes written past the transport arrive whole and in order, whatever the system takes at a time."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from thence.mesh.eager import eager_write

uvloop = pytest.importorskip("uvloop")

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


def run(loop: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(asyncio.wait_for(main(), 60))


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.gone = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set_result(None)


async def connected(ours: socket.socket) -> tuple[asyncio.Transport, asyncio.Future[None]]:
    running = asyncio.get_running_loop()
    transport, connection = await running.create_unix_connection(Connection, sock=ours)
    return transport, connection.gone


async def closed(transport: asyncio.Transport, gone: asyncio.Future[None]) -> None:
    transport.close()
    await gone


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("seed", range(5))
def test_what_is_written_arrives_in_order_though_the_peer_reads_slowly(
    loop: str, seed: int
) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        theirs, ours = socket.socketpair()
        theirs.setblocking(False)
        transport, gone = await connected(ours)
        write, stop = eager_write(transport)
        running = asyncio.get_running_loop()
        sent, received = bytearray(), bytearray()

        async def read() -> None:
            while len(received) < len(sent) or not writing.done():
                received.extend(await running.sock_recv(theirs, chance.choice([10, 70_000])))

        async def fill() -> None:
            for number in range(300):
                data = bytes([number % 251]) * chance.choice([1, 100, 50_000])
                sent.extend(data)
                write(bytearray(data))
                if chance.random() < 0.3:
                    await asyncio.sleep(0)

        writing = asyncio.create_task(fill())
        await writing
        await read()
        assert received == sent
        stop()
        theirs.close()
        await closed(transport, gone)

    run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_to_a_peer_that_has_gone_nothing_is_written_and_nothing_raised(loop: str) -> None:
    async def main() -> None:
        theirs, ours = socket.socketpair()
        transport, gone = await connected(ours)
        write, stop = eager_write(transport)
        theirs.close()
        write(b"too late")
        await asyncio.sleep(0)
        write(b"later still")
        stop()
        await closed(transport, gone)

    run(loop, main)


def test_on_uvloop_it_is_written_before_the_tick_ends() -> None:
    async def main() -> None:
        theirs, ours = socket.socketpair()
        theirs.setblocking(False)
        transport, gone = await connected(ours)
        write, stop = eager_write(transport)
        write(b"now")
        assert theirs.recv(10) == b"now"
        stop()
        theirs.close()
        await closed(transport, gone)

    run("uvloop", main)
