"""What is counted and timed of one type of event at one handler.

Times are taken down as plain numbers where things happen, and put into histograms later, many at once.
"""

from __future__ import annotations

from collections import Counter

from thence.histogram import Histogram, Totals

__all__ = ["MANY", "Account"]

MANY = 256
"""Times that may wait to be put into their histogram: whoever takes one down looks."""


class Account:
    """One type of event at one handler."""

    __slots__ = (
        "_last",
        "_ran",
        "_waited",
        "alone",
        "delays",
        "event",
        "failed",
        "handled",
        "note_delay",
        "note_took",
        "sampled",
        "shed",
        "together",
        "took",
    )

    def __init__(self, event: str) -> None:
        self.event = event
        self.handled = self.failed = 0
        self.shed: Counter[str] = Counter()
        """By reason."""
        self.took: list[float] = []
        """Seconds that runs took which have not been put into the histogram."""
        self.delays: list[float] = []
        """The same for the time from an event's arrival until its run was begun."""
        self.note_took, self.note_delay = self.took.append, self.delays.append
        self.alone: list[float] = []
        """Seconds that runs took for events that came alone and were begun at once; to be put there too."""
        self.sampled: list[tuple[float, float]] = []
        """Of events that came together with others: delay, and what the run took."""
        self.together = 0
        """How many events those stand for."""
        self._ran, self._waited = Totals(), Totals()
        self._last: tuple[float, float] | None = None
        """The latest that was sampled."""

    def fold_together(self, mean: float) -> None:
        """Share out those that came together among the samples: each stands for as many as the others.

        Without a new one they are like the one before. ``mean``: what each took if there never was any.
        """
        count, self.together = self.together, 0
        samples, self.sampled = self.sampled, []
        if samples:
            self._last = samples[-1]
        else:
            samples = [self._last or (0.0, mean)]
        each, more = divmod(count, len(samples))
        for number, (delay, took) in enumerate(samples):
            times = each + (number < more)
            if times:
                self._waited.note(delay, times)
                self._ran.note(took, times)

    def fold(self) -> None:
        """Put everything else into the histograms."""
        self._ran.note_all(self.took)
        self._waited.note_all(self.delays)
        self.took.clear()
        self.delays.clear()
        if self.alone:
            self._ran.note_all(self.alone)
            self._waited.note(0.0, len(self.alone))
            self.alone.clear()

    def times(self) -> tuple[Histogram, Histogram]:
        """What runs took, and how long events waited for theirs."""
        self.fold()
        return self._ran.histogram(), self._waited.histogram()
