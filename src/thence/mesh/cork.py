"""When buffers are flushed: at once when nothing else is going on, else once per tick of the loop.

A write costs as much as the work on several events. So whatever is emitted within one tick, or while a
received batch is handled, leaves in one write per peer. Only an emit that comes alone, the usual case of
an idle service, is written through, because waiting for the end of the tick would be its whole latency.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Cork", "Flushable"]

ALONE = 10e-6
"""Seconds since the last flush after which an emit counts as one that comes alone."""


class Flushable(Protocol):
    """Something with a buffer."""

    def flush(self) -> None:
        """Write out everything that is buffered."""
        ...


class Cork:
    """Collects what must be flushed. Use as a context manager around the handling of a batch."""

    __slots__ = ("_flushed", "_loop", "_scheduled", "alone", "depth", "overdue", "waiting", "whole")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.waiting: list[Flushable] = []
        self.depth = 0
        """How many batches are being handled, one within the other. While there is one, nothing is flushed."""
        self.alone = False
        """Whether what was emitted last came alone: whoever emitted it is to call :meth:`release`."""
        self.whole = False
        """Whether a root event is just being put into one buffer after another. Some of it must not leave before
        its emitter has decided about it, so no buffer is cut meanwhile."""
        self.overdue = False
        """Whether one would have been: it is to be flushed before the next such event."""
        self._scheduled = False
        self._flushed = 0.0

    def touch(self, buffer: Flushable) -> None:
        """``buffer`` has its first content since its last flush."""
        self.waiting.append(buffer)
        if self.depth or self._scheduled:
            return
        now = time.perf_counter()
        if now - self._flushed > ALONE:
            self._flushed = now
            self.flush()
        else:
            self._scheduled = True
            self._loop.call_soon(self._tick)

    def touch_by_event(self, buffer: Flushable) -> None:
        """The same for an event, about which its emitter has something to decide before it leaves."""
        self.waiting.append(buffer)
        if self.depth or self._scheduled or self.alone:
            return
        now = time.perf_counter()
        if now - self._flushed > ALONE:
            self._flushed = now
            self.alone = True
        else:
            self._scheduled = True
            self._loop.call_soon(self._tick)

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
        if not self.depth and self.waiting:
            self.flush()

    def release(self) -> None:
        """Let go of what came alone: its emitter has decided."""
        if self.alone:
            self.flush()

    def _tick(self) -> None:
        self._scheduled = False
        self._flushed = time.perf_counter()
        self.flush()

    def flush(self) -> None:
        """Flush every buffer that was touched."""
        self.alone = self.overdue = False
        waiting, self.waiting = self.waiting, []
        for buffer in waiting:
            buffer.flush()
