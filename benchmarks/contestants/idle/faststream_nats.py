"""A started FastStream broker without handlers (the server's address is the second argument)."""

import asyncio
import sys

import uvloop
from faststream.nats import NatsBroker

from benchmarks.contestants.idle.waiting import say_ready, wait_for_end

CONNECT_SECONDS = 5


async def main() -> None:
    broker = NatsBroker(sys.argv[2], logger=None, allow_reconnect=False)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await broker.start()
    except TimeoutError:
        sys.exit(f"no NATS server at {sys.argv[2]}")
    say_ready()
    await wait_for_end()
    await broker.stop()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
