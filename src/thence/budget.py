"""How far one event may spread: a bound on its whole tree of consequences.

:mod:`thence.cascade.credits` divides it among the branches.
"""

from __future__ import annotations

from dataclasses import dataclass

from thence.durations import Duration
from thence.durations import seconds as length_of
from thence.errors import ConfigurationError

__all__ = ["DEEPEST", "Budget"]

LARGEST = 1_000_000_000
"""Handler starts that a cascade may be allowed."""
DEEPEST = 1000
"""Hops that a cascade may be allowed."""
LONGEST = 30 * 86_400.0
"""Seconds that a cascade may be allowed."""


@dataclass(frozen=True, slots=True, init=False)
class Budget:
    """What the cascade of one root event may use up, all its branches together.

        Budget()                                        # 1,000 handler starts, 16 hops, 30 s
        Budget(events=50, seconds="2s")

    :param events: handler starts. What would need more is cut, counted and reported.
    :param depth: hops from the root event. The root itself is at depth 0.
    :param seconds: time since the root event was emitted, after which plain events are not begun any more.
        A run that has begun is not stopped by it.
    :raises ConfigurationError: one of them is zero or less, or no number.
    """

    events: int
    """Handler starts."""
    depth: int
    """Hops from the root event."""
    seconds: float
    """Seconds since the root event was emitted."""

    def __init__(self, events: int = 1000, depth: int = 16, seconds: Duration = 30.0) -> None:
        for name, number, largest, example in (
            ("events", events, LARGEST, 1000),
            ("depth", depth, DEEPEST, 16),
        ):
            if (
                isinstance(number, bool)
                or not isinstance(number, int)
                or not 1 <= number <= largest
            ):
                raise ConfigurationError(
                    f"Budget({name}={number!r}): give a whole number from 1 to {largest:,}, for example "
                    f"Budget({name}={example})"
                )
        try:
            length = length_of(seconds)
        except ConfigurationError as error:
            raise ConfigurationError(f"Budget(seconds={seconds!r}): {error}") from None
        if not 0 < length <= LONGEST:
            raise ConfigurationError(
                f"Budget(seconds={seconds!r}): give a time above zero, at most 30 days, for example "
                'Budget(seconds="30s")'
            )
        object.__setattr__(self, "events", events)
        object.__setattr__(self, "depth", depth)
        object.__setattr__(self, "seconds", length)

    @classmethod
    def parse(cls, text: str) -> Budget:
        """The budget that a text such as ``"events=500 depth=8 seconds=10s"`` stands for.

        :raises ConfigurationError: it can't be understood.
        """
        values: dict[str, Duration] = {}
        for part in text.replace(",", " ").split():
            name, _, value = part.partition("=")
            if name not in ("events", "depth", "seconds") or not value or name in values:
                raise ConfigurationError(
                    f'{part!r} in {text!r}: write each of these at most once, as in "events=1000 depth=16 '
                    'seconds=30s"'
                )
            values[name] = int(value) if value.isdecimal() and name != "seconds" else value
        return cls(**values)  # type: ignore[arg-type]  # checked by the constructor

    @classmethod
    def left(cls, events: int, depth: int, seconds: float) -> Budget:
        """What is left of a budget; any of it may be 0."""
        budget = object.__new__(cls)
        for name, value in (("events", events), ("depth", depth), ("seconds", seconds)):
            object.__setattr__(budget, name, max(value, 0))
        return budget

    def __str__(self) -> str:
        return f"{self.events:,} events, {self.depth} hops, {self.seconds:g} s"
