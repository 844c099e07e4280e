"""``thence map``: who is there, and what flows between them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from thence.app.node import Node
from thence.app.report import NodeReport
from thence.cli.exits import CommandError, Exit
from thence.cli.options import Debug, Json, Mesh, run_loop

__all__ = ["Flow", "flows_between", "map_mesh"]


class Flow(msgspec.Struct, frozen=True):
    """What goes from one service, or a node without any, to another."""

    source: str
    event: str
    target: str
    rate: float
    """Events a second."""


def map_mesh(
    *,
    seconds: Annotated[float, Parameter(help="How long to watch, for the rates.")] = 1.0,
    mesh: Mesh = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show the mesh: its services and replicas, and the events between them with their rates.

    Exit code 4: some peers did not answer, and are named. 5: nobody is there.
    """
    if seconds <= 0:
        raise CommandError(f"--seconds {seconds:g}: give a time above zero", Exit.USAGE)
    return run_loop(_map(seconds, mesh, json))


async def _map(seconds: float, mesh: str | None, as_json: bool) -> int:
    async with Node(mesh=mesh, name="thence map") as node:
        before, _ = await node.ask_peers()
        began = time.monotonic()
        await asyncio.sleep(seconds)
        after, silent = await node.ask_peers()
        elapsed = time.monotonic() - began
    if not after and not silent:
        raise CommandError(
            "nobody is on this mesh: start a service with 'thence run MODULE:SERVICE', or name another mesh "
            "with --mesh",
            Exit.NOBODY,
        )
    flows = flows_between(before, after, elapsed)
    if as_json:
        print(json.dumps(_document(after, silent, flows)))
    else:
        print("\n".join(_lines(before, after, silent, flows, elapsed)))
    if not after:
        return Exit.NOBODY
    return Exit.PARTIAL if silent else Exit.DONE


def flows_between(before: list[NodeReport], after: list[NodeReport], seconds: float) -> list[Flow]:
    """The flows of a mesh from two rounds of reports, the busiest first."""
    sent: Counter[tuple[str, str, str]] = Counter()
    for sign, reports in ((1, after), (-1, before)):
        for report in reports:
            source = "+".join(report.services) or report.name
            for route in report.routes:
                sent[source, route.event, route.service] += sign * route.sent
    wanted = {
        (source, event, target)
        for source, event in _declared(after)
        for target in _listeners(after, event)
    }
    flows = [
        Flow(source, event, target, max(0.0, sent[source, event, target] / seconds))
        for source, event, target in wanted | set(sent)
    ]
    return sorted(flows, key=lambda flow: (-flow.rate, flow.source, flow.event, flow.target))


def _declared(reports: list[NodeReport]) -> set[tuple[str, str]]:
    return {
        ("+".join(report.services), event)
        for report in reports
        for handler in report.handlers
        for event in handler.emits
    }


def _listeners(reports: list[NodeReport], event: str) -> set[str]:
    return {
        handler.service
        for report in reports
        for handler in report.handlers
        if event in handler.events
    }


def _replicas(reports: list[NodeReport]) -> Counter[str]:
    return Counter(service for report in reports for service in report.services)


def _lines(
    before: list[NodeReport],
    after: list[NodeReport],
    silent: list[str],
    flows: list[Flow],
    seconds: float,
) -> list[str]:
    replicas = _replicas(after)

    def count(reports: list[NodeReport], what: str) -> int:
        if what == "shed":
            return sum(sum(handler.shed.values()) for r in reports for handler in r.handlers)
        return sum(getattr(handler, what) for r in reports for handler in r.handlers)

    def rate(what: str) -> float:
        return max(0.0, (count(after, what) - count(before, what)) / seconds)

    title = (
        f"{len(replicas)} services · {len(after) + len(silent)} nodes · {rate('handled'):,.0f} ev/s"
        f" · failed {rate('failed'):,.0f}/s · shed {rate('shed'):,.0f}/s"
    )
    lines = [title]
    width = max((len(flow.source) for flow in flows), default=0)
    for flow in flows:
        several = f" ({replicas[flow.target]} replicas)" if replicas[flow.target] > 1 else ""
        lines.append(
            f"{flow.source:<{width}} ──{flow.event} {_rate(flow.rate)}──▶ {flow.target}{several}"
        )
    lines += _limits(before, after, seconds)
    quiet = sorted(replicas.keys() - {f.source for f in flows} - {f.target for f in flows})
    lines += [f"{service}: no events yet" for service in quiet]
    if not replicas:
        lines.append("no services: start one with 'thence run MODULE:SERVICE'")
    lost: defaultdict[str, int] = defaultdict(int)
    for report in after:
        for event, service, reason, number in report.lost:
            lost[f"{event} for {service}: {reason}"] += number
    lines += [f"lost {number:,} {what}" for what, number in sorted(lost.items())]
    if silent:
        lines.append(
            f"{len(after)} of {len(after) + len(silent)} nodes answered; silent: {', '.join(silent)}"
        )
    return lines


def _limits(before: list[NodeReport], after: list[NodeReport], seconds: float) -> list[str]:
    """What handlers with limits use of them, and what any handler sheds, and why."""
    used: Counter[str] = Counter()
    shed: Counter[tuple[str, str]] = Counter()
    limits: dict[str, tuple[str, ...]] = {}
    states: dict[str, set[str]] = defaultdict(set)
    for sign, reports in ((1, after), (-1, before)):
        for report in reports:
            for handler in report.handlers:
                place = f"{handler.service}.{handler.handler}"
                used[place] += sign * (handler.handled + handler.failed)
                for reason, count in handler.shed.items():
                    shed[place, reason] += sign * count
                if sign > 0:
                    limits[place] = handler.limits
                    states[place].add(handler.breaker)
    lines: list[str] = []
    for place in sorted(limits):
        losses = sorted(
            (reason, count) for (at, reason), count in shed.items() if at == place and count > 0
        )
        open_breaker = "breaker open" * (not states[place] <= {"closed"})
        told = [
            *(
                [f"{_rate(max(0, used[place]) / seconds)} of {', '.join(limits[place])}"]
                if limits[place]
                else []
            ),
            *([open_breaker] if open_breaker else []),
            *(f"shed {_rate(count / seconds)}: {reason}" for reason, count in losses),
        ]
        if told:
            lines.append(f"{place}: {' · '.join(told)}")
    return lines


def _rate(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 10 or rate == 0 else f"{rate:.1f}/s"


def _document(reports: list[NodeReport], silent: list[str], flows: list[Flow]) -> dict[str, Any]:
    return {
        "schema": "thence.map/1",
        "complete": not silent,
        "silent": silent,
        "services": dict(sorted(_replicas(reports).items())),
        "flows": [msgspec.to_builtins(flow) for flow in flows],
        "nodes": [msgspec.to_builtins(report) for report in reports],
    }
