"""``thence trace`` and ``thence why`` against real processes: every way to name an event, every exit code."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import Folder, eventually

SOURCE = """
from contextlib import asynccontextmanager
from scores import ClueFound
from thence import Service

@asynccontextmanager
async def emitting(node):
    for player, clue in (("ana", 1), ("bob", -1), ("eve", 3)):
        await node.emit(ClueFound("h1", player, clue))
    yield

source = Service("source", lifespan=emitting)
"""


class Hunt(Folder):
    """Three processes; of three clues that were found one fails."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        (path / "source.py").write_text(SOURCE)
        self.environment["THENCE_LOGS"] = "plain"

    def begin(self) -> None:
        for service in ("ranks", "scores", "source"):
            self.host(f"{service}:{service}")
        eventually(lambda: len(self.ledger()) == 2)
        eventually(lambda: self.document("trace", "--last", "clue_found")["complete"])

    def document(self, *arguments: str) -> dict[str, Any]:
        found = self.run(*arguments, "--json")
        assert found.stdout, found.stderr
        told: dict[str, Any] = json.loads(found.stdout)
        return told

    def id_of(self, *arguments: str) -> str:
        return str(self.document("trace", *arguments)["root_id"])

    def worker(self, service: str) -> tuple[str, int]:
        """The name of the node that hosts a service, and its process."""
        (name,) = [
            node["name"] for node in self.document("map")["nodes"] if node["services"] == [service]
        ]
        return name, int(name.rpartition("-")[2])


@pytest.fixture(scope="module")
def hunt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hunt]:
    opened = Hunt(tmp_path_factory.mktemp("hunt"))
    try:
        opened.begin()
        yield opened
    finally:
        opened.close()


@pytest.fixture
def own_hunt(tmp_path: Path) -> Iterator[Hunt]:
    opened = Hunt(tmp_path)
    try:
        opened.begin()
        yield opened
    finally:
        opened.close()


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes that do nothing for a while."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_the_whole_cascade_of_an_event_is_drawn(hunt: Hunt) -> None:
    shown = hunt.run("trace", "player=ana")
    assert shown.returncode == 0, shown.stderr
    head, clue, score, key, end = shown.stdout.splitlines()
    assert re.match(r"clue_found  [0-9a-f]{32}  from source-\d+  \+0 ms  \d+ B", head)
    assert re.match(r"└═▶ clue_found +scores\.award@scores-\d+ +\+[\d.]+ ms +[\d.]+ ms  ✓", clue)
    assert re.match(r"    └═▶ score_changed +ranks\.rank@ranks-\d+ +\+[\d.]+ ms", score)
    assert key == "═▶ the way that took longest"
    assert re.match(r"3 of 3 recorders answered · window [\d.]+ s", end)
    assert "\x1b" not in shown.stdout


def test_an_event_is_found_by_its_identifier_its_beginning_its_ends_its_key_and_its_type(
    hunt: Hunt,
) -> None:
    root = hunt.id_of("player=eve")
    assert re.fullmatch("[0-9a-f]{32}", root)
    for arguments in (
        (root,),
        (root.upper(),),
        (f"{root[:14]}...{root[-12:]}",),
        (f"{root[:14]}…{root[-12:]}",),
    ):
        told = hunt.document("trace", *arguments)
        assert told["event_id"] == told["root_id"] == root
    last = hunt.document("trace", "--last", "score_changed")
    assert last["root_id"] == root
    assert last["event_id"] != root
    failed = hunt.document("trace", "--failed")
    assert failed["root_id"] == failed["event_id"] == hunt.id_of("player=bob")
    assert hunt.document("why", "--failed", "--last", "clue_found")["event_id"] == failed["root_id"]


def test_the_document_of_a_trace_tells_each_event_once_with_times_and_consequences(
    hunt: Hunt,
) -> None:
    told = hunt.document("trace", "--last", "score_changed")
    assert told["schema"] == "thence.trace/1"
    assert told["complete"] is True
    assert told["silent"] == told["forgotten"] == told["gaps"] == told["not_understood"] == []
    clue, score = told["events"]
    assert clue["cause_id"] is None
    assert score["cause_id"] == clue["event_id"] == told["root_id"]
    assert clue["handlings"][0]["consequences"] == [score["event_id"]] == [told["event_id"]]
    (handling,) = score["handlings"]
    assert handling["outcome"] == "handled"
    assert 0 <= clue["at"] <= score["at"] <= handling["received"] <= handling["began"]
    assert handling["began"] <= handling["ended"]
    below = hunt.document("trace", "--last", "score_changed", "--down")
    assert [one["event_id"] for one in below["events"]] == [score["event_id"]]


def test_a_timeline_has_a_bar_for_each_handler(hunt: Hunt) -> None:
    shown = hunt.run("trace", "player=ana", "--timeline")
    assert shown.returncode == 0
    assert shown.stdout.count("█") >= 2
    assert "clue_found → scores.award" in shown.stdout
    assert "score_changed → ranks.rank" in shown.stdout


