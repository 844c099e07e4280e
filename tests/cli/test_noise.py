"""``thence noise``: what it shows, how it ends, and that it fits."""

from __future__ import annotations

import io
import json
import os
import signal
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.cli.processes import Folder, eventually

from thence.cli.exits import Exit
from thence.cli.noise_drawings import document, screen
from thence.observability.noise import EventNoise, HandlerNoise, LoopNoise, NodeNoise, together

CLUES = "".join(f'{{"hunt": "h", "player": "p{n}", "clue": {n}}}\n' for n in range(-10, 90))

LOOPING = """
from scores import ClueFound, ScoreChanged
from thence import Service

looping = Service("looping")

@looping.on(ScoreChanged)
async def again(change: ScoreChanged) -> ClueFound:
    return ClueFound(hunt="h", player=change.player, clue=1)
"""


def drawn(noise: Any, width: int, top: int = 5) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    for part in screen(noise, top):
        console.print(part)
    return out.getvalue().splitlines()


def busy(
    name: str = "scores-1", *, seconds: float = 60.0, before: float = 60.0, covered: float = 1.0
) -> NodeNoise:
    long = "a_rather_long_event_type_that_somebody_chose"
    return NodeNoise(
        name, name, ("scores",), seconds, before, covered,
        tuple(EventNoise(f"{long}_{n}", 10 ** n, n, None if n == 3 else 30.0 * 10 ** n) for n in range(7)),
        (
            HandlerNoise("scores.award_points_for_clues", (long, f"{long}_1"), 60_000, 60, 120_120.0),
            HandlerNoise("scores.seldom", (long,), 6, 0, 60.0),
            HandlerNoise("scores.unknown", (long,), 6, 0, None),
        ),
        ((f"{long} for notifications", "limit 1/s per player burst 2, stopped at its source", 123_456),),
        (LoopNoise("scores.award → ranks.update → scores.award", 12, "enforce"),),
    )  # fmt: skip


@pytest.mark.parametrize("width", [80, 160])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(width: int) -> None:
    lines = drawn(
        together(60, [busy(), busy("scores-2", seconds=5, covered=0.004)], ["web"]), width
    )
    assert all(cell_len(line) <= width for line in lines)
    text = "\n".join(lines)
    for figure in ("216,667", "246,912", "× 2.00", "24 times"):
        assert figure in text
    assert not [line for line in lines if "…" in line[1:]]


def test_nothing_is_silently_empty() -> None:
    quiet = NodeNoise("one", "one", (), 60.0, 60.0, 1.0)
    text = "\n".join(drawn(together(60, [quiet], []), 160))
    assert "no events in the last 60 s" in text
    assert "not handled: nothing was shed" in text
    assert "loops: none" in text
    assert "1 of 1 nodes answered" in text


def test_what_is_not_known_and_what_is_estimated_is_said() -> None:
    nodes = [busy(), busy("scores-2", seconds=5, before=0), busy("scores-3", covered=0.25)]
    text = "\n".join(drawn(together(60, nodes, ["web"]), 160, top=20))
    assert "3 of 4 nodes answered · silent, and in none of these figures: web" in text
    assert "of the time they had: scores-2 5 s" in text
    assert (
        "estimated from those events of the window that are still remembered: scores-3 25%" in text
    )
    assert any("scores.unknown" in line and line.count("?") == 2 for line in text.splitlines())
    young = "\n".join(drawn(together(60, [busy(seconds=5, before=0)], []), 160))
    assert "growing fastest: not known yet" in young


def test_many_nodes_are_told_by_the_least_and_the_greatest() -> None:
    nodes = [busy(f"n{n}", seconds=5 + n, before=0) for n in range(9)]
    text = " ".join(drawn(together(60, nodes, []), 160))
    assert "9 nodes, from 5 s (n0) to 13 s (n8)" in text


def test_a_handler_that_amplifies_is_shown_though_others_emit_more() -> None:
    text = "\n".join(drawn(together(60, [busy()], []), 160, top=1))
    _, _, below = text.partition("most consequences for each event\n")
    assert "scores.seldom" in below.splitlines()[1]
    assert "× 10.00" in below.splitlines()[1]


def test_the_document_says_how_many_rows_there_are() -> None:
    told = document(together(60, [busy()], ["web"]), 2)
    assert (told["schema"], told["complete"], told["silent"]) == ("thence.noise/1", False, ["web"])
    assert len(told["talkers"]) == 2
    assert told["rows"]["talkers"] == 7
    assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--window", "60"), "a number and a unit"),
        (("--window", "2min"), "give 1s to 60s"),
        (("--window", "10ms"), "give 1s to 60s"),
        (("--top", "0"), "give at least 1"),
    ],
)
def test_a_wrong_argument_is_named_with_what_would_be_right(
    folder: Folder, arguments: tuple[str, ...], said: str
) -> None:
    done = folder.run("noise", *arguments)
    assert done.returncode == Exit.USAGE
    assert done.stderr.startswith(f"thence: {arguments[0]} {arguments[1]}")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_there_is_an_error_that_says_what_to_do(folder: Folder) -> None:
    done = folder.run("noise")
    assert done.returncode == Exit.NOBODY
    assert "start a service with 'thence run" in done.stderr


def test_a_live_mesh_tells_at_once_who_talks_fails_loops_and_is_silent(folder: Folder) -> None:
    (folder.path / "looping.py").write_text(LOOPING)
    folder.host("scores:scores")
    folder.host("looping:looping")
    silent = folder.host("ranks:ranks")
    assert folder.run("emit", "scores:ClueFound", "-", text=CLUES).returncode == 0

    def noise() -> Any:
        return json.loads(folder.run("noise", "--window", "60s", "--json").stdout)

    eventually(lambda: sum(one["count"] for one in noise()["loops"]) >= 90)
    told = noise()
    talkers = {(one["event"], one["source"]): one["count"] for one in told["talkers"]}
    assert talkers == {("score_changed", "scores"): 90, ("clue_found", "looping"): 90}
    award = next(one for one in told["handlers"] if one["place"] == "scores.award")
    assert (award["handled"], award["failed"]) == (90, 10)
    assert award["amplification"] == pytest.approx(0.9)
    (loop,) = told["loops"]
    assert loop["loop"] == "scores.award → looping.again → scores.award"
    assert (loop["count"], loop["cut"]) == (90, 90)
    assert [(one["place"], one["reason"], one["count"]) for one in told["shed"]] == [
        ("scores.award", "loop", 90)
    ]
    shown = folder.run("noise", "--window", "60s")
    assert shown.returncode == Exit.DONE
    assert "scores.award → looping.again → scores.award  90 times" in shown.stdout

    stopped = next(
        one
        for one in json.loads(folder.run("map", "--json").stdout)["nodes"]
        if one["services"] == ["ranks"]
    )
    os.kill(stopped["pid"], signal.SIGSTOP)
    try:
        part = folder.run("noise")
    finally:
        os.kill(stopped["pid"], signal.SIGCONT)
    assert part.returncode == Exit.PARTIAL
    assert (
        f"2 of 3 nodes answered · silent, and in none of these figures: {stopped['name']}"
        in part.stdout
    )
    assert silent.poll() is None
