"""What a mesh declares against what it does. Pure.

Counters tell since the start of the nodes that are there whether an event type was emitted at all. Which handler it
came from only the rings tell, as far back as they go; each finding says how far that is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from thence.app.report import HandlerReport, NodeReport
from thence.observability.sightings import Sightings

__all__ = ["Drift", "Finding", "Kind", "drift"]

Kind: TypeAlias = Literal[
    "never emitted", "never arrived", "undeclared", "unheard", "incompatible", "versions", "declarations"
]  # fmt: skip

INCOMPATIBLE = "schema"
"""The reason that events are counted by which their receivers would misunderstand."""


class Finding(Struct, frozen=True):
    """One thing that is not as declared."""

    kind: Kind
    place: str
    """A handler or a service; nothing where it is about an event type everywhere."""
    event: str
    count: int
    """Events that it concerns; 0 if it is about events that there were not."""
    seconds: float
    """How far back was looked, at least."""
    detail: str
    nodes: dict[str, list[str]] = {}
    """Where several are told apart: by fingerprint or declaration, the names of the nodes."""


class Drift(Struct):
    """All that is not as declared."""

    declared: int
    """Emits and subscriptions that were looked at: handler and event type each."""
    seen: int
    """How many of them were seen to happen."""
    findings: list[Finding]
    answered: list[str]
    silent: list[str]
    seconds: float
    """How far back the rings of all that answered tell."""
    age: float
    """How old the youngest of them is."""


class _Mesh(Struct):
    """What was told, put together."""

    hosts: defaultdict[str, list[tuple[NodeReport, HandlerReport]]]
    """By handler, where it is."""
    emitted: Counter[str]
    """By event type, since their nodes started."""
    wanted: set[str]
    emits: set[tuple[str, str]]
    """Handler and event, as far as the rings tell."""
    handles: set[tuple[str, str]]
    ages: dict[str, float]
    seconds: dict[str, float]


def drift(
    reports: Sequence[NodeReport], sightings: Sequence[Sightings], silent: Iterable[str]
) -> Drift:
    """Compare what the nodes declare with what they have counted and seen."""
    mesh = _mesh(reports, sightings)
    findings: list[Finding] = []
    declared = seen = 0
    for place, hosts in sorted(mesh.hosts.items()):
        for event in sorted({event for _, handler in hosts for event in handler.emits}):
            declared += 1
            finding = _never_emitted(place, event, mesh)
            seen += finding is None
            findings += [finding] if finding else []
        for event in sorted({event for _, handler in hosts for event in handler.events}):
            declared += 1
            finding = _never_arrived(place, event, mesh)
            seen += finding is None
            findings += [finding] if finding else []
    findings += _undeclared(sightings)
    findings += _unheard(reports, mesh)
    findings += _incompatible(reports, mesh)
    findings += _versions(reports, mesh)
    findings += _declarations(mesh)
    missing = {report.name for report in reports} - {one.name for one in sightings}
    return Drift(
        declared,
        seen,
        findings,
        sorted(report.name for report in reports),
        sorted({*silent, *missing}),
        min(mesh.seconds.values(), default=0.0),
        min(mesh.ages.values(), default=0.0),
    )


def _mesh(reports: Sequence[NodeReport], sightings: Sequence[Sightings]) -> _Mesh:
    hosts: defaultdict[str, list[tuple[NodeReport, HandlerReport]]] = defaultdict(list)
    emitted: Counter[str] = Counter()
    for report in reports:
        for handler in report.handlers:
            hosts[f"{handler.service}.{handler.handler}"].append((report, handler))
        for one in report.emitted:
            emitted[one.event] += one.emitted
    return _Mesh(
        hosts,
        emitted,
        {event for report in reports for handler in report.handlers for event in handler.events},
        {pair for one in sightings for pair in one.emits},
        {pair for one in sightings for pair in one.handles},
        {one.node: one.age for one in sightings},
        {one.node: one.seconds for one in sightings},
    )


def _never_emitted(place: str, event: str, mesh: _Mesh) -> Finding | None:
    if (place, event) in mesh.emits:
        return None
    hosts = [(report, one) for report, one in mesh.hosts[place] if event in one.emits]
    runs = sum(one.handled + one.failed for _, one in hosts)
    ran = f"it has run {runs:,} times" if runs else "it has never run"
    counted = sum(
        one.emitted for report, _ in hosts for one in report.emitted if one.event == event
    )
    if not counted:
        ages = _least(mesh.ages, hosts)
        return Finding("never emitted", place, event, 0, ages, f"not since its start; {ran}")
    back = _least(mesh.seconds, hosts)
    remembers_all = all(
        mesh.seconds.get(r.node, 0.0) >= mesh.ages.get(r.node, 0.0) for r, _ in hosts
    )
    if not remembers_all and all(_is_only_emitter(report, one, event) for report, one in hosts):
        # It was seen by the counters, and nothing else there declares it.
        return None
    if back:
        detail = f"not as far as is remembered, but others at its nodes did; {ran}"
    else:
        detail = f"not known: its nodes emitted it, and nothing is remembered of which handler did; {ran}"
    return Finding("never emitted", place, event, 0, back, detail)


def _is_only_emitter(report: NodeReport, handler: HandlerReport, event: str) -> bool:
    return all(one is handler or event not in one.emits for one in report.handlers)


def _never_arrived(place: str, event: str, mesh: _Mesh) -> Finding | None:
    if (place, event) in mesh.handles or mesh.emitted[event]:
        return None
    hosts = [(report, one) for report, one in mesh.hosts[place] if event in one.events]
    for _, one in hosts:
        if len(one.events) == 1 and one.handled + one.failed + sum(one.shed.values()):
            # From nodes that have left since.
            return None
    declaring = sorted(
        place
        for place, others in mesh.hosts.items()
        if any(event in one.emits for _, one in others)
    )
    detail = (
        f"declared by {', '.join(declaring)}, and not emitted so far"
        if declaring
        else "no handler declares that it emits it, and no node has emitted it"
    )
    return Finding("never arrived", place, event, 0, _least(mesh.ages, hosts), detail)


def _undeclared(sightings: Sequence[Sightings]) -> list[Finding]:
    counts: Counter[str] = Counter()
    texts: dict[str, str] = {}
    back: dict[str, float] = {}
    for one in sightings:
        for place, count, text in one.undeclared:
            counts[place] += count
            texts[place] = text
            back[place] = min(back.get(place, one.seconds), one.seconds)
    return [
        Finding("undeclared", place, "", count, back[place], texts[place])
        for place, count in sorted(counts.items())
    ]


def _unheard(reports: Sequence[NodeReport], mesh: _Mesh) -> list[Finding]:
    """What nobody wants now; events that were emitted a little before their receivers came are none of that."""
    unheard: Counter[tuple[str, str]] = Counter()
    for report in reports:
        for one in report.emitted:
            if one.unheard and one.event not in mesh.wanted:
                unheard[_source(report), one.event] += one.unheard
    return [
        Finding(
            "unheard", source, event, count, _age_of(source, reports, mesh), "no handler wants it"
        )
        for (source, event), count in sorted(unheard.items())
    ]


def _incompatible(reports: Sequence[NodeReport], mesh: _Mesh) -> list[Finding]:
    refused: Counter[tuple[str, str, str]] = Counter()
    for report in reports:
        for event, service, reason, count in report.lost:
            if reason == INCOMPATIBLE:
                refused[_source(report), event, service] += count
    return [
        Finding(
            "incompatible",
            source,
            event,
            count,
            _age_of(source, reports, mesh),
            f"not sent to {service}, which declares it so that it would misunderstand it",
        )
        for (source, event, service), count in sorted(refused.items())
    ]


def _versions(reports: Sequence[NodeReport], mesh: _Mesh) -> list[Finding]:
    versions: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for report in reports:
        for event, fingerprint in report.schemas.items():
            versions[event][fingerprint].append(report.name)
    return [
        Finding(
            "versions",
            "",
            event,
            mesh.emitted[event],
            0.0,
            f"{len(nodes)} versions",
            {fingerprint: sorted(names) for fingerprint, names in sorted(nodes.items())},
        )
        for event, nodes in sorted(versions.items())
        if len(nodes) > 1
    ]


def _declarations(mesh: _Mesh) -> list[Finding]:
    """Replicas of a handler that don't declare the same."""
    findings: list[Finding] = []
    for place, hosts in sorted(mesh.hosts.items()):
        nodes: defaultdict[str, list[str]] = defaultdict(list)
        for report, one in hosts:
            wants, emits = ", ".join(sorted(one.events)), ", ".join(sorted(one.emits))
            nodes[f"{wants} → {emits or 'nothing'}"].append(report.name)
        if len(nodes) > 1:
            told = {one: sorted(names) for one, names in sorted(nodes.items())}
            findings.append(
                Finding(
                    "declarations", place, "", 0, 0.0, "replicas declare different things", told
                )
            )
    return findings


def _source(report: NodeReport) -> str:
    return "+".join(report.services) or report.name


def _age_of(source: str, reports: Sequence[NodeReport], mesh: _Mesh) -> float:
    ages = [mesh.ages[r.node] for r in reports if _source(r) == source and r.node in mesh.ages]
    return min(ages, default=0.0)


def _least(
    figures: Mapping[str, float], hosts: Iterable[tuple[NodeReport, HandlerReport]]
) -> float:
    return min((figures[r.node] for r, _ in hosts if r.node in figures), default=0.0)
