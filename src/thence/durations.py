"""One reading of durations, so that "30s" means the same in code, environment and thence.toml.

Text needs a unit: a bare "30" has been taken for milliseconds by half of its readers. Minutes are
"min", as "m" is a minute to some and a month or a metre to others.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import TypeAlias

from thence.errors import ConfigurationError

__all__ = ["Duration", "seconds"]

Duration: TypeAlias = str | int | float | timedelta

_SECONDS_PER_UNIT = {
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3_600.0,
    "d": 86_400.0,
}
_TEXT = re.compile(rf"\s*(\d+(?:\.\d+)?)\s*({'|'.join(_SECONDS_PER_UNIT)})\s*", re.ASCII)


def seconds(duration: Duration) -> float:
    """The length of `duration` in seconds: text with a unit, a number of seconds or a timedelta.

    Raises:
        ConfigurationError: it is negative, infinite, not a number or no duration at all.
    """
    length = _length(duration)
    if length is None or not math.isfinite(length) or length < 0:
        raise ConfigurationError(
            f"{duration!r} is not a duration. Write a number and a unit "
            '("10us", "100ms", "30s", "5min", "1h", "2d"), a number of seconds (0.5), '
            "or a timedelta; it must be finite and not negative."
        )
    return length


def _length(duration: object) -> float | None:
    match duration:
        case bool():
            return None
        case int() | float():
            try:
                return float(duration)
            except OverflowError:
                return None
        case timedelta():
            return duration.total_seconds()
        case str() if matched := _TEXT.fullmatch(duration):
            number, unit = matched.groups()
            return float(number) * _SECONDS_PER_UNIT[unit]
        case _:
            return None
