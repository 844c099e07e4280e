"""What is wrong, or may not be meant, in how services cause one another. Nothing is run for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from thence.budget import DEEPEST, LARGEST, Budget
from thence.cascade.catalogue import Catalogue, catalogue_of, changes
from thence.cascade.declarations import differing_declarations
from thence.cascade.extent import MOST, Extent, WorstCase
from thence.cascade.findings import LEVELS, Finding, Level
from thence.cascade.graph import CascadeGraph, Root, graph_of, loops, roots
from thence.handling.handler import Handler

__all__ = ["CheckReport", "RootReport", "check"]


@dataclass(frozen=True, slots=True)
class RootReport:
    """How far the cascades of one root event spread at worst."""

    root: Root
    extent: Extent


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The outcome of a check."""

    graph: CascadeGraph
    budget: Budget
    roots: tuple[RootReport, ...]
    findings: tuple[Finding, ...]
    """The gravest first."""
    catalogue: Catalogue | None
    """All events as they are declared; None if one of them can't be used."""

    @property
    def errors(self) -> int:
        """How many of the findings are errors."""
        return self.count("error")

    def count(self, level: Level) -> int:
        """How many findings have that level."""
        return sum(finding.level == level for finding in self.findings)


def check(
    services: Mapping[str, Sequence[Handler]],
    *,
    budget: Budget | None = None,
    against: Catalogue | None = None,
) -> CheckReport:
    """Check services against one another, a budget, and what their events were before.

    :param services: the handlers of each service, by its name.
    :param budget: what the cascade of a root event may use up; by default ``Budget()``.
    :param against: an earlier catalogue, to find changes of events.
    """
    budget = budget or Budget()
    graph = graph_of(services)
    worst = WorstCase(graph)
    reports = tuple(RootReport(root, worst.of_root(root.event)) for root in roots(graph))
    findings = [
        *_unresolved(graph),
        *_undeclared_loops(graph),
        *_idle_max_loops(graph),
        *_too_far(reports, budget),
        *_too_far_for_handlers(graph, worst),
        *_unheard(graph),
    ]
    unusable, differences = differing_declarations(graph)
    findings += unusable
    findings += differences
    catalogue = None
    if not unusable:
        catalogue = catalogue_of(graph)
        if against is not None:
            findings += changes(against, catalogue)
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    return CheckReport(graph, budget, reports, tuple(findings), catalogue)


def _unresolved(graph: CascadeGraph) -> Iterator[Finding]:
    for place, reason in graph.unresolved:
        yield Finding("error", "unresolved-annotation", (place,), f"{place}: {reason}")


def _undeclared_loops(graph: CascadeGraph) -> Iterator[Finding]:
    for loop in loops(graph):
        nodes = [graph.nodes[index] for index in loop.handlers]
        undeclared = list(dict.fromkeys(node.place for node in nodes if not node.max_loops))
        if undeclared:
            way = " → ".join([*(node.place for node in nodes), nodes[0].place])
            yield Finding(
                "error",
                "undeclared-loop",
                (*undeclared, *dict.fromkeys(loop.events)),
                f"loop: {way} (by {', '.join(dict.fromkeys(loop.events))})",
                f"a cascade is cut when it comes back to {_listed(undeclared)}. If the loop is meant, say how "
                f"often it may come back with max_loops=... there; else emit another event",
            )


def _idle_max_loops(graph: CascadeGraph) -> Iterator[Finding]:
    for index, node in enumerate(graph.nodes):
        if node.max_loops and index not in graph.cyclic:
            yield Finding(
                "warning",
                "idle-max-loops",
                (node.place,),
                f"{node.place} has max_loops={node.max_loops} and is in no loop",
                "leave max_loops out, or check the service that closes the loop too",
            )


def _too_far(reports: Sequence[RootReport], budget: Budget) -> Iterator[Finding]:
    for report in reports:
        event = report.root.event
        yield from _exceeded(
            report.extent, budget, (event,), f"{event}", f"each {event}", "the budget"
        )


def _too_far_for_handlers(graph: CascadeGraph, worst: WorstCase) -> Iterator[Finding]:
    for index, node in enumerate(graph.nodes):
        if node.budget is not None:
            yield from _exceeded(
                worst.of_consequences(index),
                node.budget,
                (node.place,),
                f"what one run of {node.place} causes",
                f"what each run of {node.place} causes",
                "its own budget",
            )


def _exceeded(
    extent: Extent,
    budget: Budget,
    subjects: tuple[str, ...],
    one: str,
    each: str,
    whose: str,
) -> Iterator[Finding]:
    more = "" if extent.exact and extent.starts < MOST else "more than "
    raised = f"raise it to Budget(events={extent.credits}), or " * (extent.credits <= LARGEST)
    deepened = f"raise it to Budget(depth={extent.depth}), or " * (extent.depth <= DEEPEST)
    if extent.certain_starts > budget.events:
        yield Finding(
            "error",
            "events-budget",
            subjects,
            f"{each} starts {extent.certain_starts:,} handlers, and {whose} allows {budget.events:,}: "
            "it is always cut",
            f"{raised}emit less",
        )
    elif extent.starts > budget.events or more:
        yield Finding(
            "warning",
            "events-budget",
            subjects,
            f"{one} may start {more}{extent.starts:,} handlers, and {whose} allows {budget.events:,}: what is "
            "more is cut when it happens",
            "lower max_loops, or emit less" if more else f"{raised}emit less",
        )
    elif extent.credits > budget.events:
        yield Finding(
            "warning",
            "shared-budget",
            subjects,
            f"{one} starts at most {extent.starts:,} handlers, and yet {whose} of {budget.events:,} events may "
            "cut it: branches share a budget equally, and one of them may need more than its part",
            f"{raised}move handlers of the long branch nearer to the root",
        )
    if extent.certain_depth > budget.depth:
        yield Finding(
            "error",
            "depth-budget",
            subjects,
            f"{each} goes {extent.certain_depth} hops deep, and {whose} allows {budget.depth}: it is always cut",
            f"{deepened}shorten the chain",
        )
    elif extent.depth > budget.depth:
        yield Finding(
            "warning",
            "depth-budget",
            subjects,
            f"{one} may go {extent.depth} hops deep, and {whose} allows {budget.depth}: what is deeper is cut "
            "when it happens",
            f"{deepened}shorten the chain",
        )


def _unheard(graph: CascadeGraph) -> Iterator[Finding]:
    for event in graph.events:
        if event not in graph.handlers:
            places = tuple(graph.nodes[index].place for index in graph.emitters[event])
            yield Finding(
                "warning",
                "unheard",
                (event, *places),
                f"nobody handles {event}, which {_listed(places)} {'emits' if len(places) == 1 else 'emit'}",
                "check the service that handles it too, or do not emit it",
            )


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
