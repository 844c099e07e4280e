"""Limits hold exactly: judged by an oracle that knows nothing of how they are held.

The promise is about pairs: of the admissions ``i`` to ``j``, any two of all, there are at most
``rate × (t[j] − t[i]) + burst``. The oracle looks at every pair, in exact arithmetic.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thence.flow import limit as holding
from thence.flow.limit import (
    Gate,
    KeyedCells,
    KeyedGate,
    PlainGate,
    gate_for,
    interval_of,
    key_function,
)
from thence.limits import Limit, limits_of

Exact = Fraction | int


class Visit(NamedTuple):
    """An event, as far as a limit looks at it."""

    player: Any = "ana"
    room: int = 0


# The oracle


def surplus_of_all_pairs(paid: Sequence[Exact], bursts: Sequence[int], one: Exact = 1) -> Exact:
    """How many admissions too many came in the worst window; none if it is zero or less.

    :param paid: for each admission, the events that its rate has allowed until then.
    :param bursts: for each admission, the burst that it was let in under.
    :param one: what an event counts in ``paid``.
    """
    return max(
        (j - i + 1 - bursts[i]) * one - (paid[j] - paid[i])
        for i in range(len(paid))
        for j in range(i, len(paid))
    )


def surplus(paid: Sequence[Exact], bursts: Sequence[int], one: Exact = 1) -> Exact:
    """The same, looking at each admission once: of all earlier ones only the tightest matters."""
    worst: Exact | None = None
    tightest: Exact | None = None
    for number, (until, burst) in enumerate(zip(paid, bursts, strict=True)):
        since = (number + burst) * one - until
        tightest = since if tightest is None or since < tightest else tightest
        too_many = (number + 1) * one - until - tightest
        worst = too_many if worst is None or too_many > worst else worst
    assert worst is not None
    return worst


def in_whole_numbers(times: Sequence[float], rate: float) -> tuple[list[int], int]:
    """What a rate has allowed until each time, and what an event counts: exact, and quick to add up."""
    per_second, seconds = rate.as_integer_ratio()
    finest = max(time.as_integer_ratio()[1] for time in times)
    paid = []
    for time in times:
        numerator, denominator = time.as_integer_ratio()
        paid.append(numerator * (finest // denominator) * per_second)
    return paid, finest * seconds


def excess(times: Sequence[float], rate: float, burst: int) -> Exact:
    """How far, in some unit, the admissions at these times go beyond a limit; zero or less if they don't."""
    if not times:
        return 0
    paid, one = in_whole_numbers(times, rate)
    return surplus(paid, [burst] * len(paid), one)


# What comes, and when it is let in

rates = st.floats(1e-6, 1e5) | st.sampled_from([1 / 3, 0.1, 7.0, 30.0, 1_000.0, 1e5])
bursts = st.integers(1, 12)
uptimes = st.floats(0.0, 2.0**24) | st.sampled_from([0.0, 1.0, 2.0**17, 1e6, 2.0**24])
moments = st.sampled_from(["earliest"]) | st.floats(0.0, 3.0) | st.sampled_from([0.0, 1e-9, 1.0])
"""The next event comes as soon as it would be let in, or so many intervals later."""


def earliest(gate: Gate, event: Any, now: float) -> float:
    """The first moment at which an event would be let in, to the last digit."""
    moment = now + gate.wait(event, "", now)
    while gate.wait(event, "", moment):
        moment = math.nextafter(moment, math.inf)
    while moment > now and not gate.wait(event, "", math.nextafter(moment, 0.0)):
        moment = math.nextafter(moment, 0.0)
    return moment


def gate_of(*limits: Limit | str) -> Gate:
    return Gate([gate_for(limit) for limit in limits_of(limits)])


def comes(gate: Gate, event: Any, now: float, moment: float | str, interval: float) -> float:
    return earliest(gate, event, now) if isinstance(moment, str) else now + moment * interval


