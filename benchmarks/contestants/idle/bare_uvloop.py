"""What any asyncio program on uvloop costs."""

import asyncio

import uvloop

from benchmarks.contestants.idle.waiting import say_ready, wait_for_end


async def main() -> None:
    say_ready()
    await wait_for_end()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
