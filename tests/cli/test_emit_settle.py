"""``thence emit --settle``: waiting for a whole cascade from the shell, with real processes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from typing import Any

import pytest
from tests.cli.processes import Folder, eventually

from thence import CascadeReport, Failure, Step
from thence.cli.cascade_report import document, lines, outcome
from thence.cli.exits import Exit

TRAIL = """
import asyncio, os
from thence import Event, Service

class Found(Event, key="player"):
    player: str
    clue: str

class Scored(Event, key="player"):
    player: str
    clue: str

class Ranked(Event, key="player"):
    player: str
    clue: str

scores, ranks = Service("scores"), Service("ranks")

@scores.on(Found, Ranked)
async def award(event: Found | Ranked) -> Scored | None:
    return Scored(player=event.player, clue=event.clue) if event.clue != "nothing" else None

@ranks.on(Scored)
async def rank(scored: Scored) -> Ranked | None:
    with open("began", "a") as began:
        began.write(scored.clue)
    match scored.clue:
        case "failing":
            raise KeyError("cave")
        case "slow":
            await asyncio.sleep(3)
        case "deadly":
            os.kill(os.getpid(), 9)
        case "looping":
            return Ranked(player=scored.player, clue="looping")
    return None
"""


@pytest.fixture
def trail(folder: Folder) -> Folder:
    (folder.path / "trail.py").write_text(TRAIL)
    folder.host("trail:scores")
    folder.host("trail:ranks")
    return folder


def settle(folder: Folder, clue: str, *options: str) -> subprocess.CompletedProcess[str]:
    content = json.dumps({"player": "ana", "clue": clue})
    said = folder.run("emit", "trail:Found", content, "--settle", *options)
    assert "Traceback" not in said.stderr
    return said


def told(folder: Folder, clue: str, *options: str) -> tuple[int, dict[str, Any]]:
    said = settle(folder, clue, "--json", *options)
    found = json.loads(said.stdout)
    assert found["schema"] == "thence.emit/1"
    assert found["targets"] == ["scores"]
    return said.returncode, found["cascade"]


def test_emit_waits_for_the_whole_cascade_and_shows_the_way_that_took_longest(
    trail: Folder,
) -> None:
    said = settle(trail, "plain")
    assert (said.returncode, said.stderr) == (0, "")
    emitted, settled, heading, first, second = said.stdout.splitlines()
    assert emitted.endswith(" → scores")
    assert settled.startswith("settled in ")
    assert settled.endswith(" ms: 2 handlers started, 1 hop deep")
    assert heading == "the way that took longest:"
    assert first.split()[:2] == ["scores.award", "found"]
    assert second.split()[:2] == ["ranks.rank", "scored"]
    code, cascade = told(trail, "nothing")
    assert code == 0
    assert (cascade["settled"], cascade["complete"]) == (True, True)
    assert (cascade["events"], cascade["depth"], cascade["failed"]) == (1, 0, 0)
    assert [step["handler"] for step in cascade["critical_path"]] == ["scores.award"]


def test_a_handler_that_fails_and_a_loop_that_is_cut_end_with_1_and_are_named(
    trail: Folder,
) -> None:
    said = settle(trail, "failing")
    assert said.returncode == 1
    assert "\n1 failed\n  failed: ranks.rank on scored: KeyError: 'cave' (event " in said.stdout
    assert "1 handler failed" in said.stderr
    code, cascade = told(trail, "looping")
    # award, rank; and the event that comes back to award is cut.
    assert (code, cascade["events"], cascade["cut"], cascade["complete"]) == (1, 2, 1, True)
    (failure,) = cascade["failures"]
    assert failure["kind"] == "loop"
    assert "scores.award → ranks.rank → scores.award" in failure["error"]


def test_what_a_dead_node_leaves_unknown_ends_with_4_and_is_named(trail: Folder) -> None:
    said = settle(trail, "deadly")
    assert said.returncode == 4, said.stdout
    assert "1 unknown" in said.stdout
    assert "unknown: ranks on scored: " in said.stdout
    assert "what became of 1 event at ranks" in said.stderr


def test_a_cascade_that_goes_on_ends_with_5_and_what_is_known(trail: Folder) -> None:
    said = settle(trail, "slow", "--timeout", "200ms")
    assert said.returncode == 5
    waited = re.match(r"not settled after (\S+) ms: ", said.stdout.splitlines()[1])
    assert waited is not None, said.stdout
    # Timers of uvloop are exact to a millisecond.
    assert float(waited[1]) >= 199
    assert "longer --timeout" in said.stderr
    code, cascade = told(trail, "slow", "--timeout", "0.1")
    assert code == 5
    assert (cascade["settled"], cascade["complete"]) == (False, False)


def test_a_budget_cuts_the_cascade_and_that_is_no_failure(trail: Folder) -> None:
    code, cascade = told(trail, "plain", "--budget", "events=1 depth=3")
    assert (code, cascade["events"], cascade["cut"]) == (0, 1, 1)
    lone = trail.run("emit", "trail:Found", '{"player": "a", "clue": "x"}', "--budget", "events=1")
    assert lone.returncode == 0


def test_whoever_interrupts_the_waiting_gets_130(trail: Folder) -> None:
    waiting = trail.start(
        "emit", "trail:Found", '{"player": "a", "clue": "slow"}', "--settle", "--timeout", "60s"
    )
    eventually((trail.path / "began").exists)
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(10) == 130
    assert "Traceback" not in trail.log(waiting)


def test_without_anybody_there_is_nothing_to_wait_for(folder: Folder) -> None:
    (folder.path / "trail.py").write_text(TRAIL)
    said = settle(folder, "plain", "--json")
    assert said.returncode == 5
    assert json.loads(said.stdout)["cascade"] is None
    assert "nobody who handles 'found'" in said.stderr


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("-", ("--settle",), "in place of -"),
        ("{}", ("--timeout", "1s"), "add --settle"),
        ("{}", ("--settle", "--timeout", "soon"), "--timeout: 'soon' is not a duration"),
        ("{}", ("--settle", "--timeout", "0"), "above zero"),
        ("{}", ("--budget", "events"), "--budget: 'events' in 'events'"),
        ("{}", ("--budget", "events=0"), "Budget(events=0)"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_their_fix(
    folder: Folder, content: str, options: tuple[str, ...], said: str
) -> None:
    (folder.path / "trail.py").write_text(TRAIL)
    result = folder.run("emit", "trail:Found", content, *options)
    assert result.returncode == 2
    assert said in result.stderr


def test_help_tells_of_the_exit_codes(folder: Folder) -> None:
    said = " ".join(folder.run("emit", "--help").stdout.split())
    assert "--settle" in said
    assert "Exit code 0: it has settled" in said


def report(**known: Any) -> CascadeReport:
    return CascadeReport(
        **{"event_id": "e", "events": 3, "depth": 2, "seconds": 0.0042, "complete": True, **known}
    )


FAILED = Failure("failed", "scored", "e2", "ranks.rank", "KeyError: 'cave'")
LOOPED = Failure("loop", "scored", "e3", "ranks.rank", "CascadeLimit: a → b → a")
LOST = Failure("lost", "scored", "e4", "ranks", "connection lost")
UNNAMED = Failure("lost", "", "", "", "too many cascades are tracked at once")


@pytest.mark.parametrize(
    ("known", "code"),
    [
        ({}, Exit.DONE),
        ({"shed": 1, "cut": 2, "expired": 1, "merged": 1}, Exit.DONE),
        ({"failed": 1, "failures": (FAILED,)}, Exit.FAILED),
        ({"cut": 1, "failures": (LOOPED,)}, Exit.FAILED),
        ({"lost": 1, "complete": False, "failures": (LOST,)}, Exit.PARTIAL),
        (
            {"lost": 1, "complete": False, "failed": 1, "failures": (LOST, FAILED)},
            Exit.FAILED,
        ),
    ],
)
def test_the_exit_code_tells_the_worst_that_is_known(known: dict[str, Any], code: Exit) -> None:
    found, why = outcome(report(**known))
    assert found == code
    assert bool(why) == (code != Exit.DONE)


def test_everything_that_went_wrong_is_counted_and_the_first_of_it_named() -> None:
    step = Step("scored", "ranks.rank", "ranks-1", 0.0001, 12.0)
    full = report(
        complete=False, failed=1, shed=2, cut=3, expired=4, merged=5, lost=6,
        failures=(FAILED, LOOPED, LOST, UNNAMED), critical_path=(step,),
    )  # fmt: skip
    assert lines(full, settled=True) == [
        "settled in 4.2 ms: 3 handlers started, 2 hops deep",
        "1 failed · 2 shed · 3 cut · 4 expired · 5 handled together with a newer one · 6 unknown",
        "  failed: ranks.rank on scored: KeyError: 'cave' (event e2)",
        "  cut: ranks.rank on scored: CascadeLimit: a → b → a (event e3)",
        "  unknown: ranks on scored: connection lost (event e4)",
        "  unknown: too many cascades are tracked at once",
        "the way that took longest:",
        "  ranks.rank  scored  waited 0.1 ms  ran 12.00 s  at ranks-1",
    ]
    assert document(full, settled=True)["failures"][0] == {
        "kind": "failed",
        "event": "scored",
        "event_id": "e2",
        "handler": "ranks.rank",
        "error": "KeyError: 'cave'",
    }


def test_a_report_that_is_not_all_says_so() -> None:
    assert lines(report(complete=False, seconds=1.5), settled=False) == [
        "not settled after 1500.0 ms: 3 handlers started and ended so far, 2 hops deep"
    ]
