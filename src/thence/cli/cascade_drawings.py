"""A cascade graph as text: as trees for a terminal, and in the languages of Mermaid and Graphviz."""

from __future__ import annotations

from collections.abc import Sequence

from thence.cascade.check import CheckReport, RootReport
from thence.cascade.consequences import Consequence
from thence.cascade.extent import MOST
from thence.cascade.graph import CascadeGraph, HandlerNode

__all__ = ["dot", "mermaid", "trees"]

DEEPEST = 40
"""Levels of a tree that are drawn; a screen has no room for more."""


def trees(report: CheckReport) -> list[str]:
    """For each root event, what it causes. What follows from an event is drawn once."""
    drawn: set[str] = set()
    lines: list[str] = []
    for root in report.roots:
        if lines:
            lines.append("")
        lines += [_title(root), *_tree(report.graph, root.root.event, drawn)]
    return lines


def _title(report: RootReport) -> str:
    extent = report.extent
    most = "at most" if extent.exact and extent.starts < MOST else "more than"
    handlers = "handler" if extent.starts == 1 else "handlers"
    hops = "hop" if extent.depth == 1 else "hops"
    kind = "in a loop" if report.root.emitted else "root"
    return (
        f"{report.root.event}  {kind} · {most} {extent.starts:,} {handlers} · {extent.depth} {hops}"
    )


def _tree(graph: CascadeGraph, root: str, drawn: set[str]) -> list[str]:
    """The lines under an event, without recursion: a chain may be longer than Python's stack.

    On the stack lie what is still to be drawn: the text before a line, whether it is the last at its level,
    the handler or the emitted event that it shows, and the events that it is a consequence of.
    """
    lines: list[str] = []
    stack: list[tuple[str, bool, HandlerNode | Consequence, tuple[str, ...]]] = []

    def push(
        before: str, below: Sequence[HandlerNode | Consequence], path: tuple[str, ...]
    ) -> None:
        if below and len(path) > DEEPEST:
            lines.append(f"{before}└─ … and deeper")
            return
        for position, one in enumerate(reversed(below)):
            stack.append((before, position == 0, one, path))

    def follow(before: str, event: str, path: tuple[str, ...]) -> str:
        """Draw the handlers of an event next, or say in words why not."""
        indexes = graph.handlers.get(event, ())
        if event in path:
            return " ↺ back to it"
        if not indexes:
            return ", nobody handles it"
        if event in drawn:
            return ", as above"
        drawn.add(event)
        push(before, [graph.nodes[index] for index in indexes], (*path, event))
        return ""

    follow("", root, ())
    while stack:
        before, last, shown, path = stack.pop()
        within = before + ("   " if last else "│  ")
        edge = "└" if last else "├"
        if isinstance(shown, Consequence):
            position = len(lines)
            lines.append("")
            words = follow(within, shown.event, path)
            lines[position] = f"{before}{edge}─ {_emitted(shown)}{words}"
            continue
        text = f"{before}{edge}─▶ {shown.place}{_marks(shown)}"
        if len(shown.consequences) == 1:
            (only,) = shown.consequences
            position = len(lines)
            lines.append("")
            words = follow(within, only.event, path)
            lines[position] = f"{text} ── {_emitted(only)}{words}"
        else:
            lines.append(text)
            push(within, list(shown.consequences), path)
    return lines


def _emitted(consequence: Consequence) -> str:
    return f"{consequence.event}{' ×n, unbounded' if consequence.many else ''}"


def _marks(node: HandlerNode) -> str:
    marks = [
        *(["each replica"] if node.broadcast else []),
        *([f"max_loops={node.max_loops}"] if node.max_loops else []),
        *(
            [f"budget {node.budget.events:,} events, {node.budget.depth} hops"]
            if node.budget
            else []
        ),
    ]
    return f" ({', '.join(marks)})" if marks else ""


def mermaid(graph: CascadeGraph) -> str:
    """The graph as a Mermaid flowchart: a box a handler, in a frame for its service, a pill an event."""
    lines = ["flowchart LR"]
    for number, service in enumerate(graph.services):
        lines.append(f'    subgraph s{number}["{_mermaid_text(service)}"]')
        lines += [
            f'        h{index}["{_mermaid_text(node.name)}"]'
            for index, node in enumerate(graph.nodes)
            if node.service == service
        ]
        lines.append("    end")
    number_of = {event: number for number, event in enumerate(graph.events)}
    lines += [f'    e{number}(["{_mermaid_text(event)}"])' for event, number in number_of.items()]
    for index, node in enumerate(graph.nodes):
        lines += [f"    e{number_of[event]} --> h{index}" for event in node.events]
        lines += [
            f"    h{index} {'-->|n|' if one.many else '-->'} e{number_of[one.event]}"
            for one in node.consequences
        ]
    return "\n".join(lines)


def _mermaid_text(text: str) -> str:
    """Letters and digits of any script as they are, all else as the numbers of characters."""
    return "".join(
        character if character.isalnum() or character in "_- " else f"#{ord(character)};"
        for character in text
    )


def dot(graph: CascadeGraph) -> str:
    """The graph in the DOT language: a box a handler, in a cluster for its service, an ellipse an event."""
    lines = ["digraph cascades {", "    rankdir=LR;", "    node [shape=box];"]
    for number, service in enumerate(graph.services):
        lines += [f"    subgraph cluster_{number} {{", f"        label={_dot_text(service)};"]
        lines += [
            f"        h{index} [label={_dot_text(node.name)}];"
            for index, node in enumerate(graph.nodes)
            if node.service == service
        ]
        lines.append("    }")
    number_of = {event: number for number, event in enumerate(graph.events)}
    lines += [
        f"    e{number} [label={_dot_text(event)}, shape=ellipse];"
        for event, number in number_of.items()
    ]
    many = ' [label="n"]'
    for index, node in enumerate(graph.nodes):
        lines += [f"    e{number_of[event]} -> h{index};" for event in node.events]
        lines += [
            f"    h{index} -> e{number_of[one.event]}{many if one.many else ''};"
            for one in node.consequences
        ]
    lines.append("}")
    return "\n".join(lines)


def _dot_text(text: str) -> str:
    r"""A quoted string; in a label ``\`` begins an escape, and ``&`` an entity."""
    escaped = text.replace("&", "&amp;").replace("\\", "\\\\")
    escaped = escaped.replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
