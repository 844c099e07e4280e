"""What was counted in a window and in the one before it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thence.observability.recent import LONGEST, LOOKS, Key, RecentCounts

A, B = ("emitted", "a"), ("emitted", "b")


class Counted:
    """Some counters, and a clock, that are moved by hand."""

    def __init__(self) -> None:
        self.time = 0.0
        self.counts: dict[Key, int] = {}
        self.sequence = 0
        self.recent = RecentCounts(
            lambda: self.time, lambda: dict(self.counts), lambda: self.sequence
        )

    def add(self, key: Key, count: int = 1) -> None:
        self.counts[key] = self.counts.get(key, 0) + count
        self.sequence += count

    def go_on(self, seconds: float = 1.0) -> None:
        self.time += seconds
        self.recent.look()


def test_a_window_and_the_one_before_it_are_told_exactly_where_looks_bound_them() -> None:
    counted = Counted()
    for second in range(30):
        counted.add(A, 10 if second < 20 else 50)
        counted.go_on()
    window, before = counted.recent.windows(10)
    assert (window.seconds, window.counts[A]) == (10, 500)
    assert (before.seconds, before.counts[A]) == (10, 100)
    assert (before.first, before.last, window.first, window.last) == (100, 200, 200, 700)


def test_what_came_after_the_last_look_counts_too() -> None:
    counted = Counted()
    counted.go_on()
    counted.add(A, 7)
    counted.time += 0.25
    window, _ = counted.recent.windows(1)
    assert window.counts == {A: 7}
    counted.go_on(0.75)
    assert counted.recent.windows(1)[0].counts == {A: 7}, "asking has moved nothing"


def test_a_node_that_was_busy_for_longer_than_the_window_tells_of_all_that_time() -> None:
    counted = Counted()
    counted.go_on()
    counted.add(A, 30)
    counted.go_on(5)
    window, before = counted.recent.windows(1)
    assert (window.seconds, window.counts) == (5, {A: 30})
    assert before.seconds == 1


def test_a_young_node_has_a_shorter_window_and_none_before() -> None:
    counted = Counted()
    counted.add(A, 3)
    counted.time = 0.5
    window, before = counted.recent.windows(60)
    assert (window.seconds, window.counts) == (0.5, {A: 3})
    assert (before.seconds, before.counts) == (0, {})


def test_what_does_not_grow_is_not_told_and_looks_are_bounded() -> None:
    counted = Counted()
    counted.add(A)
    counted.add(B)
    for _ in range(3 * LOOKS):
        counted.add(B)
        counted.go_on()
    assert len(counted.recent._looks) == LOOKS
    assert all(len(look.values) == 2 for look in counted.recent._looks)
    window, before = counted.recent.windows(LONGEST)
    assert (window.seconds, before.seconds) == (LONGEST, LONGEST)
    assert (window.counts, before.counts) == ({B: 60}, {B: 60})


@given(
    st.lists(
        st.tuples(st.floats(0.1, 5), st.integers(0, 50), st.integers(0, 50)),
        min_size=1,
        max_size=40,
    ),
    st.floats(1, 60),
)
def test_windows_meet_miss_nothing_and_count_nothing_twice(
    steps: list[tuple[float, int, int]], seconds: float
) -> None:
    counted = Counted()
    history = [(0.0, 0, 0)]
    for length, a, b in steps:
        counted.add(A, a)
        counted.add(B, b)
        counted.go_on(length)
        history.append((counted.time, counted.counts[A], counted.counts[B]))
    window, before = counted.recent.windows(seconds)
    assert window.ended == counted.time
    assert before.ended == window.began
    totals = {time: (a, b) for time, a, b in history}
    for span in (window, before):
        first, last = totals[span.began], totals[span.ended]
        assert span.counts.get(A, 0) == last[0] - first[0]
        assert span.counts.get(B, 0) == last[1] - first[1]
        assert span.last - span.first == sum(span.counts.values())
        longest = max(length for length, _, _ in steps)
        if span.began > 0:
            assert seconds / 2 <= span.seconds <= seconds + longest
