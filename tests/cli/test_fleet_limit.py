"""A limit over all replicas, by the moments in which the handlers of real processes start.

Each replica notes its starts in a file of its own; all processes share the monotonic clock.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from struct import iter_unpack
from typing import NamedTuple

import pytest
from tests.cli.processes import Folder, eventually

from thence import Event, Node

RATE, BURST, LEASE = 100, 12, 0.3

BELLS = f"""
import os, struct, time
from thence import Event, Limit, Service

class Rung(Event):
    number: int

    def __post_init__(self) -> None:
        arrived[self.number] = time.monotonic()

bells = Service("bells")
arrived = {{}}
starts = os.open(f"starts-{{os.getpid()}}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

@bells.on(
    Rung,
    limit=Limit("{RATE}/s", burst={BURST}, scope="service"),
    overflow=os.environ["OVERFLOW"],
    queue=25,
)
async def ring(rung: Rung) -> None:
    os.write(starts, struct.pack("2d", arrived[rung.number], time.monotonic()))
"""


class Rung(Event):
    number: int


class Start(NamedTuple):
    arrived: float
    """When its event was decoded. The limit let it in between that and its first line, and the process may have
    been stopped on the way."""
    at: float


class Tower(Folder):
    """Replicas with one limit over all of them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.environment["OVERFLOW"] = "drop"
        (path / "bells.py").write_text(BELLS)
        self.emitted = 0

    @contextmanager
    def flooded(self) -> Iterator[None]:
        """Emit five times what the limit allows, from this process.

        In waves: after a pause whoever saved credit uses it at once, so that a trifle too much shows.
        """
        over, chance, number = threading.Event(), random.Random(0), itertools.count()

        async def flood() -> None:
            async with Node(mesh=self.environment["THENCE_MESH"]) as node:
                while not over.is_set():
                    pause = chance.random() * 1.1 * BURST / RATE
                    await asyncio.sleep(pause)
                    for _ in range(round(5 * RATE * pause)):
                        receipt = await node.emit(Rung(number=next(number)))
                        self.emitted += len(receipt.targets)

        with ThreadPoolExecutor(1) as thread:
            flooding = thread.submit(lambda: asyncio.run(flood()))
            try:
                yield
            finally:
                over.set()
                flooding.result(20)

    def starts(self) -> dict[int, list[Start]]:
        """By process."""
        noted = {
            int(path.name.partition("-")[2]): path.read_bytes()
            for path in self.path.glob("starts-*")
        }
        return {
            pid: [Start(*one) for one in iter_unpack("2d", data)]
            for pid, data in noted.items()
            if data
        }

    def all_starts(self) -> list[Start]:
        """Those of all processes, in order."""
        every = (start for starts in self.starts().values() for start in starts)
        return sorted(every, key=lambda start: start.at)

    def begin(self) -> int:
        """Host the first replica. It lends the shares for as long as it lives."""
        self.host("bells:bells")
        eventually(self.starts)
        (lender,) = self.starts()
        return lender

    def join(self) -> list[int]:
        """Host three more."""
        before = self.starts().keys()
        self.host("bells:bells", "--replicas", "3", replicas=3)
        eventually(lambda: len(self.starts()) == len(before) + 3)
        return list(self.starts().keys() - before)

    def all_go_on(self) -> None:
        """Wait until each replica has started 15 more."""
        before = {pid: len(starts) for pid, starts in self.starts().items()}
        eventually(lambda: all(len(self.starts()[pid]) >= n + 15 for pid, n in before.items()))


@pytest.fixture
def tower(tmp_path: Path) -> Iterator[Tower]:
    opened = Tower(tmp_path)
    try:
        yield opened
    finally:
        opened.close()


def check(starts: list[Start]) -> None:
    """No window has more than rate × window + burst starts. ``starts`` are in order."""
    worst = max(
        count - RATE * (end.at - window.arrived) - BURST
        for window in starts
        for count, end in enumerate((one for one in starts if one.arrived >= window.arrived), 1)
    )
    assert worst < 1e-6, f"{worst:.2f} starts more than the limit allows"


def use_it_up(starts: list[Start]) -> bool:
    """Whether four fifths of the limit are used over two seconds: too long for the bursts to stand in for a share.

    ``starts`` are in order.
    """
    enough = round(0.8 * RATE * 2)
    return any(
        last.at - first.at <= 2 for first, last in zip(starts, starts[enough - 1 :], strict=False)
    )


@pytest.mark.parametrize("overflow", ["drop", "wait"])
def test_four_replicas_use_their_limit_together_and_never_exceed_it(
    tower: Tower, overflow: str
) -> None:
    tower.environment["OVERFLOW"] = overflow
    tower.host("bells:bells", "--replicas", "4", replicas=4)
    with tower.flooded():
        eventually(lambda: len(tower.starts()) == 4)
        eventually(lambda: use_it_up(tower.all_starts()))
    if overflow == "wait":
        eventually(lambda: len(tower.all_starts()) == tower.emitted)
    check(tower.all_starts())


@pytest.mark.parametrize("lends", [True, False], ids=["who lends the shares", "who does not"])
def test_when_a_replica_is_killed_the_others_take_its_share_and_never_exceed_the_limit(
    tower: Tower, lends: bool
) -> None:
    with tower.flooded():
        lender = tower.begin()
        borrowers = tower.join()
        tower.all_go_on()
        victim = lender if lends else borrowers[0]
        for supervisor in tower.started:
            supervisor.send_signal(signal.SIGSTOP)  # so that nobody replaces it for now
        try:
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic()

            def others_take_its_share() -> bool:
                return use_it_up([start for start in tower.all_starts() if start.at > killed])

            eventually(others_take_its_share)
            assert len(tower.starts()) == 4
        finally:
            for supervisor in tower.started:
                supervisor.send_signal(signal.SIGCONT)
        eventually(lambda: len(tower.starts()) == 5)
    check(tower.all_starts())


@pytest.mark.parametrize("lends", [True, False], ids=["who lends the shares", "who does not"])
def test_a_replica_that_is_stopped_for_longer_than_a_lease_and_goes_on_never_exceeds_the_limit(
    tower: Tower, lends: bool
) -> None:
    with tower.flooded():
        lender = tower.begin()
        borrowers = tower.join()
        tower.all_go_on()
        victim = lender if lends else borrowers[0]
        os.kill(victim, signal.SIGSTOP)
        try:
            stopped, before = time.monotonic(), len(tower.all_starts())

            def others_went_on_or_ran_out() -> bool:
                starts = tower.all_starts()
                quiet = time.monotonic() - max(stopped, starts[-1].at)
                return len(starts) > before + RATE or quiet > 3 * LEASE

            eventually(others_went_on_or_ran_out)
        finally:
            os.kill(victim, signal.SIGCONT)
        tower.all_go_on()
    check(tower.all_starts())


def test_replicas_that_join_while_events_flow_never_exceed_the_limit(tower: Tower) -> None:
    with tower.flooded():
        tower.begin()
        tower.join()
        tower.all_go_on()
    check(tower.all_starts())
