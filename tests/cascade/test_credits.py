"""Credits are divided, never made: whatever is given to the branches is not more than there was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thence import Budget, ConfigurationError
from thence.cascade.credits import CUT, divide, part

RECEIVERS = st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=12)


@given(st.integers(0, 2000), RECEIVERS)
def test_what_is_given_and_what_is_spent_is_never_more_than_there_was(
    credits: int, receivers: list[tuple[int, bool]]
) -> None:
    shares = divide(credits, receivers)
    spent = sum(
        starts + share for (starts, _), share in zip(receivers, shares, strict=True) if share != CUT
    )
    assert spent <= credits


@given(st.integers(0, 2000), RECEIVERS)
def test_all_of_it_is_given_if_anybody_who_is_reached_may_emit(
    credits: int, receivers: list[tuple[int, bool]]
) -> None:
    shares = divide(credits, receivers)
    reached = [
        (starts, spreads, share)
        for (starts, spreads), share in zip(receivers, shares, strict=True)
        if share != CUT
    ]
    if any(spreads for _, spreads, _ in reached):
        assert sum(starts + share for starts, _, share in reached) == credits


@given(st.integers(0, 2000), RECEIVERS)
def test_whoever_emits_nothing_gets_nothing_to_spend(
    credits: int, receivers: list[tuple[int, bool]]
) -> None:
    shares = divide(credits, receivers)
    assert all(
        share in (0, CUT)
        for (_, spreads), share in zip(receivers, shares, strict=True)
        if not spreads
    )


@given(st.integers(0, 2000), RECEIVERS)
def test_nobody_is_cut_whose_handlers_could_be_paid(
    credits: int, receivers: list[tuple[int, bool]]
) -> None:
    shares = divide(credits, receivers)
    paid = sum(starts for (starts, _), share in zip(receivers, shares, strict=True) if share != CUT)
    assert all(
        starts > credits - paid
        for (starts, _), share in zip(receivers, shares, strict=True)
        if share == CUT
    )


@pytest.mark.parametrize(
    ("credits", "receivers", "shares"),
    [
        (10, [(1, True)], [9]),
        (10, [(1, False)], [0]),
        (10, [], []),
        (0, [(1, True)], [CUT]),
        (1, [(1, True), (1, True)], [0, CUT]),
        # Equal parts, the rest to the first that may emit.
        (13, [(1, True), (1, True), (1, True)], [4, 3, 3]),
        (13, [(1, False), (1, True), (1, True)], [0, 5, 5]),
        (14, [(1, False), (1, True), (1, True)], [0, 6, 5]),
        # One that starts more handlers than can be paid takes nothing from the others.
        (3, [(5, True), (1, True)], [CUT, 2]),
        (-3, [(1, True)], [CUT]),
    ],
)
def test_credits_are_divided_so(
    credits: int, receivers: list[tuple[int, bool]], shares: list[int]
) -> None:
    assert divide(credits, receivers) == shares


@given(st.integers(0, 10_000), st.integers(1, 30))
def test_the_parts_of_all_handlers_are_the_whole(credits: int, parts: int) -> None:
    shares = [part(credits, index, parts) for index in range(parts)]
    assert sum(shares) == credits
    assert max(shares[1:], default=0) - min(shares[1:], default=0) == 0
    assert shares[0] >= max(shares)


# -- budgets as texts


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("events=500 depth=8 seconds=10s", Budget(500, 8, 10)),
        ("events=500", Budget(events=500)),
        ("depth=8, events=7", Budget(events=7, depth=8)),
        ("seconds=1.5s", Budget(seconds=1.5)),
        ("seconds=2min", Budget(seconds=120)),
        ("", Budget()),
    ],
)
def test_a_budget_is_read_from_a_text(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@pytest.mark.parametrize(
    "text",
    [
        "events",
        "events=",
        "=5",
        "hops=3",
        "events=5 events=6",
        "events=many",
        "events=0",
        "events=-5",
        "events=5.5",
        "depth=0",
        "seconds=0",
        "seconds=-1s",
        "seconds=soon",
        "seconds=5",
        "events = 5",
        "1000",
        "events=٣٤ depth=x",
    ],
)
def test_a_text_that_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Budget.parse(text)


@given(st.text(max_size=40))
def test_any_text_at_all_is_a_budget_or_is_refused(text: str) -> None:
    try:
        budget = Budget.parse(text)
    except ConfigurationError:
        return
    assert budget.events >= 1
    assert budget.depth >= 1
    assert budget.seconds > 0
