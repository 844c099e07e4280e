"""A cascade of 100 events over three processes: one event causes nine, and each of these ten.

Each handler of a level is in a process of its own; the first is where the root event is emitted. When a
cascade's last handler has ended is noted by the last process, on the machine's monotonic clock.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from benchmarks.contestants.contract import Contestant, Place
from benchmarks.contestants.payload import CLUE, PLAYER
from benchmarks.contestants.thence.hop import Answerer, Asker, Ping
from thence import Event, Node, Receipt, Service

__all__ = ["Answerer", "Asker", "First", "KeepingAsker", "Second", "Third"]

NINE, TEN = 9, 10
PAUSE = 0.003
"""Seconds between two cascades, so that the first has ended when the second begins."""


class Opened(Event):
    player: str
    number: int


class Spread(Event):
    player: str
    number: int


class Reached(Event):
    player: str
    number: int


class _Level(Contestant):
    def service(self) -> Service:
        raise NotImplementedError

    async def open(self) -> None:
        self.node = Node(self.service(), mesh=f"local:{self.place.directory}")
        await self.node.start()

    async def close(self) -> None:
        await self.node.close()


class First(_Level):
    """Emits the root events, and handles them."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.last = 0

    def service(self) -> Service:
        service = Service("first")

        @service.on(Opened)
        async def spread(opened: Opened) -> list[Spread]:
            return [Spread(player=opened.player, number=opened.number) for _ in range(NINE)]

        return service

    async def meet(self, seconds: float) -> None:
        """Play cascades until a whole one comes through."""
        async with asyncio.timeout(seconds):
            while True:
                receipt = await self._emit()
                report = await receipt.settled(seconds)
                if report.events == 1 + NINE + NINE * TEN:
                    return
                await asyncio.sleep(PAUSE)

    def _emit(self) -> Coroutine[Any, Any, Receipt]:
        self.last += 1
        return self.node.emit(Opened(player=PLAYER, number=self.last))

    async def untracked(self, count: int) -> dict[int, int]:
        """Return when each of ``count`` cascades was emitted, by its number."""
        began: dict[int, int] = {}
        for _ in range(count):
            now = time.monotonic_ns()
            await self._emit()
            began[self.last] = now
            await asyncio.sleep(PAUSE)
        return began

    async def tracked(self, count: int) -> dict[int, tuple[int, int]]:
        """Return when each was emitted, and when it was known to be settled."""
        times: dict[int, tuple[int, int]] = {}
        for _ in range(count):
            now = time.monotonic_ns()
            receipt = await self._emit()
            report = await receipt.settled("10s")
            times[self.last] = (now, time.monotonic_ns())
            if not report.complete or report.events != 1 + NINE + NINE * TEN:
                raise RuntimeError(f"a cascade that did not end as it should: {report}")
            await asyncio.sleep(PAUSE)
        return times


class Second(_Level):
    def service(self) -> Service:
        service = Service("second")

        @service.on(Spread)
        async def spread(one: Spread) -> list[Reached]:
            return [Reached(player=one.player, number=one.number) for _ in range(TEN)]

        return service


class Third(_Level):
    """Notes when the last handler of each cascade has ended."""

    def service(self) -> Service:
        service = Service("third")
        self.left: dict[int, int] = {}
        self.ended: dict[int, int] = {}
        left, ended, clock = self.left, self.ended, time.monotonic_ns

        @service.on(Reached)
        async def arrive(reached: Reached) -> None:
            number = reached.number
            count = left.get(number, NINE * TEN) - 1
            left[number] = count
            if not count:
                ended[number] = clock()

        return service

    async def take(self) -> dict[int, int]:
        """Return when each cascade's last handler ended, since the last time."""
        ended = dict(self.ended)
        self.ended.clear()
        self.left.clear()
        return ended


class KeepingAsker(Asker):
    """Asks as ever, and keeps the receipts."""

    async def ask(self) -> None:
        self.kept = await self.node.emit(Ping(player=PLAYER, clue=CLUE))
