"""What the harness asks of a contestant, and the loops that all of them share.

Everything timed runs through the same few lines for every contestant, so that a ratio compares
what they do and not how they were driven.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

__all__ = [
    "Contestant",
    "Handled",
    "Pinger",
    "Place",
    "Receiver",
    "Sender",
    "Sent",
    "Tally",
    "Unavailable",
    "reached",
]

WARM_UP_PINGS = 20
STALL_SECONDS = 2.0
FIRST_TRY_SECONDS = 0.5


class Unavailable(Exception):
    """The contestant can't take part here; the text says why."""


@contextmanager
def reached(server: str, url: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn a failure to connect into the news that the server can't be reached.

    ``errors`` are those of the client library, beside the system's own.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (OSError, *errors)):
            raise
        told = str(error) or type(error).__name__
        raise Unavailable(f"no {server} server at {url}: {told}") from error


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the processes of one launch meet."""

    directory: str
    token: str
    nats_url: str = ""
    redis_url: str = ""


class Contestant:
    """One process's half of a contestant."""

    def __init__(self, place: Place) -> None:
        self.place = place

    async def open(self) -> None:
        """Connect, subscribe; on return this half is ready.

        :raises Unavailable: a server can't be reached.
        """

    async def close(self) -> None:
        """Disconnect."""


class Pinger(Contestant, ABC):
    """The half of ``hop`` that asks and times."""

    answer: asyncio.Future[None]

    @abstractmethod
    async def ask(self) -> None:
        """Send one ping, without waiting for the pong."""

    def answered(self) -> None:
        """Note that the pong is here; each contestant's handler calls this."""
        if not self.answer.done():
            self.answer.set_result(None)

    async def meet(self, seconds: float) -> None:
        """Ping until the first pong, so that no block begins before both halves are joined."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(seconds):
            while True:
                self.answer = loop.create_future()
                await self.ask()
                await asyncio.wait([self.answer], timeout=FIRST_TRY_SECONDS)
                if self.answer.done():
                    return

    async def block(self, count: int) -> list[int]:
        """Return the nanoseconds of ``count`` round trips, one after the other."""
        create_future = asyncio.get_running_loop().create_future
        clock = time.perf_counter_ns
        samples = []
        for _ in range(WARM_UP_PINGS + count):
            self.answer = create_future()
            before = clock()
            await self.ask()
            await self.answer
            samples.append(clock() - before)
        return samples[WARM_UP_PINGS:]


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What a sender did in a round; ``began`` is on the machine's monotonic clock."""

    began: int
    sent: int


class Handled(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver handled in a round; ``surplus`` came after the round before was over."""

    ended: int
    handled: int
    surplus: int


class Tally:
    """Counts handled events. Handlers write ``tally.count += 1`` and compare it to ``expected``."""

    __slots__ = ("count", "done", "ended", "expected")

    def __init__(self) -> None:
        self.count = 0
        self.expected = 0
        self.ended = 0
        self.done = asyncio.Event()

    def finish(self) -> None:
        """Note when the last expected event was handled."""
        if self.count == self.expected:
            self.ended = time.perf_counter_ns()
            self.done.set()


class Receiver(Contestant):
    """The half of ``flow`` that handles events and counts them."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.tally = Tally()
        self._surplus = 0

    async def expect(self, count: int) -> None:
        """Begin a round of ``count`` events."""
        tally = self.tally
        self._surplus = tally.count - tally.expected if tally.done.is_set() else 0
        tally.done.clear()
        tally.count = 0
        tally.expected = count

    async def handled(self) -> Handled:
        """Wait until all expected events are handled, or none has come for two seconds."""
        tally = self.tally
        before = -1
        while before != tally.count:
            before = tally.count
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await tally.done.wait()
                    break
            except TimeoutError:
                continue
        ended = tally.ended if tally.done.is_set() else time.perf_counter_ns()
        return Handled(ended=ended, handled=tally.count, surplus=self._surplus)


class Sender(Contestant, ABC):
    """The half of ``flow`` that sends as fast as it can."""

    @abstractmethod
    async def send_all(self, count: int) -> None:
        """Send ``count`` events; on return all have left this half's own buffers or soon will."""

    async def send(self, count: int) -> Sent:
        """Send a round and say when it began."""
        began = time.perf_counter_ns()
        await self.send_all(count)
        return Sent(began=began, sent=count)
