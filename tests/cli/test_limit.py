"""``thence limit``, and what ``thence map`` shows of limits, with real processes."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.processes import Folder


def handlers(folder: Folder) -> list[Any]:
    document = json.loads(folder.run("map", "--seconds", "0.1", "--json").stdout)
    return [handler for node in document["nodes"] for handler in node["handlers"]]


def test_a_limit_is_changed_at_all_replicas_and_each_says_who_did_it(folder: Folder) -> None:
    hosting = folder.host("scores:scores", "--replicas", "2", replicas=2)
    said = folder.run("limit", "award", "40/s burst 2")
    assert (said.returncode, said.stdout) == (
        0,
        "scores.award: off → 40/s burst 2 on 2 replicas\n",
    )
    assert [handler["limits"] for handler in handlers(folder)] == [["40/s burst 2"]] * 2
    assert folder.log(hosting).count("limit of scores.award: off → 40/s burst 2 (set by ") == 2
    document = json.loads(folder.run("limit", "scores.award", "off", "--json").stdout)
    assert document["schema"] == "thence.limit/1"
    assert [change["after"] for change in document["changes"]] == ["off", "off"]
    assert document["silent"] == []


def test_what_can_not_be_set_is_refused_with_the_fix(folder: Folder) -> None:
    folder.host("scores:scores")
    for handler, rate, code, words in (
        ("scores.awrd", "1/s", 3, "Did you mean 'scores.award'"),
        ("scores.award", "1/fortnight", 2, "no unit of time"),
        ("scores.award", "1/s per team", 2, "ClueFound has no such field"),
    ):
        said = folder.run("limit", handler, rate)
        assert said.returncode == code
        assert words in said.stderr
        assert len(said.stderr.splitlines()) == 1


def test_nobody_there_is_told_with_what_to_do(folder: Folder) -> None:
    said = folder.run("limit", "scores.award", "1/s")
    assert said.returncode == 5
    assert "thence run" in said.stderr


def test_the_map_shows_what_is_used_of_a_limit_and_what_is_shed_and_why(folder: Folder) -> None:
    folder.environment["THENCE_LIMITS"] = "scores.award=1/min"
    folder.host("scores:scores")
    said = folder.run("map", "--seconds", "0.1")
    assert "scores.award: 0/s of 1/min" in said.stdout


def test_json_lines_slow_down_to_the_limit_of_their_type(folder: Folder) -> None:
    (folder.path / "slow.py").write_text(
        "from thence import Event, Service\n"
        "class Slow(Event, limit='20/s burst 1'):\n    number: int\n"
        "slow = Service('slow')\n"
        "@slow.on(Slow)\nasync def take(slow: Slow) -> None:\n    pass\n"
    )
    folder.host("slow:slow")
    text = "".join(f'{{"number": {number}}}\n' for number in range(10))
    said = folder.run("emit", "slow:Slow", "-", text=text)
    assert said.returncode == 0, said.stderr
    assert "10 emitted · 0 refused" in said.stderr
    (handler,) = [one for one in handlers(folder) if one["service"] == "slow"]
    assert handler["handled"] == 10
