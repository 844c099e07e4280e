"""A planted fault, and ``thence why`` of it: with all nodes there, and with one killed."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.cli.processes import Folder, eventually


def test_a_demo_ends_with_why_its_slowest_cascade_took_so_long(folder: Folder) -> None:
    said = folder.run("demo", "--seconds", "2", "--players", "10", "--json")
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    slowest = document["why"]["slowest"]
    assert slowest["schema"] == "thence.why/1"
    assert slowest["complete"] is True
    assert slowest["event_id"] == slowest["chain"][0]["event_id"]
    assert slowest["chain"][-1]["event_id"] == slowest["root_id"]
    assert slowest["chain"][-1]["event"] in ("player_moved", "hint_asked")
    assert document["why"]["failed"] is None
    assert document["why"]["untold"] is None
    assert document["killed"] == []


def test_a_planted_fault_is_told_of_three_services_deep_and_every_event_is_accounted_for(
    folder: Folder,
) -> None:
    said = folder.run("demo", "--fault", "--seconds", "2", "--players", "10", "--json")
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    assert document["balanced"] is True
    assert document["processes"] == 14
    account = document["account"]
    assert account["failed_at"] == {"leagues.count": account["failed"]}
    assert account["failed"] > 0
    failed = document["why"]["failed"]
    assert failed["complete"] is True
    assert [one["event"] for one in failed["chain"]] == [
        "score_changed",
        "clue_found",
        "player_moved",
    ]
    assert failed["first_wrong"]["place"] == "leagues.count"
    phone = failed["chain"][-1]["key"]
    assert phone.startswith("phone-")
    assert phone in failed["first_wrong"]["reason"]


def test_the_end_of_a_demo_shows_what_a_person_would_type_and_no_traceback(folder: Folder) -> None:
    mesh = folder.environment["THENCE_MESH"]
    said = folder.run("demo", "--fault", "--seconds", "2", "--players", "10", "--mesh", mesh)
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("\n$ thence why ") == 2
    assert f" --mesh {mesh}\n" in said.stdout
    assert "score_changed failed at leagues.count@leagues-" in said.stdout
    assert "leagues.count: failed" in said.stdout
    assert re.search(r"[├└]─▶ \w+  notifications  \+", said.stdout), "the end of a cascade"
    assert "≠" not in said.stdout
    assert "Traceback" not in said.stderr, "it would tear the table"


@pytest.mark.parametrize(
    ("killed", "failing", "missing"),
    [
        (
            "scores.award",
            "score_changed failed at leagues.count@leagues-",
            "nobody told what became of clue_found at scores.award",
        ),
        (
            "leagues.count",
            "score_changed went to leagues: nobody told what became of it",
            "nobody told what became of score_changed at leagues",
        ),
    ],
)
def test_why_names_service_handler_and_root_of_a_failure_and_says_what_is_missing_with_a_node_killed(
    folder: Folder, killed: str, failing: str, missing: str
) -> None:
    mesh = folder.environment["THENCE_MESH"]
    demo = folder.start("demo", "--fault", "--seconds", "100", "--players", "10", "--mesh", mesh)
    eventually(lambda: folder.run("why", "--failed").returncode == 0, within=40)
    told = json.loads(folder.run("why", "--failed", "--json").stdout)
    failed, root = told["event_id"], told["root_id"]

    def why() -> tuple[int, str]:
        said = folder.run("why", failed)
        assert f"root event player_moved {root}" in said.stdout, said.stderr
        assert "clues.look_around@clues-" in said.stdout
        assert "score_changed was handled at badges.reward@badges-" in said.stdout
        return said.returncode, re.sub(r" [0-9a-f]{32}\b(?= at )", "", said.stdout)

    code, said = why()
    assert code == 0, said
    assert "score_changed failed at leagues.count@leagues-" in said
    assert "scores.award@scores-" in said
    assert "14 of 14 recorders answered" in said

    node = next(
        handling["node"]
        for one in told["chain"]
        for handling in one["handlings"]
        if handling["place"] == killed
    )
    kill(folder, lambda name: name == node)
    code, said = why()
    assert code == 4, said
    assert failing in said
    assert missing in said
    assert demo.poll() is None, "the game goes on"


def test_a_game_goes_on_without_a_process_that_was_killed_and_its_account_shows_the_gap(
    folder: Folder,
) -> None:
    mesh = folder.environment["THENCE_MESH"]
    with ThreadPoolExecutor(1) as pool:
        playing = pool.submit(
            folder.run, "demo", "--seconds", "5", "--players", "10", "--mesh", mesh, "--json"
        )
        eventually(lambda: any(nodes(folder, handled="clues.look_around")), within=30)
        kill(folder, lambda name: name.startswith("ranks-"))
        said = playing.result()
    document = json.loads(said.stdout)
    assert document["killed"] == ["ranks"]
    assert document["events"]["player_moved"] == 10 * 51
    assert said.returncode == (0 if document["balanced"] else 1)


def nodes(folder: Folder, handled: str = "") -> list[dict[str, Any]]:
    """The nodes of the mesh, or those that have handled something there."""
    said = folder.run("map", "--seconds", "0.1", "--json")
    found = json.loads(said.stdout)["nodes"] if said.stdout else []
    return [
        node
        for node in found
        if not handled
        or any(
            f"{one['service']}.{one['handler']}" == handled and one["handled"]
            for one in node["handlers"]
        )
    ]


def kill(folder: Folder, is_meant: Callable[[str], bool]) -> None:
    """Kill nodes with -9, until the mesh has noticed."""
    meant = [node for node in nodes(folder) if is_meant(node["name"])]
    assert meant
    for node in meant:
        os.kill(node["pid"], signal.SIGKILL)
    eventually(lambda: not any(is_meant(node["name"]) for node in nodes(folder)))
