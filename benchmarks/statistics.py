"""Medians and percentiles of small sample lists.

Medians, because a launch that drew a slow memory layout, or a neighbour that woke up, must not
move the figure; with the least and greatest beside them, so that nobody has to take it on trust.
"""

from collections.abc import Sequence
from statistics import median

import msgspec

__all__ = ["Summary", "percentile", "ratios", "summarise"]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of samples comes down to."""

    median: float
    minimum: float
    maximum: float
    samples: tuple[float, ...]


def summarise(samples: Sequence[float]) -> Summary:
    """Summarise samples, keeping them.

    :raises ValueError: there are no samples.
    """
    if not samples:
        raise ValueError("no samples to summarise; report the contestant as missing instead")
    return Summary(
        median=median(samples),
        minimum=min(samples),
        maximum=max(samples),
        samples=tuple(samples),
    )


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that at least ``share`` (0 to 1) of all do not exceed.

    The nearest-rank definition: always a sample that occurred, never an interpolation.

    :raises ValueError: there are no samples, or the share is outside 0 to 1.
    """
    if not samples:
        raise ValueError("no samples to take a percentile of")
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies between 0 and 1, not {share}")
    ordered = sorted(samples)
    rank = -(-len(ordered) * share // 1)
    return ordered[max(int(rank), 1) - 1]


def ratios(samples: Sequence[float], base: Sequence[float]) -> Summary:
    """Summarise the ratios of samples taken side by side (one pair for each launch)."""
    return summarise([sample / other for sample, other in zip(samples, base, strict=True)])
