"""Those who share a limit take turns, whoever asks at the right moment, and wait for nobody who is gone."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from thence.flow.turns import PATIENCE, Turns
from thence.limits import Limit


class Shared:
    """A limit, and those who share it, each with a line of its own and an alarm that may ring late."""

    def __init__(self, limit: str, lines: dict[str, int], late: dict[str, float]) -> None:
        self.limit = Limit(limit)
        self.interval = 1 / self.limit.rate
        self.lines, self.late = lines, late
        self.turns = Turns()
        self.now, self.due = 100.0, 100.0
        self.gone: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        alarms = dict.fromkeys(self.lines, self.now)
        while alarms and self.now < end:
            who = min(alarms, key=alarms.__getitem__)
            self.now = max(self.now, alarms.pop(who))
            while self.lines[who]:
                credit_at = self.due - (self.limit.burst - 1) * self.interval
                early = self.turns.wait(who, max(credit_at - self.now, 0.0), self.limit, self.now)
                if early:
                    alarms[who] = self.now + early + self.late.get(who, 0.0) + 1e-9
                    break
                self.turns.take(who, self.limit)
                self.due = max(self.due, self.now) + self.interval
                self.lines[who] -= 1
                self.gone[who] += 1


@pytest.mark.parametrize(
    "limit", ["2/s", "5/s", "100/s", "100/s burst 1", "5000/s", "5000/s burst 2"]
)
@pytest.mark.parametrize("late", [{}, {"b": 0.0005}, {"a": 0.0001, "b": 0.0009}])
@pytest.mark.parametrize("names", ["ab", "abcde"])
def test_all_get_the_same_though_some_always_come_first(
    limit: str, late: dict[str, float], names: str
) -> None:
    shared = Shared(limit, dict.fromkeys(names, 10**6), late)
    shared.run(1)  # the first burst goes to the first who comes
    shared.gone.clear()
    seconds = 200 / shared.limit.rate + 1
    shared.run(seconds)
    for name in names:
        assert shared.gone[name] == pytest.approx(
            shared.gone.total() / len(names), rel=0.1, abs=shared.limit.burst
        )
    if not late or (shared.limit.burst - 1) / shared.limit.rate > max(late.values()):
        # Else what comes late is lost, whoever comes.
        assert shared.gone.total() >= 0.97 * shared.limit.rate * seconds - 1


def test_one_alone_is_never_kept_waiting() -> None:
    turns, limit = Turns(), Limit("10/s")
    assert turns.wait("a", 0.05, limit, 1.0) == 0.05
    for step in range(100):
        assert turns.wait("a", 0.0, limit, 1.0 + step) == 0.0
        turns.take("a", limit)


def test_who_does_not_come_loses_its_turn_after_a_moment() -> None:
    turns, limit = Turns(), Limit("10/s")
    turns.wait("gone", 0.1, limit, 1.0)
    early = turns.wait("here", 0.0, limit, 2.0)
    assert 0 < early <= PATIENCE
    assert turns.wait("here", 0.0, limit, 2.0 + PATIENCE) == 0.0
    turns.take("here", limit)
    assert turns.wait("here", 0.0, limit, 2.1) == 0.0


def test_who_will_not_come_again_can_say_so() -> None:
    turns, limit = Turns(), Limit("10/s")
    turns.wait("gone", 0.1, limit, 1.0)
    turns.leave("gone")
    turns.leave("never there")
    assert turns.wait("here", 0.0, limit, 2.0) == 0.0


@pytest.mark.parametrize("rate", [50, 1000])
def test_little_is_wasted_on_those_who_come_and_go(rate: int) -> None:
    dice = random.Random(rate)
    shared = Shared(f"{rate}/s", {"busy": 10**6, "calm": 0, "rare": 0}, {"busy": 0.0002})
    for _ in range(200):
        for name in ("calm", "rare"):
            shared.lines[name] = dice.choice([0, 0, 1, 3])
        shared.run(0.05)
    assert shared.gone.total() >= 0.98 * rate * 10


def test_only_who_waits_is_remembered() -> None:
    turns, limit = Turns(), Limit("1000/s")
    for number in range(10_000):
        turns.wait(number, 0.1, limit, 1.0)
        turns.leave(number)
    assert not turns.line
