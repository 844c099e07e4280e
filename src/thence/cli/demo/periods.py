"""The parts of a game: from its first move to its last, and the stampede in the middle, as they really were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from msgspec import Struct, field

from thence.cli.demo.tally import Count, Tally

__all__ = ["Period", "Periods"]


class Period(Struct):
    """A time on the machine's clock, and what was counted at its ends.

    It begins and ends with a bulletin, so it is up to a quarter of a second longer at either end.
    """

    after: int
    """It begins with the move after so many."""
    until: int
    """It ends with that move."""
    began: float = 0.0
    ended: float = 0.0
    before: Tally = field(default_factory=Counter[Count])
    at_end: Tally = field(default_factory=Counter[Count])

    @property
    def seconds(self) -> float:
        """How long it was."""
        return max(0.0, self.ended - self.began)

    @property
    def counts(self) -> Tally:
        """What was counted in it."""
        return Counter(
            {c: n - self.before[c] for c, n in self.at_end.items() if n > self.before[c]}
        )

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return bool(self.began) and not self.ended


class Periods:
    """Watches how many moves have been tried."""

    def __init__(self, moves: int, stampede: tuple[int, int] | None) -> None:
        self.walk = Period(0, moves)
        self.stampede = None if stampede is None else Period(*stampede)
        self._last: tuple[float, Tally] = (0.0, Counter())

    def note(self, at: float, moves: int, counts: Callable[[], Tally]) -> None:
        """At that time so many moves had been tried."""
        now = counts()
        for period in (self.walk, self.stampede):
            if period is None:
                continue
            if not period.began and moves > period.after:
                period.began, period.before = self._last
            if period.began and not period.ended and moves >= period.until:
                period.ended, period.at_end = at, now
        self._last = at, now
