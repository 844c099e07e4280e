"""A cascade has ended when all of its parts have, in whatever order they say so."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thence.cascade.settlement import (
    MAX_FAILURES,
    MAX_STEPS,
    Branch,
    Branches,
    Failure,
    Step,
    Tally,
)

STEP = Step("event", "s.h", "node", 0.0, 0.0)


def failure(number: int) -> Failure:
    return Failure("failed", "event", str(number), "s.h", "ValueError")


@dataclass
class Ends:
    """What was told, and how often."""

    told: list[Tally] = field(default_factory=list)

    def __call__(self, tally: Tally) -> None:
        self.told.append(tally)


def test_a_branch_ends_once_when_its_last_part_has() -> None:
    branches, ends = Branches(), Ends()
    branch = branches.open(2, 2, ends)
    branch.grows()
    branch.ran(STEP)
    branch.part_ended()
    branch.part_ended()
    assert not ends.told
    assert len(branches) == 1
    branch.child_ended(Tally(events=3, depth=5, shed=1, cut=2, expired=3, merged=4, failed=5))
    assert ends.told == [
        Tally(events=4, depth=5, shed=1, cut=2, expired=3, merged=4, failed=5, steps=(STEP,))
    ]
    assert len(branches) == 0


def test_a_line_of_branches_of_any_length_folds_up_from_its_end() -> None:
    branches, ends = Branches(), Ends()
    branch = branches.open(0, 1, ends)
    for depth in range(1, 20_000):
        branch = branches.open(depth, 1, branch.child_ended)
    branch.ran(STEP)
    branch.part_ended()
    assert ends.told == [Tally(events=1, depth=19_999, steps=(STEP,))]
    assert len(branches) == 0


def test_the_steps_of_several_runs_are_those_of_the_one_whose_consequences_end_last() -> None:
    branches, ends = Branches(), Ends()
    branch = branches.open(3, 2, ends)
    cause, bystander = (branches.open_run(branch, f"s.{name}") for name in ("cause", "bystander"))
    slow, quick, late = (
        Step("event", f"s.{name}", "node", 0.0, 0.0) for name in ("slow", "quick", "late")
    )
    cause.grows()
    for run, step in ((cause, quick), (bystander, slow)):
        run.ran(step)
        run.part_ended()
    assert not ends.told
    cause.child_ended(Tally(events=1, depth=4, steps=(late,)))
    assert ends.told == [Tally(events=3, depth=4, steps=(quick, late))]
    assert len(branches) == 0


def test_what_is_told_after_the_end_is_not_told_on() -> None:
    branches, ends = Branches(), Ends()
    branch = branches.open(0, 1, ends)
    branch.part_ended()
    branch.grows()
    branch.child_ended(Tally(events=7))
    assert len(ends.told) == 1


@given(st.integers(0, 10**6))
def test_reports_that_fold_up_a_tree_add_up_to_what_was_in_it_in_any_order(seed: int) -> None:
    chance = random.Random(seed)
    branches, ends = Branches(), Ends()
    true = {"events": 0, "shed": 0, "cut": 0, "lost": 0, "failed": 0, "depth": 0}
    ready: list[tuple[Branch, int]] = []

    def child(parent: Branch, depth: int) -> None:
        parent.grows()
        if chance.random() < 0.1:
            true["lost"] += 1
            parent.child_lost(failure(0))
            return
        branch = branches.open(depth, 1, parent.child_ended)
        true["depth"] = max(true["depth"], depth)
        ready.append((branch, depth))

    root = branches.open(0, 1, ends)
    for _ in range(chance.randint(0, 3)):
        child(root, 0)
    root.part_ended()
    while ready:
        branch, depth = ready.pop(chance.randrange(len(ready)))
        kind = chance.random()
        if kind < 0.2:
            true["shed"] += 1
            branch.refused("shed")
        elif kind < 0.3:
            true["cut"] += 1
            branch.refused("cut")
        else:
            true["events"] += 1
            wrong = kind < 0.5
            true["failed"] += wrong
            branch.ran(STEP, failure(depth) if wrong else None)
            if not wrong and depth < 6:
                for _ in range(chance.randint(0, 3)):
                    child(branch, depth + 1)
        assert not ends.told
        branch.part_ended()
    (tally,) = ends.told
    assert {name: getattr(tally, name) for name in true} == true
    assert len(branches) == 0
    assert len(tally.failures) <= MAX_FAILURES


def test_no_more_failures_and_steps_are_named_than_there_is_room_for_and_all_are_counted() -> None:
    branches, ends = Branches(), Ends()
    branch = branches.open(0, 101, ends)
    for number in range(100):
        branch.ran(STEP, failure(number))
        branch.part_ended()
    many = Tally(
        events=50,
        failed=50,
        failures=tuple(failure(number) for number in range(50)),
        steps=(STEP,) * 100,
    )
    branch.child_ended(many)
    (tally,) = ends.told
    assert (tally.events, tally.failed) == (150, 150)
    assert tally.failures == tuple(failure(number) for number in range(MAX_FAILURES))
    assert len(tally.steps) == MAX_STEPS


def test_the_steps_are_those_of_the_part_that_ended_last() -> None:
    branches, ends = Branches(), Ends()
    branch = branches.open(0, 1, ends)
    branch.ran(STEP)
    slow, quick = (Step("event", name, "node", 0.0, 0.0) for name in ("s.slow", "s.quick"))
    branch.grows()
    branch.grows()
    branch.part_ended()
    branch.child_ended(Tally(steps=(quick,)))
    branch.child_ended(Tally(steps=(slow,)))
    assert ends.told[0].steps == (STEP, slow)


def test_the_oldest_is_written_off_as_lost_when_there_is_no_room_for_one_more() -> None:
    branches = Branches(most=3)
    ends = [Ends() for _ in range(5)]
    opened = [branches.open(0, 2, one) for one in ends]
    assert len(branches) == 3
    assert [len(one.told) for one in ends] == [1, 1, 0, 0, 0]
    assert [one.told[0].lost for one in ends[:2]] == [1, 1]
    assert ends[0].told[0].failures[0].kind == "lost"
    # Its parts end nevertheless, and are told nobody.
    for branch in opened:
        branch.part_ended()
        branch.part_ended()
    assert [len(one.told) for one in ends] == [1] * 5
    assert len(branches) == 0


@pytest.mark.parametrize("parts", [1, 3])
def test_a_branch_that_another_reports_on_is_forgotten(parts: int) -> None:
    branches, ends = Branches(), Ends()
    branch = branches.open(0, parts, ends)
    branches.forget(branch)
    assert len(branches) == 0
    for _ in range(parts):
        branch.part_ended()
    assert not ends.told
    branches.forget(branch)
