"""The worst case of a cascade, beside one that is played through step by step."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cascade.test_graph import EVENTS, chain_of, handler

from thence import Budget
from thence.cascade.credits import CUT, divide, part
from thence.cascade.extent import MOST, Extent, WorstCase
from thence.cascade.graph import CascadeGraph, graph_of


class Played:
    """A whole cascade in which every run emits whatever it declares."""

    def __init__(self, graph: CascadeGraph, root: str, budget: int) -> None:
        self.graph = graph
        self.starts = self.depth = self.certain_starts = self.certain_depth = 0
        self.short = False
        self.emit([(root, True)], [], budget)

    def emit(self, events: list[tuple[str, bool]], path: list[int], budget: int) -> None:
        deliveries: list[tuple[list[int], bool]] = []
        for event, certain in events:
            by_service: defaultdict[str, list[int]] = defaultdict(list)
            for index in self.graph.handlers.get(event, ()):
                by_service[self.graph.nodes[index].service].append(index)
            deliveries += [(indexes, certain) for indexes in by_service.values()]
        nodes = self.graph.nodes
        shares = divide(
            budget,
            [(len(own), any(nodes[i].consequences for i in own)) for own, _ in deliveries],
        )
        for (indexes, certain), share in zip(deliveries, shares, strict=True):
            self.short |= share == CUT
            spreading = [index for index in indexes if nodes[index].consequences]
            for index in indexes:
                own = (
                    part(max(share, 0), spreading.index(index), len(spreading))
                    if index in spreading
                    else 0
                )
                self.run(index, certain, path, own)

    def run(self, index: int, certain: bool, path: list[int], budget: int) -> None:
        node = self.graph.nodes[index]
        if Counter(path)[index] > node.max_loops:
            return
        self.starts += 1
        assert self.starts < 20_000
        self.depth = max(self.depth, len(path))
        if certain:
            self.certain_starts += 1
            self.certain_depth = max(self.certain_depth, len(path))
        emitted = [(one.event, certain and one.certain) for one in node.consequences]
        self.emit(emitted, [*path, index], budget)


@st.composite
def cascades(draw: st.DrawFn) -> CascadeGraph:
    size = draw(st.integers(1, 5))
    events = EVENTS[:size]
    services: defaultdict[str, list[Any]] = defaultdict(list)
    for number in range(draw(st.integers(1, 5))):
        returned = draw(st.lists(st.sampled_from(events), max_size=2, unique=True))
        returns: Any = tuple[tuple(returned)] if returned else None  # type: ignore[misc]
        if returned and draw(st.booleans()):
            returns |= None
        services[f"s{draw(st.integers(0, 2))}"].append(
            handler(
                f"h{number}",
                draw(st.lists(st.sampled_from(events), min_size=1, max_size=2, unique=True)),
                returns,
                max_loops=draw(st.sampled_from([0, 0, 0, 1])),
            )
        )
    return graph_of(services)


@settings(max_examples=300, deadline=None)
@given(cascades())
def test_the_worst_case_is_what_happens_when_every_run_emits_everything(
    graph: CascadeGraph,
) -> None:
    worst = WorstCase(graph)
    for event in graph.handlers:
        extent = worst.of_root(event)
        if extent.starts > 5_000:
            continue
        played = Played(graph, event, extent.credits)
        assert extent.exact
        assert (extent.starts, extent.depth) == (played.starts, played.depth)
        assert extent.certain_starts == played.certain_starts
        assert extent.certain_depth == played.certain_depth
        assert not played.short, "these credits are to suffice"
        assert extent.credits >= extent.starts


def test_the_credits_of_a_worst_case_are_not_too_many_either() -> None:
    graph = chain_of({0: [1, 2], 1: [3], 2: [], 3: [4], 4: []})
    extent = WorstCase(graph).of_root("e0")
    assert (extent.starts, extent.credits) == (5, 5)
    assert Played(graph, "e0", extent.credits - 1).short
    lopsided = chain_of({0: [1, 2], 1: [3], 2: [5], 3: [4], 4: [], 5: []})
    extent = WorstCase(lopsided).of_root("e0")
    assert (extent.starts, extent.credits) == (6, 7)


def test_a_loop_comes_back_as_often_as_it_may() -> None:
    extent = WorstCase(chain_of({0: [1], 1: [0]}, max_loops=3)).of_root("e0")
    assert (extent.starts, extent.depth) == (8, 7)


def test_a_bomb_is_counted_without_being_played() -> None:
    width, depth = 10, 6
    graph = graph_of(
        {
            f"s{number}": [
                handler(f"h{level}", [EVENTS[level]], EVENTS[level + 1]) for level in range(depth)
            ]
            for number in range(width)
        }
    )
    extent = WorstCase(graph).of_root("e0")
    assert extent.starts == sum(width**level for level in range(1, depth + 1))
    assert extent.depth == depth - 1


def test_numbers_stay_readable_however_large() -> None:
    graph = graph_of(
        {
            f"s{number}": [
                handler(f"h{level}", [EVENTS[level]], EVENTS[level + 1]) for level in range(1500)
            ]
            for number in range(2)
        }
    )
    extent = WorstCase(graph).of_root("e0")
    assert (extent.starts, extent.depth) == (MOST, 1499)


def test_a_tangle_of_loops_is_given_up_with_a_lower_bound() -> None:
    everyone = list(range(14))
    graph = chain_of(dict.fromkeys(everyone, everyone), max_loops=1)
    extent = WorstCase(graph).of_root("e0")
    assert not extent.exact
    assert extent.starts > 1_000_000


def test_a_handlers_own_budget_holds_for_what_it_causes_and_nothing_else() -> None:
    narrow = Budget(events=2, depth=1)
    graph = graph_of(
        {
            "one": [
                handler("a", [EVENTS[0]], EVENTS[1], budget=narrow),
                handler("b", [EVENTS[1]], EVENTS[2]),
                handler("c", [EVENTS[1]], EVENTS[2]),
                handler("d", [EVENTS[2]]),
            ]
        }
    )
    worst = WorstCase(graph)
    assert worst.of_root("e0") == Extent(3, 1, 3, 3, 1)
    assert worst.of_consequences(0) == Extent(4, 2, 4, 4, 2)


@pytest.mark.parametrize(
    ("budget", "exact"), [(Budget(events=3, depth=3), True), (Budget(events=30, depth=3), False)]
)
def test_a_budget_makes_a_lower_bound_exact_if_it_is_below(budget: Budget, exact: bool) -> None:
    assert Extent(10, 10, 10, 0, 0, exact=False).within(budget).exact is exact
