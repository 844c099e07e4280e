"""How far a cascade may spread at worst, by what its handlers declare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from thence.budget import Budget
from thence.cascade.consequences import Consequence
from thence.cascade.graph import CascadeGraph

__all__ = ["MOST", "Extent", "WorstCase"]

MOST = 10**12
"""Handler starts and credits are counted up to this."""

STEPS = 100_000
"""Consequences that are followed within loops before counts become lower bounds."""

_State: TypeAlias = tuple[int, int]
"""A node, and how often each node of its component has been started on the way to its end, itself included.

The counts are packed into one number: there may be many, and they are hashed often.
"""


@dataclass(frozen=True, slots=True)
class Extent:
    """How far something spreads if each run emits each event that it declares, once."""

    starts: int = 0
    """Handlers started, at most :data:`MOST`."""
    depth: int = 0
    """Hops to the farthest of them."""
    credits: int = 0
    """What its budget must hold so that nothing is cut, as branches share it equally; see ``credits``."""
    certain_starts: int = 0
    """Handlers started in any case, by what their annotations say."""
    certain_depth: int = 0
    """Hops to the farthest of those."""
    exact: bool = True
    """Otherwise these are lower bounds: there are too many ways through loops to follow each."""

    def within(self, budget: Budget) -> Extent:
        """What is left of it where it has this budget, and is cut beyond."""
        events, depth = budget.events, budget.depth
        return Extent(
            min(self.starts, events),
            min(self.depth, depth),
            min(self.credits, events),
            min(self.certain_starts, events),
            min(self.certain_depth, depth),
            self.exact or (self.starts >= events and self.depth >= depth),
        )


class WorstCase:
    """Finds extents in one graph. A handler comes at most ``max_loops + 1`` times in one line of descent.

    Outside of loops each handler is looked at once. Within, what is still to come depends on how often each
    handler of the loop has been started: each such state is looked at once, up to a bound on their number.
    Nothing recurses, so that a deep graph is as good as a shallow one.
    """

    def __init__(self, graph: CascadeGraph) -> None:
        self._graph = graph
        self._known: dict[_State, Extent] = {}
        self._left = STEPS
        self._services: dict[str, list[list[int]]] = {}
        """For each event, the handlers of each service that takes it: one delivery to each service."""
        for event, indexes in graph.handlers.items():
            by_service: defaultdict[str, list[int]] = defaultdict(list)
            for index in indexes:
                by_service[graph.nodes[index].service].append(index)
            self._services[event] = list(by_service.values())
        self._shift = [0] * len(graph.nodes)
        self._mask = [0] * len(graph.nodes)
        for component in graph.components:
            position = 0
            for index in component:
                bits = (graph.nodes[index].max_loops + 1).bit_length()
                self._shift[index], self._mask[index] = position, (1 << bits) - 1
                position += bits

    def of_root(self, event: str) -> Extent:
        """How far a root event spreads; the root itself is at depth 0."""
        for index in self._graph.handlers.get(event, ()):
            self._find(self._entered(index))
        root = Consequence(event, self._graph.uses[event][0].type, certain=True)
        spread = self._spread([root], lambda index: self._known.get(self._entered(index)))
        return replace(
            spread, depth=max(0, spread.depth - 1), certain_depth=max(0, spread.certain_depth - 1)
        )

    def of_consequences(self, index: int) -> Extent:
        """How far the consequences of one run spread, whatever budget its handler declares.

        Depth counts from the event that it handles.
        """
        state = self._entered(index)
        self._find(state)
        return self._below(state)

    def _entered(self, index: int) -> _State:
        """A node that is reached from outside of its component."""
        if index not in self._graph.cyclic:
            return index, 0
        return index, 1 << self._shift[index]

    def _next(self, state: _State, index: int) -> _State | None:
        """The state in which a consequence reaches a node, or None if it is cut there as a loop."""
        graph = self._graph
        if index not in graph.cyclic or graph.component_of[index] != graph.component_of[state[0]]:
            return self._entered(index)
        started = state[1] >> self._shift[index] & self._mask[index]
        if started > graph.nodes[index].max_loops:
            return None
        return index, state[1] + (1 << self._shift[index])

    def _find(self, wanted: _State) -> None:
        """Find out what one run in this state comes to, and before it those that it leads to.

        When no steps are left, runs within loops that have not been looked at stay unknown.
        """
        known, graph = self._known, self._graph
        path = [wanted]
        expanded: set[_State] = set()
        while path:
            state = path[-1]
            if state in known:
                path.pop()
            elif state in expanded:
                known[state] = self._run(state)
                path.pop()
            elif state[0] in graph.cyclic and self._left <= 0:
                path.pop()
            else:
                expanded.add(state)
                if state[0] in graph.cyclic:
                    self._left -= len(graph.successors[state[0]])
                for index in graph.successors[state[0]]:
                    ahead = self._next(state, index)
                    if ahead is not None and ahead not in known:
                        path.append(ahead)

    def _run(self, state: _State) -> Extent:
        """What one run comes to, its own start included; ``credits`` are those for what it causes."""
        below = self._below(state)
        budget = self._graph.nodes[state[0]].budget
        if budget is not None:
            below = below.within(budget)
        return replace(
            below, starts=min(MOST, below.starts + 1), certain_starts=below.certain_starts + 1
        )

    def _below(self, state: _State) -> Extent:
        def run_of(index: int) -> Extent | None:
            ahead = self._next(state, index)
            return Extent() if ahead is None else self._known.get(ahead)

        return self._spread(self._graph.nodes[state[0]].consequences, run_of)

    def _spread(
        self, emitted: Iterable[Consequence], run_of: Callable[[int], Extent | None]
    ) -> Extent:
        """How far events spread that are emitted together.

        ``run_of`` tells what a run of a handler comes to: no start if it is cut, None if that is not known.
        Credits are paid as :func:`thence.cascade.credits.divide` does it.
        """
        starts = depth = paid = certain_starts = certain_depth = 0
        needs: list[int] = []
        exact = True
        for consequence in emitted:
            for indexes in self._services.get(consequence.event, ()):
                paid += len(indexes)
                shares: list[int] = []
                for index in indexes:
                    run = run_of(index)
                    if run is None:
                        run, exact = Extent(starts=1, certain_starts=1), False
                    if self._graph.nodes[index].consequences:
                        shares.append(run.credits)
                    if not run.starts:
                        continue
                    exact = exact and run.exact
                    starts += run.starts
                    depth = max(depth, run.depth + 1)
                    if consequence.certain:
                        certain_starts += run.certain_starts
                        certain_depth = max(certain_depth, run.certain_depth + 1)
                if shares:
                    needs.append(len(shares) * max(shares))
        return Extent(
            min(MOST, starts),
            depth,
            min(MOST, paid + len(needs) * max(needs, default=0)),
            min(MOST, certain_starts),
            certain_depth,
            exact,
        )
