"""Lines of standard input, read while the event loop goes on."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress

from thence.cli.exits import CommandError, Exit

__all__ = ["lines"]

CHUNK = 64 * 1024
LONGEST = 16 * 1024 * 1024
"""Bytes of one line."""


async def lines() -> AsyncGenerator[bytes]:
    """Each line, without its end. A chunk is read ahead, no more.

    A thread reads, as a loop can't wait for a file; a daemon, as nothing can interrupt it while it waits.

    :raises CommandError: a line does not end.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
    source = sys.stdin.fileno()

    def read() -> None:
        with suppress(RuntimeError, OSError):  # the loop is closed, or the other end of a terminal
            while True:
                chunk = os.read(source, CHUNK)
                asyncio.run_coroutine_threadsafe(chunks.put(chunk), loop).result()
                if not chunk:
                    return

    threading.Thread(target=read, name="thence standard input", daemon=True).start()
    rest = b""
    while chunk := await chunks.get():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > LONGEST:
            raise CommandError(
                f"a line of more than {LONGEST // 1024 // 1024} MiB: give one JSON object a line",
                Exit.USAGE,
            )
    if rest:
        yield rest
