"""``thence map``: who is there, and what flows between them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from rich.console import Console

from thence.app.drift import drift as drift_of
from thence.app.node import Node
from thence.app.report import NodeReport
from thence.cli.drift_drawings import drift_document, drift_lines
from thence.cli.exits import CommandError, Exit
from thence.cli.options import Debug, Json, Mesh, run_loop
from thence.cli.windows import rounds, times_between
from thence.histogram import Histogram

__all__ = ["Flow", "Use", "flows_between", "map_mesh", "ms_text", "rate_text", "runs_of"]


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
    drift: Annotated[
        bool,
        Parameter(
            negative="",
            help="Compare what is declared with what was seen instead: never seen, seen but undeclared, several "
            "versions.",
        ),
    ] = False,
    mesh: Mesh = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show the mesh: its services and replicas, and the events between them with their rates.

    Exit code 4: some peers did not answer, and are named. 5: nobody is there.
    """
    if seconds <= 0:
        raise CommandError(f"--seconds {seconds:g}: give a time above zero", Exit.USAGE)
    return run_loop(_drift(mesh, json) if drift else _map(seconds, mesh, json))


async def _map(seconds: float, mesh: str | None, as_json: bool) -> int:
    async with Node(mesh=mesh, name="thence map") as node:
        before, _ = await node.ask_peers()
        began = time.monotonic()
        await asyncio.sleep(seconds)
        after, silent = await node.ask_peers()
        elapsed = time.monotonic() - began
    if not after and not silent:
        raise _nobody()
    flows = flows_between(before, after, elapsed)
    if as_json:
        print(json.dumps(_document(after, silent, flows)))
    else:
        print("\n".join(_lines(before, after, silent, flows, elapsed)))
    if not after:
        return Exit.NOBODY
    return Exit.PARTIAL if silent else Exit.DONE


async def _drift(mesh: str | None, as_json: bool) -> int:
    async with Node(mesh=mesh, name="thence map") as node:
        reports, silent = await node.ask_peers()
        sightings, _ = await node.ask_sightings()
    if not reports and not silent:
        raise _nobody()
    found = drift_of(reports, sightings, silent)
    if as_json:
        print(json.dumps(drift_document(found)))
    else:
        console = Console(highlight=False)
        for line in drift_lines(found):
            console.print(line)
    if not reports:
        return Exit.NOBODY
    return Exit.PARTIAL if found.silent else Exit.DONE


def _nobody() -> CommandError:
    return CommandError(
        "nobody is on this mesh: start a service with 'thence run MODULE:SERVICE', or name another mesh with "
        "--mesh",
        Exit.NOBODY,
    )


def flows_between(before: list[NodeReport], after: list[NodeReport], seconds: float) -> list[Flow]:
    """The flows of a mesh from two rounds of reports, the busiest first."""
    sent: Counter[tuple[str, str, str]] = Counter()
    for sign, reports in rounds(before, after):
        for report in reports:
            source = _source(report)
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


def _source(report: NodeReport) -> str:
    return "+".join(report.services) or report.name


