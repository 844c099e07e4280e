"""What a mesh declares against what it does."""

from __future__ import annotations

import asyncio

import pytest

from thence import Event, Node, SchemaMismatch, Service
from thence.app.drift import Drift, Finding, Kind, drift
from thence.app.report import EmittedReport, HandlerReport, NodeReport
from thence.observability.sightings import Sightings
from thence.testing import run


def handler(
    name: str, events: tuple[str, ...], emits: tuple[str, ...] = (), handled: int = 0
) -> HandlerReport:
    return HandlerReport("s", name, events, emits, handled, 0, {}, 0, 0)


def report(
    *handlers: HandlerReport,
    node: str = "one",
    emitted: dict[str, int] | None = None,
    unheard: dict[str, int] | None = None,
    lost: tuple[tuple[str, str, str, int], ...] = (),
    schemas: dict[str, str] | None = None,
) -> NodeReport:
    return NodeReport(
        node=node, name=node, pid=1, address="", ready=True, services=("s",) if handlers else (), peers=(),
        handlers=handlers, routes=(), lost=lost, closures={}, invalid={}, bytes_written=0, schemas=schemas or {},
        emitted=tuple(
            EmittedReport(event, count, (unheard or {}).get(event, 0))
            for event, count in (emitted or {}).items()
        ),
    )  # fmt: skip


def sightings(
    *emits: tuple[str, str],
    handles: tuple[tuple[str, str], ...] = (),
    node: str = "one",
    age: float = 100.0,
    seconds: float = 100.0,
    undeclared: tuple[tuple[str, int, str], ...] = (),
) -> Sightings:
    return Sightings(node, node, age, seconds, emits, handles, undeclared)


def found(kind: Kind, told: Drift) -> list[Finding]:
    return [one for one in told.findings if one.kind == kind]


def test_where_all_that_is_declared_was_seen_there_is_no_drift() -> None:
    told = drift(
        [report(handler("a", ("asked",), ("told",), 3), emitted={"told": 3, "asked": 3})],
        [sightings(("s.a", "told"), handles=(("s.a", "asked"),))],
        [],
    )
    assert (told.findings, told.declared, told.seen, told.silent) == ([], 2, 2, [])


def test_what_was_never_emitted_since_the_start_is_named_with_how_often_its_handler_ran() -> None:
    told = drift(
        [
            report(handler("a", ("asked",), ("told", "shown"), 3), emitted={"told": 3, "asked": 9}),
            report(handler("a", ("asked",), ("told", "shown"), 4), node="two", emitted={"told": 4}),
        ],
        [sightings(("s.a", "told"), age=50), sightings(("s.a", "told"), node="two", age=30)],
        [],
    )
    (one,) = told.findings
    assert (one.kind, one.place, one.event, one.seconds) == ("never emitted", "s.a", "shown", 30)
    assert one.detail == "not since its start; it has run 7 times"


def test_what_only_one_handler_may_emit_was_seen_by_the_counters_if_the_rings_have_forgotten() -> (
    None
):
    one = report(handler("a", ("asked",), ("told",), 3), emitted={"told": 3, "asked": 3})
    assert not drift([one], [sightings(seconds=5)], []).findings
    # If they have not, it came from elsewhere.
    assert [f.event for f in drift([one], [sightings()], []).findings] == ["told"]


def test_where_others_may_have_emitted_it_too_only_the_rings_tell() -> None:
    both = report(
        handler("a", ("asked",), ("told",), 3),
        handler("b", ("asked",), ("told",), 3),
        emitted={"told": 3, "asked": 3},
    )
    told = drift([both], [sightings(("s.a", "told"), seconds=5)], [])
    (one,) = told.findings
    assert (one.place, one.event, one.seconds) == ("s.b", "told", 5)
    assert "as far as is remembered" in one.detail


def test_where_nothing_is_remembered_it_is_not_known_which_of_several_handlers_emits() -> None:
    both = report(
        handler("a", ("asked",), ("told",), 3),
        handler("b", ("asked",), ("told",), 3),
        emitted={"told": 3, "asked": 3},
    )
    unsure = drift([both], [sightings(seconds=0)], []).findings
    assert [one.place for one in unsure] == ["s.a", "s.b"]
    assert all(one.detail.startswith("not known") for one in unsure)
    # A single one it must have been.
    one = report(handler("a", ("asked",), ("told",), 3), emitted={"told": 3, "asked": 3})
    assert not drift([one], [sightings(seconds=0)], []).findings


