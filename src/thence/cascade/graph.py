"""Which handler causes which, found from what they declare, with nothing run.

A node of the graph is a handler; an edge leads to each handler of an event that it declares to emit.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from thence.budget import Budget
from thence.cascade.consequences import Consequence, consequences_of
from thence.errors import ConfigurationError
from thence.events import Event, spec_of
from thence.handling.handler import Handler

__all__ = [
    "CascadeGraph",
    "HandlerNode",
    "Loop",
    "Root",
    "Use",
    "graph_of",
    "loops",
    "roots",
    "strongly_connected_components",
]

SMALL = 12
"""Handlers in a component up to which each of its edges is looked at for loops, not just each handler."""


@dataclass(frozen=True, slots=True)
class HandlerNode:
    """One handler of one service."""

    service: str
    name: str
    events: tuple[str, ...]
    """Names of the events that it handles."""
    consequences: tuple[Consequence, ...]
    max_loops: int
    budget: Budget | None
    broadcast: bool

    @property
    def place(self) -> str:
        """``service.handler``."""
        return f"{self.service}.{self.name}"


@dataclass(slots=True)
class Use:
    """One class that one service uses for an event."""

    service: str
    type: type[Event]
    emits: bool = False
    handles: bool = False


class Root(NamedTuple):
    """An event that begins cascades."""

    event: str
    emitted: bool
    """Some handler emits it as well: it is the first by name of a loop that no other event leads to."""


class Loop(NamedTuple):
    """Handlers that reach one another in turn, the last the first again."""

    handlers: tuple[int, ...]
    """Indexes of nodes, beginning with the smallest."""
    events: tuple[str, ...]
    """The event that leads from each to the next."""


@dataclass(frozen=True, slots=True)
class CascadeGraph:
    """All handlers of some services, and the events between them. Made by :func:`graph_of`."""

    services: tuple[str, ...]
    nodes: tuple[HandlerNode, ...]
    uses: Mapping[str, tuple[Use, ...]]
    """For each event name, which class each service uses for it."""
    unresolved: tuple[tuple[str, str], ...]
    """Handlers whose return annotation can't be resolved, with the reason; they count as emitting nothing."""
    handlers: Mapping[str, tuple[int, ...]] = field(init=False)
    """For each event name, the nodes that handle it."""
    emitters: Mapping[str, tuple[int, ...]] = field(init=False)
    """For each event name, the nodes that emit it."""
    successors: tuple[Mapping[int, str], ...] = field(init=False)
    """For each node, the nodes that it causes, each with the first event by name that leads there."""
    components: tuple[tuple[int, ...], ...] = field(init=False)
    """The strongly connected components, each before those that lead to it."""
    component_of: tuple[int, ...] = field(init=False)
    """For each node, the index of its component."""
    cyclic: frozenset[int] = field(init=False)
    """Nodes that their own consequences lead back to."""

    def __post_init__(self) -> None:
        handlers: defaultdict[str, list[int]] = defaultdict(list)
        emitters: defaultdict[str, list[int]] = defaultdict(list)
        for index, node in enumerate(self.nodes):
            for event in node.events:
                handlers[event].append(index)
            for consequence in node.consequences:
                emitters[consequence.event].append(index)
        successors: list[dict[int, str]] = []
        for node in self.nodes:
            led: dict[int, str] = {}
            for consequence in node.consequences:
                for index in handlers.get(consequence.event, ()):
                    led.setdefault(index, consequence.event)
            successors.append(led)
        components = strongly_connected_components(successors)
        component_of = [0] * len(self.nodes)
        for number, component in enumerate(components):
            for index in component:
                component_of[index] = number
        cyclic = frozenset(
            index
            for component in components
            for index in component
            if len(component) > 1 or index in successors[index]
        )
        for name, value in (
            ("handlers", {event: tuple(nodes) for event, nodes in handlers.items()}),
            ("emitters", {event: tuple(nodes) for event, nodes in emitters.items()}),
            ("successors", tuple(successors)),
            ("components", components),
            ("component_of", tuple(component_of)),
            ("cyclic", cyclic),
        ):
            object.__setattr__(self, name, value)

    @property
    def events(self) -> tuple[str, ...]:
        """The names of all events, sorted."""
        return tuple(sorted(self.uses))


def graph_of(services: Mapping[str, Sequence[Handler]]) -> CascadeGraph:
    """The cascade graph of services, given their handlers by the services' names."""
    nodes: list[HandlerNode] = []
    uses: defaultdict[str, dict[tuple[str, type[Event]], Use]] = defaultdict(dict)
    unresolved: list[tuple[str, str]] = []

    def use(service: str, event: type[Event]) -> Use:
        return uses[spec_of(event).name].setdefault((service, event), Use(service, event))

    for service, handlers in services.items():
        for handler in handlers:
            try:
                consequences = consequences_of(handler)
            except ConfigurationError as error:
                unresolved.append((f"{service}.{handler.name}", str(error)))
                consequences = ()
            for event in handler.events:
                use(service, event).handles = True
            for consequence in consequences:
                use(service, consequence.type).emits = True
            nodes.append(
                HandlerNode(
                    service,
                    handler.name,
                    tuple(dict.fromkeys(spec_of(event).name for event in handler.events)),
                    _merged(consequences),
                    handler.policy.max_loops,
                    handler.policy.budget,
                    handler.policy.broadcast,
                )
            )
    return CascadeGraph(
        tuple(services),
        tuple(nodes),
        {event: tuple(found.values()) for event, found in uses.items()},
        tuple(unresolved),
    )


