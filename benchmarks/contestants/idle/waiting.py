"""Says ``ready`` and waits for the end of standard input, adding no thread and no import."""

import asyncio
import os

__all__ = ["say_ready", "wait_for_end"]


def say_ready() -> None:
    """Tell the harness that the program is up."""
    os.write(1, b"ready\n")


async def wait_for_end() -> None:
    """Wait until the harness closes standard input."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    loop.add_reader(0, lambda: None if ended.done() else ended.set_result(None))
    await ended
    loop.remove_reader(0)
