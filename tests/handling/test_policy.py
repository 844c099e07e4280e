"""Policies that can't be kept are refused where they are written, and the refusal names the fix."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from types import new_class
from typing import Any, cast

import pytest

from thence import ConfigurationError, Event, Handlers, Limit, Service
from thence.events import spec_of
from thence.handling.handler import HandlerPolicy


class Moved(Event, key="player"):
    player: str
    room: int


class Pinged(Event):
    player: str


async def handle(event: Event) -> None:
    """Whatever comes."""


def room_of(moved: Moved) -> int:
    return moved.room


def refusal_of_handler(*events: type[Event], **policy: Any) -> str:
    with pytest.raises(ConfigurationError) as refusal:
        Service("scores").on(*events, **policy)(handle)  # type: ignore[call-overload]  # pyright: ignore
    return str(refusal.value)


def declare(**policy: Any) -> type[Event]:
    """A class statement with keywords that come from a test's parameters."""
    body = {"__module__": __name__, "__annotations__": {"player": str, "room": int}}
    made = new_class("Declared", (Event,), policy, lambda namespace: namespace.update(body))
    return cast("type[Event]", made)


def refusal_of_event(**policy: Any) -> str:
    with pytest.raises(ConfigurationError) as refusal:
        declare(**policy)
    message = str(refusal.value)
    assert message.startswith("class Declared: ")
    return message


def policy_of(*events: type[Event], **policy: Any) -> HandlerPolicy:
    group = Handlers()
    group.on(*events, **policy)(handle)  # type: ignore[call-overload]  # pyright: ignore
    return group.handlers[0].policy


# What a handler's limit, and what becomes of too much, can be


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ({}, ((), "wait", None)),
        ({"limit": "200/s"}, ((Limit("200/s"),), "wait", None)),
        ({"limit": "200/s", "overflow": "drop"}, ((Limit("200/s"),), "drop", None)),
        ({"limit": "200/s", "overflow": "reject"}, ((Limit("200/s"),), "reject", None)),
        ({"overflow": "latest"}, ((), "latest", None)),
        ({"limit": ["5/s", "9/min"]}, ((Limit("5/s"), Limit("9/min")), "wait", None)),
        ({"queue_target": "100ms"}, ((), "wait", 0.1)),
        ({"queue_target": 0.25}, ((), "wait", 0.25)),
        ({"queue_target": timedelta(milliseconds=50)}, ((), "wait", 0.05)),
    ],
)
def test_a_policy_that_can_be_kept_is(policy: dict[str, Any], kept: tuple[Any, ...]) -> None:
    declared = policy_of(Moved, **policy)
    assert (declared.limits, declared.overflow, declared.queue_target) == kept


@pytest.mark.parametrize("limit", [None, "10/s"])
def test_the_newest_of_each_key_can_be_kept_only_of_events_that_have_one(limit: Any) -> None:
    for events in ((Pinged,), (Moved, Pinged)):
        message = refusal_of_handler(*events, overflow="latest", limit=limit)
        assert "handler 'handle'" in message
        assert "Pinged has none" in message
        assert 'declare it with key="..."' in message


@pytest.mark.parametrize("overflow", ["drop", "reject"])
def test_nothing_can_be_dropped_or_rejected_where_there_is_no_limit(overflow: str) -> None:
    message = refusal_of_handler(Moved, overflow=overflow)
    assert message.startswith(f'overflow="{overflow}"')
    assert 'add limit="100/s", or leave it out' in message


@pytest.mark.parametrize("overflow", ["discard", "", None, True, ["drop"]])
def test_an_overflow_that_there_is_not_is_refused_with_those_there_are(overflow: Any) -> None:
    message = refusal_of_handler(Moved, limit="5/s", overflow=overflow)
    assert message.startswith(f"overflow={overflow!r}")
    assert all(f'"{known}"' in message for known in ("wait", "drop", "latest", "reject"))


@pytest.mark.parametrize("events", [(Moved, Pinged), (Pinged, Moved), (Pinged,)])
def test_a_limit_can_be_only_per_a_field_that_each_of_the_events_has(
    events: tuple[type[Event], ...],
) -> None:
    message = refusal_of_handler(*events, limit="5/s per room")
    assert message == (
        "handler 'handle': limit '5/s per room' is per room, and Pinged has no such field: its fields are "
        "player"
    )