def _merged(consequences: Iterable[Consequence]) -> tuple[Consequence, ...]:
    """One of each name: two classes of one name are reported elsewhere, and are one event here."""
    return tuple({one.event: one for one in consequences}.values())


def strongly_connected_components(
    successors: Sequence[Iterable[int]],
) -> tuple[tuple[int, ...], ...]:
    """The components of a graph whose nodes are indexes; each comes before those that lead to it.

    R. E. Tarjan, "Depth-first search and linear graph algorithms", SIAM J. Comput. 1 (1972), with a stack
    of its own in place of recursion.
    """
    number = [-1] * len(successors)
    lowest = [0] * len(successors)
    pending: list[int] = []
    is_pending = [False] * len(successors)
    components: list[tuple[int, ...]] = []
    count = 0
    for start in range(len(successors)):
        if number[start] >= 0:
            continue
        number[start] = lowest[start] = count
        count += 1
        pending.append(start)
        is_pending[start] = True
        path = [(start, iter(successors[start]))]
        while path:
            node, rest = path[-1]
            for successor in rest:
                if number[successor] < 0:
                    number[successor] = lowest[successor] = count
                    count += 1
                    pending.append(successor)
                    is_pending[successor] = True
                    path.append((successor, iter(successors[successor])))
                    break
                if is_pending[successor]:
                    lowest[node] = min(lowest[node], number[successor])
            else:
                path.pop()
                if path:
                    before = path[-1][0]
                    lowest[before] = min(lowest[before], lowest[node])
                if lowest[node] == number[node]:
                    component: list[int] = []
                    while not component or component[-1] != node:
                        component.append(pending.pop())
                        is_pending[component[-1]] = False
                    components.append(tuple(sorted(component)))
    return tuple(components)


def roots(graph: CascadeGraph) -> tuple[Root, ...]:
    """The events that begin cascades, by name: between them they lead to every handler.

    These are the events that are handled and that no handler emits; and for each loop that none of them
    leads to, the first by name of its events.
    """
    found = [Root(event, emitted=False) for event in graph.handlers if event not in graph.emitters]
    reached: set[int] = set()
    for root in found:
        _reach(graph, graph.handlers[root.event], reached)
    for component in reversed(graph.components):
        if component[0] in reached:
            continue
        event = min(event for index in component for event in graph.nodes[index].events)
        found.append(Root(event, emitted=True))
        _reach(graph, graph.handlers[event], reached)
    return tuple(sorted(found))


def _reach(graph: CascadeGraph, starts: Iterable[int], reached: set[int]) -> None:
    ahead = [index for index in starts if index not in reached]
    while ahead:
        index = ahead.pop()
        if index not in reached:
            reached.add(index)
            ahead.extend(graph.successors[index])


def loops(graph: CascadeGraph) -> tuple[Loop, ...]:
    """Loops that between them go through every handler that is in one, each elementary and told once.

    A graph may have exponentially many. In a component of up to 12 handlers this gives the shortest through
    each edge, in a larger one the shortest through each handler.
    """
    found: dict[Loop, None] = {}
    for component in reversed(graph.components):
        if component[0] not in graph.cyclic:
            continue
        members = frozenset(component)
        for index in component:
            own = [one for one in graph.successors[index] if one in members]
            for firsts in [[one] for one in own] if len(component) <= SMALL else [own]:
                found[_shortest_loop(graph, index, firsts, members)] = None
    return tuple(sorted(found, key=lambda loop: (loop.handlers[0], len(loop.handlers), loop)))


def _shortest_loop(
    graph: CascadeGraph, start: int, firsts: Iterable[int], members: frozenset[int]
) -> Loop:
    """The shortest way from a node by one of ``firsts`` back to it, found breadth first."""
    came_from = dict.fromkeys(firsts, start)
    ahead = deque(came_from)
    while start not in came_from:
        index = ahead.popleft()
        for successor in graph.successors[index]:
            if successor in members and successor not in came_from:
                came_from[successor] = index
                ahead.append(successor)
    way = [came_from[start]]
    while way[-1] != start:
        way.append(came_from[way[-1]])
    way.reverse()
    smallest = way.index(min(way))
    handlers = (*way[smallest:], *way[:smallest])
    events = (
        graph.successors[index][handlers[(position + 1) % len(handlers)]]
        for position, index in enumerate(handlers)
    )
    return Loop(handlers, tuple(events))
