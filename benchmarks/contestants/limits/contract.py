"""What the harness asks of a limiter, and the lines that time and count all of them.

A check is timed as a program writes it: its text stands in the timed loop itself, so that nobody
pays for a call that only the harness needs.
"""

import gc
import random
import timeit
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import msgspec

from benchmarks.contestants.contract import Contestant, Place

__all__ = ["KEY", "RATE", "Checker", "Clock", "Costs", "Windows", "worst_second"]

RATE = 100
"""Events a second; as many are let in at once while a check is timed."""
KEY = "player-17"
SECOND = 1_000_000_000
MILLISECOND = 1_000_000
STEP = MILLISECOND // 10
SLACK = 1
"""Checks that may be refused before their time: one limiter loses as many to rounding."""
PHASES = (0, 50, 500, 950, 999)
"""Milliseconds after a full second at which an adversary begins."""
SEED = 17


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """Nanoseconds of a check, for each block of checks."""

    admitted: list[float]
    refused: list[float]


class Windows(msgspec.Struct, frozen=True, kw_only=True):
    """What was let in."""

    adversarial: int
    """In the fullest second of arrivals that are made to find it."""
    chance: int
    """In the fullest second of random arrivals."""
    steady: float
    """A second, of 120 that come at random and don't wait."""


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.nanoseconds = 1_000_000 * SECOND

    def seconds(self) -> float:
        return self.nanoseconds / SECOND

    def milliseconds(self) -> int:
        return self.nanoseconds // MILLISECOND

    def next_second(self) -> int:
        """Go on to a full second so far away that all limiters are at rest, and return it."""
        self.nanoseconds = (self.nanoseconds // SECOND + 10) * SECOND
        return self.nanoseconds


class Checker(Contestant, ABC):
    """A limiter of a library."""

    check: ClassVar[str]
    """One check, as a program writes it."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.names: dict[str, Any] = {"gc": gc}
        self.timer = timeit.Timer(self.check, "gc.enable()", globals=self.names)
        self.clock = Clock()

    @abstractmethod
    def fresh(self, burst: int | None) -> dict[str, Any]:
        """Return what the names in ``check`` stand for; nothing has come to this limiter yet.

        ``burst`` events may come at once; ``None`` is the library's own choice.
        """

    @abstractmethod
    def controlled(self) -> AbstractContextManager[object]:
        """Let the limiter, fresh or not, read ``self.clock`` within this context."""

    @staticmethod
    @abstractmethod
    def let_in(result: Any) -> bool:
        """Return whether the result of a check means that the event may come."""

    async def open(self) -> None:
        """Make sure that what is timed as admitted and as refused is."""
        with self.controlled():
            self.clock.next_second()
            self.names |= self.fresh(RATE)
            found = [self.let_in(eval(self.check, self.names)) for _ in range(2 * RATE)]
        admitted, surplus = sum(found[:RATE]), sum(found[RATE:])
        if admitted < RATE - SLACK or surplus:
            told = f"{admitted} of {RATE} checks were admitted, and {surplus} of as many more"
            raise RuntimeError(told)

    async def costs(self, blocks: int) -> Costs:
        """Time blocks of checks: as many as may come at once, then as many that are refused."""
        admitted, refused = [], []
        for _ in range(blocks):
            self.names |= self.fresh(RATE)
            admitted.append(self.timer.timeit(RATE) / RATE * 1e9)
            refused.append(self.timer.timeit(RATE) / RATE * 1e9)
        return Costs(admitted=admitted, refused=refused)

    async def windows(self, burst: int | None, seconds: int) -> Windows:
        """Count what is let in on a controlled clock; random arrivals last so many seconds."""
        chance = random.Random(SEED)
        with self.controlled():
            adversarial = max(
                worst_second(self._admitted(burst, start, arrivals))
                for phase in PHASES
                for arrivals in adversaries()
                for start in [self.clock.next_second() + phase * MILLISECOND]
            )
            steadily = self._admitted(
                burst, self.clock.next_second(), poisson(chance, 1.2, seconds)
            )
            others = [poisson(chance, 10, seconds), bursts(chance, seconds)]
            worst = [
                worst_second(self._admitted(burst, self.clock.next_second(), arrivals))
                for arrivals in others
            ]
        return Windows(
            adversarial=adversarial,
            chance=max(worst_second(steadily), *worst),
            steady=len(steadily) / seconds,
        )

    def _admitted(self, burst: int | None, start: int, arrivals: Iterator[int]) -> list[int]:
        self.names |= self.fresh(burst)
        check = compile(self.check, "check", "eval")
        admitted = []
        for after in arrivals:
            self.clock.nanoseconds = start + after
            if self.let_in(eval(check, self.names)):
                admitted.append(start + after)
        return admitted


def worst_second(times: list[int]) -> int:
    """Return how many of the ascending times lie in the fullest second, its end left out."""
    most = first = 0
    for number, time in enumerate(times):
        while times[first] <= time - SECOND:
            first += 1
        most = max(most, number - first + 1)
    return most


def adversaries() -> Iterator[Iterator[int]]:
    """Arrivals that look for the fullest second, in nanoseconds after their beginning."""
    yield flood(0, together=10 * RATE)
    yield flood(0)
    yield alone_and_then(990)


def flood(begin: int, *, together: int = 0) -> Iterator[int]:
    """So many at once, then ten each millisecond for a little more than a second."""
    yield from [begin] * together
    yield from range(begin, begin + 6 * SECOND // 5, STEP)


def alone_and_then(milliseconds: int) -> Iterator[int]:
    """One, which opens the window of who counts from the first, and a crowd towards its end."""
    yield 0
    yield from flood(milliseconds * MILLISECOND, together=RATE)


def poisson(chance: random.Random, load: float, seconds: int) -> Iterator[int]:
    """Independent arrivals, so many times too many."""
    now = 0.0
    while (now := now + chance.expovariate(load * RATE)) < seconds:
        yield int(now * SECOND)


def bursts(chance: random.Random, seconds: int) -> Iterator[int]:
    """Up to twice the rate at one moment, then quiet for up to two seconds."""
    now = 0.0
    while (now := now + chance.uniform(0, 2)) < seconds:
        yield from [int(now * SECOND)] * chance.randrange(1, 2 * RATE)
