"""Who waits goes in its order, and whoever takes too much of a line gives way."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from thence.delivery.lines import NEVER, FairLine, Line, PlainLine

HIGH, NORMAL, LOW = 0, 1, 2


class Waiting:
    """An arrival, as far as a line looks at it."""

    def __init__(self, number: int = 0, key: str = "", priority: int = NORMAL) -> None:
        self.number = number
        self.key = key
        self.subscription = SimpleNamespace(priority=priority)

    def __repr__(self) -> str:
        return f"{self.key}{self.number}/{self.subscription.priority}"


def fair_line() -> FairLine:
    return FairLine(lambda arrival: arrival.key)  # type: ignore[attr-defined]  # pyright: ignore


def filled(line: Any, *arrivals: Waiting) -> Any:
    for arrival in arrivals:
        line.append(arrival, 0.0)
    return line


def drained(line: Any) -> list[Any]:
    """All that is left in line, in the order in which it goes."""
    gone = []
    while line.size:
        first = line.first()
        assert line.pop(0.0) is first
        gone.append(first)
    return gone


def crowd(line: Any, size: int, arrival: Waiting, now: float = 0.0) -> Any:
    """Let an arrival into a line of that size; returns who was turned away for it, perhaps itself."""
    if line.size < size:
        line.append(arrival, now)
        return None
    victim = line.victim_for(arrival)
    if victim is not arrival:
        line.append(arrival, now)
    return victim


# Both


@pytest.fixture(params=["plain", "fair"])
def line(request: pytest.FixtureRequest) -> Line:
    return PlainLine() if request.param == "plain" else fair_line()


def test_a_line_has_the_length_of_what_is_in_it(line: Any) -> None:
    assert line.size == 0
    waiting = [Waiting(number) for number in range(5)]
    filled(line, *waiting)
    assert line.size == 5
    line.first()
    assert line.size == 5
    assert drained(line) == waiting
    assert line.size == 0


def test_who_is_in_line_may_go_at_once_unless_something_was_said(line: Any) -> None:
    line.append(Waiting(), 0.0)
    assert line.due <= 0.0


def test_nobody_goes_before_the_time_that_a_hold_says(line: Any) -> None:
    filled(line, Waiting(1, "a"), Waiting(2, "b", HIGH))
    line.hold(5.0)
    assert line.due == 5.0
    line.pop(0.0)
    assert line.due == 5.0
    filled(line, Waiting(3, "c"))
    assert line.due == 5.0


def test_a_later_hold_takes_the_place_of_an_earlier_one(line: Any) -> None:
    line.append(Waiting(), 0.0)
    line.hold(5.0)
    line.hold(3.0)
    assert line.due == 3.0
    line.hold(0.0)
    assert line.due <= 0.0


def test_the_first_is_not_moved_by_being_postponed(line: Any) -> None:
    waiting = Waiting()
    line.append(waiting, 0.0)
    line.postpone(5.0)
    assert line.due == 5.0
    assert line.first() is waiting
    assert line.pop(0.0) is waiting
    assert line.size == 0


# The plain line

priorities = st.sampled_from([HIGH, NORMAL, LOW])


def test_higher_priority_goes_first_and_within_one_who_came_first() -> None:
    line = filled(
        PlainLine(),
        *(Waiting(n, priority=p) for n, p in enumerate([LOW, NORMAL, HIGH, LOW, HIGH, NORMAL])),
    )
    assert [one.number for one in drained(line)] == [2, 4, 1, 5, 0, 3]


def test_the_newest_of_the_lowest_priority_makes_room_for_a_higher_one() -> None:
    line = filled(
        PlainLine(),
        *(Waiting(n, priority=p) for n, p in enumerate([LOW, LOW, NORMAL, HIGH])),
    )
    shed = []
    for number in range(10, 14):
        victim: Any = crowd(line, 4, Waiting(number, priority=HIGH))
        shed.append(victim.number)
    assert shed == [1, 0, 2, 13]
    assert [one.number for one in drained(line)] == [3, 10, 11, 12]


@pytest.mark.parametrize("priority", [HIGH, NORMAL, LOW])
def test_nobody_makes_room_for_a_newcomer_of_the_same_or_a_lower_priority(priority: int) -> None:
    line = filled(PlainLine(), *(Waiting(n, priority=HIGH) for n in range(3)))
    newcomer: Any = Waiting(9, priority=priority)
    assert line.victim_for(newcomer) is newcomer
    assert [one.number for one in drained(line)] == [0, 1, 2]


@given(st.integers(1, 8), st.lists(priorities | st.none(), max_size=80))
def test_a_plain_line_does_what_a_sorted_list_does(size: int, steps: list[int | None]) -> None:
    line: Any = PlainLine()
    model: list[Waiting] = []
    for number, priority in enumerate(steps):
        if priority is None:
            if model:
                assert line.first() is model[0]
                assert line.pop(0.0) is model.pop(0)
        else:
            newcomer = Waiting(number, priority=priority)
            model.append(newcomer)
            model.sort(key=lambda one: (one.subscription.priority, one.number))
            expected = model.pop() if len(model) > size else None
            assert crowd(line, size, newcomer) is expected
        assert line.size == len(model)
    assert drained(line) == model


# The fair line


def test_keys_take_turns_however_much_each_has_in_line() -> None:
    line = filled(
        fair_line(),
        *(Waiting(n, "noisy") for n in range(4)),
        *(Waiting(n, "a") for n in range(2)),
        Waiting(0, "b"),
    )
    gone = [(one.key, one.number) for one in drained(line)]
    assert gone == [
        ("noisy", 0), ("a", 0), ("b", 0), ("noisy", 1), ("a", 1), ("noisy", 2), ("noisy", 3),
    ]  # fmt: skip


def test_a_key_that_has_to_wait_lets_all_others_go_first() -> None:
    line = filled(fair_line(), *(Waiting(n, key) for n in range(2) for key in "abc"))
    line.postpone(5.0)
    assert line.due <= 0.0
    gone = [(one.key, one.number) for one in drained(line)]
    assert gone == [("b", 0), ("c", 0), ("b", 1), ("c", 1), ("a", 0), ("a", 1)]


def test_of_keys_that_all_have_to_wait_the_one_that_may_go_first_is_first() -> None:
    line = filled(fair_line(), Waiting(0, "a"), Waiting(0, "b"), Waiting(0, "c"))
    for until in (9.0, 7.0, 8.0):
        line.postpone(until)
    assert line.due == 7.0
    assert [one.key for one in drained(line)] == ["b", "c", "a"]


def test_keys_that_may_go_at_the_same_time_keep_their_order() -> None:
    line = filled(fair_line(), *(Waiting(0, key) for key in "abc"))
    line.postpone(5.0)
    line.postpone(5.0)
    line.postpone(5.0)
    line.postpone(5.0)
    assert [one.key for one in drained(line)] == ["a", "b", "c"]


def test_a_key_that_had_to_wait_takes_turns_again_when_its_time_has_come() -> None:
    line = filled(fair_line(), *(Waiting(n, "late") for n in range(3)))
    line.postpone(5.0)
    gone, number = [], count()
    for now in range(1, 14):
        for key in "bc":
            line.append(Waiting(next(number), key), float(now))
        gone.append(line.pop(float(now)).key)
    # "c" has been waiting for its turn since 4.
    assert gone == [*"bcbcb", "c", "late", "b", "c", "late", "b", "c", "late"]


def test_newcomers_of_a_key_that_has_to_wait_wait_behind_it() -> None:
    line = filled(fair_line(), Waiting(0, "a"))
    line.postpone(5.0)
    filled(line, Waiting(1, "a"))
    assert line.due == 5.0
    filled(line, Waiting(0, "b"))
    assert line.due <= 0.0
    assert line.first().key == "b"


def test_whoever_has_most_in_line_gives_way_with_its_newest() -> None:
    line = filled(
        fair_line(), *(Waiting(n, "noisy") for n in range(5)), *(Waiting(n, "a") for n in range(2))
    )
    victim: Any = crowd(line, 7, Waiting(0, "b"))
    assert (victim.key, victim.number) == ("noisy", 4)
    assert line.size == 7


def test_whoever_has_most_in_line_is_turned_away_itself() -> None:
    line = filled(fair_line(), *(Waiting(n, "noisy") for n in range(5)), Waiting(0, "a"))
    newcomer: Any = Waiting(5, "noisy")
    assert line.victim_for(newcomer) is newcomer
    assert line.size == 6


def test_where_everybody_has_one_in_line_a_newcomer_is_turned_away() -> None:
    line = filled(fair_line(), *(Waiting(0, key) for key in "abc"))
    newcomer: Any = Waiting(0, "d")
    assert line.victim_for(newcomer) is newcomer
    assert [one.key for one in drained(line)] == ["a", "b", "c"]


def test_a_key_never_loses_its_last_place_in_line_to_another() -> None:
    line = filled(fair_line(), Waiting(0, "a"), *(Waiting(n, "b") for n in range(2)))
    assert crowd(line, 3, Waiting(0, "c")).key == "b"
    assert crowd(line, 3, Waiting(0, "d")).key == "d"
    assert [one.key for one in drained(line)] == ["a", "b", "c"]


def test_nobody_is_turned_away_while_another_key_has_more_in_line() -> None:
    keys = "aaaaabbbc"
    line = filled(fair_line(), *(Waiting(n, key) for n, key in enumerate(keys)))
    assert crowd(line, len(keys), Waiting(99, "b")).key == "a"


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 12), min_size=1))
def test_nobody_goes_twice_while_another_waits_for_its_turn(lengths: dict[str, int]) -> None:
    line = filled(fair_line(), *(Waiting(n, key) for key in lengths for n in range(lengths[key])))
    left, gone = Counter(lengths), [one.key for one in drained(line)]
    last: dict[str, int] = {}
    for place, key in enumerate(gone):
        if key in last:
            between = set(gone[last[key] + 1 : place])
            assert {other for other in left if left[other] and other != key} <= between
        last[key] = place
        left[key] -= 1
    assert not left.total()


@settings(deadline=None)
@given(
    st.integers(1, 24),
    st.lists(st.sampled_from(["noisy"] * 5 + list("abc")), max_size=200),
)
def test_a_noisy_key_takes_no_places_from_those_that_have_no_more_than_their_share(
    size: int, comers: list[str]
) -> None:
    line: Any = fair_line()
    share = size // 4
    there: Counter[str] = Counter()
    for number, key in enumerate(comers):
        newcomer = Waiting(number, key)
        victim = crowd(line, size, newcomer)
        there[key] += 1
        if victim is not None:
            there[victim.key] -= 1
            if victim is newcomer:
                assert there[key] >= share
            else:
                assert there[victim.key] >= share
                assert there[victim.key] >= there[key] - 1
        assert there.total() == line.size <= size


# Any sequence of anything


@dataclass
class KeyInLine:
    """What a model keeps of one key."""

    waiting: deque[Waiting]
    since: float
    """Since or from when it may go."""
    turn: int


class FairLineModel(RuleBasedStateMachine):
    """A fair line beside a simple model of it."""

    @initialize(size=st.integers(1, 12))
    def begin(self, size: int) -> None:
        self.line: Any = fair_line()
        self.size = size
        self.now = 64.0
        self.keys: dict[str, KeyInLine] = {}
        self.numbers, self.turns = count(), count()
        self.held = 0.0
        self.gone: defaultdict[str, list[int]] = defaultdict(list)

    def expected(self) -> KeyInLine:
        return min(self.keys.values(), key=lambda one: (one.since, one.turn))

    @rule(key=st.sampled_from("aaabcd"))
    def arrives(self, key: str) -> None:
        newcomer = Waiting(next(self.numbers), key)
        lengths = {name: len(one.waiting) for name, one in self.keys.items()}
        most = max(lengths.values(), default=0)
        victim = crowd(self.line, self.size, newcomer, self.now)
        if victim is None:
            assert sum(lengths.values()) < self.size
        elif victim is newcomer:
            assert sum(lengths.values()) == self.size
            assert lengths.get(key, 0) == most or most == 1
            return
        else:
            assert lengths[victim.key] == most > lengths.get(key, 0)
            assert self.keys[victim.key].waiting.pop() is victim
        if key not in self.keys:
            self.keys[key] = KeyInLine(deque(), self.now, next(self.turns))
        self.keys[key].waiting.append(newcomer)

    @precondition(lambda self: self.keys)
    @rule()
    def goes(self) -> None:
        first = self.expected()
        self.now = max(self.now, first.since, self.held)
        arrival = self.line.pop(self.now)
        assert arrival is first.waiting.popleft()
        self.gone[arrival.key].append(arrival.number)
        first.since, first.turn = self.now, next(self.turns)
        if not first.waiting:
            del self.keys[arrival.key]

    @precondition(lambda self: self.keys)
    @rule(wait=st.integers(0, 9))
    def has_to_wait(self, wait: int) -> None:
        first = self.expected()
        first.since = max(self.now, first.since) + wait
        self.line.postpone(first.since)

    @rule(wait=st.sampled_from([-64, 0, 3, 50]))
    def all_have_to_wait(self, wait: int) -> None:
        self.held = self.now + wait
        self.line.hold(self.held)

    @rule(seconds=st.integers(1, 5))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def is_what_the_model_is(self) -> None:
        assert self.line.size == sum(len(one.waiting) for one in self.keys.values()) <= self.size
        if not self.keys:
            assert self.line.due == NEVER
            return
        first = self.expected()
        assert self.line.first() is first.waiting[0]
        assert self.line.due == max(first.since, self.held)

    @invariant()
    def keeps_no_key_that_has_nothing_in_line(self) -> None:
        assert self.line._by_key.keys() == self.keys.keys()
        assert len(self.line._heap) == len(self.keys)
        lengths = self.line._by_length
        assert {key: n for n, keys in enumerate(lengths) for key in keys} == {
            key: len(one.waiting) for key, one in self.keys.items()
        }
        assert len(lengths) == 1 or lengths[-1]

    def teardown(self) -> None:
        for arrival in drained(self.line) if hasattr(self, "line") else ():
            self.gone[arrival.key].append(arrival.number)
        for numbers in getattr(self, "gone", {}).values():
            assert numbers == sorted(numbers), "out of order"


TestFairLineModel = FairLineModel.TestCase
TestFairLineModel.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_where_all_have_equally_many_in_line_the_least_important_gives_way() -> None:
    line = filled(
        fair_line(), Waiting(1, "a"), Waiting(2, "b", LOW), Waiting(3, "c"), Waiting(4, "d", HIGH)
    )
    low = Waiting(5, "e", LOW)
    assert crowd(line, 4, low) is low
    assert crowd(line, 4, Waiting(6, "f")).number == 2
    assert crowd(line, 4, Waiting(7, "g", HIGH)).number in (1, 3, 6)
    normal = Waiting(8, "h")
    assert crowd(line, 4, normal) is normal
    assert line.size == 4


def test_of_those_that_have_most_in_line_one_with_something_unimportant_gives_way() -> None:
    line = filled(
        fair_line(),
        *(Waiting(number, "a", HIGH) for number in (1, 2)),
        *(Waiting(number, "b", LOW) for number in (3, 4)),
    )
    assert crowd(line, 4, Waiting(5, "c")).number == 4
