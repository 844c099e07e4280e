"""What is served is fresh, and a place never stands idle while something fresh waits: simulated, event by event."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thence.flow.shedding import QueueDelay

TARGET = 0.125
"""A sum of a few powers of two, like all times here that are compared exactly."""
TICK = 1 / 1024


@dataclass
class Course:
    """What became of the events that stood in one line."""

    served: list[tuple[float, float]] = field(default_factory=list)
    """For each: when it was begun, and how long it had waited."""
    shed: list[tuple[float, float]] = field(default_factory=list)
    """For each: when, and how long it had waited."""
    idle: list[tuple[float, float]] = field(default_factory=list)
    """When the place stood idle, from and to."""


def serve(arrivals: Iterable[float], service: float, delay: QueueDelay) -> Course:
    """One place that takes ``service`` seconds an event, and a line before it: first in, first out."""
    course, line, free = Course(), deque[float](), 0.0
    coming = deque(sorted(arrivals))
    while coming or line:
        if not line:
            if coming[0] > free:
                course.idle.append((free, coming[0]))
            delay.was_empty(coming[0])
            line.append(coming.popleft())
        now = max(free, line[0])
        while coming and coming[0] <= now:
            line.append(coming.popleft())
        arrived = line.popleft()
        waited = now - arrived
        if delay.allows(waited, now):
            course.served.append((now, waited))
            free = now + service
        else:
            course.shed.append((now, waited))
            free = now
    return course


def steady(rate: float, seconds: float, start: float = 0.0) -> list[float]:
    return [start + number / rate for number in range(int(rate * seconds))]


def poisson(rate: float, seconds: float, chance: random.Random) -> list[float]:
    arrivals, now = list[float](), 0.0
    while now < seconds:
        now += chance.expovariate(rate)
        arrivals.append(now)
    return arrivals


loads = st.lists(st.integers(0, 40), max_size=200)
"""Ticks between two arrivals."""


def arrivals_of(gaps: list[int]) -> list[float]:
    return [sum(gaps[: n + 1]) * TICK for n in range(len(gaps))]


# Under overload


@pytest.mark.parametrize("overload", [1.1, 2.0, 10.0, 100.0])
def test_under_overload_the_place_never_idles_and_everything_it_serves_is_fresh(
    overload: float,
) -> None:
    capacity = 100.0
    seed = random.randrange(2**32)
    arrivals = poisson(overload * capacity, 20.0, random.Random(seed))
    course = serve(arrivals, 1 / capacity, QueueDelay(0.1))
    assert max(waited for _, waited in course.served) <= 0.2, f"seed {seed}"
    if overload > 2:
        assert sum(end - start for start, end in course.idle) < 0.05, f"seed {seed}"
        assert len(course.served) >= 0.99 * capacity * 20, f"seed {seed}"
    assert len(course.served) + len(course.shed) == len(arrivals)


def test_at_ten_times_the_capacity_nine_of_ten_are_shed_and_the_capacity_is_used_up() -> None:
    course = serve(steady(1000, 10), 0.01, QueueDelay(0.1))
    assert len(course.served) == pytest.approx(1000, abs=25)
    assert max(waited for _, waited in course.served) <= 0.2
    assert course.idle == []


def test_once_the_line_stands_what_is_served_has_waited_for_the_target_at_most() -> None:
    course = serve(steady(1000, 10), 0.01, QueueDelay(0.1))
    standing = [waited for now, waited in course.served if now > 0.25]
    assert len(standing) > 900
    assert max(standing) <= 0.1
    assert max(waited for now, waited in course.served if now <= 0.25) > 0.1


def test_a_slow_handler_serves_one_after_the_other_though_each_takes_longer_than_the_target() -> (
    None
):
    course = serve(steady(100, 20), 1.0, QueueDelay(0.1))
    assert [now for now, _ in course.served] == pytest.approx(range(21))
    assert max(waited for _, waited in course.served) <= 0.1
    assert course.idle == []


def test_the_line_is_short_again_as_soon_as_the_overload_ends() -> None:
    spike = steady(1000, 3)
    after = steady(10, 3, start=3.0)
    course = serve(spike + after, 0.01, QueueDelay(0.1))
    assert max(now for now, _ in course.shed) <= 3.1
    assert max(waited for now, waited in course.served if now > 3.25) < 0.01


# Bursts


@given(
    start=st.integers(0, 2**20),
    size=st.integers(1, 200),
    service=st.sampled_from([1, 2, 4, 8]),
)
def test_a_burst_that_is_served_within_twice_the_target_is_served_whole(
    start: int, size: int, service: int
) -> None:
    course = serve([start * TICK] * size, service * TICK, QueueDelay(TARGET))
    fitting = int(2 * TARGET / TICK) // service + 1  # the first one does not wait
    assert len(course.served) == min(size, fitting)
    assert all(waited > 2 * TARGET for _, waited in course.shed)


def test_one_burst_after_another_is_served_whole_if_the_line_is_empty_in_between() -> None:
    burst = 20  # takes 200 ms, twice the target
    course = serve(
        [second * 0.25 for second in range(40) for _ in range(burst)], 0.01, QueueDelay(0.1)
    )
    assert len(course.served) == 40 * burst
    assert course.shed == []


@given(loads, st.sampled_from([1, 5, 20]))
def test_nothing_is_shed_where_nothing_waits_longer_than_the_target(
    gaps: list[int], service: int
) -> None:
    arrivals = arrivals_of(gaps)
    patient = serve(arrivals, service * TICK, QueueDelay(1e9))
    if max((waited for _, waited in patient.served), default=0.0) <= TARGET:
        assert serve(arrivals, service * TICK, QueueDelay(TARGET)).shed == []


# Whatever comes


@given(loads, st.sampled_from([1, 5, 20, 100]))
def test_no_event_that_is_fresh_is_shed_and_none_is_served_that_is_stale(
    gaps: list[int], service: int
) -> None:
    arrivals = arrivals_of(gaps)
    course = serve(arrivals, service * TICK, QueueDelay(TARGET))
    assert all(waited <= 2 * TARGET for _, waited in course.served)
    assert all(waited > TARGET for _, waited in course.shed)
    assert len(course.served) + len(course.shed) == len(arrivals)


@given(st.floats(0.001, 10.0), st.floats(0.0, 100.0), st.floats(0.0, 100.0), st.floats(0.0, 100.0))
def test_who_has_waited_less_is_let_in_where_who_has_waited_longer_is(
    target: float, empty_at: float, standing: float, waited: float
) -> None:
    delay = QueueDelay(target)
    delay.was_empty(empty_at)
    now = empty_at + standing
    if delay.allows(waited, now):
        assert delay.allows(waited / 2, now)
        assert delay.allows(0.0, now)


@pytest.mark.parametrize(
    ("standing", "longest"),
    [(0.0, 2 * TARGET), (2 * TARGET, 2 * TARGET), (2 * TARGET + TICK, TARGET), (99.0, TARGET)],
)
def test_after_a_burst_events_may_wait_twice_the_target_in_a_standing_line_once(
    standing: float, longest: float
) -> None:
    delay = QueueDelay(TARGET)
    delay.was_empty(64.0)
    assert delay.allows(longest, 64.0 + standing)
    assert not delay.allows(longest + TICK, 64.0 + standing)


def test_a_line_that_has_been_empty_is_no_standing_line_any_more() -> None:
    delay = QueueDelay(TARGET)
    delay.was_empty(8.0)
    assert not delay.allows(1.5 * TARGET, 16.0)
    delay.was_empty(16.0)
    assert delay.allows(1.5 * TARGET, 16.0 + 1.5 * TARGET)
