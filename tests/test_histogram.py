from __future__ import annotations

import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from thence.histogram import SHORTEST, Histogram, Recent, Totals

NINE_PERCENT = 2 ** (1 / 8)

durations = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=200)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def times_of(seconds: list[float]) -> Histogram:
    recent = Recent(Clock())
    for one in seconds:
        recent.note(one)
    return recent.histogram()


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
    together = Histogram.together(map(times_of, nodes))
    alone = times_of([one for node in nodes for one in node])
    assert msgspec.structs.replace(together, total=alone.total) == alone
    assert math.isclose(together.total, alone.total, rel_tol=1e-9)
    again = Histogram.together([Histogram(), together])
    assert again == together


@given(durations, durations)
def test_what_came_since_an_earlier_state_is_what_was_noted_since_then(
    earlier: list[float], later: list[float]
) -> None:
    totals = Totals()
    totals.note_all(earlier)
    before = totals.histogram()
    for one in later:
        totals.note(one)
    window = totals.histogram().since(before)
    alone = times_of(later)
    assert (window.count, window.buckets) == (alone.count, alone.buckets)
    for told, share in ((window.p50, 0.50), (window.p99, 0.99)):
        exact = sorted(later)[math.ceil(share * len(later)) - 1]
        assert exact * (1 - 1e-9) <= told <= exact * NINE_PERCENT * (1 + 1e-9)
    assert totals.histogram().since(totals.histogram()) == Histogram()


@given(st.lists(durations, min_size=1, max_size=6))
def test_a_percentile_over_several_nodes_is_within_nine_percent_of_the_exact_one(
    nodes: list[list[float]],
) -> None:
    together = Histogram.together(map(times_of, nodes))
    ordered = sorted(one for node in nodes for one in node)
    assert together.greatest == ordered[-1]
    for told, share in ((together.p50, 0.50), (together.p99, 0.99)):
        exact = ordered[math.ceil(share * len(ordered)) - 1]
        assert exact * (1 - 1e-9) <= told <= exact * NINE_PERCENT * (1 + 1e-9)


def test_without_a_cascade_there_are_no_times() -> None:
    assert times_of([]) == Histogram.together([]) == Histogram()


def test_what_takes_no_time_counts_as_a_microsecond_at_most() -> None:
    times = times_of([0.0, 1e-9])
    assert (times.count, times.buckets) == (2, ((0, 2),))
    assert times.p99 <= SHORTEST


def test_only_the_last_minute_counts() -> None:
    clock = Clock()
    recent = Recent(clock)
    for second in range(180):
        clock.now = 1000.0 + second
        recent.note(float(second + 1))
    clock.now = 1179.9
    # The minute consists of tens of seconds: from 1120 on.
    assert recent.histogram().count == 60
    assert recent.histogram().greatest == 180
    clock.now = 1195.0
    assert recent.histogram().count == 40
    assert recent.histogram().greatest == 180
    clock.now = 1230.0
    assert recent.histogram() == Histogram()
    recent.note(0.5)
    assert (recent.histogram().count, recent.histogram().greatest) == (1, 0.5)


def test_a_month_of_all_lengths_fits_into_a_few_kilobytes() -> None:
    times = times_of([SHORTEST * 1.05**step for step in range(600)])
    assert times.greatest > 30 * 86_400
    assert len(times.buckets) < 340
    assert len(msgspec.msgpack.encode(times)) < 2000
