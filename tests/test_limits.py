"""What a limit may say, what it means, and what is refused with which advice."""

from __future__ import annotations

import copy
import math
import pickle
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from thence import Event
from thence.errors import ConfigurationError
from thence.flow.limit import gate_for
from thence.limits import FASTEST, SLOWEST, Limit, check_limits, limits_of

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
EXAMPLES = ["200/s", "10/min burst 3", "5/s per player"]

decimals = st.from_regex(r"[1-9][0-9]{0,5}(\.[0-9]{1,3})?", fullmatch=True)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name != "source"
)
blanks = st.sampled_from(["", " ", "  "])


@st.composite
def paces(draw: st.DrawFn) -> tuple[str, float]:
    """A rate as text, and the same in events a second."""
    count, unit = draw(decimals), draw(st.sampled_from(list(UNITS)))
    every = draw(st.just("") | decimals)
    before, after, inside = draw(blanks), draw(blanks), draw(blanks) if every else ""
    per_second = float(count) / (float(every or "1") * UNITS[unit])
    assume(SLOWEST <= per_second <= FASTEST)
    return f"{count}{before}/{after}{every}{inside}{unit}", per_second


@st.composite
def limits(draw: st.DrawFn) -> Limit:
    """Any limit that can be written as text, written as text and as arguments."""
    pace, _ = draw(paces())
    scope = draw(st.sampled_from(["replica", "service"]))
    per = draw(st.none() | names | (st.just(Limit.SOURCE) if scope == "replica" else st.nothing()))
    burst = draw(st.none() | st.integers(1, 10**9))
    return Limit(pace, burst=burst, per=per, scope=scope)


class Moved(Event, key="player"):
    player: str
    room: int


# What a text says


@pytest.mark.parametrize(
    ("text", "a_second"),
    [
        ("200/s", 200),
        ("10/min", 10 / 60),
        ("1/30s", 1 / 30),
        ("90/1.5h", 1 / 60),
        ("0.5/s", 0.5),
        ("3/ms", 3_000),
        ("12/h", 12 / 3_600),
        ("1/d", 1 / 86_400),
        ("  7 / 2 s ", 3.5),
    ],
)
def test_a_rate_is_a_number_and_a_unit_or_a_length_of_time(text: str, a_second: float) -> None:
    assert Limit(text).rate == pytest.approx(a_second)


@given(paces())
def test_every_number_and_every_unit_mean_what_they_say(pace: tuple[str, float]) -> None:
    text, a_second = pace
    assert Limit(text).rate == pytest.approx(a_second)


def test_the_slowest_and_the_fastest_rate_can_be_held() -> None:
    for text in ("1/1000d", "10000000/s"):
        gate = gate_for(Limit(text))
        assert not gate.admit(None, "", 1.0)
        gate.change(Limit(text, burst=1_000_000_000), 1.0)


@pytest.mark.parametrize("rate", [200, 200.0, 0.25, 1e-3])
def test_a_bare_number_is_events_a_second(rate: float) -> None:
    assert Limit(rate).rate == rate


def test_nothing_but_a_rate_has_to_be_said() -> None:
    limit = Limit("200/s")
    assert (limit.per, limit.scope) == (None, "replica")


def test_a_text_may_say_everything() -> None:
    limit = Limit("10/min per player burst 3 over all replicas")
    assert limit == Limit("10/min", per="player", burst=3, scope="service")


def test_per_source_is_the_emitting_service() -> None:
    assert Limit("50/s per source").per is Limit.SOURCE


def test_a_field_may_be_called_by_a_word_of_the_grammar() -> None:
    limit = Limit("5/s per burst burst 3 over all replicas")
    assert (limit.per, limit.burst, limit.scope) == ("burst", 3, "service")
    assert Limit("5/s per over over all replicas").per == "over"


def test_a_function_of_the_event_can_be_given_but_not_written() -> None:
    def room_of(moved: Moved) -> int:
        return moved.room

    assert Limit("5/s", per=room_of).per is room_of
    assert str(Limit("5/s", per=room_of)) == "5/s per room_of"


# The burst


@pytest.mark.parametrize(
    ("text", "burst"),
    [
        ("1/d", 1),
        ("5/s", 1),
        ("10/s", 1),
        ("11/s", 2),
        ("100/s", 10),
        ("101/s", 11),
        ("200/s", 20),
        ("600/min", 1),
        ("10000000/s", 1_000_000),
    ],
)
def test_by_default_what_the_rate_allows_in_100_ms_may_come_at_once(text: str, burst: int) -> None:
    assert Limit(text).burst == burst


@given(paces())
def test_a_default_burst_is_whole_at_least_1_and_hardly_more_than_100_ms_of_the_rate(
    pace: tuple[str, float],
) -> None:
    limit = Limit(pace[0])
    assert isinstance(limit.burst, int)
    assert limit.burst == 1 or limit.rate * 0.1 - 1e-6 <= limit.burst < limit.rate * 0.1 + 1


