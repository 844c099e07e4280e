"""A connected nats-py client (the server's address is the second argument)."""

import asyncio
import sys

import nats
import uvloop

from benchmarks.contestants.idle.waiting import say_ready, wait_for_end

CONNECT_SECONDS = 5


async def main() -> None:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            client = await nats.connect(sys.argv[2], allow_reconnect=False)
    except TimeoutError:
        sys.exit(f"no NATS server at {sys.argv[2]}")
    say_ready()
    await wait_for_end()
    await client.close()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
