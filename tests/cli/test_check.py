"""``thence check`` as a command line: what it prints, and how it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.cli.processes import Folder

from thence import Event, Service
from thence.cli.application import run_command
from thence.cli.cascade_drawings import DEEPEST, dot, mermaid
from thence.cli.demo.game import SERVICES

FAULTY = "tests.cascade.faulty"
HUNT = [f"treasure_hunt.{service}:{service}" for service in sorted({*SERVICES, "players"})]
LOOP = [f"{FAULTY}.undeclared_loop:scores", f"{FAULTY}.undeclared_loop:ranks"]


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Command:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Said:
        code = run_command(["check", *map(str, arguments)])
        return Said(code, *self._capsys.readouterr())


@pytest.fixture
def checked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(Path(__file__).parents[2])
    return Command(capsys)


def test_the_treasure_hunt_is_clean_and_shown_as_a_tree(checked: Command) -> None:
    said = checked(*HUNT)
    assert (said.code, said.err) == (0, "")
    assert re.search(
        r"^player_moved  root · at most \d+ handlers · \d+ hops$", said.out, re.MULTILINE
    )
    assert "└─▶ clues.look_around ── clue_found ×n, unbounded\n   ├─▶ " in said.out
    assert "── score_changed, as above" in said.out
    assert re.fullmatch(
        r"9 services, \d+ handlers, \d+ events, deepest cascade \d+ hops, "
        r"at most \d+ handler starts with one event a list: no problems",
        said.out.splitlines()[-1],
    )


def test_quiet_leaves_one_line_if_there_is_nothing_to_tell(checked: Command) -> None:
    said = checked("--quiet", f"{FAULTY}.clean:scores", f"{FAULTY}.clean:bonuses")
    assert said == (
        0,
        "2 services, 3 handlers, 3 events, deepest cascade 6 hops, at most 7 handler starts: no problems\n",
        "",
    )


def test_a_loop_is_an_error_that_is_drawn_and_told_with_its_fix(checked: Command) -> None:
    said = checked(*LOOP)
    assert (said.code, said.err) == (1, "")
    assert said.out.splitlines() == [
        "services: scores, ranks",
        "",
        "rank_changed  in a loop · at most 2 handlers · 1 hop",
        "└─▶ scores.award ── score_changed",
        "   └─▶ ranks.update ── rank_changed ↺ back to it",
        "",
        "error: loop: scores.award → ranks.update → scores.award (by score_changed, rank_changed)",
        (
            "    fix: a cascade is cut when it comes back to scores.award and ranks.update. If the loop is meant, "
            "say how often it may come back with max_loops=... there; else emit another event"
        ),
        "",
        "2 services, 2 handlers, 2 events, deepest cascade 1 hop, at most 2 handler starts: 1 error",
    ]


def test_warnings_alone_do_not_fail(checked: Command) -> None:
    said = checked("--quiet", f"{FAULTY}.unheard:scores")
    assert said.code == 0
    assert "warning: nobody handles score_changed" in said.out
    assert said.out.endswith(": 1 warning\n")


def test_a_budget_may_be_given(checked: Command) -> None:
    clean = [f"{FAULTY}.clean:scores", f"{FAULTY}.clean:bonuses"]
    assert "starts" not in checked("--quiet", *clean).out.replace("handler starts", "")
    assert "allows 3" in checked("--quiet", *clean, "--budget-events", "3").out
    assert "hops deep, and the budget allows 2" in checked(*clean, "--budget-depth", "2").out
    said = checked(*clean, "--budget-events", "0")
    assert said.code == 2
    assert "Budget(events=0)" in said.err


def test_programs_get_one_document(checked: Command) -> None:
    said = checked("--json", *LOOP)
    document = json.loads(said.out)
    assert said.code == 1
    assert document["schema"] == "thence.check/1"
    assert (document["ok"], document["errors"], document["warnings"]) == (False, 1, 0)
    (finding,) = document["findings"]
    assert finding["code"] == "undeclared-loop"
    assert finding["subjects"] == ["scores.award", "ranks.update", "score_changed", "rank_changed"]
    assert document["roots"][0]["event"] == "rank_changed"
    assert document["handlers"][1] == {
        "service": "ranks",
        "handler": "update",
        "events": ["score_changed"],
        "emits": [{"event": "rank_changed", "many": False, "certain": True}],
        "max_loops": 0,
        "in_loop": True,
    }
    assert {"event": "rank_changed", "emitted_by": ["ranks"], "handled_by": ["scores"]} in document[
        "events"
    ]


def test_a_catalogue_is_saved_and_later_versions_are_held_against_it(
    checked: Command, tmp_path: Path
) -> None:
    path = tmp_path / "catalogue.json"
    before, after = f"{FAULTY}.before:before", f"{FAULTY}.after:after"
    said = checked(before, "--save", path)
    assert (said.code, said.err) == (0, f"catalogue saved to {path}\n")
    document = json.loads(path.read_bytes())
    assert document["schema"] == "thence.catalogue/1"
    entry = next(event for event in document["events"] if event["name"] == "changed")
    assert entry["fields"][1] == {"name": "points", "type": "int", "required": True, "members": []}
    assert entry["handled_by"] == ["game"]
    assert entry["policy"]["max_bytes"] == 65_536
    text = path.read_bytes()
    assert checked(before, "--against", path, "--save", path).code == 0
    assert path.read_bytes() == text
    said = checked("--quiet", after, "--against", path, "--save", path)
    assert said.code == 1
    assert "Event 'changed': field 'points' is written as int and read as str" in said.out
    assert said.err == f"catalogue not saved to {path}, because of the errors\n"
    assert path.read_bytes() == text
    assert [one.name for one in tmp_path.iterdir()] == ["catalogue.json"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "name at least one service"),
        (["scores"], 2, "MODULE:SERVICE"),
        (["nowhere:scores"], 3, "no module 'nowhere'"),
        ([f"{FAULTY}.clean:ClueFound"], 2, "is not a Service"),
        ([LOOP[0], f"{FAULTY}.clean:scores"], 2, "two services named 'scores'"),
        ([*LOOP, "--against", "nowhere.json"], 2, "No such file"),
        ([*LOOP, "--against", "README.md"], 2, "no catalogue"),
        ([*LOOP, "--against", "pyproject.toml/x"], 2, "Not a directory"),
        ([f"{FAULTY}.clean:scores", "--save", "nowhere/x.json"], 2, "No such file"),
        ([*LOOP, "--graph", "mermaid", "--json"], 2, "one of them"),
        ([*LOOP, "--graph", "svg"], 2, ""),
    ],
)
def test_wrong_usage_gets_one_line_that_names_the_fix(
    checked: Command, arguments: list[str], code: int, words: str
) -> None:
    said = checked(*arguments)
    assert said.code == code
    assert words in said.err
    assert "Traceback" not in said.err
    if words:
        assert said.out == ""
        assert len(said.err.splitlines()) == 1


def test_the_same_service_named_twice_is_checked_once(checked: Command) -> None:
    clean = f"{FAULTY}.unheard:scores"
    assert "1 service, 1 handler" in checked("--quiet", clean, clean).out


def test_a_service_without_handlers_has_no_cascades(
    checked: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.cascade.faulty import clean

    monkeypatch.setattr(clean, "scores", Service("idle"))
    said = checked("--quiet", f"{FAULTY}.clean:scores")
    assert said == (0, "1 service, 0 handlers, 0 events: no problems\n", "")


def test_a_deep_chain_is_drawn_as_far_as_a_screen_is_wide(
    checked: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.cascade.faulty import clean

    deep = Service("deep")
    events: list[Any] = [
        type(Event)(f"Deep{number}", (Event,), {"__module__": __name__}) for number in range(3000)
    ]
    for handled, emitted in zip(events, [*events[1:], None], strict=True):

        async def pass_on(event: Event) -> None: ...

        pass_on.__annotations__["return"] = emitted
        deep.on(handled, name=f"pass_{handled.__name__}")(pass_on)
    monkeypatch.setattr(clean, "scores", deep)
    said = checked(f"{FAULTY}.clean:scores")
    assert said.code == 1
    assert len(re.findall("─▶", said.out)) == DEEPEST
    assert "└─ … and deeper" in said.out


def strange() -> Any:
    from thence.cascade.graph import graph_of

    class Odd(Event, name='o"d\\d<&#;]`'): ...

    service = Service("odd.one-1")

    @service.on(Odd, name='a "b"\\n\nc [x](y) --> z%%')
    async def handle(odd: Odd) -> list[Odd]: ...

    return graph_of({"odd.one-1": service.handlers})


def test_mermaid_is_made_of_simple_lines_whatever_the_names(checked: Command) -> None:
    text = r"\"[\w #;-]*\""
    line = re.compile(
        rf"flowchart LR|    subgraph s\d+\[{text}\]|        h\d+\[{text}\]|    end"
        rf"|    e\d+\(\[{text}\]\)|    e\d+ --> h\d+|    h\d+ -->(\|n\|)? e\d+"
    )
    for drawn in (mermaid(strange()), checked("--graph", "mermaid", *HUNT).out.rstrip()):
        for one in drawn.splitlines():
            assert line.fullmatch(one), one
    assert 'e0(["o#34;d#92;d#60;#38;#35;#59;#93;#96;"])' in mermaid(strange())


def test_dot_is_made_of_simple_lines_whatever_the_names(checked: Command) -> None:
    text = r'"(?:[^"\\\n]|\\.)*"'
    line = re.compile(
        rf"digraph cascades {{|    rankdir=LR;|    node \[shape=box\];|    subgraph cluster_\d+ {{"
        rf"|        label={text};|        h\d+ \[label={text}\];|    }}|}}"
        rf"|    e\d+ \[label={text}, shape=ellipse\];|    e\d+ -> h\d+;"
        rf'|    h\d+ -> e\d+( \[label="n"\])?;'
    )
    for drawn in (dot(strange()), checked("--graph", "dot", *HUNT).out.rstrip()):
        for one in drawn.splitlines():
            assert line.fullmatch(one), one
    assert r'[label="o\"d\\d<&amp;#;]`", shape=ellipse]' in dot(strange())


def test_a_graph_comes_alone_and_findings_go_elsewhere(checked: Command) -> None:
    said = checked("--graph", "dot", *LOOP)
    assert said.code == 1
    assert said.out.startswith("digraph")
    assert said.out.endswith("}\n")
    assert "error: loop" in said.err


def test_a_process_of_its_own_finds_services_in_its_folder(folder: Folder) -> None:
    said = folder.run("check", "scores:scores", "ranks:ranks", "--mesh", "local")
    assert said.returncode == 0, said.stderr
    assert "clue_found  root · at most 2 handlers · 1 hop" in said.stdout
    said = folder.run("check", "scores:scores", "--quiet")
    assert "warning: nobody handles score_changed" in said.stdout
    said = folder.run("check", "--help")
    for word in ("--mesh", "--json", "--against", "--save", "--graph", "max_loops=0", "unbounded"):
        assert word in said.stdout
