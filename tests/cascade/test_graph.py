"""The cascade graph of handlers, by their annotations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from typing import Annotated, Any, Optional, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thence import Event, Service
from thence.cascade.consequences import consequences_of
from thence.cascade.graph import (
    CascadeGraph,
    Root,
    graph_of,
    loops,
    roots,
    strongly_connected_components,
)
from thence.handling.handler import Handler, HandlerPolicy


class Asked(Event): ...


class Answered(Event): ...


Either: TypeAlias = Asked | Answered

EVENTS: list[type[Event]] = [
    type(Event)(f"E{number}", (Event,), {"__module__": __name__}) for number in range(2000)
]
"""Their names on the wire are e0, e1 and so on."""


def handler(
    name: str,
    handles: Sequence[type[Event]],
    returns: Any = None,
    *,
    max_loops: int = 0,
    **policy: Any,
) -> Handler:
    async def run(event: Event) -> None: ...

    run.__annotations__["return"] = returns
    return Handler.of(run, tuple(handles), name, HandlerPolicy(max_loops=max_loops, **policy))


def chain_of(edges: dict[int, list[int]], max_loops: int = 0) -> CascadeGraph:
    """A handler ``h<n>`` of event ``e<n>`` for each number, which emits the events it leads to."""
    return graph_of(
        {
            "one": [
                handler(
                    f"h{number}",
                    [EVENTS[number]],
                    tuple[tuple(EVENTS[n] for n in then)] if then else None,  # type: ignore[misc]
                    max_loops=max_loops,
                )
                for number, then in edges.items()
            ]
        }
    )


@pytest.mark.parametrize(
    ("annotation", "declared"),
    [
        (Asked, {("asked", False, True)}),
        (Asked | None, {("asked", False, False)}),
        (Either, {("asked", False, False), ("answered", False, False)}),
        (tuple[Asked, Answered], {("asked", False, True), ("answered", False, True)}),
        (tuple[Asked, Answered | None], {("asked", False, True), ("answered", False, False)}),
        (tuple[Asked, ...], {("asked", True, False)}),
        (list[Asked] | None, {("asked", True, False)}),
        (Iterable[Asked | Answered], {("asked", True, False), ("answered", True, False)}),
        (AsyncIterator[Asked], {("asked", True, False)}),
        (Generator[Asked, None, None], {("asked", True, False)}),
        (Annotated[Asked, "now"], {("asked", False, True)}),
        (None, set()),
        ("Asked", {("asked", False, True)}),
        ("list[Answered]", {("answered", True, False)}),
        # Names in quotes within an annotation, with and without "from __future__ import annotations".
        (list["Answered"], {("answered", True, False)}),
        ("list['Answered'] | None", {("answered", True, False)}),
        (Optional["Answered"], {("answered", False, False)}),
        (tuple["Asked", "Answered"], {("asked", False, True), ("answered", False, True)}),
    ],
)
def test_an_annotation_says_what_is_emitted_and_whether_it_is_certain_or_many(
    annotation: Any, declared: set[tuple[str, bool, bool]]
) -> None:
    found = consequences_of(handler("ask", [Asked], annotation))
    assert {(one.event, one.many, one.certain) for one in found} == declared


def test_what_the_context_emits_is_neither_certain_nor_many() -> None:
    (found,) = consequences_of(handler("ask", [Asked], emits=(Answered,)))
    assert (found.event, found.many, found.certain) == ("answered", False, False)


def test_names_within_a_function_are_found() -> None:
    class Local(Event): ...

    service = Service("one")

    @service.on(Asked)
    async def ask(asked: Asked) -> list[Local]:
        return [Local()]

    (found,) = consequences_of(service.handlers[0])
    assert (found.event, found.many) == ("local", True)


def test_roots_are_what_is_handled_and_not_emitted() -> None:
    assert roots(chain_of({0: [1], 1: [2], 2: [], 3: [1]})) == (
        Root("e0", emitted=False),
        Root("e3", emitted=False),
    )


def test_a_loop_that_nothing_leads_to_has_a_root_of_its_own() -> None:
    graph = chain_of({0: [1], 1: [], 2: [3], 3: [2, 4], 4: []})
    assert roots(graph) == (Root("e0", emitted=False), Root("e2", emitted=True))


def told(graph: CascadeGraph) -> list[str]:
    return [" ".join(graph.nodes[index].name for index in loop.handlers) for loop in loops(graph)]


def test_each_loop_is_told_once_with_the_events_that_lead_around() -> None:
    graph = chain_of({0: [1], 1: [2, 1], 2: [1, 0], 3: []})
    assert told(graph) == ["h0 h1 h2", "h1", "h1 h2"]
    assert loops(graph)[0].events == ("e1", "e2", "e0")
    assert graph.cyclic == {0, 1, 2}


def test_a_dense_component_is_told_by_one_loop_a_handler() -> None:
    everyone = list(range(60))
    graph = chain_of({one: [other for other in everyone if other != one] for one in everyone})
    assert 30 <= len(loops(graph)) <= 60
    assert {index for loop in loops(graph) for index in loop.handlers} == set(everyone)


@pytest.mark.parametrize("closed", [False, True])
def test_deep_graphs_do_not_exhaust_the_stack(closed: bool) -> None:
    depth = len(EVENTS)
    edges = {n: [n + 1] if n + 1 < depth else [0] if closed else [] for n in range(depth)}
    graph = chain_of(edges)
    assert len(graph.components) == (1 if closed else depth)
    assert [len(loop.handlers) for loop in loops(graph)] == [depth] * closed
    assert roots(graph) == (Root("e0", emitted=closed),)


graphs = st.integers(1, 9).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(0, size - 1), max_size=4, unique=True), min_size=size, max_size=size
    )
)


def reached_from(successors: Sequence[Sequence[int]], start: int) -> set[int]:
    """What one or more steps lead to."""
    reached: set[int] = set()
    ahead = list(successors[start])
    while ahead:
        node = ahead.pop()
        if node not in reached:
            reached.add(node)
            ahead += successors[node]
    return reached


@given(graphs)
def test_components_are_what_reaches_each_other_the_farthest_first(
    successors: list[list[int]],
) -> None:
    reached = [reached_from(successors, node) for node in range(len(successors))]
    components = strongly_connected_components(successors)
    assert sorted(node for component in components for node in component) == list(
        range(len(successors))
    )
    done: set[int] = set()
    for component in components:
        for node in component:
            alike = {o for o in range(len(successors)) if o in reached[node] and node in reached[o]}
            assert set(component) == alike | {node}
        done.update(component)
        assert set().union(*(reached[node] for node in component)) <= done


@given(graphs)
def test_loops_are_real_elementary_told_once_and_pass_every_edge_that_is_in_one(
    successors: list[list[int]],
) -> None:
    graph = chain_of(dict(enumerate(successors)))
    found = loops(graph)
    passed = set()
    for loop in found:
        assert len(set(loop.handlers)) == len(loop.handlers)
        for one, other in zip(loop.handlers, (*loop.handlers[1:], loop.handlers[0]), strict=True):
            assert other in graph.successors[one]
            passed.add((one, other))
    assert len(set(found)) == len(found)
    assert passed == {
        (node, successor)
        for node, own in enumerate(successors)
        for successor in own
        if node == successor or node in reached_from(successors, successor)
    }


@given(graphs)
def test_every_handler_follows_from_some_root(successors: list[list[int]]) -> None:
    graph = chain_of(dict(enumerate(successors)))
    reached: set[int] = set()
    for root in roots(graph):
        for index in graph.handlers[root.event]:
            reached |= {index, *reached_from(successors, index)}
    assert reached == set(range(len(successors)))
