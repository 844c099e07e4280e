"""The error tree that `except` clauses of users rely on."""

from __future__ import annotations

import pytest

from thence import errors


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_can_be_caught_as_thence_error(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.ThenceError)


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_drawn_in_the_tree_and_says_what_it_means(name: str) -> None:
    error = getattr(errors, name)

    assert f" {name}" in (errors.__doc__ or "")
    assert error.__doc__


def test_no_error_is_missing_from_the_exported_names() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}

    assert defined == set(errors.__all__)


def test_an_invalid_event_is_a_value_error_to_code_that_knows_nothing_of_thence() -> None:
    assert issubclass(errors.InvalidEvent, ValueError)


def test_a_settle_timeout_is_a_timeout_error_to_code_that_knows_nothing_of_thence() -> None:
    assert issubclass(errors.SettleTimeout, TimeoutError)
