"""The command line, with real processes on a mesh of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tests.cli.processes import Folder, eventually

FOUND = '{"hunt": "h1", "player": "ana", "clue": 3}'


def test_a_consequence_reaches_a_service_in_another_process(folder: Folder) -> None:
    scores, ranks = folder.host("scores:scores"), folder.host("ranks:ranks")
    said = folder.run("emit", "scores:ClueFound", FOUND)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("clue_found ")
    assert said.stdout.endswith(" → scores\n")
    eventually(folder.ledger)
    player, _, depth, source = folder.ledger()[0]
    assert (player, depth, source) == ("ana", "1", "scores")
    for process, number, code in ((scores, signal.SIGTERM, 0), (ranks, signal.SIGINT, 130)):
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == code
        assert time.monotonic() - began < 6
    assert not [name for name in os.listdir(folder.path / "mesh") if name.endswith(".node")]


def test_replicas_share_the_keys_and_each_key_stays_with_one(folder: Folder) -> None:
    folder.host("ranks:ranks", "--replicas", "3", replicas=3)
    folder.host("scores:scores")
    lines = "".join(
        json.dumps({"hunt": "h", "player": f"p{number % 30}", "clue": number}) + "\n"
        for number in range(300)
    )
    said = folder.run("emit", "scores:ClueFound", "-", text=lines)
    assert said.returncode == 0, said.stderr
    assert "300 emitted" in said.stderr
    assert "/s" in said.stderr
    eventually(lambda: len(folder.ledger()) == 300)
    places = {(player, process) for player, process, _, _ in folder.ledger()}
    assert len(places) == 30
    assert len({process for _, process in places}) == 3


def test_a_replica_that_is_killed_is_started_again(folder: Folder) -> None:
    hosting = folder.host("scores:scores")
    folder.host("ranks:ranks")
    document = json.loads(folder.run("map", "--seconds", "0.1", "--json").stdout)
    victim = next(node["pid"] for node in document["nodes"] if node["services"] == ["scores"])
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: folder.log(hosting).count(" is ready") == 2)
    assert "SIGKILL" in folder.log(hosting)
    assert folder.run("emit", "scores:ClueFound", FOUND).returncode == 0
    eventually(folder.ledger)


def test_no_replica_outlives_a_supervisor_that_is_killed(folder: Folder) -> None:
    hosting = folder.host("scores:scores")
    document = json.loads(folder.run("map", "--seconds", "0.1", "--json").stdout)
    replica = next(node["pid"] for node in document["nodes"] if node["services"] == ["scores"])
    hosting.kill()
    hosting.wait()

    def gone() -> bool:
        try:
            os.kill(replica, 0)
        except ProcessLookupError:
            return True
        return False

    eventually(gone)


def test_a_handler_that_raises_is_logged_with_its_ids_and_harms_nobody_else(folder: Folder) -> None:
    hosting = folder.host("scores:scores")
    folder.host("ranks:ranks")
    folder.run("emit", "scores:ClueFound", '{"hunt": "h1", "player": "ana", "clue": -1}')
    folder.run("emit", "scores:ClueFound", FOUND)
    eventually(folder.ledger)
    log = folder.log(hosting)
    assert "handler award of service scores failed on clue_found: ValueError: no such clue" in log
    assert "root " in log


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run",), 2, "name at least one service"),
        (("run", "scores"), 2, "MODULE:SERVICE"),
        (("run", "nowhere:scores"), 3, "no module 'nowhere'"),
        (("run", "scores:score"), 3, "its services are scores"),
        (("run", "scores:ClueFound"), 2, "not a Service"),
        (("run", "scores:scores", "--replicas", "0"), 2, "at least 1"),
        (("run", "scores:scores", "--listen", "tcp://nowhere"), 2, "tcp://"),
        (("emit", "scores:ClueFound", "{"), 2, "JSON"),
        (("emit", "scores:ClueFound", '{"hunt": "h", "player": "a"}'), 2, "clue"),
        (("emit", "scores:Clue", FOUND), 3, "its events are ClueFound"),
        (("emit", "scores:ClueFound", FOUND), 5, "nobody who handles 'clue_found'"),
        (("map", "--seconds", "0.1"), 5, "nobody is on this mesh"),
        (("demo", "--mesh", "memory:one"), 2, "local:PATH"),
        (("demo", "--mesh", "loacl"), 2, "local:PATH"),
        (("demo", "--seconds", "0"), 2, "at least 1"),
        (("demo", "--tracks", "nowhere"), 3, "no such folder"),
    ],
)
def test_wrong_input_gets_one_line_that_names_the_fix(
    folder: Folder, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = folder.run(*arguments)
    assert result.returncode == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_map_shows_who_is_there_and_names_who_does_not_answer(folder: Folder) -> None:
    folder.host("scores:scores")
    folder.host("ranks:ranks")
    said = folder.run("map", "--seconds", "0.1")
    assert said.returncode == 0
    assert said.stdout.startswith("2 services")
    assert "scores ──score_changed 0/s──▶ ranks" in said.stdout
    document = json.loads(folder.run("map", "--seconds", "0.1", "--json").stdout)
    assert document["schema"] == "thence.map/1"
    stopped = next(node for node in document["nodes"] if node["services"] == ["ranks"])
    os.kill(stopped["pid"], signal.SIGSTOP)
    try:
        partial = folder.run("map", "--seconds", "0.1")
    finally:
        os.kill(stopped["pid"], signal.SIGCONT)
    assert partial.returncode == 4
    assert stopped["name"] in partial.stdout


def test_with_reload_each_change_of_a_file_is_picked_up(folder: Folder) -> None:
    hosting = folder.host("scores:scores", "--reload")
    for change in range(1, 4):
        with (folder.path / "scores.py").open("a") as file:
            file.write("\n# changed\n")
        eventually(lambda ready=1 + change: folder.log(hosting).count(" is ready") >= ready)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("import nothing_of_this_name\n", "starting it again"),
        ("def broken(:\n", "starting it again"),
        ("renamed = None\n", "waiting for a file to change"),
    ],
)
def test_with_reload_a_broken_file_may_be_mended(folder: Folder, broken: str, told: str) -> None:
    file = folder.path / "scores.py"
    source = file.read_text()
    hosting = folder.host("scores:scores", "--reload")
    file.write_text(broken)
    eventually(lambda: told in folder.log(hosting))
    file.write_text(source)
    eventually(lambda: folder.log(hosting).count(" is ready") == 2)
    hosting.terminate()
    assert hosting.wait(10) == 0, folder.log(hosting)


def test_run_tells_programs_of_each_replica_that_is_ready_or_has_ended(folder: Folder) -> None:
    hosting = subprocess.Popen(
        [sys.executable, "-m", "thence.cli", "run", "scores:scores", "--json"],
        cwd=folder.path,
        env=folder.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert hosting.stdout is not None
        ready = json.loads(hosting.stdout.readline())
        os.kill(ready["pid"], signal.SIGKILL)
        ended, again = (json.loads(hosting.stdout.readline()) for _ in range(2))
    finally:
        hosting.terminate()
        rest, _ = hosting.communicate(timeout=20)
    assert {line["schema"] for line in (ready, ended, again)} == {"thence.run/1"}
    assert (ready["what"], ready["services"]) == ("ready", ["scores"])
    assert (ended["what"], ended["pid"], ended["code"]) == ("ended", ready["pid"], -signal.SIGKILL)
    assert again["what"] == "ready"
    assert json.loads(rest)["what"] == "ended"


def test_emit_stays_in_touch_while_it_waits_for_its_next_line(folder: Folder) -> None:
    folder.host("scores:scores")
    folder.host("ranks:ranks")
    emitting = subprocess.Popen(
        [sys.executable, "-m", "thence.cli", "emit", "scores:ClueFound", "-"],
        cwd=folder.path,
        env=folder.environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert emitting.stdin is not None
        emitting.stdin.write(FOUND + "\n" + FOUND[:10])
        emitting.stdin.flush()
        eventually(folder.ledger)
        seen = folder.run("map", "--seconds", "0.1", "--json")
        assert seen.returncode == 0, "somebody did not answer"
        emitting.stdin.write(FOUND[10:])
    finally:
        _, said = emitting.communicate(timeout=20)
    assert emitting.returncode == 0
    assert "2 emitted" in said
    eventually(lambda: len(folder.ledger()) == 2)


def test_help_teaches(folder: Folder) -> None:
    assert "Host services" in folder.run("--help").stdout
    for command in ("run", "emit", "map", "demo"):
        said = folder.run(command, "--help")
        assert said.returncode == 0
        assert "--mesh" in said.stdout
        assert "--json" in said.stdout
