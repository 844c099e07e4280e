from __future__ import annotations

import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from thence.cascade.times import SHORTEST, CascadeTimes, RecentTimes

NINE_PERCENT = 2 ** (1 / 8)

durations = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=200)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def times_of(seconds: list[float]) -> CascadeTimes:
    recent = RecentTimes(Clock())
    for one in seconds:
        recent.note(one)
    return recent.times()


@given(durations)
def test_a_percentile_is_never_too_short_and_at_most_nine_percent_too_long(
    seconds: list[float],
) -> None:
    times = times_of(seconds)
    ordered = sorted(seconds)
    assert times.count == len(seconds)
    assert times.greatest == ordered[-1]
    for told, share in ((times.p50, 0.50), (times.p99, 0.99)):
        exact = ordered[math.ceil(share * len(ordered)) - 1]
        assert exact * (1 - 1e-9) <= told <= exact * NINE_PERCENT * (1 + 1e-9)


@given(st.lists(durations, max_size=5))
def test_the_times_of_several_nodes_add_up_to_those_of_one(nodes: list[list[float]]) -> None:
    together = CascadeTimes.together(map(times_of, nodes))
    assert together == times_of([one for node in nodes for one in node])
    again = CascadeTimes.together([CascadeTimes(), together])
    assert again == together


def test_without_a_cascade_there_are_no_times() -> None:
    assert times_of([]) == CascadeTimes.together([]) == CascadeTimes()


def test_what_takes_no_time_counts_as_a_microsecond_at_most() -> None:
    times = times_of([0.0, 1e-9])
    assert (times.count, times.buckets) == (2, ((0, 2),))
    assert times.p99 <= SHORTEST


def test_only_the_last_minute_counts() -> None:
    clock = Clock()
    recent = RecentTimes(clock)
    for second in range(180):
        clock.now = 1000.0 + second
        recent.note(float(second + 1))
    clock.now = 1179.9
    # The minute consists of tens of seconds: from 1120 on.
    assert recent.times().count == 60
    assert recent.times().greatest == 180
    clock.now = 1195.0
    assert recent.times().count == 40
    assert recent.times().greatest == 180
    clock.now = 1230.0
    assert recent.times() == CascadeTimes()
    recent.note(0.5)
    assert (recent.times().count, recent.times().greatest) == (1, 0.5)


def test_a_month_of_all_lengths_fits_into_a_few_kilobytes() -> None:
    times = times_of([SHORTEST * 1.05**step for step in range(600)])
    assert times.greatest > 30 * 86_400
    assert len(times.buckets) < 340
    assert len(msgspec.msgpack.encode(times)) < 2000