class Ledger:
    """Keeps the exact account of a limit that changes: what the rate has allowed until now."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate, self.burst = Fraction(rate), burst
        self.paid, self.until = Fraction(0), Fraction(now)
        self.admissions: defaultdict[Any, list[tuple[Fraction, int]]] = defaultdict(list)

    def reaches(self, now: float) -> None:
        self.paid += self.rate * (Fraction(now) - self.until)
        self.until = Fraction(now)

    def change(self, rate: float, burst: int, now: float) -> None:
        self.reaches(now)
        self.rate, self.burst = Fraction(rate), burst

    def admits(self, key: Any, now: float) -> None:
        self.reaches(now)
        self.admissions[key].append((self.paid, self.burst))

    def surpluses(self) -> dict[Any, Exact]:
        return {
            key: surplus_of_all_pairs(*zip(*admissions, strict=True))
            for key, admissions in self.admissions.items()
        }

    def is_kept(self) -> bool:
        return all(too_many <= 0 for too_many in self.surpluses().values())


# The oracle is trusted because


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), min_size=1, max_size=25))
def test_looking_at_each_admission_once_finds_what_looking_at_all_pairs_does(
    steps: list[tuple[int, int]],
) -> None:
    paid = [Fraction(sum(gap for gap, _ in steps[: n + 1]), 3) for n in range(len(steps))]
    allowed = [burst for _, burst in steps]
    assert surplus(paid, allowed) == surplus_of_all_pairs(paid, allowed)


@given(st.lists(st.floats(0.0, 1e7), min_size=1, max_size=12), rates, bursts)
def test_whole_numbers_say_what_fractions_do(times: list[float], rate: float, burst: int) -> None:
    times.sort()
    paid, one = in_whole_numbers(times, rate)
    exactly = [Fraction(rate) * Fraction(time) for time in times]
    allowed = [burst] * len(times)
    assert Fraction(surplus(paid, allowed, one), one) == surplus_of_all_pairs(exactly, allowed)


def test_one_admission_a_hair_too_early_is_found() -> None:
    spaced = [0.0, 0.5, 1.0, 1.5]
    assert excess(spaced, 2.0, 1) == 0
    assert excess([*spaced[:-1], math.nextafter(1.5, 0.0)], 2.0, 1) > 0
    assert excess([0.0, 0.0, 0.5, 1.0], 2.0, 2) == 0
    assert excess([0.0, 0.0, math.nextafter(0.5, 0.0), 1.0], 2.0, 2) > 0


class FixedWindow:
    """Counts anew in every second: a control that must not pass."""

    def __init__(self, limit: int) -> None:
        self.limit, self.window, self.count = limit, -1, 0

    def admit(self, now: float) -> bool:
        if int(now) != self.window:
            self.window, self.count = int(now), 0
        self.count += 1
        return self.count <= self.limit


class SlidingWindowCounter:
    """Takes the second before for evenly filled: another control that must not pass."""

    def __init__(self, limit: int) -> None:
        self.limit, self.window, self.before, self.count = limit, -1, 0, 0

    def admit(self, now: float) -> bool:
        if int(now) != self.window:
            self.before = self.count if int(now) == self.window + 1 else 0
            self.window, self.count = int(now), 0
        if self.before * (1 - now % 1) + self.count + 1 > self.limit:
            return False
        self.count += 1
        return True


@pytest.mark.parametrize("control", [FixedWindow(100), SlidingWindowCounter(100)])
def test_a_limiter_that_counts_in_windows_is_caught(
    control: FixedWindow | SlidingWindowCounter,
) -> None:
    flood = [7.9 + n / 10_000 for n in range(20_000)]
    admitted = [now for now in flood if control.admit(now)]
    assert excess(admitted, 100.0, 10) > 0


def test_rounding_that_adds_up_is_caught() -> None:
    gate, now, admitted = gate_of("1000/s"), 1e6, []
    (cell,) = gate.gates
    assert isinstance(cell, PlainGate)
    cell.interval = 1 / 1_000 + 1e-9  # which no double has the digits for, added to the clock
    cell.tolerance = 99 * cell.interval
    for _ in range(300):
        now = earliest(gate, None, now)
        gate.admit(None, "", now)
        admitted.append(now)
    assert excess(admitted, 1_000.0, 100) > 0


# One limit


@given(rates, bursts, uptimes, st.lists(moments, min_size=1, max_size=40))
def test_no_window_holds_more_than_the_rate_and_the_burst_allow(
    rate: float, burst: int, now: float, steps: list[float | str]
) -> None:
    gate = gate_of(Limit(rate, burst=burst))
    ledger = Ledger(rate, burst, now)
    for moment in steps:
        now = comes(gate, None, now, moment, 1 / rate)
        if not gate.admit(None, "", now):
            ledger.admits("", now)
    assert ledger.is_kept(), ledger.surpluses()


@given(rates, bursts, uptimes, st.lists(moments, min_size=1, max_size=40))
def test_what_is_refused_would_have_broken_a_limit_half_a_percent_stricter(
    rate: float, burst: int, now: float, steps: list[float | str]
) -> None:
    gate = gate_of(Limit(rate, burst=burst))
    admitted: list[float] = []
    for moment in steps:
        now = comes(gate, None, now, moment, 1 / rate)
        early = gate.admit(None, "", now)
        if not early:
            admitted.append(now)
        elif early > 2 * math.ulp(now + burst / rate):  # no clock is finer than that
            assert excess([*admitted, now], rate * 0.995, burst) > 0


@given(rates, bursts, uptimes, st.lists(moments, min_size=1, max_size=20))
def test_who_waits_as_long_as_it_is_told_is_let_in(
    rate: float, burst: int, now: float, steps: list[float | str]
) -> None:
    gate = gate_of(Limit(rate, burst=burst))
    for moment in steps:
        now = comes(gate, None, now, moment, 1 / rate)
        if early := gate.admit(None, "", now):
            now += early
            while early := gate.admit(None, "", now):
                assert early <= 2 * math.ulp(now)
                now = math.nextafter(now, math.inf)


def test_the_burst_comes_at_once_and_then_one_each_interval() -> None:
    gate = gate_of("10/s burst 3")
    assert [gate.admit(None, "", 50.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert gate.admit(None, "", 50.0) == pytest.approx(0.1)
    assert gate.admit(None, "", 50.05) == pytest.approx(0.05)
    assert gate.admit(None, "", 50.101) == 0.0
    assert gate.admit(None, "", 50.101) > 0.0


def test_a_quiet_time_brings_the_burst_back_and_no_more() -> None:
    gate = gate_of("10/s burst 3")
    for now in (50.0, 1e6):
        assert [not gate.admit(None, "", now) for _ in range(5)] == [True] * 3 + [False] * 2


def test_asking_how_long_takes_nothing() -> None:
    gate = gate_of("1/s")
    assert [gate.wait(None, "", 5.0) for _ in range(9)] == [0.0] * 9
    assert gate.admit(None, "", 5.0) == 0.0


@pytest.mark.parametrize("rate", [1e-9, 1 / 86_400, 1 / 3, 1.0, 7.0, 1e3, 1e5, 1e6, 1e7])
def test_an_interval_is_never_short_and_hardly_long(rate: float) -> None:
    due = 1 / Fraction(rate)
    assert due < Fraction(interval_of(rate)) <= due * (1 + Fraction(1, 500))


def test_100_a_second_are_at_most_110_in_any_second() -> None:
    gate = gate_of("100/s")
    flood = (100 + n / 1_000 for n in range(5_000))
    admitted = [now for now in flood if not gate.admit(None, "", now)]
    most = max(sum(now <= other <= now + 1 for other in admitted) for now in admitted)
    assert 100 < most <= 110


# Many random arrivals

ARRIVALS = 1_000_000
SHAPES: dict[str, Callable[[random.Random, float, int], Iterator[float]]] = {}


def poisson(load: float) -> Callable[[random.Random, float, int], Iterator[float]]:
    def gaps(chance: random.Random, rate: float, burst: int) -> Iterator[float]:
        while True:
            yield chance.expovariate(load * rate)

    return gaps


def bursty(chance: random.Random, rate: float, burst: int) -> Iterator[float]:
    """Up to five bursts at the same moment, then quiet for what half of them or twice of them take."""
    while True:
        together = chance.randrange(1, 5 * burst + 1)
        yield from itertools.repeat(0.0, together - 1)
        yield together / rate * chance.uniform(0.5, 2.0)


SHAPES = {"1.2 times too many": poisson(1.2), "10 times too many": poisson(10), "bursts": bursty}
SOME_RATES = [0.5, 30.0, 1_000.0, 100_000.0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rate", SOME_RATES)
def test_of_a_million_that_wait_in_line_none_is_let_in_too_early_and_hardly_any_too_late(
    rate: float, shape: str
) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    limit = Limit(rate)
    admit = gate_of(limit).admit
    gaps = SHAPES[shape](chance, rate, limit.burst)
    arrives = now = chance.uniform(0.0, 1e6)
    admitted: list[float] = []
    waited_for, waited = 0, 0.0
    for _ in range(-(-ARRIVALS // (len(SHAPES) * len(SOME_RATES)))):
        arrives += next(gaps)
        before = now
        now = max(arrives, now)
        if early := admit(None, "", now):
            while early:
                now = max(now + early, math.nextafter(now, math.inf))
                early = admit(None, "", now)
            waited_for += 1
            waited += now - max(before, arrives)
            waited += max(arrives - before, 0.0)
        admitted.append(now)
    assert excess(admitted, limit.rate, limit.burst) <= 0, f"seed {seed}"
    assert waited_for >= 0.99 * rate * waited, f"seed {seed}"
    assert waited_for > len(admitted) / 10, f"seed {seed}: it was hardly saturated"


@pytest.mark.parametrize("shape", SHAPES)
def test_of_many_that_do_not_wait_none_is_let_in_too_early(shape: str) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    limit = Limit("250/s")
    admit = gate_of(limit).admit
    now = chance.uniform(0.0, 1e6)
    admitted = []
    for gap in itertools.islice(SHAPES[shape](chance, limit.rate, limit.burst), 50_000):
        now += gap
        if not admit(None, "", now):
            admitted.append(now)
    assert excess(admitted, limit.rate, limit.burst) <= 0, f"seed {seed}"


# A limit that changes

changes = st.tuples(rates, bursts)


@given(changes, uptimes, st.lists(moments | changes, min_size=1, max_size=40))
def test_nothing_is_gained_by_a_change(
    first: tuple[float, int], now: float, steps: list[float | str | tuple[float, int]]
) -> None:
    rate, burst = first
    gate = gate_of(Limit(rate, burst=burst))
    ledger = Ledger(rate, burst, now)
    for step in steps:
        if isinstance(step, tuple):
            rate, burst = step
            gate.gates[0].change(Limit(rate, burst=burst), now)
            ledger.change(rate, burst, now)
            continue
        now = comes(gate, None, now, step, 1 / rate)
        if not gate.admit(None, "", now):
            ledger.admits("", now)
    assert ledger.is_kept(), ledger.surpluses()


@pytest.mark.parametrize("text", ["10/s burst 5", "10/s per player burst 5"])
def test_a_change_keeps_what_is_left_of_the_burst(text: str) -> None:
    gate = gate_of(text)
    assert not any(gate.admit(Visit(), "", 50.0) for _ in range(3))
    gate.gates[0].change(Limit("1/min", burst=20), 50.0)
    moment = 50.000_000_1
    assert [not gate.admit(Visit(), "", moment) for _ in range(3)] == [True, True, False]
    assert gate.wait(Visit(), "", moment) == pytest.approx(60.0)


def test_a_change_cuts_what_the_new_burst_does_not_allow() -> None:
    gate = gate_of("10/s burst 9")
    gate.gates[0].change(Limit("10/s burst 2"), 50.0)
    assert [not gate.admit(None, "", 50.0) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("now", [0.0, 1 / 3, 12_345.678, 1e6 + 1 / 3, 2.0**24 - 1 / 7])
@pytest.mark.parametrize("other", ["1/d burst 3", "100000/s burst 3", "7/min burst 9", "3/s"])
def test_nothing_is_gained_by_many_changes(other: str, now: float) -> None:
    here, there = Limit("1/min burst 3"), Limit(other)
    gate, ledger = gate_of(here), Ledger(here.rate, here.burst, now)
    for _ in range(20):
        now = earliest(gate, None, now)
        assert not gate.admit(None, "", now)
        ledger.admits("", now)
        for limit in (there, here) * 50:
            gate.gates[0].change(limit, now)
            ledger.change(limit.rate, limit.burst, now)
            now += 1e-7
    assert ledger.is_kept(), ledger.surpluses()


def test_what_too_many_keys_share_changes_with_the_limit() -> None:
    def overrun(text: str) -> Gate:
        gate = gate_of(text)
        for player in "abc":
            while not gate.admit(Visit(player), "", 50.0):
                pass
        return gate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holding, "MAX_KEYS", 2)
        patch.setattr(holding, "FIRST_SWEEP", 2)
        patch.setattr(holding, "SHARED", 1)
        slower, larger = overrun("1/h per player burst 9"), overrun("10/s per player")
        slower.gates[0].change(Limit("10/s per player burst 9"), 50.0)
        assert slower.wait(Visit("d"), "", 50.0) == pytest.approx(0.1)
        larger.gates[0].change(Limit("10/s per player burst 100"), 50.0)
        assert larger.wait(Visit("d"), "", 50.0) == pytest.approx(0.1)


def test_a_faster_limit_is_felt_at_once() -> None:
    gate = gate_of("1/h")
    assert not gate.admit(None, "", 50.0)
    gate.gates[0].change(Limit("10/s"), 50.0)
    assert gate.wait(None, "", 50.0) == pytest.approx(0.1)


def test_a_gate_tells_the_limit_that_it_holds_now() -> None:
    for text in ("1/h", "1/h per player"):
        gate = gate_of(text).gates[0]
        gate.change(Limit("10/s per player"), 50.0)
        assert gate.limit == Limit("10/s per player")


# Each value of a key

few_keys = st.integers(0, 6)


@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    changes,
    uptimes,
    st.lists(st.tuples(few_keys, moments) | changes, min_size=1, max_size=60),
)
@settings(deadline=None)
def test_each_key_is_held_to_the_limit_even_while_more_are_busy_than_can_be_remembered(
    remembered: int,
    first_sweep: int,
    shared: int,
    first: tuple[float, int],
    now: float,
    steps: list[tuple[int, float | str] | tuple[float, int]],
) -> None:
    rate, burst = first
    ledger = Ledger(rate, burst, now)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holding, "MAX_KEYS", remembered)
        patch.setattr(holding, "SHARED", shared)
        patch.setattr(holding, "FIRST_SWEEP", min(first_sweep, remembered))
        gate = gate_of(Limit(rate, burst=burst, per="player"))
        cells: KeyedCells = gate.gates[0]._cells  # type: ignore[attr-defined]  # pyright: ignore
        for step in steps:
            if isinstance(step[0], float):
                rate, burst = step  # type: ignore[assignment]  # pyright: ignore
                gate.gates[0].change(Limit(rate, burst=burst, per="player"), now)
                ledger.change(rate, burst, now)
                continue
            visit = Visit(player=step[0])
            now = comes(gate, visit, now, step[1], 1 / rate)
            if not gate.admit(visit, "", now):
                ledger.admits(step[0], now)
            assert len(cells.due) <= remembered
    assert ledger.is_kept(), ledger.surpluses()


def test_one_key_takes_nothing_from_another() -> None:
    gate = gate_of("1/min per player")
    assert [not gate.admit(Visit(player), "", 9.0) for player in "abab"] == [True] * 2 + [False] * 2


def test_keys_that_are_idle_are_forgotten() -> None:
    gate = gate_of("10/s per player burst 3")
    cells: KeyedCells = gate.gates[0]._cells  # type: ignore[attr-defined]  # pyright: ignore
    most = 0
    for number in range(50_000):
        assert not gate.admit(Visit(player=number), "", number / 100)
        most = max(most, len(cells.due))
    assert most <= holding.FIRST_SWEEP


def test_keys_that_are_busy_are_remembered_up_to_a_number_and_then_share_cells() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holding, "MAX_KEYS", 1_000)
        patch.setattr(holding, "SHARED", 7)
        gate = gate_of("1/h per player")
        cells: KeyedCells = gate.gates[0]._cells  # type: ignore[attr-defined]  # pyright: ignore
        admitted = [not gate.admit(Visit(player=n), "", 9.0) for n in range(5_000)]
        assert admitted[:1_000] == [True] * 1_000
        assert admitted[1_000:].count(True) == 7
        assert len(cells.due) == 1_000
        for player in (0, 999, 1_000, 4_999):
            assert gate.admit(Visit(player=player), "", 9.0)
        later = 9.0 + 3_601
        assert sum(gate.admit(Visit(player=n), "", later) > 0 for n in range(1_000)) <= 7


def test_by_default_100_000_busy_keys_are_remembered() -> None:
    gate = gate_of("1/h per player")
    cells: KeyedCells = gate.gates[0]._cells  # type: ignore[attr-defined]  # pyright: ignore
    for number in range(101_000):
        gate.admit(Visit(player=number), "", 9.0)
    assert len(cells.due) == holding.MAX_KEYS == 100_000


def test_who_invents_keys_shuts_out_few_that_come_after_them() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holding, "MAX_KEYS", 1_000)
        gate = gate_of("10/min per player burst 3")
        now = 9.0
        for number in range(1_500):
            gate.admit(Visit(player=f"invented {number}"), "", now)
        honest = [not gate.admit(Visit(player=f"player {n}"), "", now) for n in range(200)]
        assert honest.count(True) > 180


def test_a_refusal_tells_when_it_is_because_keys_share_a_cell() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holding, "MAX_KEYS", 10)
        patch.setattr(holding, "FIRST_SWEEP", 10)
        patch.setattr(holding, "SHARED", 1)
        gate = gate_of("1/h per player")
        for player in range(11):
            assert not gate.admit(Visit(player=player), "", 9.0)
        assert gate.admit(Visit(player=3), "", 9.0)
        assert gate.reason == "limit 1/h per player"
        assert gate.admit(Visit(player="new"), "", 9.0)
        assert gate.reason == "limit 1/h per player (more than 10 keys are busy)"


def test_keys_begin_without_credit_in_blocks_that_were_taken_over_and_only_there() -> None:
    (gate,) = gate_of("6/min per player burst 3").gates
    assert isinstance(gate, KeyedGate)
    for player in range(4):
        assert not gate.admit(Visit(player), "", 100.0)
    gate.restart([1, 3], lambda key: key % 4, 110.0)
    # Known or new: 1 and 3 and their like wait for one interval, the others have what they had.
    for player in range(8):
        wait = gate.wait(Visit(player), "", 110.0)
        assert wait == (pytest.approx(10.0) if player % 2 else 0.0)
    gate.change(Limit("60/min per player burst 3"), 110.0)
    assert gate.wait(Visit(5), "", 110.0) == pytest.approx(1.0)
    assert gate.wait(Visit(5), "", 111.001) == 0.0
    admitted = [not gate.admit(Visit(5), "", 113.1) for _ in range(5)]
    assert admitted == [True] * 3 + [False] * 2
    assert not gate._restarts


@given(
    changes,
    uptimes,
    st.lists(st.tuples(few_keys, moments) | st.sets(st.integers(0, 2)), min_size=1, max_size=60),
)
@settings(deadline=None)
def test_a_block_that_comes_back_brings_no_key_more_than_the_limit(
    first: tuple[float, int], now: float, steps: list[tuple[int, float | str] | set[int]]
) -> None:
    """The other replica is taken to use the whole limit whenever it has a block."""
    rate, burst = first
    gate = gate_of(Limit(rate, burst=burst, per="player"))
    keyed = gate.gates[0]
    assert isinstance(keyed, KeyedGate)
    ledger = Ledger(rate, burst, now)
    for step in steps:
        if isinstance(step, set):
            elsewhere = gate_of(Limit(rate, burst=burst, per="player"))
            for key in range(7):
                if key % 3 in step:
                    since = [(until, held) for until, held in ledger.admissions[key]]
                    while not elsewhere.admit(Visit(key), "", now):
                        since.append((ledger.paid, burst))
                    ledger.admissions[key] = since[-burst:] if since else []
            keyed.restart(step, lambda key: key % 3, now)
            # What came before the other one's burst is the other one's to answer for.
            for key in range(7):
                if key % 3 in step:
                    ledger.reaches(now)
                    ledger.admissions[key] = [(ledger.paid, burst)] * burst
            continue
        visit = Visit(player=step[0])
        now = comes(gate, visit, now, step[1], 1 / rate)
        if not gate.admit(visit, "", now):
            ledger.admits(step[0], now)
    assert ledger.is_kept(), ledger.surpluses()


@pytest.mark.parametrize("per", ["player", lambda visit: visit.player])
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_is_not_equal_to_itself_is_one_key_all_the_same(per: Any, wrapped: bool) -> None:
    gate = gate_of(Limit("1/min", per=per))
    cells: KeyedCells = gate.gates[0]._cells  # type: ignore[attr-defined]  # pyright: ignore

    def nan() -> Any:
        return (1, float("nan")) if wrapped else float("nan")

    assert not gate.admit(Visit(nan()), "", 9.0)
    assert gate.admit(Visit(nan()), "", 9.0)
    assert not gate.admit(Visit((1, 2.5) if wrapped else 2.5), "", 9.0)
    assert len(cells.due) == 2


@pytest.mark.parametrize(
    ("per", "same", "other"),
    [
        ("player", (Visit("ana", 1), "x"), (Visit("bo", 1), "x")),
        (lambda visit: visit.room, (Visit("bo", 0), "x"), (Visit("ana", 1), "x")),
        (Limit.SOURCE, (Visit("bo", 1), "shop"), (Visit("ana"), "x")),
    ],
)
def test_a_key_is_a_field_or_what_a_function_says_or_the_emitting_service(
    per: Any, same: tuple[Visit, str], other: tuple[Visit, str]
) -> None:
    gate = gate_of(Limit("1/min", per=per))
    assert not gate.admit(Visit("ana", 0), "shop", 9.0)
    assert gate.admit(*same, 9.0)
    assert not gate.admit(*other, 9.0)


def test_a_limit_without_a_key_has_no_key_function() -> None:
    assert key_function(Limit("5/s")) is None


def test_events_that_a_function_fails_on_are_held_together() -> None:
    gate = gate_of(Limit("1/min", per=lambda visit: 1 // visit.room))
    assert not gate.admit(Visit("ana", 0), "", 9.0)
    assert gate.admit(Visit("bo", 0), "", 9.0)
    assert not gate.admit(Visit("ana", 1), "", 9.0)


@pytest.mark.parametrize("per", ["player", lambda visit: visit.player])
def test_values_that_cannot_be_keys_break_nothing(per: Any) -> None:
    gate = gate_of(Limit("1/min", per=per))
    assert not gate.admit(Visit(["ana"]), "", 9.0)
    assert gate.admit(Visit(["ana"]), "", 9.0)


# Several limits at once

SEVERAL = (
    Limit("10/s burst 5"),
    Limit("100/min burst 12"),
    Limit("3/s per player burst 2"),
    Limit("4/s per source burst 3"),
)


def feed(gate: Gate, chance: random.Random, count: int) -> list[tuple[float, Visit, str]]:
    """What a gate lets in of events that come too often, for each of its limits in turn."""
    now, admitted = 1_000.0, []
    for number in range(count):
        now += chance.expovariate((3, 20, 200)[number // 40 % 3])
        visit, source = Visit(chance.choice("abcd")), chance.choice("xyz")
        if not gate.admit(visit, source, now):
            admitted.append((now, visit, source))
    return admitted


def test_of_several_limits_each_holds() -> None:
    admitted = feed(gate_of(*SEVERAL), random.Random(random.randrange(2**32)), 5_000)
    assert admitted
    for limit in SEVERAL:
        key_of = key_function(limit) or (lambda visit, source: "")
        times: defaultdict[Any, list[float]] = defaultdict(list)
        for now, visit, source in admitted:
            times[key_of(visit, source)].append(now)
        for several in times.values():
            assert excess(several, limit.rate, limit.burst) <= 0


def test_none_of_several_limits_counts_what_another_has_refused() -> None:
    gate = gate_of(*SEVERAL)
    admitted = feed(gate, random.Random(random.randrange(2**32)), 5_000)
    later = admitted[-1][0]
    for limit, together in zip(SEVERAL, gate.gates, strict=True):
        alone = gate_for(limit)
        for now, visit, source in admitted:
            assert not alone.wait(visit, source, now)
            alone.take(visit, source, now)
        for visit, source in itertools.product(map(Visit, "abcd"), "xyz"):
            assert alone.wait(visit, source, later) == together.wait(visit, source, later)


def test_the_limit_that_holds_an_event_back_longest_is_named() -> None:
    gate = gate_of("10/s", "1/min per player")
    assert not gate.admit(Visit("ana"), "", 9.0)
    assert gate.admit(Visit("ana"), "", 9.0) == pytest.approx(60)
    assert gate.refused_by.limit == Limit("1/min per player")
    assert gate.admit(Visit("bo"), "", 9.0) == pytest.approx(0.1)
    assert gate.refused_by.limit == Limit("10/s")
