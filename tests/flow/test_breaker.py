"""A handler that does nothing but fail is left alone for a while, and tried now and then."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thence.flow.breaker import FAILING_FOR, FAILURES, FIRST_PAUSE, LONGEST_PAUSE, Breaker

START = 64.0
TICK = 1 / 64


class Handler:
    """A handler, as far as its breaker hears of it."""

    def __init__(self, start: float = START) -> None:
        self.breaker = Breaker()
        self.now = start
        self.handled = 0

    def lets_through(self) -> bool:
        """Whether an event may begin now; it does so, then."""
        allowed = self.breaker.allows(self.now)
        if allowed:
            self.breaker.began(self.now)
        return allowed

    def fails(self) -> bool:
        """Whether it opens the breaker by that."""
        return self.breaker.failed(self.handled, self.now)

    def succeeds(self) -> None:
        self.handled += 1
        if self.breaker.state != "closed":
            self.breaker.succeeded()

    def fails_until_it_opens(self) -> float:
        """When it opened."""
        for _ in range(FAILURES - 1):
            assert not self.fails()
        self.now += FAILING_FOR
        assert self.fails()
        assert self.breaker.state == "open"
        return self.now

    def next_probe(self, within: float = 100.0) -> float:
        """When an event is let through next, of events that come all the time."""
        end = self.now + within
        while not self.lets_through():
            self.now += TICK
            assert self.now <= end, "nothing is let through any more"
        return self.now


# Opening


def test_it_opens_when_it_has_failed_often_enough_for_long_enough() -> None:
    handler = Handler()
    assert handler.fails_until_it_opens() == START + FAILING_FOR


def test_many_failures_at_once_do_not_open_it() -> None:
    handler = Handler()
    for number in range(100_000):
        handler.now = START + number * (FAILING_FOR - TICK) / 100_000
        assert not handler.fails()
    handler.now = START + FAILING_FOR
    assert handler.fails()


def test_a_few_failures_do_not_open_it_however_long_they_go_on() -> None:
    handler = Handler()
    for _ in range(FAILURES - 1):
        assert not handler.fails()
        handler.now += 3_600
    assert handler.fails()


@pytest.mark.parametrize("after", range(1, FAILURES))
def test_one_success_anywhere_keeps_it_closed(after: int) -> None:
    handler = Handler()
    for number in range(FAILURES):
        if number == after:
            handler.succeeds()
        assert not handler.fails()
        handler.now += FAILING_FOR
    assert handler.breaker.state == "closed"
    # It takes as many failures since that success as it takes at first.
    for _ in range(after - 1):
        assert not handler.fails()
    assert handler.fails()


@given(
    st.lists(
        st.tuples(
            st.integers(1, FAILURES) | st.integers(FAILURES - 2, 3 * FAILURES), st.integers(0, 40)
        ),
        max_size=12,
    )
)
def test_it_opens_exactly_at_the_first_failure_that_ends_a_long_row_of_them(
    rows: list[tuple[int, int]],
) -> None:
    handler = Handler()
    row: list[float] = []
    """When the failures since the last success were."""
    steps = [step for length, gap in rows for step in (None, *[gap] * length)]
    for ticks in steps:
        if ticks is None:
            handler.succeeds()
            row.clear()
            continue
        handler.now += ticks * TICK
        row.append(handler.now)
        opens = len(row) >= FAILURES and row[-1] - row[0] >= FAILING_FOR
        assert handler.fails() == opens
        if opens:
            return
        assert handler.breaker.state == "closed"


def test_while_it_is_closed_everything_is_let_through() -> None:
    handler = Handler()
    for _ in range(1_000):
        assert handler.lets_through()
        handler.now += TICK
        if handler.now < START + FAILING_FOR - 1:
            handler.fails()


# While it is open


def test_nothing_is_let_through_before_the_pause_is_over() -> None:
    handler = Handler()
    opened = handler.fails_until_it_opens()
    assert handler.next_probe() == opened + FIRST_PAUSE


def test_exactly_one_event_is_let_through_when_a_pause_is_over() -> None:
    handler = Handler()
    handler.fails_until_it_opens()
    handler.next_probe()
    assert handler.breaker.state == "probing"
    assert not any(handler.lets_through() for _ in range(1_000))
    handler.now += FIRST_PAUSE - TICK
    assert not handler.lets_through()


def test_only_what_begins_is_the_probe_and_not_what_might() -> None:
    handler = Handler()
    handler.fails_until_it_opens()
    assert not handler.breaker.allows(handler.now)
    handler.now += FIRST_PAUSE
    for _ in range(1_000):
        assert handler.breaker.allows(handler.now)
        handler.now += TICK
    handler.breaker.began(handler.now)
    assert not handler.breaker.allows(handler.now)


def test_what_begins_while_it_is_closed_changes_nothing() -> None:
    breaker = Breaker()
    breaker.began(START)
    assert breaker.state == "closed"
    assert breaker.allows(START)


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    handler = Handler()
    last = handler.fails_until_it_opens()
    pauses = []
    for _ in range(9):
        probe = handler.next_probe()
        pauses.append(probe - last)
        last = probe
        assert handler.fails()
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]
    assert (FIRST_PAUSE, LONGEST_PAUSE) == (1.0, 30.0)


def test_in_an_hour_of_failing_it_is_tried_about_twice_a_minute() -> None:
    handler = Handler()
    opened = handler.fails_until_it_opens()
    probes = 0
    while handler.now < opened + 3_600:
        if handler.lets_through():
            probes += 1
            assert handler.fails()
        handler.now += TICK
    assert 120 <= probes <= 126


def test_the_pause_counts_from_the_failure_of_the_probe_not_from_its_start() -> None:
    handler = Handler()
    handler.fails_until_it_opens()
    handler.next_probe()
    handler.now += FIRST_PAUSE / 2
    failed = handler.now
    assert handler.fails()
    assert handler.next_probe() == failed + 2 * FIRST_PAUSE


def test_runs_begun_before_it_opened_fail_without_making_the_pause_longer() -> None:
    handler = Handler()
    opened = handler.fails_until_it_opens()
    for _ in range(64):
        handler.now += TICK / 4
        assert not handler.fails()
    assert handler.next_probe() == opened + FIRST_PAUSE


def test_a_probe_that_is_lost_is_followed_by_another_after_a_pause_of_the_same_length() -> None:
    handler = Handler()
    handler.fails_until_it_opens()
    first = handler.next_probe()
    handler.now += TICK
    second = handler.next_probe()
    handler.now += TICK
    third = handler.next_probe()
    assert (second - first, third - second) == (FIRST_PAUSE, FIRST_PAUSE)
    handler.succeeds()
    assert handler.breaker.state == "closed"


def test_lost_probes_never_block_it_for_longer_than_the_longest_pause() -> None:
    handler = Handler()
    last = handler.fails_until_it_opens()
    chance = random.Random(random.randrange(2**32))
    for _ in range(200):
        probe = handler.next_probe()
        assert FIRST_PAUSE <= probe - last <= LONGEST_PAUSE
        last = probe
        if chance.random() < 0.5:
            handler.fails()
        else:
            handler.now += TICK


# Closing


def test_a_probe_that_succeeds_closes_it_for_all() -> None:
    handler = Handler()
    handler.fails_until_it_opens()
    handler.next_probe()
    handler.handled += 1
    assert handler.breaker.succeeded()
    assert handler.breaker.state == "closed"
    assert all(handler.lets_through() for _ in range(1_000))


def test_a_run_begun_before_it_opened_closes_it_by_its_success() -> None:
    handler = Handler()
    handler.fails_until_it_opens()
    handler.handled += 1
    assert handler.breaker.succeeded()
    assert handler.lets_through()


def test_a_success_while_it_is_closed_changes_nothing() -> None:
    breaker = Breaker()
    assert not breaker.succeeded()
    assert breaker.state == "closed"


def test_once_closed_it_takes_as_much_to_open_it_again_and_begins_with_the_first_pause() -> None:
    handler = Handler()
    handler.fails_until_it_opens()
    for _ in range(4):
        handler.next_probe()
        handler.fails()
    handler.next_probe()
    handler.succeeds()
    handler.now += TICK
    opened = handler.fails_until_it_opens()
    assert handler.next_probe() == opened + FIRST_PAUSE


@given(st.lists(st.sampled_from(["fails", "succeeds", "lost"]), max_size=60), st.integers(1, 99))
def test_whatever_becomes_of_the_probes_it_is_open_only_as_long_as_they_fail(
    fates: list[str], ticks: int
) -> None:
    handler = Handler()
    last = handler.fails_until_it_opens()
    pause = FIRST_PAUSE
    for fate in fates:
        probe = handler.next_probe()
        assert probe - last == pause
        if fate == "fails":
            assert handler.fails()
            pause = min(2 * pause, LONGEST_PAUSE)
            last = handler.now
        elif fate == "succeeds":
            handler.succeeds()
            handler.now += ticks * TICK
            assert handler.lets_through()
            last, pause = handler.fails_until_it_opens(), FIRST_PAUSE
        else:
            last = probe
            handler.now += TICK
