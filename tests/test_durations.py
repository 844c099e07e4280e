"""What counts as a duration, and what is refused."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thence.durations import Duration, seconds
from thence.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10us", 0.000_01),
        ("10µs", 0.000_01),
        ("100ms", 0.1),
        ("30s", 30),
        ("1.5s", 1.5),
        ("5min", 300),
        ("1h", 3_600),
        ("2d", 172_800),
        ("0s", 0),
        (" 30 s ", 30),
    ],
)
def test_text_is_a_number_and_a_unit(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [(30, 30.0), (0.25, 0.25), (0, 0.0), (timedelta(minutes=2, milliseconds=1), 120.001)],
)
def test_numbers_are_seconds_and_timedeltas_are_themselves(
    duration: Duration, expected: float
) -> None:
    assert seconds(duration) == expected


def test_the_result_is_a_float_whatever_was_given() -> None:
    assert [type(seconds(given)) for given in (3, "3s", timedelta(seconds=3))] == [float] * 3


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "30",
        "s",
        "30m",
        "30 seconds",
        "1h30min",
        "-1s",
        "1e3s",
        "nans",
        "٣s",
        "9" * 400 + "s",
        -1,
        -0.1,
        math.nan,
        math.inf,
        10**400,
        True,
        False,
        None,
        [],
        timedelta(seconds=-1),
    ],
)
def test_anything_else_is_refused_with_examples_of_what_would_do(nonsense: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"is not a duration.*100ms.*30s.*5min.*timedelta"):
        seconds(nonsense)


@given(st.integers(min_value=0, max_value=10**6))
def test_every_unit_is_as_many_of_the_smaller_one_as_it_should_be(count: int) -> None:
    for larger, smaller, factor in [("ms", "us", 1000), ("s", "ms", 1000), ("min", "s", 60)]:
        assert seconds(f"{count}{larger}") == pytest.approx(seconds(f"{count * factor}{smaller}"))
