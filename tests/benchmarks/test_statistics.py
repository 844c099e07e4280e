"""Figures come from samples by definitions that can be checked by hand."""

import pytest
from benchmarks.statistics import percentile, ratios, summarise


def test_a_percentile_is_a_sample_that_occurred() -> None:
    samples = [40.0, 10.0, 30.0, 20.0]

    assert percentile(samples, 0.5) == 20
    assert percentile(samples, 0.51) == 30
    assert percentile(samples, 0.99) == 40
    assert percentile(samples, 0) == 10
    assert percentile(samples, 1) == 40


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_percentile_outside_the_samples_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        percentile([1.0], share)


def test_nothing_is_told_of_no_samples() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="no samples"):
        summarise([])


def test_one_slow_launch_does_not_move_the_median() -> None:
    summary = summarise([3.0, 3.1, 9.9, 3.2, 3.05])

    assert summary.median == 3.1
    assert (summary.minimum, summary.maximum) == (3.0, 9.9)
    assert summary.samples == (3.0, 3.1, 9.9, 3.2, 3.05)


def test_ratios_are_formed_within_each_launch() -> None:
    assert ratios([30.0, 60.0], [10.0, 20.0]).samples == (3.0, 3.0)


def test_ratios_need_a_partner_for_every_sample() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([30.0, 60.0], [10.0])
