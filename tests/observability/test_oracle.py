"""What the recorders of random topologies tell is exactly what observers of all nodes have seen."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
from tests.delivery.topologies import Play, faulty_plan

from thence import Node
from thence.events.lineage import Lineage
from thence.identifiers import EventId
from thence.observability.accounts import Account, Question, Ran, Refused, Sent
from thence.observability.assembly import assemble
from thence.observability.clocks import Heard
from thence.testing import run

Seen = defaultdict[EventId, set[tuple[str, str, str]]]
"""By root event: an event, the service or handler, and what became of it there."""


class Oracle:
    """An observer of all nodes that keeps everything."""

    def __init__(self) -> None:
        self.seen: Seen = defaultdict(set)

    def _keep(self, event_id: EventId, lineage: Lineage | None, place: str, outcome: str) -> None:
        root = event_id if lineage is None else lineage.root
        self.seen[root].add((str(event_id), place, outcome))

    def emitted(self, event_id: Any, lineage: Any, event: str, size: int, targets: int) -> None:
        self._keep(event_id, lineage, "", "emitted")

    def handled(self, event_id: Any, lineage: Any, event: str, service: str, handler: str) -> None:
        self._keep(event_id, lineage, f"{service}.{handler}", "handled")

    def failed(
        self,
        event_id: Any,
        lineage: Any,
        event: str,
        service: str,
        handler: str,
        error: BaseException,
    ) -> None:
        self._keep(event_id, lineage, f"{service}.{handler}", "failed")

    def shed(
        self, event_id: Any, lineage: Any, event: str, service: str, handler: str, reason: str
    ) -> None:
        self._keep(event_id, lineage, f"{service}.{handler}", reason)

    def refused(self, event_id: Any, lineage: Any, event: str, service: str, reason: str) -> None:
        self._keep(event_id, lineage, service, reason)

    def limit_changed(self, place: str, before: str, after: str, by: str) -> None: ...


class Recorded(Play):
    """A topology whose nodes are asked before they close; also those that were killed."""

    def __init__(self, seed: int, *, observed: bool) -> None:
        chance = random.Random(seed)
        super().__init__(faulty_plan(chance), chance)
        self.oracle = Oracle()
        self.observed = observed
        self.accounts: dict[EventId, list[Account]] = {}
        self.ran: defaultdict[EventId, set[str]] = defaultdict(set)
        """By root event, the events that handlers were given."""
        if observed:
            self.emitter.observe(self.oracle)

    def node(self, names: tuple[str, ...]) -> Node:
        node = super().node(names)
        if self.observed:
            node.observe(self.oracle)
        return node

    def a_run(self, ctx: Any) -> Any:
        self.ran[EventId.parse(ctx.root_id)].add(ctx.event_id)
        return super().a_run(ctx)

    async def ends(self) -> None:
        await super().ends()
        for root in {*self.oracle.seen, *self.ran}:
            self.accounts[root] = [
                await runtime.witness.account(Question(root=root))
                for one in (self.emitter, *self.nodes)
                if (runtime := one._runtime) is not None
            ]


def told(accounts: list[Account]) -> set[tuple[str, str, str]]:
    found = set[tuple[str, str, str]]()
    for account in accounts:
        for fact in account.facts:
            match fact:
                case Sent():
                    end = "", "emitted"
                case Ran(place=place, error=error):
                    end = place, "handled" if error is None else "failed"
                case Refused(place=place, reason=reason):
                    end = place, reason
                case _:
                    end = fact.place, "pending"
            found.add((str(fact.event_id), *end))
    return found


@pytest.fixture(autouse=True)
def with_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THENCE_RECORDER", "64MB")


@pytest.mark.parametrize("seed", range(40))
def test_the_recorders_tell_what_an_observer_has_seen_and_nothing_else(seed: int) -> None:
    play = Recorded(seed, observed=True)
    run(play.run())
    assert play.accounts
    for root, accounts in play.accounts.items():
        seen, recorded = play.oracle.seen[root], told(accounts)
        if any(account.cut_short for account in accounts):
            assert recorded <= seen
        else:
            assert recorded == seen


@pytest.mark.parametrize("seed", range(200, 230))
def test_recorders_without_room_for_all_tell_that_they_have_forgotten_some(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THENCE_RECORDER", "50kB")
    play = Recorded(seed, observed=True)
    run(play.run())
    for root, accounts in play.accounts.items():
        seen, recorded = play.oracle.seen[root], told(accounts)
        assert recorded <= seen
        if recorded != seen:
            trace = assemble(root, [Heard(account) for account in accounts])
            assert trace.forgotten
            assert not trace.is_complete


@pytest.mark.parametrize("seed", range(100, 130))
def test_what_nobody_observes_is_recorded_all_the_same_and_makes_a_whole_tree(seed: int) -> None:
    play = Recorded(seed, observed=False)
    budgets = run(play.run())
    for root, ran in play.ran.items():
        accounts = play.accounts[root]
        if any(account.cut_short for account in accounts):
            continue
        recorded = {
            str(fact.event_id)
            for account in accounts
            for fact in account.facts
            if isinstance(fact, Ran)
        }
        # A batch has the identifier of its newest event.
        assert recorded >= ran
        trace = assemble(root, [Heard(account) for account in accounts])
        assert {str(one.event_id) for one in trace.root.walk() if one.handlings} >= ran
        if not play.plan.deaths and not play.plan.joins:
            assert trace.is_complete, trace.gaps
    assert set(map(str, play.ran)) <= set(budgets)
