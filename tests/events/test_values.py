"""What an event is as a Python object."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import msgspec
import pytest

from thence.events import Event, spec_of


class ClueFound(Event, key="player", private=("card",)):
    hunt: str
    player: str
    card: str = "4711-0815"


class Tagged(Event):
    tags: list[str] = msgspec.field(default_factory=list[str])


FOUND = ClueFound(hunt="h1", player="ana")


def test_a_field_cannot_be_assigned_to() -> None:
    with pytest.raises(AttributeError):
        FOUND.player = "bob"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_events_are_equal_by_type_and_values() -> None:
    class OtherFound(ClueFound):
        pass

    assert ClueFound("h1", "ana") == FOUND
    assert ClueFound("h1", "bob") != FOUND
    assert OtherFound("h1", "ana") != FOUND


def test_an_event_is_hashable_when_its_fields_are() -> None:
    assert len({FOUND, ClueFound("h1", "ana"), ClueFound("h2", "ana")}) == 2
    with pytest.raises(TypeError):
        hash(Tagged())


@pytest.mark.parametrize(
    "twin", [pickle.loads(pickle.dumps(FOUND)), copy.copy(FOUND), copy.deepcopy(FOUND)]
)
def test_an_event_survives_copying_and_pickling(twin: object) -> None:
    assert twin == FOUND
    assert type(twin) is ClueFound


def test_a_changed_copy_leaves_the_original_alone() -> None:
    changed: ClueFound = msgspec.structs.replace(FOUND, player="bob")  # type: ignore[type-var]  # pyright: ignore

    assert changed == FOUND.__replace__(player="bob") == ClueFound("h1", "bob")
    assert FOUND.player == "ana"


def test_an_event_can_be_matched_by_position_and_by_name() -> None:
    match FOUND:
        case ClueFound("h1", player=player):
            assert player == "ana"
        case _:
            pytest.fail("no match")


def test_repr_shows_the_fields_but_no_private_value() -> None:
    assert repr(FOUND) == "ClueFound(hunt='h1', player='ana', card=•••)"
    assert "4711" not in f"{FOUND} {[FOUND]} {FOUND!s}"


def test_a_pretty_printer_sees_no_private_value_either() -> None:
    pretty: Any = FOUND
    shown: list[tuple[str, object]] = pretty.__rich_repr__()

    assert "4711" not in repr(shown)
    assert [name for name, _ in shown] == ["hunt", "player", "card"]


def test_the_key_of_an_event_is_the_value_of_its_key_field() -> None:
    assert spec_of(ClueFound).key_of(FOUND) == "ana"
