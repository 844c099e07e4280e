"""``thence run --recorder``: what a service knew is told of after it was killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tests.cli.processes import Folder, eventually


def test_why_tells_what_a_killed_service_had_seen(folder: Folder) -> None:
    hosting = folder.host("scores:scores", "--recorder", "recorded")
    folder.run("emit", "scores:ClueFound", '{"hunt": "h", "player": "ana", "clue": -1}')
    before = json.loads(folder.run("why", "--failed", "--json").stdout)
    (node,) = json.loads(folder.run("map", "--seconds", "0.1", "--json").stdout)["nodes"]
    os.kill(node["pid"], signal.SIGKILL)
    eventually(lambda: folder.log(hosting).count(" is ready") == 2)
    after = json.loads(folder.run("why", before["event_id"][:30], "--json").stdout)
    assert after["event_id"] == before["event_id"]
    assert after["first_wrong"]["place"] == "scores.award"
    assert after["first_wrong"]["node"] == f"{node['name']} (former run)"
    assert "no such clue" in after["first_wrong"]["reason"]


def test_each_replica_has_a_file_of_its_own(folder: Folder) -> None:
    folder.host("scores:scores", "--replicas", "2", "--recorder", "recorded", replicas=2)
    assert {path.name for path in folder.path.glob("recorded*")} == {"recorded-1", "recorded-2"}


@pytest.mark.parametrize("path", ["scores.py/below", "/proc/none/recorded"])
def test_a_file_that_can_not_be_made_is_told_at_once(folder: Folder, path: str) -> None:
    said = folder.run("run", "scores:scores", "--recorder", path)
    assert said.returncode == 2
    assert "another path" in said.stderr


def test_a_service_stopped_and_started_tells_of_both_runs(folder: Folder, tmp_path: Path) -> None:
    for _ in range(2):
        hosting = folder.host("scores:scores", "--recorder", "recorded")
        folder.run("emit", "scores:ClueFound", '{"hunt": "h", "player": "ana", "clue": 1}')
        if not (tmp_path / "recorded.before").exists():
            hosting.terminate()
            assert hosting.wait(10) == 0
    found = folder.run("trace", "player=ana", "--json")
    assert found.returncode == 0, found.stderr
    assert "former run" in " ".join(json.loads(found.stdout)["answered"])
