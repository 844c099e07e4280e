"""At most once, in order and one at a time, by a ledger that real processes write while some are killed or stopped.

Every run of a handler writes a line when it starts and one when it ends, each with one ``write`` to a file
opened for appending, so that the order of the lines is the order in which things happened.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.cli.processes import Folder, eventually

WALKERS = """
import asyncio, os, random
from thence import Event, Service

class Step(Event, key="player"):
    player: str
    emitter: str
    number: int

walkers = Service("walkers")
ledger = os.open("ledger", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

def note(what: str, step: Step) -> None:
    os.write(ledger, f"{what} {os.getpid()} {step.player} {step.emitter} {step.number}\\n".encode())

@walkers.on(Step)
async def walk(step: Step) -> None:
    note("start", step)
    await asyncio.sleep(random.random() * float(os.environ["PACE"]))
    note("end", step)
"""

EMITTING = """
import asyncio, sys
from thence import Node
from walkers import Step

async def main(name: str, players: int) -> None:
    sent = number = 0
    stop = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    async with Node(name=name) as node:
        def under_way() -> int:
            return sum(route.outstanding for route in node.report().routes)

        while not stop.done():
            # So few that no replica ever sheds one: its count would die with it.
            while under_way() > 200 and not stop.done():
                await asyncio.sleep(0.002)
            receipt = await node.emit(Step(player=f"p{number % players}", emitter=name, number=number))
            sent += len(receipt.targets)
            number += 1
            await asyncio.sleep(0.002)
        while under_way():
            await asyncio.sleep(0.01)
        lost = sum(count for *_, count in node.report().lost)
        print(sent, lost, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""

PLAYERS = 8


class Line(NamedTuple):
    what: str
    pid: int
    player: str
    emitter: str
    number: int


class Field(Folder):
    """Walkers, and emitters that emit until their standard input is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.environment["PACE"] = "0.004"
        (path / "walkers.py").write_text(WALKERS)
        (path / "emitting.py").write_text(EMITTING)
        self.emitters: list[subprocess.Popen[str]] = []

    def emit(self, name: str) -> None:
        """Start to emit."""
        self.emitters.append(
            subprocess.Popen(
                [sys.executable, "emitting.py", name, str(PLAYERS)],
                cwd=self.path,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )

    def stop_emitting(self) -> tuple[int, int]:
        """How many events were sent, and how many of those their emitters count as lost."""
        for emitter in self.emitters:
            assert emitter.stdin is not None
            emitter.stdin.close()
            emitter.stdin = None
        counts = [emitter.communicate(timeout=40)[0].split() for emitter in self.emitters]
        assert [emitter.returncode for emitter in self.emitters] == [0] * len(self.emitters)
        self.emitters.clear()
        return sum(int(sent) for sent, _ in counts), sum(int(lost) for _, lost in counts)

    def lines(self) -> list[Line]:
        return [
            Line(what, int(pid), player, emitter, int(number))
            for what, pid, player, emitter, number in self.ledger()
        ]

    def begun(self) -> int:
        return sum(line.what == "start" for line in self.lines())

    def kill_a_walker(self) -> bool:
        """Kill whoever wrote last: it is in the middle of a run, or about to be. Whether anybody was alive."""
        for line in reversed(self.lines()):
            with suppress(ProcessLookupError):
                os.kill(line.pid, signal.SIGKILL)
                return True
        return False

    def close(self) -> None:
        for emitter in self.emitters:
            emitter.kill()
            emitter.communicate()
        super().close()


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    opened = Field(tmp_path)
    try:
        yield opened
    finally:
        opened.close()


def check(lines: list[Line]) -> None:
    """At most once, in order, and one at a time.

    A run whose process was killed has no end: it is taken to last until that process's last line.
    """
    last_line = {line.pid: position for position, line in enumerate(lines)}
    seen: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    running: dict[str, Line] = {}
    for position, line in enumerate(lines):
        other = running.get(line.player)
        if line.what == "end":
            assert other is not None
            assert other[1:] == line[1:], f"{line} ended during {other}"
            del running[line.player]
        else:
            over = other is None or last_line[other.pid] < position
            assert over, f"{line} started during {other}"
            running[line.player] = line
            seen[line.player, line.emitter].append(line.number)
    for numbers in seen.values():
        assert len(set(numbers)) == len(numbers), "an event was handled twice"
        assert numbers == sorted(numbers), "out of order"


@pytest.mark.parametrize("seed", range(2))
def test_the_ledger_holds_while_replicas_are_killed_replaced_and_ended(
    field: Field, seed: int
) -> None:
    chance = random.Random(seed)
    # More than they can handle: with every move of a key, others of its events wait at both ends.
    field.environment["PACE"] = "0.02"
    hosting = [field.host("walkers:walkers", "--replicas", "2", replicas=2)]
    for name in ("first", "second"):
        field.emit(name)
    eventually(lambda: field.begun() > 50)
    for _ in range(8):
        before = field.begun()
        if chance.random() < 0.6:
            eventually(field.kill_a_walker)
        else:
            hosting.append(field.host("walkers:walkers"))
            leaver = hosting.pop(0)
            leaver.terminate()
            assert leaver.wait(15) == 0
        eventually(lambda before=before: field.begun() > before + 100)
    eventually(lambda: field.log(hosting[-1]).count(" is ready") >= 1)
    sent, lost = field.stop_emitting()
    lines = field.lines()
    check(lines)
    handled = sum(line.what == "start" for line in lines)
    assert handled + lost >= sent, "an event was lost that nobody counted"
    assert handled > 0.6 * sent
    field.emit("third")
    eventually(
        lambda: len({line.player for line in field.lines() if line.emitter == "third"}) == PLAYERS
    )
    field.stop_emitting()
    check(field.lines())


def test_a_stopped_replica_holds_up_its_own_keys_alone(field: Field) -> None:
    field.host("walkers:walkers", "--replicas", "2", replicas=2)
    for number in range(2):
        field.emit(f"e{number}")
    eventually(lambda: len({line.pid for line in field.lines()}) == 2)
    eventually(lambda: len({line.player for line in field.lines()}) == PLAYERS)
    owner = {line.player: line.pid for line in field.lines()}
    stopped = owner["p0"]
    others = {player for player, pid in owner.items() if pid != stopped}
    os.kill(stopped, signal.SIGSTOP)
    try:
        before = len(field.lines())

        def others_go_on() -> bool:
            after = field.lines()[before:]
            return all(sum(line.player == player for line in after) > 40 for player in others)

        eventually(others_go_on)
        assert not any(line.pid == stopped for line in field.lines()[before:])
    finally:
        os.kill(stopped, signal.SIGCONT)
    before = len(field.lines())
    eventually(lambda: {line.player for line in field.lines()[before:]} == owner.keys())
    sent, lost = field.stop_emitting()
    check(field.lines())
    assert field.begun() + lost >= sent