@given(st.integers(1, 10**9))
def test_a_burst_that_was_asked_for_is_taken_as_it_is(burst: int) -> None:
    assert Limit("5/s", burst=burst).burst == Limit(f"5/s burst {burst}").burst == burst


# Words


@given(limits())
def test_a_limit_is_what_its_own_words_say(limit: Limit) -> None:
    assert Limit(str(limit)) == limit


@given(limits())
def test_its_words_are_settled_after_one_reading(limit: Limit) -> None:
    assert str(Limit(str(limit))) == str(limit)


@given(st.integers(1, 999_999))
def test_a_whole_number_a_second_is_what_its_words_say(rate: int) -> None:
    assert str(Limit(rate)) == f"{rate}/s"
    assert Limit(str(Limit(rate))) == Limit(rate)


@pytest.mark.parametrize(
    "text",
    [
        "200/s",
        "10/min burst 3",
        "1/30s per player",
        "5/s per source burst 1",
        "100/s per player burst 7 over all replicas",
    ],
)
def test_a_plain_text_is_shown_as_it_was_written(text: str) -> None:
    assert str(Limit(text)) == text


def test_how_it_was_written_makes_no_difference() -> None:
    assert Limit("10/min") == Limit("1/6s") == Limit(" 10 /  min")
    assert len({Limit("10/min"), Limit("1/6s"), Limit("10/min", burst=1)}) == 1
    assert Limit("10/min") != Limit("10/min", burst=2)
    assert Limit("10/min") != Limit("10/min per player")
    assert Limit("10/min") != Limit("10/min over all replicas")


def test_a_limit_can_be_copied_and_pickled_but_not_changed() -> None:
    limit = Limit("10/min per player burst 3")
    assert copy.deepcopy(limit) == limit == pickle.loads(pickle.dumps(limit))
    with pytest.raises(AttributeError):
        limit.burst = 7  # type: ignore[misc]  # pyright: ignore


