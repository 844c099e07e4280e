"""A cascade put together from any facts at all: no cycles, nothing invented, nothing missing without a word."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.observability.worlds import (
    World,
    accounts_of,
    hostile_facts,
    make_world,
    shape,
    times_are_in_order,
)

from thence.identifiers import EventId
from thence.observability.accounts import Account, Ancestry, Fact, Pending, Ran, Refused, Sent
from thence.observability.assembly import Trace, assemble
from thence.observability.clocks import SAME, Heard, clocks

seeds = st.integers(0, 2**32)
often = settings(deadline=None, max_examples=300)
few = settings(deadline=None, max_examples=100)

A, B, C = (f"{number:020x}" for number in (10, 11, 12))
ROOT = EventId(A, 1)


def ends(trace: Trace) -> dict[EventId, set[tuple[str, str, str]]]:
    return {
        one.event_id: {(h.place, h.node, h.outcome) for h in one.handlings}
        for one in trace.root.walk()
    }


def causes(trace: Trace) -> dict[EventId, tuple[EventId, str, str]]:
    return {
        below.event_id: (one.event_id, handling.place, handling.node)
        for one in trace.root.walk()
        for handling in one.handlings
        for below in handling.consequences
    }


def is_a_tree(trace: Trace) -> bool:
    met = [one.event_id for one in trace.root.walk()]
    return len(met) == len(set(met))


def told_of(root: EventId, facts: list[tuple[str, Fact]]) -> set[EventId]:
    """Every event that these facts tell of, themselves or in a lineage."""
    told = {root}
    for _, fact in facts:
        if fact.event_id != root and fact.ancestry is not None and fact.ancestry.root == root:
            told |= {fact.event_id, fact.ancestry.cause}
    return told


def by_itself(world: World, fact: Fact) -> bool:
    """Whether nothing else tells of that event."""
    return sum(other.event_id == fact.event_id for _, other in world.all_facts()) == 1 and not any(
        other.ancestry is not None and other.ancestry.cause == fact.event_id
        for _, other in world.all_facts()
    )


@often
@given(seeds)
def test_all_facts_together_give_exactly_what_happened_and_nothing_is_said_to_be_missing(
    seed: int,
) -> None:
    world = make_world(random.Random(seed))
    trace = assemble(world.root, accounts_of(world))
    assert trace.is_complete, trace.gaps
    assert ends(trace) == world.handlings
    assert causes(trace) == world.causes


@often
@given(seeds)
def test_any_facts_in_any_order_give_the_same_tree(seed: int) -> None:
    chance = random.Random(seed)
    world = make_world(chance)
    facts = [one for one in world.all_facts() if chance.random() < chance.choice((0.5, 0.9))]
    facts += chance.sample(facts, len(facts) // 3)
    facts += hostile_facts(chance, world.root, chance.choice((0, 3, 10)))
    heard = accounts_of(world, facts)
    expected = shape(assemble(world.root, heard, ["s"]))
    chance.shuffle(facts)
    again = accounts_of(world, facts)
    chance.shuffle(again)
    assert shape(assemble(world.root, again, ["s"])) == expected


@often
@given(seeds)
def test_nothing_is_invented_and_nothing_missing_is_called_complete(seed: int) -> None:
    chance = random.Random(seed)
    world = make_world(chance)
    share = chance.choice((0.2, 0.5, 0.9))
    facts = [one for one in world.all_facts() if chance.random() < share]
    trace = assemble(world.root, accounts_of(world, facts))
    assert is_a_tree(trace)
    assert set(ends(trace)) == told_of(world.root, facts)
    assert times_are_in_order(trace)
    told = {(fact.event_id, getattr(fact, "place", "")) for _, fact in facts}
    for one in trace.root.walk():
        for handling in one.handlings:
            # What nobody told is unknown, and only that.
            assert handling.outcome == "unknown" or (one.event_id, handling.place) in told
            truly = (handling.place, handling.node, handling.outcome)
            assert handling.outcome == "unknown" or truly in world.handlings[one.event_id]
    if trace.is_complete:
        assert not any(h.outcome == "unknown" for one in trace.root.walk() for h in one.handlings)
        for event_id, found in ends(trace).items():
            assert found == world.handlings[event_id]


@often
@given(seeds)
def test_a_fact_that_is_missing_is_missed(seed: int) -> None:
    chance = random.Random(seed)
    world = make_world(chance)
    facts = world.all_facts()
    _, lost = facts.pop(chance.randrange(len(facts)))
    # Nobody can miss the only word about an event that went nowhere.
    nowhere = by_itself(world, lost) and lost.event_id != world.root
    trace = assemble(world.root, accounts_of(world, facts))
    assert trace.is_complete is nowhere


@often
@given(seeds)
def test_a_node_that_has_died_is_missed_by_what_it_would_have_told(seed: int) -> None:
    chance = random.Random(seed)
    world = make_world(chance)
    dead = chance.choice(world.places).node
    others = [place.node for place in world.places if place.node != dead]
    trace = assemble(world.root, accounts_of(world, nodes=others))
    # Where it sent what others have got is remarked on: nobody can tell that any more.
    is_missed = not trace.is_complete or bool(trace.remarks)
    assert is_missed is bool(world.facts[dead])


@often
@given(seeds)
def test_lies_make_no_cycle_and_no_event_that_nobody_told_of_and_lose_none(seed: int) -> None:
    chance = random.Random(seed)
    root = EventId(f"{0:020x}", 1)
    facts = hostile_facts(chance, root, chance.randint(0, 25))
    world = World(root, make_world(chance).places, {}, {}, {}, {})
    heard = accounts_of(world, facts, wrong_by=chance.choice((0.0, 3.0)), chance=chance)
    trace = assemble(root, heard)
    assert is_a_tree(trace)
    assert times_are_in_order(trace)
    nodes = {one.account.node for one in heard}
    facts = [one for one in facts if one[0] in nodes]
    assert set(ends(trace)) <= told_of(root, facts)
    assert set(ends(trace)) >= {
        fact.event_id
        for _, fact in facts
        if fact.ancestry is not None and fact.ancestry.root == root
    }
    for event_id in ends(trace):
        assert trace.way_to(event_id)[0][0] is trace.root


@few
@given(seeds)
def test_clocks_that_are_known_exactly_give_the_true_times(seed: int) -> None:
    world = make_world(random.Random(seed))
    trace = assemble(world.root, accounts_of(world))
    shift: float | None = None
    for one in trace.root.walk():
        for handling in one.handlings:
            true = world.moments.get((one.event_id, handling.place, handling.node), ())
            shown = (handling.received, handling.began, handling.ended)
            for moment, truly in zip(shown, true, strict=False):
                if moment is not None and truly is not None:
                    shift = truly - moment if shift is None else shift
                    assert truly - moment == pytest.approx(shift, abs=1e-6)


@often
@given(seeds)
def test_no_journey_ends_before_it_began_however_wrong_the_clocks_are(seed: int) -> None:
    chance = random.Random(seed)
    world = make_world(chance, most=25)
    heard = accounts_of(world, wrong_by=chance.choice((0.0, 0.1, 8.0)), chance=chance)
    ahead = clocks(heard, [(one.account, fact) for one in heard for fact in one.account.facts])
    starts = {
        (fact.event_id, fact.place, node): fact.began + ahead[node]
        for node, fact in world.all_facts()
        if isinstance(fact, Ran) and fact.began is not None
    }
    for node, fact in world.all_facts():
        if isinstance(fact, Ran):
            received = fact.since if fact.since is not None else fact.began
            assert received is not None
            home, above = fact.event_id.node, fact.ancestry
            if fact.sent is not None:
                assert received + ahead[node] >= fact.sent + ahead[home] - 2 * SAME
            if above is not None:
                began = starts[above.cause, above.path[-1], home]
                assert received + ahead[node] >= began - 2 * SAME
    assert times_are_in_order(assemble(world.root, heard))


def heard(node: str, *facts: Fact, name: str = "", **account: float) -> Heard:
    named = name or {A: "a1", B: "b1", C: "c1"}[node]
    times = {"clock": 50.0, "since": 0.0, "born": 0.0, **account}
    return Heard(Account(node, named, times["clock"], times["since"], times["born"], facts))


def below(*path: str, cause: EventId = ROOT) -> Ancestry:
    return Ancestry(cause, ROOT, path)


def test_a_skew_that_only_the_journeys_tell_is_corrected_to_within_them() -> None:
    """There and back: what is left of the error is less than the two journeys take together."""
    skew, journey = 7.0, 0.02
    there, back = EventId(A, 2), EventId(B, 1)
    facts_a = [
        Sent(ROOT, "e", ("a",), None, 1, 10.0),
        Ran(ROOT, "e", "a.x", 10.0, 10.1, None, sent=10.0),
        Sent(there, "e", ("b",), below("a.x"), 1),
        Ran(back, "e", "a.y", 10.2 + 2 * journey, 10.3, below("a.x", "b.x", cause=there), sent=10.2 + journey + skew),
    ]  # fmt: skip
    facts_b = [
        Ran(there, "e", "b.x", 10.1 + journey + skew, 10.2 + journey + skew, below("a.x"), sent=10.1),
        Sent(back, "e", ("a",), below("a.x", "b.x", cause=there), 1),
    ]  # fmt: skip
    accounts = [Heard(heard(A, *facts_a).account), Heard(heard(B, *facts_b).account, 0.0, 60.0)]
    ahead = clocks(
        accounts, [(one.account, fact) for one in accounts for fact in one.account.facts]
    )
    assert abs(ahead[B] - ahead[A] + skew) <= 2 * journey
    trace = assemble(ROOT, accounts)
    assert trace.is_complete, trace.gaps
    assert [round(one.at or 0, 1) for one in trace.root.walk()] == [0.0, 0.1, 0.2]


def test_clocks_that_may_be_the_same_are_the_same() -> None:
    one = heard(A, Sent(ROOT, "e", (), None, 1, 10.0))
    account = heard(B).account
    assert clocks([one, Heard(account, 0.001, 0.002)], []) == {A: 0.0, B: 0.0}
    assert clocks([one, Heard(account, 0.003, 0.002)], []) == {A: 0.0, B: 0.003}


def test_when_an_event_left_is_told_by_who_got_it_if_that_is_nearer_than_when_it_had_left_for_sure() -> (
    None
):
    sent = Sent(ROOT, "e", ("b",), None, 1, 10.9)
    ran = Ran(ROOT, "e", "b.x", 10.3, 10.4, None, since=10.1)
    (handling,) = assemble(ROOT, [heard(A, sent), heard(B, ran)]).root.handlings
    assert handling.received == 0
    assert handling.began == pytest.approx(0.2)
    assert handling.ended == pytest.approx(0.3)


def test_a_chain_longer_than_any_stack_is_no_trouble() -> None:
    length = 3000
    facts: list[Fact] = [Sent(ROOT, "e", ("a",), None, 1, 0.0)]
    path: tuple[str, ...] = ()
    above = None
    for number in range(1, length + 1):
        event_id = EventId(A, number)
        if number > 1:
            facts.append(Sent(event_id, "e", ("a",), above, 1))
        facts.append(Ran(event_id, "e", "a.x", number, number + 0.5, above))
        path = (*path, "a.x")
        above = Ancestry(event_id, ROOT, path)
    random.Random(1).shuffle(facts)
    trace = assemble(ROOT, [heard(A, *facts)])
    assert trace.is_complete
    last = EventId(A, length)
    assert len(trace.way_to(last)) == length
    assert sum(h.is_critical for one in trace.root.walk() for h in one.handlings) == length


def test_who_does_not_answer_forgets_or_is_not_understood_is_named_and_the_trace_is_not_complete() -> (
    None
):
    sent = Sent(ROOT, "e", (), None, 1, 10.0)
    assert assemble(ROOT, [heard(A, sent)]).is_complete
    assert assemble(ROOT, [heard(A, sent), heard(B, since=9.0)]).is_complete
    assert assemble(ROOT, [heard(A, sent)], ["dumb"]).silent == ("dumb",)
    assert not assemble(ROOT, [heard(A, sent)], ["dumb"]).is_complete
    assert assemble(ROOT, [heard(A, sent)], [], ["odd"]).strange == ("odd",)
    assert not assemble(ROOT, [heard(A, sent)], [], ["odd"]).is_complete
    forgetful = assemble(ROOT, [heard(A, sent), heard(B, since=10.5)])
    assert forgetful.forgotten == ("b1",)
    assert not forgetful.is_complete
    # What came in the same moment as the oldest that is left may be gone.
    assert assemble(ROOT, [heard(A, sent), heard(B, since=10.0)]).forgotten == ("b1",)
    # A node that began after that has forgotten nothing of it.
    assert assemble(ROOT, [heard(A, sent), heard(B, since=10.5, born=10.5)]).is_complete


def test_an_account_that_was_cut_short_is_said_to_be() -> None:
    account = Account(A, "a1", 50, 0, 0, (Sent(ROOT, "e", (), None, 1, 10.0),), cut_short=True)
    (gap,) = assemble(ROOT, [Heard(account)]).gaps
    assert gap == "the cascade is larger than a1 would tell at once"


def test_of_an_unknown_root_it_is_said_that_nobody_told_of_it() -> None:
    trace = assemble(ROOT, [heard(A)])
    assert trace.gaps == ("nobody told of the root event itself",)
    assert [one.event for one in trace.root.walk()] == [""]


def test_a_consequence_belongs_to_the_replica_that_emitted_it() -> None:
    own, other = EventId(B, 1), EventId(C, 1)
    facts = [Sent(ROOT, "e", ("s", "s"), None, 1, 1.0)]
    trace = assemble(
        ROOT,
        [
            heard(A, *facts),
            heard(B, Ran(ROOT, "e", "s.x", 1, 2), Sent(own, "f", (), below("s.x"), 1)),
            heard(C, Ran(ROOT, "e", "s.x", 1, 2), Sent(other, "f", (), below("s.x"), 1)),
        ],
    )
    assert trace.is_complete
    assert causes(trace) == {own: (ROOT, "s.x", "b1"), other: (ROOT, "s.x", "c1")}


def test_nodes_of_one_name_are_still_several() -> None:
    facts = [Sent(ROOT, "e", ("s", "s"), None, 1, 1.0)]
    ran = Ran(ROOT, "e", "s.x", 1, 2)
    trace = assemble(
        ROOT, [heard(A, *facts), heard(B, ran, name="same"), heard(C, ran, name="same")]
    )
    assert len(trace.root.handlings) == 2
    assert trace.is_complete


def test_a_replica_that_tells_nothing_of_a_broadcast_is_missed() -> None:
    facts = [Sent(ROOT, "e", ("s", "s"), None, 1, 1.0), Ran(ROOT, "e", "s.x", 1, 2)]
    trace = assemble(ROOT, [heard(A, *facts)])
    assert [(h.place, h.outcome) for h in trace.root.handlings] == [
        ("s.x", "handled"),
        ("s", "unknown"),
    ]
    assert trace.gaps == (f"nobody told what became of e {ROOT} at s",)


def test_events_between_that_nobody_told_of_are_not_made_up_and_the_way_is_shown() -> None:
    lost, known = EventId(B, 5), EventId(C, 1)
    ran = Ran(known, "f", "d.x", 3, 4, below("a.x", "b.x", "c.x", cause=lost))
    sent = Sent(known, "f", ("d",), below("a.x", "b.x", "c.x", cause=lost), 1)
    trace = assemble(ROOT, [heard(A, Sent(ROOT, "e", (), None, 1, 1.0)), heard(C, sent, ran)])
    assert set(ends(trace)) == {ROOT, lost, known}
    assert causes(trace) == {lost: (ROOT, "a.x → b.x", ""), known: (lost, "c.x", "c1")}
    assert trace.gaps == (
        f"nobody told of the event that caused f {known}",
        f"nobody told what became of e {ROOT} at a.x → b.x, and of 1 more",
    )


def test_contradictions_are_gaps() -> None:
    cause = EventId(A, 2)
    facts = [
        Sent(ROOT, "e", (), None, 1, 1.0),
        Sent(cause, "f", (), below("a.x"), 1),
        Sent(EventId(A, 3), "g", (), below("b.x", "c.x", cause=cause), 1),
        Refused(EventId(A, 3), "g", "c", 2.0, "full", "shed", below("b.x", "d.x", cause=cause)),
    ]
    trace = assemble(ROOT, [heard(A, *facts)])
    assert f"what was told of g {EventId(A, 3)} contradicts itself" in trace.gaps
    assert f"what was told of g {EventId(A, 3)} contradicts what was of its cause" in trace.gaps


def test_that_it_has_ended_outdoes_that_it_is_pending_and_a_failure_outdoes_all() -> None:
    sent = Sent(ROOT, "e", ("s",), None, 1, 1.0)
    pending, well = Pending(ROOT, "e", "s.x", 1.0), Ran(ROOT, "e", "s.x", 1, 2)
    failed = Ran(ROOT, "e", "s.x", 1, 2, error="KeyError: 1")
    for facts, outcome in (([pending, well], "handled"), ([well, failed, pending], "failed")):
        (handling,) = assemble(ROOT, [heard(A, sent, *facts)]).root.handlings
        assert handling.outcome == outcome


def test_handlers_of_an_event_are_in_the_order_in_which_they_ended() -> None:
    facts = [Ran(ROOT, "e", f"s.{name}", 1, 5 - at) for at, name in enumerate("xyz")]
    trace = assemble(ROOT, [heard(A, Sent(ROOT, "e", ("s",), None, 1, 1.0), *facts)])
    assert [h.place for h in trace.root.handlings] == ["s.z", "s.y", "s.x"]