def test_a_subscription_to_what_nobody_emits_has_never_been_of_use() -> None:
    told = drift(
        [
            report(handler("a", ("asked", "shown"), handled=3), emitted={"asked": 3}),
            report(handler("b", ("asked",), ("shown",), 3), node="two"),
        ],
        [sightings(), sightings(node="two")],
        [],
    )
    (one,) = found("never arrived", told)
    assert (one.place, one.event) == ("s.a", "shown")
    assert one.detail == "declared by s.b, and not emitted so far"


def test_events_of_nodes_that_have_left_were_seen_where_they_arrived() -> None:
    handled = report(handler("a", ("asked",), handled=3), handler("b", ("asked", "shown")))
    told = drift([handled], [sightings(handles=(("s.b", "asked"),))], [])
    assert [(one.place, one.event) for one in told.findings] == [("s.b", "shown")]
    assert "no node has emitted it" in told.findings[0].detail


def test_what_is_wanted_by_nobody_is_named_and_what_was_early_is_not() -> None:
    told = drift(
        [
            report(handler("a", ("asked",), handled=1)),
            report(
                node="web", emitted={"asked": 9, "lonely": 5}, unheard={"asked": 2, "lonely": 5}
            ),
        ],
        [sightings(), sightings(node="web", age=7)],
        [],
    )
    (one,) = told.findings
    assert (one.kind, one.place, one.event, one.count) == ("unheard", "web", "lonely", 5)
    assert one.seconds == 7


def test_what_is_refused_as_incompatible_is_named() -> None:
    lost = (("asked", "s", "schema", 4), ("asked", "s", "no room", 2))
    told = drift([report(node="web", lost=lost)], [sightings(node="web")], [])
    (one,) = told.findings
    assert (one.kind, one.place, one.event, one.count) == ("incompatible", "web", "asked", 4)


def test_versions_of_an_event_type_are_told_with_who_has_them() -> None:
    nodes = [
        report(node=node, schemas={"asked": print_, "told": "same"})
        for node, print_ in {"one": "aa", "two": "bb", "six": "aa"}.items()
    ]
    (one,) = drift(nodes, [sightings(node=n.node) for n in nodes], []).findings
    assert (one.kind, one.event, one.nodes) == (
        "versions",
        "asked",
        {"aa": ["one", "six"], "bb": ["two"]},
    )


def test_replicas_that_declare_different_things_are_told_apart() -> None:
    nodes = [
        report(handler("a", ("asked",), emits, 1), node=node, emitted={"asked": 1, "told": 1})
        for node, emits in {"one": ("told",), "two": ()}.items()
    ]
    told = drift(nodes, [sightings(("s.a", "told")), sightings(node="two")], [])
    (one,) = told.findings
    assert (one.kind, one.place) == ("declarations", "s.a")
    assert one.nodes == {"asked → nothing": ["two"], "asked → told": ["one"]}


def test_failures_for_want_of_a_declaration_are_added_up_over_replicas() -> None:
    error = "UndeclaredEvent: handler 'a' emitted Told"
    told = drift(
        [],
        [
            sightings(undeclared=(("s.a", 2, error),)),
            sightings(node="two", undeclared=(("s.a", 3, error),), seconds=4),
        ],
        [],
    )
    assert told.findings == [Finding("undeclared", "s.a", "", 5, 4, error)]


def test_a_node_that_told_one_half_only_is_silent_too() -> None:
    told = drift([report(node="one"), report(node="two")], [sightings()], ["six"])
    assert (told.answered, told.silent) == (["one", "two"], ["six", "two"])


class Found(Event, name="found"):
    clue: int


class OtherFound(Event, name="found"):
    clue: str


@pytest.mark.parametrize("kind", ["incompatible", "versions"])
def test_nodes_that_understand_different_things_by_a_type_are_found(kind: Kind) -> None:
    service = Service("clues")

    @service.on(OtherFound, name="note")
    async def note(found: OtherFound) -> None: ...

    async def main() -> Drift:
        async with (
            Node(service, mesh="memory:drift", name="reader"),
            Node(mesh="memory:drift", name="writer") as writer,
            Node(mesh="memory:drift") as asking,
        ):
            while len(asking.report().peers) < 2:
                await asyncio.sleep(0.01)
            with pytest.raises(SchemaMismatch):
                await writer.emit(Found(clue=1))
            reports, silent = await asking.ask_peers()
            seen, _ = await asking.ask_sightings()
            return drift(reports, seen, silent)

    (one,) = found(kind, run(main()))
    assert one.event == "found"
    if kind == "versions":
        assert sorted(one.nodes.values()) == [["reader"], ["writer"]]
    else:
        assert (one.place, one.count) == ("writer", 1)