# What is refused, and what would do


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "200",
        "/s",
        "200/",
        "200 per s",
        "-5/s",
        "1e3/s",
        "٣/s",
        "1/0s",
        "5/s burst",
        "5/s burst -1",
        "5/s burst 1.5",
        "5/s per",
        "5/s per 3rd",
        "5/s burst 3 per player",
        "5/s over all replicas per player",
        "5/s over all",
        "5/sper player",
        "5/s, 7/min",
        math.nan,
        math.inf,
        -math.inf,
        True,
        False,
        None,
        b"5/s",
        [],
        Limit("5/s"),
    ],
)
def test_what_is_no_rate_is_refused_with_examples_of_what_would_do(nonsense: Any) -> None:
    with pytest.raises(ConfigurationError, match="write a rate such as") as caught:
        Limit(nonsense)
    assert all(f'"{example}"' in str(caught.value) for example in EXAMPLES)
    assert str(caught.value).startswith(f"Limit({nonsense!r}): ")


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_would_do(example: str) -> None:
    assert str(Limit(example)) == example


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("5/m", "m"),
        ("5/sec", "sec"),
        ("5/S", "S"),
        ("5/fortnight", "fortnight"),
        ("5/2weeks", "2weeks"),
        ("5/30", "30"),
        ("5/1h30min", "1h30min"),
        ("1/" + "9" * 400 + "s", "9" * 400 + "s"),
    ],
)
def test_what_is_no_unit_of_time_is_refused_with_the_units_there_are(text: str, unit: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Limit(text)
    assert str(caught.value).startswith(
        f"Limit({text!r}): {unit!r} is no unit of time: use s, min, "
    )
    assert '"1/30s"' in str(caught.value)


@pytest.mark.parametrize(
    "rate",
    [
        *("0/s", "0.0/min", "10000001/s", "11/us", "9" * 400 + "/s", 0, 0.0, -1, -0.5, 1e7 + 1),
        *("1/1001d", "0." + "0" * 309 + "1/s", 1e-16, 1e-310),
    ],
)
def test_a_rate_that_cannot_be_meant_is_refused_with_the_bounds(rate: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"at least 1/1000d and at most 10,000,000 a second"
    ):
        Limit(rate)


@pytest.mark.parametrize("burst", [0, -1, 1.0, 2.5, "3", True, math.inf])
def test_a_burst_that_is_no_whole_number_of_at_least_1_is_refused(burst: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=re.escape(f"burst={burst!r} must be a whole number")
    ):
        Limit("5/s", burst=burst)


def test_a_written_burst_of_none_is_refused_with_what_1_does() -> None:
    with pytest.raises(
        ConfigurationError, match="from 1 to 1,000,000,000; 1 spaces events exactly"
    ):
        Limit("5/s burst 0")


def test_what_is_said_twice_is_refused_with_which_to_leave_out() -> None:
    with pytest.raises(ConfigurationError, match="the burst is given twice: leave out burst=3"):
        Limit("5/s burst 3", burst=3)
    with pytest.raises(ConfigurationError, match="per is given twice: leave out per='room'"):
        Limit("5/s per player", per="room")


@pytest.mark.parametrize("per", [5, b"player", ["player"], 1.5])
def test_a_per_of_another_kind_is_refused_with_the_kinds_there_are(per: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"name of a field, a function of the event, or Limit\.SOURCE"
    ):
        Limit("5/s", per=per)


def test_another_scope_is_refused_with_the_scopes_there_are() -> None:
    with pytest.raises(
        ConfigurationError, match=r"scope='mesh' must be \"replica\", or \"service\""
    ):
        Limit("5/s", scope="mesh")  # type: ignore[arg-type]  # pyright: ignore


@pytest.mark.parametrize("per", [Limit.SOURCE, len])
def test_what_cannot_be_kept_over_all_replicas_is_refused_with_what_can(per: Any) -> None:
    with pytest.raises(
        ConfigurationError, match="over all replicas.*name the event's key field, or leave out per"
    ):
        Limit("5/s", per=per, scope="service")


def test_per_source_over_all_replicas_is_refused_however_it_is_written() -> None:
    with pytest.raises(ConfigurationError, match=r"per=Limit\.SOURCE can't be kept"):
        Limit("5/s per source over all replicas")


# What limit= takes


def test_no_limit_is_none() -> None:
    assert limits_of(None) == ()


def test_one_limit_may_be_a_text_or_a_limit() -> None:
    assert limits_of("5/s") == limits_of(Limit("5/s")) == (Limit("5/s"),)


def test_several_limits_may_be_mixed_and_keep_their_order() -> None:
    several = ["5/s", Limit("100/h"), "1/s per player"]
    expected = (Limit("5/s"), Limit("100/h"), Limit("1/s per player"))
    assert limits_of(several) == limits_of(tuple(several)) == limits_of(iter(several)) == expected


@pytest.mark.parametrize(
    "nonsense", [[], (), 5, 5.0, True, b"5/s", ["5/s", None], [["5/s"]], object]
)
def test_what_is_no_limit_is_refused_with_what_would_do(nonsense: Any) -> None:
    with pytest.raises(ConfigurationError, match="a Limit, or a list of them") as caught:
        limits_of(nonsense)
    assert str(caught.value).startswith(f"limit={nonsense!r}: ")
    assert all(f'"{example}"' in str(caught.value) for example in EXAMPLES)


def test_a_bad_one_among_several_is_named_itself() -> None:
    with pytest.raises(ConfigurationError, match=r"^Limit\('5/fortnight'\)"):
        limits_of(["5/s", "5/fortnight"])


# What an event can be limited by


@pytest.mark.parametrize(
    "text",
    [
        "5/s",
        "5/s per player",
        "5/s per room",
        "5/s per source",
        "5/s over all replicas",
        "5/s per player over all replicas",
    ],
)
def test_a_limit_that_fits_the_event_passes(text: str) -> None:
    check_limits("Service('s')", limits_of(text), Moved, "player")


def test_a_field_that_the_event_has_not_is_refused_with_those_it_has() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"^Service: limit '5/s per palyer' is per palyer, and Moved has no such field: "
        r"its fields are player, room$",
    ):
        check_limits("Service", limits_of("5/s per palyer"), Moved, "player")


def test_only_the_key_can_be_limited_over_all_replicas() -> None:
    with pytest.raises(ConfigurationError, match=r"use its key \('player'\), or leave out per"):
        check_limits("Service", limits_of("5/s per room over all replicas"), Moved, "player")


@given(
    st.floats(SLOWEST, FASTEST) | st.sampled_from([2_000_000, 0.00001, 7, 0.5, SLOWEST, FASTEST])
)
def test_a_rate_given_as_a_number_is_shown_so_that_it_can_be_read_again(rate: float) -> None:
    assert Limit(str(Limit(rate))) == Limit(rate)


@pytest.mark.parametrize("per", ["größe", "_team", "spieler1"])
def test_a_field_of_any_language_may_be_named_in_a_text(per: str) -> None:
    assert Limit(f"5/s per {per}") == Limit("5/s", per=per)


@pytest.mark.parametrize("per", ["source", "", "not a field"])
def test_what_can_be_no_field_is_refused_as_per(per: str) -> None:
    with pytest.raises(ConfigurationError, match=r"must be the name of a field.*Limit\.SOURCE"):
        Limit("5/s", per=per)


@pytest.mark.parametrize("burst", [10**400, 1_000_000_001, 1.5, True])
def test_a_burst_that_can_not_be_meant_is_refused(burst: Any) -> None:
    with pytest.raises(ConfigurationError, match="from 1 to 1,000,000,000"):
        Limit("5/s", burst=burst)
