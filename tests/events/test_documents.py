"""Events as JSON objects, as people and foreign systems write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from thence.errors import InvalidEvent
from thence.events import Event, spec_of


class Place(msgspec.Struct):
    x: float
    y: float


class Found(Event, max_bytes=40, private=("pin",)):
    player: str
    place: Place
    at: datetime | None = None
    photo: bytes = b""
    pin: int = 0


HERE = Place(1.5, 2.0)
FOUND = spec_of(Found)


def test_json_names_the_fields_that_the_wire_leaves_out() -> None:
    document = msgspec.json.decode(FOUND.to_json(Found("ana", HERE, photo=b"\x00\xff")))

    assert document == {
        "player": "ana",
        "place": {"x": 1.5, "y": 2.0},
        "at": None,
        "photo": "AP8=",
        "pin": 0,
    }
    assert FOUND.to_builtins(Found("ana", HERE, photo=b"\x00\xff")) == document


@pytest.mark.parametrize(
    "document",
    [
        b'{"player": "ana", "place": {"x": 1.5, "y": 2}}',
        '{"place": {"y": 2, "x": 1.5}, "player": "ana"}',
        {"player": "ana", "place": {"x": 1.5, "y": 2}},
    ],
)
def test_a_document_is_read_from_bytes_text_or_a_dictionary(document: Any) -> None:
    assert FOUND.from_json(document) == Found("ana", HERE)


def test_a_datetime_in_a_document_becomes_utc() -> None:
    found = FOUND.from_json(
        {"player": "ana", "place": {"x": 1, "y": 2}, "at": "2024-01-01T12:00:00+02:00"}
    )

    assert found.at == datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert found.at is not None
    assert found.at.tzinfo is UTC


def test_the_byte_budget_is_the_wires_and_does_not_hold_for_documents() -> None:
    large = Found("a" * 1_000, HERE)

    assert FOUND.from_json(FOUND.to_json(large)) == large


def test_an_invalid_event_has_no_document() -> None:
    with pytest.raises(InvalidEvent, match=r"Found\.at holds a datetime without a timezone"):
        FOUND.to_json(Found("ana", HERE, at=datetime(2024, 1, 1)))
    with pytest.raises(InvalidEvent, match=r"Found\.player is declared as str"):
        FOUND.to_builtins(Found(3, HERE))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_value_that_json_cannot_hold_is_refused_with_its_field() -> None:
    class Grid(Event):
        cells: dict[tuple[int, int], str]

    event = Grid({(1, 2): "a"})

    assert spec_of(Grid).seal(event)[1] == event
    with pytest.raises(InvalidEvent, match=r"Grid\.cells is declared as dict"):
        spec_of(Grid).to_json(event)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"player": "ana"}, "Found lacks place."),
        ({}, "Found lacks player, place."),
        ({"player": "ana", "plaec": {}}, "no field 'plaec'. Did you mean 'place'?"),
        ({"zzz": 1}, "Its fields are player, place, at, photo, pin."),
        ({1: 2}, "no field '1'."),
        ({"player": 3, "place": {"x": 1, "y": 2}}, "Found.player is declared as str"),
        ({"player": "ana", "place": {"x": 1}}, "missing required field `y`"),
        ({"player": "ana", "place": []}, "Found.place is declared as"),
        (
            {"player": "ana", "place": {"x": 1, "y": 2}, "at": "2024-01-01T00:00:00"},
            "which the str given doesn't fit (Expected `datetime` with a timezone component)",
        ),
        ("[]", "'found' is read from a JSON object"),
        ("3", "'found' is read from a JSON object"),
        ("{", "'found' is read from a JSON object"),
        (b"\xff", "'found' is read from a JSON object"),
        ("", "'found' is read from a JSON object"),
    ],
)
def test_a_document_that_does_not_fit_is_refused_with_the_reason(document: Any, says: str) -> None:
    with pytest.raises(InvalidEvent) as refusal:
        FOUND.from_json(document)

    assert says in str(refusal.value)


def test_a_refusal_never_shows_a_private_value() -> None:
    with pytest.raises(InvalidEvent, match=r"Found\.pin is declared as int") as refusal:
        FOUND.from_json({"player": "ana", "place": {"x": 1, "y": 2}, "pin": "hunter2"})

    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None


def test_a_naive_datetime_in_a_nested_class_is_refused_too() -> None:
    class Visit(msgspec.Struct):
        at: datetime

    class Visited(Event):
        visit: Visit

    with pytest.raises(InvalidEvent, match=r"Visited\.visit\.at holds a datetime without"):
        spec_of(Visited).from_json('{"visit": {"at": "2024-01-01T00:00:00"}}')


def test_a_rule_of_the_events_own_refuses_a_document() -> None:
    class Even(Event, private=("number",)):
        number: int

        def __post_init__(self) -> None:
            if self.number % 2:
                raise ValueError(f"{self.number} is odd")

    with pytest.raises(InvalidEvent, match="Even refused its values") as refusal:
        spec_of(Even).from_json({"number": 4711})

    assert "4711" not in str(refusal.value)
