"""What services mean by one event, where they have a class each for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any, cast

from thence.cascade.findings import Finding
from thence.cascade.graph import CascadeGraph
from thence.errors import ConfigurationError
from thence.events import Event, EventSpec, spec_of
from thence.events.policy import EventPolicy
from thence.events.schema import incompatibility

__all__ = ["differing_declarations"]

WHO_DECIDES = {
    "max_bytes": "the emitter's holds",
    "limit": "the emitter's holds",
    "overflow": "the emitter's holds",
    "priority": "the receiver's holds",
    "ttl": "each service keeps its own",
    "private": "each service hides its own",
}
"""Of policies that may differ; any other must not."""


@dataclass(slots=True)
class Declaration:
    """One class that declares an event, and who uses it."""

    spec: EventSpec[Any]
    emitted_by: list[str]
    handled_by: list[str]

    @property
    def place(self) -> str:
        """``module.Class``."""
        return place_of(self.spec.type)

    @property
    def services(self) -> str:
        """Whoever uses it."""
        return _names([*self.emitted_by, *self.handled_by])


def place_of(event: type[Event]) -> str:
    """``module.Class``."""
    return f"{event.__module__}.{event.__qualname__}"


def differing_declarations(graph: CascadeGraph) -> tuple[list[Finding], list[Finding]]:
    """Event classes that can't be used at all, and events that services declare differently."""
    unusable: list[Finding] = []
    differences: list[Finding] = []
    for event in graph.events:
        declarations: dict[type[Event], Declaration] = {}
        for use in graph.uses[event]:
            declaration = declarations.get(use.type)
            if declaration is None:
                spec = spec_of(use.type)
                try:
                    spec.resolve()
                except ConfigurationError as error:
                    unusable.append(
                        Finding("error", "unusable-event", (event, use.service), str(error))
                    )
                    continue
                declaration = declarations[use.type] = Declaration(spec, [], [])
            if use.emits:
                declaration.emitted_by.append(use.service)
            if use.handles:
                declaration.handled_by.append(use.service)
        if len(declarations) > 1:
            differences += _two_in_one_service(graph, event)
            differences += _incompatible(event, list(declarations.values()))
            differences += _mismatched(event, list(declarations.values()))
    return unusable, differences


def _two_in_one_service(graph: CascadeGraph, event: str) -> Iterator[Finding]:
    for service in graph.services:
        places = sorted({place_of(use.type) for use in graph.uses[event] if use.service == service})
        if len(places) > 1:
            yield Finding(
                "error",
                "two-classes",
                (event, service),
                f"service {service} has two events named {event!r}, {' and '.join(places)}: it can't start",
                "import one of them in both places, or give one its own name=",
            )


def _incompatible(event: str, declarations: list[Declaration]) -> Iterator[Finding]:
    """Pairs that can't understand each other, in the directions in which the event goes."""
    emitted = any(declaration.emitted_by for declaration in declarations)
    for one, other in combinations(declarations, 2):
        problems: list[tuple[Declaration, Declaration, str]] = []
        for writer, reader in ((one, other), (other, one)):
            problem = incompatibility(writer.spec.schema, reader.spec.schema)
            if problem is not None:
                problems.append((writer, reader, problem))
        if emitted:
            for writer, reader, problem in problems:
                if writer.emitted_by and reader.handled_by:
                    yield Finding(
                        "error",
                        "incompatible",
                        (event, *dict.fromkeys((*writer.emitted_by, *reader.handled_by))),
                        f"{_names(writer.emitted_by)} → {_names(reader.handled_by)}: {problem} Until then the "
                        "event does not get there.",
                    )
        elif problems:
            writer, reader, problem = problems[0]
            both = len(problems) == 2
            yield Finding(
                "error" if both else "warning",
                "incompatible",
                (event, *dict.fromkeys((*writer.handled_by, *reader.handled_by))),
                f"{_names(writer.handled_by)} and {_names(reader.handled_by)}: {problem} "
                + (
                    "What follows one of them does not reach the other."
                    if both
                    else f"What an emitter writes as {writer.place} does not reach {_names(reader.handled_by)}."
                ),
            )


def _mismatched(event: str, declarations: list[Declaration]) -> Iterator[Finding]:
    """Pairs with different policies. The key is part of the schema, and compared there."""
    for one, other in combinations(declarations, 2):
        tolerable: list[str] = []
        grave: list[str] = []
        for field in fields(EventPolicy):
            keyword = field.name
            if keyword in ("name", "key"):
                continue
            values = [getattr(declaration.spec.policy, keyword) for declaration in (one, other)]
            shown = [_shown(value) for value in values]
            if values[0] == values[1] or shown[0] == shown[1]:
                continue
            words = f"{keyword}={shown[0]} in {one.services} and {shown[1]} in {other.services}"
            decides = WHO_DECIDES.get(keyword)
            if decides is None:
                grave.append(words)
            else:
                tolerable.append(f"{words} ({decides})")
        for level, differences in (("error", grave), ("warning", tolerable)):
            if differences:
                yield Finding(
                    "error" if level == "error" else "warning",
                    "mismatched-policy",
                    (event, *_services(one, other)),
                    f"event {event!r} has {'; '.join(differences)}",
                    f"say the same in {one.place} and {other.place}, or import one of them in both services",
                )


def _services(*declarations: Declaration) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            service
            for declaration in declarations
            for service in (*declaration.emitted_by, *declaration.handled_by)
        )
    )


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return repr([str(one) for one in cast("tuple[object, ...]", value)])
    return repr(value)


def _names(services: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(services))