def test_why_leads_back_to_the_root_and_names_what_went_wrong(hunt: Hunt) -> None:
    shown = hunt.run("why", "--last", "score_changed")
    assert shown.returncode == 0
    lines = shown.stdout.splitlines()
    assert re.match(r"score_changed was handled at ranks\.rank@ranks-\d+", lines[0])
    assert re.match(r" ← clue_found +scores\.award@scores-\d+ .* earlier .* root$", lines[1])
    assert "root event clue_found" in lines[2]
    failed = hunt.run("why", "--failed")
    assert failed.returncode == 0
    assert re.match(r"clue_found failed at scores\.award@scores-\d+: ValueError", failed.stdout)
    assert "the first thing that went wrong" in failed.stdout
    told = hunt.document("why", "--failed")
    assert told["schema"] == "thence.why/1"
    assert told["first_wrong"]["reason"] == "ValueError: no such clue"
    assert [one["event"] for one in hunt.document("why", "--last", "score_changed")["chain"]] == [
        "score_changed",
        "clue_found",
    ]


@pytest.mark.parametrize("command", ["trace", "why"])
def test_an_unknown_event_is_not_found_and_the_nearest_are_named(hunt: Hunt, command: str) -> None:
    root = hunt.id_of("player=eve")
    unknown = hunt.run(command, f"{root[:-4]}ffff")
    assert unknown.returncode == 3
    assert "The nearest:" in unknown.stderr
    assert root in unknown.stderr
    far = hunt.run(command, f"{root[:2]}{'f' * 30}")
    assert far.returncode == 3
    assert root in far.stderr
    assert hunt.run(command, "player=nobody").returncode == 3
    mistyped = hunt.run(command, "--last", "clue_fuond")
    assert mistyped.returncode == 3
    assert "clue_found" in mistyped.stderr
    for shown in (unknown, far, mistyped):
        assert shown.stdout == ""
        assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("command", ["trace", "why"])
def test_where_several_may_be_meant_they_are_listed(hunt: Hunt, command: str) -> None:
    root = hunt.id_of("player=eve")
    several = hunt.run(command, root[:20])
    assert several.returncode == 3
    assert "may be one of 3 events" in several.stderr
    assert f"{root}  clue_found  eve\n" in several.stderr
    assert "clue_found  bob  failed" in several.stderr


@pytest.mark.parametrize("command", ["trace", "why"])
def test_where_nobody_is_there_nobody_is_reached(folder: Folder, command: str) -> None:
    alone = folder.run(command, "--failed")
    assert alone.returncode == 5
    assert "thence run" in alone.stderr
    assert alone.stdout == ""


@pytest.mark.parametrize("columns", ["80", "160"])
def test_it_fits_a_terminal(hunt: Hunt, columns: str) -> None:
    before = hunt.environment["COLUMNS"]
    hunt.environment["COLUMNS"] = columns
    try:
        for arguments in (("trace", "player=ana"), ("trace", "player=ana", "--timeline")):
            shown = hunt.run(*arguments)
            _, *rows = shown.stdout.splitlines()
            assert max(map(len, rows)) <= int(columns), shown.stdout
    finally:
        hunt.environment["COLUMNS"] = before


def test_a_node_that_does_not_answer_is_named_and_the_answer_is_partial(own_hunt: Hunt) -> None:
    name, pid = own_hunt.worker("ranks")
    others = [own_hunt.worker(service)[1] for service in ("scores", "source")]
    with stopped(pid):
        for command in ("trace", "why"):
            shown = own_hunt.run(command, "player=ana")
            assert shown.returncode == 4
            assert f"2 of 3 recorders answered · {name} unreachable" in shown.stdout
        told = own_hunt.document("trace", "player=ana")
        assert told["complete"] is False
        assert told["silent"] == [name]
        missing = own_hunt.run("trace", "player=nobody")
        assert missing.returncode == 4
        assert name in missing.stderr
        with stopped(*others):
            nobody = own_hunt.run("trace", "player=ana")
            assert nobody.returncode == 5
            assert name in nobody.stderr


def test_what_a_killed_node_had_is_unknown_and_the_rest_is_shown(own_hunt: Hunt) -> None:
    os.kill(own_hunt.worker("ranks")[1], signal.SIGKILL)
    # Another is started in its place, which has seen nothing.
    eventually(lambda: own_hunt.run("trace", "player=ana").returncode == 4)
    shown = own_hunt.run("trace", "player=ana")
    assert re.search(r"score_changed +ranks .*\? unknown", shown.stdout)
    assert "nobody told what became of score_changed" in shown.stdout
    assert re.search("(2 of 2|3 of 3) recorders answered", shown.stdout)