def test_a_limit_over_all_replicas_can_be_per_the_key_only() -> None:
    message = refusal_of_handler(Moved, limit=Limit("5/s", per="room", scope="service"))
    assert "can't be kept for Moved" in message
    assert "use its key ('player'), or leave out per" in message
    assert policy_of(Moved, limit=Limit("5/s", per="player", scope="service")).limits


def test_a_limit_over_all_replicas_per_field_of_an_event_without_a_key_is_refused_with_a_fix() -> (
    None
):
    message = refusal_of_handler(Pinged, limit=Limit("5/s", per="player", scope="service"))
    assert "can't be kept for Pinged" in message
    assert "leave out per" in message
    assert "None" not in message


@pytest.mark.parametrize("per", [room_of, Limit.SOURCE, lambda _: 1])
def test_a_limit_over_all_replicas_can_not_be_per_function_or_source(per: Any) -> None:
    with pytest.raises(
        ConfigurationError, match="name the event's key field, or leave out per"
    ) as refusal:
        Limit("5/s", per=per, scope="service")
    assert "over all replicas" in str(refusal.value)
    assert policy_of(Moved, limit=Limit("5/s", per=per)).limits


@pytest.mark.parametrize("limit", ["5/s over all replicas", ["9/s", "5/s over all replicas"]])
def test_a_limit_over_all_replicas_can_not_hold_where_each_of_them_handles_each_event(
    limit: Any,
) -> None:
    message = refusal_of_handler(Moved, limit=limit, broadcast=True)
    assert message.startswith("broadcast=True")
    assert 'leave out scope="service"' in message
    assert policy_of(Moved, limit="5/s", broadcast=True).broadcast


@pytest.mark.parametrize(
    "target",
    [0, 0.0, "0ms", timedelta(0), -1, "-5ms", "soon", "100", True, math.inf, math.nan, b""],
)
def test_a_queue_target_that_is_no_time_above_zero_is_refused_with_an_example(target: Any) -> None:
    message = refusal_of_handler(Moved, queue_target=target)
    assert message.startswith(f"queue_target={target!r}: ")
    assert '"100ms"' in message


@pytest.mark.parametrize(
    ("limit", "fix"),
    [
        (5, "give a text such as"),
        (True, "give a text such as"),
        ([], "give a text such as"),
        (["5/s", 5], "give a text such as"),
        ("often", "write a rate such as"),
        ("5/fortnight", "use s, min, h or d"),
        ("0/s", "must be at least 1/1000d"),
    ],
)
def test_a_limit_that_is_none_is_refused_with_an_example(limit: Any, fix: str) -> None:
    assert fix in refusal_of_handler(Moved, limit=limit)
    with pytest.raises(ConfigurationError, match=fix):
        Service("scores", limit=limit)
    assert fix in refusal_of_event(limit=limit)


# Services


@pytest.mark.parametrize(
    ("limit", "events", "fix"),
    [
        ("5/s per room", (Moved, Pinged), "Pinged has no such field: its fields are player"),
        ("5/s per room over all replicas", (Moved,), r"use its key \('player'\), or leave out per"),
    ],
)
def test_a_services_limit_has_to_fit_the_events_of_each_of_its_handlers(
    limit: str, events: tuple[type[Event], ...], fix: str
) -> None:
    group = Handlers()
    group.on(*events)(handle)  # type: ignore[call-overload]  # pyright: ignore
    scores = Service("scores", limit=limit)
    for declare_it in (lambda: scores.on(*events)(handle), lambda: scores.include(group)):  # type: ignore[call-overload]  # pyright: ignore
        with pytest.raises(ConfigurationError, match=rf"service 'scores': .*{fix}"):
            declare_it()
    assert not scores.handlers


def test_a_services_limit_over_all_replicas_can_not_hold_for_a_handler_in_each_of_them() -> None:
    scores = Service("scores", limit="5/s over all replicas")
    with pytest.raises(ConfigurationError, match=re.escape('leave out scope="service"')):
        scores.on(Moved, broadcast=True)(handle)


# Events


