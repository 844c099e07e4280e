"""``thence map --drift``: what it shows, how it ends, and that it fits."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.cli.processes import Folder, eventually

from thence.app.drift import Drift, Finding
from thence.cli.drift_drawings import HEADINGS, drift_document, drift_lines
from thence.cli.exits import Exit

DRIFTING = """
from thence import Context, Event, Service
from scores import ScoreChanged

class ClueFound(Event, key="player"):
    hunt: str
    player: str
    clue: int
    hint: str = ""

class Cheered(Event):
    player: str

class Sighed(Event):
    player: str

drifting = Service("drifting")

@drifting.on(ClueFound)
async def cheer(found: ClueFound) -> Cheered | Sighed:
    return Cheered(player=found.player)

@drifting.on(ScoreChanged)
async def smuggle(change: ScoreChanged, ctx: Context) -> None:
    ctx.emit(Sighed(player=change.player))
"""


def drawn(drift: Drift, width: int) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    for line in drift_lines(drift):
        console.print(line)
    return out.getvalue().splitlines()


def full() -> Drift:
    long = "a_rather_long_event_type_that_somebody_chose"
    nodes = {"0123456789abcdef": [f"scores-{n}" for n in range(9)], "fedcba9876543210": ["ranks-1"]}
    findings = [
        Finding(kind, "scores.award_points", long, 1234, 66.0, "because of something", nodes)
        for kind in HEADINGS
    ]
    return Drift(20, 12, findings, ["ranks-1"], ["web"], 12.0, 300.0)


@pytest.mark.parametrize("width", [80, 160])
def test_each_kind_of_drift_has_its_place_and_fits(width: int) -> None:
    lines = drawn(full(), width)
    assert all(cell_len(line) <= width for line in lines)
    text = " ".join(lines)
    assert all(heading in lines for heading in HEADINGS.values())
    assert "12 of 20 declared emits and subscriptions were seen" in text
    assert "scores-5 and 3 more" in text
    assert "silent: web" in text
    assert "no drift" not in text


def test_nothing_is_silently_empty() -> None:
    assert "no drift: all that is declared was seen" in " ".join(
        drawn(Drift(2, 2, [], ["one"], [], 9.0, 9.0), 160)
    )
    assert "no handlers: start a service" in " ".join(
        drawn(Drift(0, 0, [], ["one"], [], 9.0, 9.0), 160)
    )
    assert "nobody answered" in " ".join(drawn(Drift(0, 0, [], [], ["one"], 0.0, 0.0), 160))


def test_the_document_is_whole() -> None:
    told = json.loads(json.dumps(drift_document(full())))
    assert (told["schema"], told["drift"], told["complete"]) == ("thence.drift/1", True, False)
    assert {one["kind"] for one in told["findings"]} == set(HEADINGS)


def test_nobody_there_is_an_error_that_says_what_to_do(folder: Folder) -> None:
    done = folder.run("map", "--drift")
    assert done.returncode == Exit.NOBODY
    assert "start a service with 'thence run" in done.stderr


def test_a_live_mesh_tells_where_it_does_other_things_than_it_declares(folder: Folder) -> None:
    (folder.path / "drifting.py").write_text(DRIFTING)
    folder.host("scores:scores")
    folder.host("drifting:drifting")
    clue = '{"hunt": "h", "player": "ana", "clue": 1}'
    assert folder.run("emit", "scores:ClueFound", clue).returncode == 0

    def findings() -> dict[str, Any]:
        done = folder.run("map", "--drift", "--json")
        assert done.returncode == Exit.DONE
        return {one["kind"]: one for one in json.loads(done.stdout)["findings"]}

    eventually(lambda: {"undeclared", "unheard"} <= findings().keys())
    found = findings()
    assert set(found) == {"never emitted", "undeclared", "unheard", "versions"}
    never = found["never emitted"]
    assert (never["place"], never["event"]) == ("drifting.cheer", "sighed")
    undeclared = found["undeclared"]
    assert (undeclared["place"], undeclared["count"]) == ("drifting.smuggle", 1)
    assert "emitted Sighed" in undeclared["detail"]
    assert (found["unheard"]["event"], found["unheard"]["count"]) == ("cheered", 1)
    versions = found["versions"]
    assert versions["event"] == "clue_found"
    assert sorted(name.split("-")[0] for names in versions["nodes"].values() for name in names) == [
        "drifting",
        "scores",
    ]
    shown = folder.run("map", "--drift").stdout
    assert "drifting.cheer → sighed" in shown
    assert "several versions of one event type" in shown
