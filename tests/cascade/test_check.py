"""Each planted fault is found, and nothing else."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from tests.cascade.test_graph import EVENTS, handler

from thence import Budget, Service
from thence.cascade import declarations
from thence.cascade.catalogue import Catalogue, catalogue_of, changes
from thence.cascade.check import CheckReport, check
from thence.cascade.graph import graph_of
from thence.errors import ConfigurationError

FAULTY = "tests.cascade.faulty"


def services(module: str, *names: str) -> dict[str, Any]:
    loaded = importlib.import_module(f"{FAULTY}.{module}")
    found: list[Service] = [getattr(loaded, name) for name in names] or [
        one for one in vars(loaded).values() if isinstance(one, Service)
    ]
    return {service.name: service.handlers for service in found}


def found(report: CheckReport) -> list[tuple[str, str]]:
    return [(finding.level, finding.code) for finding in report.findings]


def test_a_clean_game_has_no_findings() -> None:
    report = check(services("clean"))
    assert report.findings == ()
    assert [one.root.event for one in report.roots] == ["clue_found"]
    assert report.catalogue is not None


@pytest.mark.parametrize(
    ("module", "names", "findings", "words"),
    [
        (
            "undeclared_loop",
            (),
            [("error", "undeclared-loop")],
            [
                "loop: scores.award → ranks.update → scores.award (by score_changed, rank_changed)",
                "scores.award and ranks.update",
                "max_loops=",
            ],
        ),
        (
            "half_declared_loop",
            (),
            [("error", "undeclared-loop")],
            ["comes back to ranks.update. If the loop is meant"],
        ),
        ("idle_max_loops", (), [("warning", "idle-max-loops")], ["scores.award has max_loops=3"]),
        (
            "fan_out",
            ("always",),
            [("error", "events-budget")],
            ["each zero starts 1,554 handlers", "allows 1,000", "Budget(events=1554)"],
        ),
        (
            "fan_out",
            ("perhaps",),
            [("warning", "events-budget")],
            ["zero may start 1,554 handlers", "allows 1,000"],
        ),
        (
            "chain",
            ("always",),
            [("error", "depth-budget")],
            ["each link0 goes 19 hops deep", "allows 16", "Budget(depth=19)"],
        ),
        (
            "chain",
            ("perhaps",),
            [("warning", "depth-budget")],
            ["link0 may go 19 hops deep", "Budget(depth=19)"],
        ),
        (
            "narrow_budget",
            (),
            [("warning", "events-budget"), ("warning", "depth-budget")],
            [
                "one run of scores.award causes may start 3 handlers, and its own budget allows 2",
                "2 hops deep, and its own budget allows 1",
            ],
        ),
        (
            "unheard",
            (),
            [("warning", "unheard")],
            ["nobody handles score_changed, which scores.award emits"],
        ),
        (
            "mismatched_policy",
            (),
            [("warning", "mismatched-policy")],
            [
                "ttl=5.0 in scores and 9.0 in ranks",
                "limit=['10/s'] in scores and [] in ranks",
                "priority='normal' in scores and 'low' in ranks",
            ],
        ),
        (
            "incompatible_schema",
            (),
            [("error", "incompatible")],
            ["scores → ranks", "'score_changed'", "'points'", "written as int and read as str"],
        ),
        (
            "incompatible_key",
            (),
            [("error", "incompatible")],
            ["scores → ranks", "'score_changed'", "'player'", "'hunt'", "same key="],
        ),
        (
            "incompatible_readers",
            ("scores", "hints"),
            [("error", "incompatible")],
            ["scores and hints", "'clue_found'", "'clue'", "does not reach the other"],
        ),
        (
            "incompatible_readers",
            ("scores", "sounds"),
            [("warning", "incompatible")],
            ["'loud'", "incompatible_readers.ClueFound does not reach sounds"],
        ),
        (
            "two_classes",
            (),
            [("error", "two-classes")],
            ["service scores has two events named 'clue_found'", "it can't start"],
        ),
        (
            "unresolved",
            (),
            [("error", "unresolved-annotation")],
            ["scores.award", "ScoreChanged", "import"],
        ),
    ],
)
def test_each_planted_fault_is_found(
    module: str, names: tuple[str, ...], findings: list[tuple[str, str]], words: list[str]
) -> None:
    report = check(services(module, *names))
    assert found(report) == findings
    said = "\n".join(f"{finding.message}\n{finding.fix}" for finding in report.findings)
    for word in words:
        assert word in said


def test_a_budget_that_is_shared_equally_may_not_suffice_for_a_long_branch() -> None:
    game = services("lopsided")
    report = check(game)
    assert found(report) == []
    (root,) = report.roots
    starts, needed = root.extent.starts, root.extent.credits
    assert starts < needed
    assert found(check(game, budget=Budget(events=needed))) == []
    short = check(game, budget=Budget(events=needed - 1))
    assert found(short) == [("warning", "shared-budget")]
    assert f"Budget(events={needed})" in short.findings[0].fix
    short = check(game, budget=Budget(events=starts - 1))
    assert found(short) == [("warning", "events-budget")]


def test_a_tangle_that_can_not_be_counted_is_a_warning_whatever_the_budget() -> None:
    everyone = EVENTS[:14]
    tangle = [
        handler(f"h{n}", [event], list[everyone[0] | everyone[1]], emits=everyone, max_loops=1)  # type: ignore[valid-type]
        for n, event in enumerate(everyone)
    ]
    report = check({"one": tangle}, budget=Budget(events=1_000_000_000))
    assert ("warning", "events-budget") in found(report)
    assert "more than" in report.findings[0].message


def test_a_loop_of_a_million_rounds_is_not_counted_to_its_end() -> None:
    patient = handler("ask", [EVENTS[0]], EVENTS[0] | None, max_loops=1_000_000)
    report = check({"one": [patient]}, budget=Budget(events=1_000_000_000))
    assert found(report) == [("warning", "events-budget"), ("warning", "depth-budget")]
    assert "more than" in report.findings[0].message


def test_no_budget_is_advised_that_can_not_be_given() -> None:
    deep = [handler(f"h{n}", [EVENTS[n]], EVENTS[n + 1]) for n in range(1500)]
    report = check({"one": deep, "other": deep})
    fixes = [one.fix for one in report.findings if one.code in ("events-budget", "depth-budget")]
    assert fixes == ["emit less", "shorten the chain"]


def test_a_policy_that_nobody_may_decide_alone_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(declarations.WHO_DECIDES, "ttl")
    report = check(services("mismatched_policy"))
    assert found(report) == [("error", "mismatched-policy"), ("warning", "mismatched-policy")]
    assert "ttl=5.0 in scores and 9.0 in ranks" in report.findings[0].message


def test_a_field_type_that_can_not_be_found_is_an_error() -> None:
    from thence import Event

    class Unknown(Event):
        what: Nothing  # type: ignore[name-defined]  # noqa: F821

    report = check({"one": [handler("take", [Unknown])]})
    assert found(report) == [("error", "unusable-event")]
    assert "Nothing" in report.findings[0].message
    assert report.catalogue is None


def test_without_services_there_is_nothing_to_find() -> None:
    report = check({})
    assert (report.roots, report.findings) == ((), ())


def test_changes_since_a_catalogue_are_told_by_how_grave_they_are() -> None:
    before = catalogue_of(graph_of(services("before")))
    report = check(services("after"), against=Catalogue.parse(before.to_json()))
    assert found(report) == [
        ("error", "changed-incompatibly"),
        ("error", "changed-incompatibly"),
        ("warning", "event-removed"),
        ("note", "event-added"),
        ("note", "policy-changed"),
        ("note", "changed-compatibly"),
    ]
    for finding, word in zip(
        report.findings,
        ("'points'", "'points'", "'removed'", "'added'", "ttl was 5.0 and is 6.0", "'team' added"),
        strict=True,
    ):
        assert word in finding.message
    assert "as saved" in report.findings[0].message
    assert "read as it is now by game" in report.findings[0].message


def test_nothing_has_changed_since_a_catalogue_of_the_same() -> None:
    same = catalogue_of(graph_of(services("incompatible_schema")))
    assert changes(same, same) == []


def test_what_could_not_meet_before_is_no_change() -> None:
    game = services("incompatible_schema")

    from thence import Event

    class Third(Event, name="score_changed"):
        player: str
        points: int
        team: str = ""

    before = catalogue_of(graph_of(game))
    after = catalogue_of(graph_of({**game, "teams": [handler("cheer", [Third])]}))
    assert [one.level for one in changes(before, after)] == ["note"]


def enum_of(*members: str) -> Catalogue:
    from enum import Enum

    from thence import Event

    colour: Any = Enum("Colour", {member: member for member in members})
    painted: Any = type(Event)(
        "Painted", (Event,), {"__module__": __name__, "__annotations__": {"colour": colour}}
    )
    return catalogue_of(graph_of({"walls": [handler("see", [painted])]}))


def test_old_and_new_services_read_each_other_while_they_are_replaced() -> None:
    (wider,) = changes(enum_of("red"), enum_of("red", "blue"))
    assert wider.level == "error"
    assert "Written as it is now" in wider.message
    (narrower,) = changes(enum_of("red", "blue"), enum_of("red"))
    assert "Written as saved" in narrower.message


@pytest.mark.parametrize(
    ("document", "word"),
    [
        (b"", "no catalogue"),
        (b"{}", "schema"),
        (b"\xff\xfe", "no catalogue"),
        (b"[" * 5000, "no catalogue"),
        (b'{"schema": "thence.catalogue/9", "events": []}', "thence.catalogue/9"),
        (b'{"schema": "thence.catalogue/1", "events": [], "more": 1}', "more"),
    ],
)
def test_what_is_no_catalogue_is_refused(document: bytes, word: str) -> None:
    with pytest.raises(ConfigurationError, match="save it again") as raised:
        Catalogue.parse(document)
    assert word in str(raised.value)


def test_a_catalogue_that_was_changed_by_hand_is_refused() -> None:
    text = catalogue_of(graph_of(services("before"))).to_json()
    with pytest.raises(ConfigurationError, match="'changed'"):
        Catalogue.parse(text.replace(b'"points"', b'"pints"'))
