"""``thence check``: what is wrong with how services cause one another, before anything runs."""

from __future__ import annotations

import json as json_module
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from thence.app.service import Service
from thence.budget import Budget
from thence.cascade.catalogue import Catalogue
from thence.cascade.check import CheckReport, check
from thence.cli.cascade_drawings import dot, mermaid, trees
from thence.cli.exits import CommandError, Exit
from thence.cli.loading import load
from thence.cli.options import Debug, Json, Mesh
from thence.errors import ConfigurationError

__all__ = ["check_services"]

DEFAULT = Budget()


def check_services(
    *services: Annotated[str, Parameter(help="MODULE:SERVICE, for example scores:scores.")],
    budget_events: Annotated[
        int, Parameter(help="Handler starts that the cascade of one root event may use up.")
    ] = DEFAULT.events,
    budget_depth: Annotated[
        int, Parameter(help="Hops that the cascade of one root event may go.")
    ] = DEFAULT.depth,
    save: Annotated[
        Path | None,
        Parameter(help="Write the catalogue of all events to this file, unless there are errors."),
    ] = None,
    against: Annotated[
        Path | None, Parameter(help="Look for changes of events since this catalogue was saved.")
    ] = None,
    graph: Annotated[
        Literal["mermaid", "dot"] | None,
        Parameter(help="Print the graph in this language, and what was found on stderr."),
    ] = None,
    quiet: Annotated[
        bool, Parameter(negative="", help="Print what was found, and no cascades.")
    ] = False,
    mesh: Mesh = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Check how services cause one another, without running them or asking a mesh.

    What handlers may emit is taken from their return annotations and ``emits=[...]``. Name all services that
    play together: who is left out is neither heard nor seen emitting. What a program emits with ``node.emit``
    is not declared anywhere; an event that no handler emits is a root.

    Errors, exit code 1: a loop through a handler with max_loops=0; a cascade that certainly exceeds its
    budget; declarations of one event that can't meet; with --against, changes of events that old and new
    services can't both follow. Warnings, exit code 0: a cascade that may exceed its budget, also because
    branches share it equally; events that nobody handles; max_loops on a handler in no loop; other
    differences between declarations.

    The worst case is that each run emits each declared event once. How many a list holds is not known: it
    counts as one and is shown as "×n, unbounded"; a broadcast counts as one replica. It certainly happens
    where annotations leave no choice (``-> ScoreChanged``, but not ``-> ScoreChanged | None``). Exit code 2: a
    catalogue that can't be read or written.
    """
    if graph is not None and json:
        raise CommandError("--graph and --json both print a document: give one of them", Exit.USAGE)
    budget = Budget(events=budget_events, depth=budget_depth)
    catalogue = None if against is None else _read(against)
    report = check(
        {service.name: service.handlers for service in _load_all(services)},
        budget=budget,
        against=catalogue,
    )
    saved = save is not None and report.errors == 0 and report.catalogue is not None
    if save is not None and saved and report.catalogue is not None:
        _write(save, report.catalogue)
    if json:
        print(json_module.dumps(_document(report, str(save) if saved else None)))
    elif graph is not None:
        print({"mermaid": mermaid, "dot": dot}[graph](report.graph))
        print("\n".join(_outcome(report)), file=sys.stderr)
    else:
        if not quiet:
            print("\n".join([_services(report), "", *trees(report), ""]))
        print("\n".join(_outcome(report)))
    if save is not None:
        told = f"saved to {save}" if saved else f"not saved to {save}, because of the errors"
        print(f"catalogue {told}", file=sys.stderr)
    return Exit.FAILED if report.errors else Exit.DONE


def _load_all(specifications: tuple[str, ...]) -> list[Service]:
    if not specifications:
        raise CommandError(
            "name at least one service: thence check MODULE:SERVICE, for example scores:scores",
            Exit.USAGE,
        )
    found: dict[str, tuple[str, Service]] = {}
    for specification in specifications:
        service = load(specification, "service")
        if not isinstance(service, Service):
            raise CommandError(
                f"{specification} is not a Service: name one, for example scores:scores", Exit.USAGE
            )
        before, known = found.setdefault(service.name, (specification, service))
        if known is not service:
            raise CommandError(
                f"{before} and {specification} are two services named {service.name!r}: rename one",
                Exit.USAGE,
            )
    return [service for _, service in found.values()]


def _read(path: Path) -> Catalogue:
    try:
        return Catalogue.parse(path.read_bytes())
    except OSError as error:
        raise CommandError(
            f"--against {path}: {error.strerror}; make it with 'thence check ... --save {path}'",
            Exit.USAGE,
        ) from error
    except ConfigurationError as error:
        raise CommandError(f"--against {path}: {error}", Exit.USAGE) from error


def _write(path: Path, catalogue: Catalogue) -> None:
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(catalogue.to_json())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CommandError(
            f"--save {path}: {error.strerror}; name a file in a folder that can be written to",
            Exit.USAGE,
        ) from error


def _services(report: CheckReport) -> str:
    return f"services: {', '.join(report.graph.services)}"


def _outcome(report: CheckReport) -> list[str]:
    lines: list[str] = []
    for finding in report.findings:
        lines.append(f"{finding.level}: {finding.message}")
        if finding.fix:
            lines.append(f"    fix: {finding.fix}")
    if lines:
        lines.append("")
    return [*lines, _summary(report)]


def _summary(report: CheckReport) -> str:
    graph = report.graph
    extents = [root.extent for root in report.roots]
    parts = [
        _count(len(graph.services), "service"),
        _count(len(graph.nodes), "handler"),
        _count(len(graph.events), "event"),
    ]
    if extents:
        more = "" if all(extent.exact for extent in extents) else "more than "
        starts = max(extent.starts for extent in extents)
        parts += [
            f"deepest cascade {_count(max(extent.depth for extent in extents), 'hop')}",
            f"at {'most' if not more else 'worst'} {more}{_count(starts, 'handler start')}",
        ]
    if any(one.many for node in graph.nodes for one in node.consequences):
        parts[-1] += " with one event a list"
    found = [
        _count(number, word)
        for number, word in (
            (report.errors, "error"),
            (report.count("warning"), "warning"),
            (report.count("note"), "note"),
        )
        if number
    ]
    return f"{', '.join(parts)}: {', '.join(found) or 'no problems'}"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _document(report: CheckReport, saved: str | None) -> dict[str, Any]:
    graph = report.graph
    return {
        "schema": "thence.check/1",
        "ok": report.errors == 0,
        "errors": report.errors,
        "warnings": report.count("warning"),
        "notes": report.count("note"),
        "findings": [asdict(finding) for finding in report.findings],
        "budget": {"events": report.budget.events, "depth": report.budget.depth},
        "services": list(graph.services),
        "handlers": [
            {
                "service": node.service,
                "handler": node.name,
                "events": list(node.events),
                "emits": [
                    {"event": one.event, "many": one.many, "certain": one.certain}
                    for one in node.consequences
                ],
                "max_loops": node.max_loops,
                "in_loop": index in graph.cyclic,
            }
            for index, node in enumerate(graph.nodes)
        ],
        "events": [
            {
                "event": event,
                "emitted_by": sorted({use.service for use in graph.uses[event] if use.emits}),
                "handled_by": sorted({use.service for use in graph.uses[event] if use.handles}),
            }
            for event in graph.events
        ],
        "roots": [
            {"event": one.root.event, "in_loop": one.root.emitted, **asdict(one.extent)}
            for one in report.roots
        ],
        "saved": saved,
    }
