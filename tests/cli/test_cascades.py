"""Cascades across real processes: cut at their bounds, told to the root, and settled when all have ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from tests.cli.processes import Folder, eventually

SCORES = """
import os
from thence import Context, Event, Service

class ClueFound(Event, key="player"):
    player: str

class ScoreChanged(Event, key="player"):
    player: str

scores = Service("scores")
LOOPS = int(os.environ.get("LOOPS", "0"))

def note(ctx: Context, what: str) -> None:
    ledger = os.open("ledger", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(ledger, f"{what} {os.getpid()} {ctx.depth} {ctx.root_id}\\n".encode())
    os.close(ledger)

@scores.on(ClueFound, max_loops=LOOPS)
async def award(found: ClueFound, ctx: Context) -> ScoreChanged:
    note(ctx, "award")
    return ScoreChanged(player=found.player)
"""

RANKS = """
import asyncio
from scores import LOOPS, ClueFound, ScoreChanged, note
from thence import Context, Service

ranks = Service("ranks")

@ranks.on(ScoreChanged, max_loops=LOOPS)
async def update(change: ScoreChanged, ctx: Context) -> ClueFound:
    note(ctx, "update")
    return ClueFound(player=change.player)
"""

SLOW = """
import asyncio
from scores import ScoreChanged, note
from thence import Context, Service

slow = Service("slow")

@slow.on(ScoreChanged)
async def linger(change: ScoreChanged, ctx: Context) -> None:
    note(ctx, "linger")
    await asyncio.sleep(60)
"""

EMITTING = """
import asyncio, json, sys
import msgspec
from scores import ClueFound
from thence import Budget, Node, SettleTimeout

async def main() -> None:
    budget, timeout = json.loads(sys.argv[1]), float(sys.argv[2])
    async with Node() as node:
        receipt = await node.emit(ClueFound(player="ana"), budget=Budget(**budget))
        try:
            report = await receipt.settled(timeout)
        except SettleTimeout as error:
            report = error.report
        print(msgspec.json.encode(report).decode())

asyncio.run(main())
"""


class Feud(Folder):
    def __init__(self, path: Any) -> None:
        super().__init__(path)
        (path / "scores.py").write_text(SCORES)
        (path / "ranks.py").write_text(RANKS)
        (path / "slow.py").write_text(SLOW)
        (path / "emitting.py").write_text(EMITTING)

    def settle(self, timeout: float = 20.0, **budget: Any) -> Any:
        """The report of one cascade, as another process gets it."""
        return json.loads(self.begin(timeout, **budget).communicate(timeout=40)[0])

    def begin(self, timeout: float, **budget: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "emitting.py", json.dumps(budget), str(timeout)],
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def starts(self, root: str) -> list[list[str]]:
        return [line for line in self.ledger() if line[3] == root]


@pytest.fixture
def feud(tmp_path: Any) -> Any:
    opened = Feud(tmp_path)
    try:
        yield opened
    finally:
        opened.close()


def test_two_processes_that_answer_each_other_for_ever_are_cut_at_the_bound(feud: Feud) -> None:
    feud.environment["LOOPS"] = "1000"
    scores = feud.host("scores:scores", "--replicas", "2", replicas=2)
    ranks = feud.host("ranks:ranks")
    for budget, starts in (
        ({"depth": 7, "events": 1000}, 8),
        ({"depth": 100, "events": 37}, 37),
        ({}, 17),
    ):
        report = feud.settle(**budget)
        lines = feud.starts(report["event_id"])
        assert len(lines) == starts == report["events"]
        assert [int(line[2]) for line in lines] == list(range(starts))
        assert (report["cut"], report["complete"], report["depth"]) == (1, True, starts - 1)
        # Each hop is to another process.
        assert all(one[1] != next_[1] for one, next_ in pairwise(lines))
    eventually(lambda: "cascade budget: depth" in feud.log(ranks) + feud.log(scores))


def test_a_loop_between_processes_is_cut_and_named_in_the_log_and_at_the_root(feud: Feud) -> None:
    feud.environment["LOOPS"] = "2"
    scores = feud.host("scores:scores")
    feud.host("ranks:ranks")
    report = feud.settle(depth=100)
    assert [line[0] for line in feud.starts(report["event_id"])] == ["award", "update"] * 3
    assert (report["events"], report["cut"], report["complete"]) == (6, 1, True)
    loop = "scores.award → ranks.update → scores.award"
    assert loop in report["failures"][0][4]
    assert report["failures"][0][0] == "loop"
    eventually(lambda: loop in feud.log(scores))
    assert "max_loops=3" in feud.log(scores)


@pytest.mark.parametrize("mode", ["observe", "warn"])
def test_loops_that_are_not_enforced_go_on_to_the_budget(feud: Feud, mode: str) -> None:
    feud.environment["THENCE_LOOPS"] = mode
    scores = feud.host("scores:scores")
    feud.host("ranks:ranks")
    report = feud.settle(depth=1000, events=50)
    assert len(feud.starts(report["event_id"])) == 50
    assert (report["events"], report["cut"]) == (50, 1)
    loop = "scores.award → ranks.update → scores.award"
    if mode == "warn":
        eventually(lambda: loop in feud.log(scores))
    else:
        assert loop not in feud.log(scores)


def test_the_budget_of_the_environment_bounds_what_a_command_emits(feud: Feud) -> None:
    feud.environment["LOOPS"] = "1000"
    feud.host("scores:scores")
    feud.host("ranks:ranks")
    feud.environment["THENCE_BUDGET"] = "events=5 depth=100"
    assert feud.run("emit", "scores:ClueFound", '{"player": "ana"}').returncode == 0
    eventually(lambda: len(feud.ledger()) >= 5)
    feud.environment["THENCE_BUDGET"] = "events=6 depth=100"
    assert feud.run("emit", "scores:ClueFound", '{"player": "bob"}').returncode == 0
    eventually(lambda: len(feud.ledger()) >= 11)
    assert len(feud.ledger()) == 11
    for wrong in ("events=0", "hops=3", "events=many"):
        feud.environment["THENCE_BUDGET"] = wrong
        refused = feud.run("emit", "scores:ClueFound", '{"player": "ana"}')
        assert refused.returncode == 2
        assert "budget" in refused.stderr
    del feud.environment["THENCE_BUDGET"]
    feud.environment["THENCE_LOOPS"] = "ignore"
    refused = feud.run("emit", "scores:ClueFound", '{"player": "ana"}')
    assert refused.returncode == 2
    assert "enforce" in refused.stderr


def test_a_process_that_is_killed_in_a_cascade_is_reported_as_lost_at_once(feud: Feud) -> None:
    feud.host("scores:scores")
    feud.host("slow:slow")
    emitting = feud.begin(30.0)
    eventually(lambda: any(line[0] == "linger" for line in feud.ledger()))
    victim = next(int(line[1]) for line in feud.ledger() if line[0] == "linger")
    os.kill(victim, signal.SIGKILL)
    report = json.loads(emitting.communicate(timeout=20)[0])
    assert (report["complete"], report["lost"], report["events"]) == (False, 1, 1)
    assert report["failures"][0][0] == "lost"
    assert report["failures"][0][3] == "slow"


def test_a_handler_that_takes_longer_than_the_timeout_leaves_a_partial_report(feud: Feud) -> None:
    feud.host("scores:scores")
    feud.host("slow:slow")
    report = feud.settle(2.0)
    assert not report["complete"]
    assert report["lost"] == 0
    assert 2.0 <= report["seconds"] < 5