def test_an_events_policy_that_can_be_kept_is() -> None:
    kept = spec_of(
        declare(key="player", limit="10/s", overflow="latest", priority="high", ttl="5s")
    ).policy
    assert (kept.limit, kept.overflow, kept.priority, kept.ttl) == (
        (Limit("10/s"),), "latest", "high", 5.0,
    )  # fmt: skip


def test_an_event_without_policy_has_no_limit_and_no_end_and_is_like_most() -> None:
    kept = spec_of(declare()).policy
    assert (kept.limit, kept.overflow, kept.priority, kept.ttl) == ((), "reject", "normal", None)


@pytest.mark.parametrize(
    "limit",
    [
        "5/s per source",
        "5/s over all replicas",
        Limit("5/s", per=Limit.SOURCE),
        Limit("5/s", scope="service"),
        Limit("5/s", per="player", scope="service"),
        ["9/s", "5/s over all replicas"],
    ],
)
def test_what_a_node_emits_can_not_be_limited_per_source_or_over_all_replicas(limit: Any) -> None:
    message = refusal_of_event(key="player", limit=limit)
    assert "it can't be over all replicas or per source" in message
    assert "Put such a limit on a handler." in message


def test_what_a_node_emits_can_be_limited_only_per_a_field_that_the_event_has() -> None:
    message = refusal_of_event(limit="5/s per colour")
    assert "Declared has no such field: its fields are player, room" in message
    assert spec_of(declare(limit="5/s per room")).policy.limit


@pytest.mark.parametrize("lacking", [{}, {"key": "player"}, {"limit": "10/s"}])
def test_the_newest_of_each_key_beyond_a_limit_takes_a_key_and_a_limit(
    lacking: dict[str, Any],
) -> None:
    message = refusal_of_event(overflow="latest", **lacking)
    assert 'give it key="..." and limit="10/s", or leave overflow out' in message


@pytest.mark.parametrize("overflow", ["wait", "drop", "discard", None, True])
def test_what_does_not_become_of_too_many_emits_is_refused_with_what_does(overflow: Any) -> None:
    message = refusal_of_event(key="player", limit="10/s", overflow=overflow)
    assert f'overflow={overflow!r} must be one of "reject", "latest"' in message


@pytest.mark.parametrize("ttl", [0, 0.0, "0s", "0.5ms", timedelta(0)])
def test_a_time_to_live_of_nothing_is_refused_with_an_example(ttl: Any) -> None:
    message = refusal_of_event(ttl=ttl)
    assert f"ttl={ttl!r} must be at least a millisecond" in message
    assert 'ttl="5s"' in message


@pytest.mark.parametrize(
    "ttl", [-1, "-1s", timedelta(seconds=-1), "soon", "5", "", True, math.inf, math.nan, b"5s", ()]
)
def test_a_time_to_live_that_is_no_time_is_refused_with_examples(ttl: Any) -> None:
    message = refusal_of_event(ttl=ttl)
    assert f"ttl={ttl!r}: " in message
    assert '"30s"' in message


@pytest.mark.parametrize("priority", ["urgent", "", "HIGH", 1, None, True, ["high"]])
def test_a_priority_that_there_is_not_is_refused_with_those_there_are(priority: Any) -> None:
    message = refusal_of_event(priority=priority)
    assert f'priority={priority!r} must be one of "high", "normal", "low"' in message


@pytest.mark.parametrize(
    ("keyword", "meant"),
    [
        ("limits", "limit"),
        ("overflw", "overflow"),
        ("prioritiy", "priority"),
        ("tll", "ttl"),
    ],
)
def test_a_misspelt_keyword_is_refused_with_the_one_that_was_meant(
    keyword: str, meant: str
) -> None:
    assert f"Did you mean '{meant}'" in refusal_of_event(**{keyword: "5/s"})


def test_a_policy_that_a_base_declares_has_to_fit_what_is_made_of_it() -> None:
    base = declare(key="player", limit="10/s", overflow="latest", ttl="5s")
    for change in ({"key": None}, {"limit": None}):
        with pytest.raises(ConfigurationError, match="or leave overflow out"):
            new_class("Below", (base,), change)
    below = cast("type[Event]", new_class("Below", (base,), {"limit": "5/s", "ttl": None}))
    kept = spec_of(below).policy
    assert (kept.limit, kept.overflow, kept.ttl) == ((Limit("5/s"),), "latest", None)
