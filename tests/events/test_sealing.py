"""What leaves with an event, what a handler gets, and what is refused on the way."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NewType, TypedDict
from uuid import UUID

import msgspec
import pytest

from thence.errors import InvalidEvent, PayloadTooLarge
from thence.events import Event, spec_of

When = NewType("When", datetime)
NAIVE = datetime(2024, 1, 1, 12)
ZONED = datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))


class Colour(enum.Enum):
    RED = "red"


class Visit(msgspec.Struct):
    at: datetime


@dataclass
class Stay:
    visits: list[Visit]


class Booking(TypedDict):
    at: datetime


class ClueFound(Event, key="player"):
    hunt: str
    player: str
    clue: int


class Secret(Event, private=("pin", "colour")):
    name: str
    pin: int = 0
    colour: Colour = Colour.RED


class Instants(Event):
    at: datetime | None = None
    several: list[datetime] = msgspec.field(default_factory=list[datetime])
    by_name: dict[str, tuple[datetime, int]] = msgspec.field(
        default_factory=dict[str, tuple[datetime, int]]
    )
    by_instant: dict[datetime, int] = msgspec.field(default_factory=dict[datetime, int])
    visit: Visit | None = None
    stay: Stay | None = None
    booking: Booking | None = None
    anything: Any = None
    alias: When | None = None
    group: frozenset[datetime] = frozenset()


def test_a_payload_is_the_values_by_position_with_no_names_in_it() -> None:
    payload, _ = spec_of(ClueFound).seal(ClueFound("h1", "ana", 3))

    assert msgspec.msgpack.decode(payload) == ["h1", "ana", 3]
    assert payload == spec_of(ClueFound).encode(ClueFound("h1", "ana", 3))


def test_the_copy_is_what_a_remote_reader_decodes() -> None:
    tags = ["a"]

    class Tagged(Event):
        tags: list[str]

    event = Tagged(tags)
    payload, twin = spec_of(Tagged).seal(event)
    tags.append("b")

    assert twin == spec_of(Tagged).decode(payload) == Tagged(["a"])


def test_datetimes_of_any_zone_become_the_same_instant_in_utc() -> None:
    event = Instants(at=ZONED, several=[ZONED], visit=Visit(ZONED), anything=[ZONED])
    _, twin = spec_of(Instants).seal(event)

    assert twin.visit is not None
    instants: list[Any] = [twin.at, twin.several[0], twin.visit.at, twin.anything[0]]
    assert instants == [ZONED] * 4
    assert {instant.tzinfo for instant in instants} == {UTC}


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("at", NAIVE, "at"),
        ("several", [ZONED, NAIVE], "several[1]"),
        ("by_name", {"a": (NAIVE, 1)}, "by_name[...][0]"),
        ("by_instant", {NAIVE: 1}, "by_instant[...]"),
        ("visit", Visit(NAIVE), "visit.at"),
        ("stay", Stay([Visit(ZONED), Visit(NAIVE)]), "stay.visits[1].at"),
        ("booking", {"at": NAIVE}, "booking[...]"),
        ("anything", {"deep": [NAIVE]}, "anything[...][0]"),
        ("alias", NAIVE, "alias"),
        ("group", frozenset({NAIVE}), "group[...]"),
    ],
)
def test_a_naive_datetime_is_refused_wherever_it_hides(field: str, value: Any, place: str) -> None:
    with pytest.raises(InvalidEvent) as refusal:
        spec_of(Instants).seal(Instants(**{field: value}))

    assert f"Instants.{place} holds a datetime without a timezone" in str(refusal.value)
    assert "timezone.utc" in str(refusal.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("clue", "3"), ("clue", None), ("clue", True), ("clue", 1.0), ("clue", 2**64)),
        *(("hunt", 3), ("hunt", b"h1"), ("hunt", "\ud800"), ("hunt", object())),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_event_field_and_types(
    field: str, value: Any
) -> None:
    values: dict[str, Any] = {"hunt": "h1", "player": "ana", "clue": 3, field: value}
    declared = {"clue": "int", "hunt": "str"}[field]

    with pytest.raises(InvalidEvent) as refusal:
        spec_of(ClueFound).seal(ClueFound(**values))

    assert f"ClueFound.{field} is declared as {declared}" in str(refusal.value)
    assert f"the {type(value).__name__} given" in str(refusal.value)
    assert refusal.value.__cause__ is not None


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)

    class Loop(Event):
        items: list[Any]

    with pytest.raises(InvalidEvent, match=r"Loop\.items"):
        spec_of(Loop).seal(Loop(loop))


@pytest.mark.parametrize(("field", "value"), [("pin", "hunter2"), ("colour", "hunter2")])
def test_a_refusal_never_shows_a_private_value(field: str, value: Any) -> None:
    with pytest.raises(InvalidEvent, match=rf"Secret\.{field} is declared as") as refusal:
        spec_of(Secret).seal(Secret("ana", **{field: value}))

    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None


def test_a_rule_of_the_events_own_is_a_refusal_too() -> None:
    class Even(Event):
        numbers: list[int]

        def __post_init__(self) -> None:
            if len(self.numbers) % 2:
                raise ValueError("an even number of numbers is needed")

    event = Even([1, 2])
    event.numbers.append(3)

    with pytest.raises(InvalidEvent, match=r"Even refused its values .an even number"):
        spec_of(Even).seal(event)


def test_a_payload_may_be_as_large_as_its_budget_and_not_a_byte_larger() -> None:
    class Note(Event, max_bytes=12):
        text: str

    assert len(spec_of(Note).seal(Note("x" * 10))[0]) == 12
    with pytest.raises(PayloadTooLarge):
        spec_of(Note).seal(Note("x" * 11))


def test_an_oversized_payload_names_its_largest_fields_and_what_to_do() -> None:
    class Photo(Event, max_bytes=100, private=("pixels",)):
        title: str
        pixels: bytes
        caption: str
        number: int

    with pytest.raises(PayloadTooLarge) as refusal:
        spec_of(Photo).seal(Photo("t" * 10, b"p" * 2000, "c" * 40, 1))

    assert "'photo' takes 2_058 bytes of 100 allowed" in str(refusal.value)
    assert "pixels (2_003 bytes), caption (42 bytes), title (11 bytes)." in str(refusal.value)
    assert "claim check" in str(refusal.value)
    assert "max_bytes=" in str(refusal.value)
    assert "ppp" not in str(refusal.value)


def test_a_reader_with_appended_fields_reads_an_older_payload_and_the_other_way_round() -> None:
    class Older(Event):
        a: int

    class Newer(Event):
        a: int
        b: str = "unknown"

    older, newer = spec_of(Older), spec_of(Newer)

    assert newer.decode(older.encode(Older(1))) == Newer(1, "unknown")
    assert older.decode(newer.encode(Newer(1, "b"))) == Older(1)


def test_a_uuid_takes_sixteen_bytes_and_two_of_framing() -> None:
    class Identified(Event):
        id: UUID

    event = Identified(UUID(int=7))
    payload, twin = spec_of(Identified).seal(event)

    assert len(payload) == 1 + 2 + 16
    assert twin == event
