"""A node that hosts no service, in a mesh of its own (the directory is the first argument)."""

import asyncio
import sys

import uvloop

from benchmarks.contestants.idle.waiting import say_ready, wait_for_end
from thence import Node


async def main() -> None:
    async with Node(mesh=f"local:{sys.argv[1]}"):
        say_ready()
        await wait_for_end()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
