"""Waiting for what must happen, no longer than it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["eventually"]


async def eventually(
    condition: Callable[[], object], *, within: float = 10.0, what: str = "the condition"
) -> None:
    """Return as soon as ``condition()`` is true. Looks every few milliseconds of the loop's time.

    :raises AssertionError: it is still false after ``within`` seconds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    pause = 0.0
    while not condition():
        if loop.time() > deadline:
            raise AssertionError(f"{what} did not come about within {within:g} s")
        await asyncio.sleep(pause)
        pause = min(pause + 0.001, 0.02)