def _declared(reports: list[NodeReport]) -> set[tuple[str, str]]:
    return {
        (_source(report), event)
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

    total: Counter[str] = Counter()
    for sign, reports in rounds(before, after):
        for report in reports:
            for handler in report.handlers:
                total["handled"] += sign * handler.handled
                total["failed"] += sign * handler.failed
                total["shed"] += sign * sum(handler.shed.values())
    times = Histogram.together(ran for ran, _ in times_between(before, after).values())
    p99 = f" · p99 {ms_text(times.p99)}" if times.count else ""
    title = (
        f"{len(replicas)} services · {len(after) + len(silent)} nodes · {total['handled'] / seconds:,.0f} ev/s{p99}"
        f" · failed {total['failed'] / seconds:,.0f}/s · shed {total['shed'] / seconds:,.0f}/s"
    )
    lines = [title, _cascades(_cascade_times(after))]
    width = max((len(flow.source) for flow in flows), default=0)
    for flow in flows:
        several = f" ({replicas[flow.target]} replicas)" if replicas[flow.target] > 1 else ""
        lines.append(
            f"{flow.source:<{width}} ──{flow.event} {rate_text(flow.rate)}──▶ {flow.target}{several}"
        )
    lines += _limits(_emissions(before, after), seconds)
    lines += _limits(runs_of(before, after), seconds)
    quiet = sorted(replicas.keys() - {f.source for f in flows} - {f.target for f in flows})
    lines += [f"{service}: no events yet" for service in quiet]
    if not replicas:
        lines.append("no services: start one with 'thence run MODULE:SERVICE'")
    lost: defaultdict[str, int] = defaultdict(int)
    for report in after:
        for event, service, reason, number in report.lost:
            whom = f" for {service}" if service else ""
            lost[f"{event}{whom}: {reason}"] += number
    lines += [f"lost {number:,} {what}" for what, number in sorted(lost.items())]
    if silent:
        lines.append(
            f"{len(after)} of {len(after) + len(silent)} nodes answered; silent: {', '.join(silent)}"
        )
    return lines


@dataclass
class Use:
    """What came through at a place between two rounds of reports, and what was shed there."""

    let_in: int = 0
    shed: Counter[str] = field(default_factory=Counter[str])
    """By reason."""
    limits: Counter[tuple[str, ...]] = field(default_factory=Counter[tuple[str, ...]])
    """What holds there, and at how many nodes."""
    breakers: set[str] = field(default_factory=set[str])

    @property
    def allowed(self) -> str:
        """The limits in words, or ""."""
        if not any(self.limits):
            return ""
        return " and ".join(
            ", ".join(_times(nodes, limit) for limit in limits) or "off"
            for limits, nodes in sorted(self.limits.items(), reverse=True)
        )


def _times(nodes: int, limit: str) -> str:
    """A limit that holds at each of some nodes; what they let in is shown together."""
    alone = nodes > 1 and " per " not in limit and not limit.endswith(" over all replicas")
    return f"{nodes} × {limit}" if alone else limit


def _emissions(before: list[NodeReport], after: list[NodeReport]) -> dict[str, Use]:
    """The event types, by who emits them."""
    uses: defaultdict[str, Use] = defaultdict(Use)
    for report in after:
        for emitted in report.emitted:
            uses[f"{emitted.event} from {_source(report)}"].limits[emitted.limits] += 1
    for sign, reports in rounds(before, after):
        for report in reports:
            source = _source(report)
            for emitted in report.emitted:
                uses[f"{emitted.event} from {source}"].let_in += sign * emitted.emitted
            for event, service, reason, count in report.lost:
                if not service:
                    uses[f"{event} from {source}"].shed[reason] += sign * count
    return uses


def runs_of(before: list[NodeReport], after: list[NodeReport]) -> dict[str, Use]:
    """The services, as far as they have limits, and the handlers."""
    uses: defaultdict[str, Use] = defaultdict(Use)
    for report in after:
        for service in report.services:
            uses[service].limits[report.service_limits.get(service, ())] += 1
        for handler in report.handlers:
            use = uses[f"{handler.service}.{handler.handler}"]
            shared = len(report.service_limits.get(handler.service, ()))
            use.limits[handler.limits[: len(handler.limits) - shared]] += 1
            use.breakers.add(handler.breaker)
    for sign, reports in rounds(before, after):
        for report in reports:
            for handler in report.handlers:
                use = uses[f"{handler.service}.{handler.handler}"]
                begun = sign * (handler.handled + handler.failed)
                use.let_in += begun
                uses[handler.service].let_in += begun
                for reason, count in handler.shed.items():
                    use.shed[reason] += sign * count
    return uses


def _limits(uses: dict[str, Use], seconds: float) -> Iterator[str]:
    """What is used of limits, and what is shed, with or without one, and why."""
    for place, use in sorted(uses.items()):
        told: list[str] = []
        if use.allowed:
            told.append(f"{rate_text(max(0, use.let_in) / seconds)} of {use.allowed}")
        if not use.breakers <= {"closed"}:
            told.append("breaker open")
        told += [
            f"shed {rate_text(count / seconds)}: {reason}"
            for reason, count in sorted(use.shed.items())
            if count > 0
        ]
        if told:
            yield f"{place}: {' · '.join(told)}"


def _cascade_times(reports: list[NodeReport]) -> Histogram:
    return Histogram.together(report.cascades for report in reports)


def _cascades(times: Histogram) -> str:
    """From a root event to the end of all that followed from it."""
    if not times.count:
        return "cascades: none sampled in the last minute"
    return (
        f"cascades: p50 {ms_text(times.p50)} · p99 {ms_text(times.p99)} · greatest {ms_text(times.greatest)} "
        f"({times.count:,} sampled in the last minute)"
    )


def ms_text(seconds: float) -> str:
    """A length of time in milliseconds."""
    return f"{seconds * 1000:,.{0 if seconds >= 0.1 else 1}f} ms"


def rate_text(rate: float) -> str:
    """Events a second."""
    return f"{rate:,.0f}/s" if rate >= 10 or rate == 0 else f"{rate:.1f}/s"


def _document(reports: list[NodeReport], silent: list[str], flows: list[Flow]) -> dict[str, Any]:
    return {
        "schema": "thence.map/1",
        "complete": not silent,
        "silent": silent,
        "services": dict(sorted(_replicas(reports).items())),
        "cascades": msgspec.to_builtins(_cascade_times(reports)),
        "flows": [msgspec.to_builtins(flow) for flow in flows],
        "nodes": [msgspec.to_builtins(report) for report in reports],
    }
