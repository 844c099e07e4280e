"""What ``thence map`` shows of the limits of event types."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from typing import Any

from tests.cli.processes import Folder

from thence import Event, Node, RateLimited
from thence.app.report import EmittedReport, NodeReport
from thence.cli.map import _lines

LIMIT = "50/s burst 1"


class Ticked(Event, limit=LIMIT):
    number: int


def report(
    *services: str,
    emitted: tuple[EmittedReport, ...],
    lost: tuple[tuple[str, str, str, int], ...] = (),
) -> NodeReport:
    return NodeReport(
        node="", name="web", pid=1, address="", ready=True, services=services, peers=(), handlers=(),
        emitted=emitted, routes=(), lost=lost, closures={}, invalid={}, bytes_written=0,
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
    before = [report("clocks", emitted=emitted(count, "5/s", "90/min")) for count in (0, 10)]
    after = [report("clocks", emitted=emitted(count, "5/s", "90/min")) for count in (2, 14)]
    assert shown(before, after) == ["ticked from clocks: 3.0/s of 5/s, 90/min on each of 2 nodes"]


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
