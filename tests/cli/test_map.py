"""What ``thence map`` shows of limits, and of what was counted between two looks."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from tests.cli.processes import Folder

from thence import Event, Node, RateLimited
from thence.app.report import (
    AccountReport,
    EmittedReport,
    HandlerReport,
    NodeReport,
    RouteReport,
)
from thence.cli.map import _document, _lines, flows_between
from thence.histogram import Histogram, Recent, Totals

LIMIT = "50/s burst 1"


class Ticked(Event, limit=LIMIT):
    number: int


def report(
    *services: str,
    node: str = "",
    handlers: tuple[HandlerReport, ...] = (),
    shared: dict[str, tuple[str, ...]] | None = None,
    emitted: tuple[EmittedReport, ...] = (),
    lost: tuple[tuple[str, str, str, int], ...] = (),
) -> NodeReport:
    return NodeReport(
        node=node, name="web", pid=1, address="", ready=True, services=services, peers=(), handlers=handlers,
        emitted=emitted, routes=(), lost=lost, closures={}, invalid={}, bytes_written=0, service_limits=shared or {},
    )  # fmt: skip


def emitted(count: int, *limits: str) -> tuple[EmittedReport, ...]:
    return (EmittedReport("ticked", count, 0, limits),)


def shown(before: list[NodeReport], after: list[NodeReport]) -> list[str]:
    """The lines about event types of a map that was watched for two seconds."""
    return [line for line in _lines(before, after, [], [], 2.0) if line.startswith("ticked")]


def test_what_is_used_of_the_limit_of_a_type_is_shown_beside_what_it_stopped_and_why() -> None:
    reason, newer = f"limit {LIMIT}", "replaced by a newer one"
    before = report(emitted=emitted(1000, LIMIT), lost=(("ticked", "", reason, 7),))
    after = report(
        emitted=emitted(1098, LIMIT),
        lost=(
            ("ticked", "", reason, 207),
            ("ticked", "", newer, 60),
            ("ticked", "clocks", "no room", 10),
        ),
    )
    assert shown([before], [after]) == [
        f"ticked from web: 49/s of {LIMIT} · shed 100/s: {reason} · shed 30/s: {newer}"
    ]
    assert shown([after], [after]) == [f"ticked from web: 0/s of {LIMIT}"]


def test_replicas_that_emit_a_type_share_a_line_that_says_that_each_has_its_limit() -> None:
    before, after = (
        [
            report("clocks", node=node, emitted=emitted(count, "5/s", "90/min"))
            for node, count in counts.items()
        ]
        for counts in ({"one": 0, "two": 10}, {"one": 2, "two": 14})
    )
    assert shown(before, after) == ["ticked from clocks: 3.0/s of 2 × 5/s, 2 × 90/min"]


def hosting(
    node: str, counts: dict[str, int], *limits: str, shared: tuple[str, ...] = (), shed: int = 0
) -> NodeReport:
    """A replica of the service s, whose handlers have run so often."""
    handlers = tuple(
        HandlerReport("s", name, (), (), count, 0, {"why": shed}, 0, 0, (*limits, *shared))
        for name, count in counts.items()
    )
    return report("s", node=node, handlers=handlers, shared={"s": shared} if shared else {})


def map_of(before: list[NodeReport], after: list[NodeReport]) -> list[str]:
    """The lines about the service and its handlers of a map that was watched for two seconds."""
    lines = _lines(before, after, [], flows_between(before, after, 2.0), 2.0)
    return [line for line in lines if line.startswith("s") and "no events" not in line]


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ("100/s", "3 × 100/s"),
        ("100/s burst 3", "3 × 100/s burst 3"),
        ("100/s over all replicas", "100/s over all replicas"),
        ("5/s per player", "5/s per player"),
    ],
)
def test_what_replicas_use_together_is_shown_beside_what_they_may_use_together(
    limit: str, told: str
) -> None:
    before = [hosting(node, {"a": 0}, limit) for node in "123"]
    after = [hosting(node, {"a": 100}, limit) for node in "123"]
    assert map_of(before, after) == [f"s.a: 150/s of {told}"]


def test_a_limit_that_handlers_share_has_a_line_of_its_own() -> None:
    before = [hosting(node, {"a": 0, "b": 0}, shared=("100/s",)) for node in "123"]
    after = [hosting(node, {"a": 80, "b": 120}, shared=("100/s",)) for node in "123"]
    assert map_of(before, after) == ["s: 300/s of 3 × 100/s"]
    before = [hosting("1", {"a": 0, "b": 0}, "90/s", shared=("100/s",))]
    after = [hosting("1", {"a": 80, "b": 120}, "90/s", shared=("100/s",))]
    assert map_of(before, after) == [
        "s: 100/s of 100/s",
        "s.a: 40/s of 90/s",
        "s.b: 60/s of 90/s",
    ]


def test_limits_that_differ_between_replicas_are_all_shown() -> None:
    before = [hosting(node, {"a": 0}, "100/s") for node in "1234"]
    after = [
        *(hosting(node, {"a": 10}, "100/s") for node in "12"),
        hosting("3", {"a": 10}, "50/s"),
        hosting("4", {"a": 10}),
    ]
    assert map_of(before, after) == ["s.a: 20/s of 50/s and 2 × 100/s and off"]


def test_who_was_there_for_one_of_two_looks_only_is_not_taken_for_a_rush() -> None:
    stayed = [hosting("1", {"a": 50}, "100/s"), hosting("1", {"a": 70}, "100/s")]
    other = hosting("2", {"a": 9_000}, "100/s", shed=9_000)
    for before, after in (
        ([stayed[0]], [stayed[1], other]),
        ([stayed[0], other], [stayed[1]]),
    ):
        lines = _lines(before, after, [], [], 2.0)
        assert " 10 ev/s · failed 0/s · shed 0/s" in lines[0]
        (line,) = [line for line in lines if line.startswith("s.a")]
        assert line.startswith("s.a: 10/s of ")
        assert "shed" not in line
    sent = RouteReport("ticked", "s", "3", 9_000, 0)
    route = msgspec.structs.replace(report(node="2"), routes=(sent,))
    assert [flow.rate for flow in flows_between([], [route], 2.0)] in ([], [0.0])


def test_a_type_without_a_limit_takes_no_line() -> None:
    assert shown([report(emitted=emitted(0))], [report(emitted=emitted(100))]) == []


def test_the_map_of_a_live_mesh_shows_the_limits_of_what_its_nodes_emit(folder: Folder) -> None:
    folder.host("scores:scores")

    async def main() -> list[str]:
        async with Node(mesh=folder.environment["THENCE_MESH"], name="web") as node:
            looking = asyncio.gather(
                asyncio.to_thread(folder.run, "map", "--seconds", "0.5"),
                asyncio.to_thread(folder.run, "map", "--seconds", "0.1", "--json"),
            )
            number = 0
            while not looking.done():
                number += 1
                with suppress(RateLimited):
                    await node.emit(Ticked(number=number))
                await asyncio.sleep(0.002)
            return [said.stdout for said in await looking]

    text, document = asyncio.run(main())
    used, stopped = re.findall(
        rf"^ticked from web: (.+)/s of {LIMIT} · shed (.+)/s: limit {LIMIT}$", text, re.MULTILINE
    )[0]
    assert float(used) > 0
    assert float(stopped) > 0
    web: Any = next(node for node in json.loads(document)["nodes"] if node["name"] == "web")
    assert [(one["event"], one["limits"]) for one in web["emitted"]] == [("ticked", [LIMIT])]


def test_the_times_of_cascades_are_told_over_all_nodes() -> None:
    nodes: list[NodeReport] = []
    for node, seconds in {"one": [0.001] * 50, "two": [0.001] * 49 + [0.25]}.items():
        recent = Recent(lambda: 0.0)
        for one in seconds:
            recent.note(one)
        nodes.append(msgspec.structs.replace(report(node=node), cascades=recent.histogram()))
    nodes.append(report(node="old"))
    told = _lines(nodes, nodes, [], [], 1.0)[1]
    assert told == (
        "cascades: p50 1.0 ms · p99 1.0 ms · greatest 250 ms (100 sampled in the last minute)"
    )
    cascades = _document(nodes, [], [])["cascades"]
    assert (cascades["count"], cascades["greatest"]) == (100, 0.25)
    none = _lines([report()], [report()], [], [], 1.0)[1]
    assert none == "cascades: none sampled in the last minute"


def test_the_first_line_tells_the_p99_of_all_handlers_between_the_two_looks() -> None:
    def at(node: str, *seconds: float) -> NodeReport:
        totals = Totals()
        totals.note_all(list(seconds))
        ran = totals.histogram()
        account = AccountReport("ticked", len(seconds), 0, {}, 0, ran, Histogram())
        handler = HandlerReport("s", "h", (), (), len(seconds), 0, {}, 0, 0, accounts=(account,))
        return report("s", node=node, handlers=(handler,))

    before, after = [at("1", 9.0), at("2")], [at("1", 9.0, 0.25), at("2", *[0.001] * 60)]
    assert " ev/s · p99 262 ms · failed" in _lines(before, after, [], [], 1.0)[0]
    assert "p99" not in _lines(after, after, [], [], 1.0)[0]
