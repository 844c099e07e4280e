"""Whether two services that share no classes understand each other's events."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from types import new_class
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict, cast

import msgspec
import pytest

from thence.events import Event, Schema, incompatibility, spec_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class SameColour(enum.Enum):
    AZURE = "blue"
    CRIMSON = "red"


class MoreColour(enum.Enum):
    RED = "red"
    BLUE = "blue"
    GOLD = "gold"


def schema(
    annotations: dict[str, Any], defaults: dict[str, Any] | None = None, key: str | None = None
) -> Schema:
    body = {"__module__": __name__, "__annotations__": annotations, **(defaults or {})}
    found = new_class("Found", (Event,), {"key": key}, lambda namespace: namespace.update(body))
    return spec_of(cast("type[Event]", found)).schema


def type_text(annotation: Any) -> str:
    return schema({"a": annotation}).fields[0].type


PLAYER_AND_CLUE = schema({"player": str, "clue": int})


class Point(msgspec.Struct):
    x: int
    colour: Colour


class SamePoint(msgspec.Struct):
    colour: SameColour
    x: int


@dataclass
class DataclassPoint:
    x: int
    colour: Colour


class TypedDictPoint(TypedDict):
    x: int
    colour: Colour


class ArrayPoint(msgspec.Struct, array_like=True):
    x: int
    colour: Colour


class TuplePoint(NamedTuple):
    x: int
    colour: Colour


class Tree(msgspec.Struct):
    left: Tree | None
    right: Tree | None


class Branch(msgspec.Struct):
    leaves: list[Leaf]


class Leaf(msgspec.Struct):
    on: Branch


class Circle(msgspec.Struct, tag="circle"):
    radius: float


class Square(msgspec.Struct, tag="square", tag_field="kind"):
    side: float


class Sparse(msgspec.Struct, omit_defaults=True):
    a: int
    b: int = 1


class Partial(TypedDict, total=False):
    a: int


PlayerId = NewType("PlayerId", str)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (str, "str"),
        (PlayerId, "str"),
        (int, "int"),
        (datetime, "datetime"),
        (bytes | None, "bytes|none"),
        (None | bytes, "bytes|none"),
        (list[str], "list[str]"),
        (tuple[str, ...], "list[str]"),
        (tuple[str, int], "tuple[str,int]"),
        (frozenset[int], "set[int]"),
        (dict[str, list[datetime | None]], "dict[str,list[datetime|none]]"),
        (Any, "any"),
        (list, "list[any]"),
        (Annotated[int, msgspec.Meta(ge=0, description="how many")], "int(ge=0)"),
        (
            Annotated[str, msgspec.Meta(pattern="^a", max_length=3)],
            'str(pattern="^a",max_length=3)',
        ),
        (Point, '{"colour":enum,"x":int}'),
        (SamePoint, '{"colour":enum,"x":int}'),
        (DataclassPoint, '{"colour":enum,"x":int}'),
        (TypedDictPoint, '{"colour":enum,"x":int}'),
        (ArrayPoint, '["x":int,"colour":enum]'),
        (TuplePoint, '["x":int,"colour":enum]'),
        (Tree, '{"left":@1|none,"right":@1|none}'),
        (Branch, '{"leaves":list[{"on":@2}]}'),
        (Circle, '{"type"="circle","radius":float}'),
        (Square, '{"kind"="square","side":float}'),
        (Sparse, '{"a":int,"b"?:int}'),
        (Partial, '{"a"?:int}'),
    ],
)
def test_a_type_is_written_as_what_it_is_made_of(annotation: Any, text: str) -> None:
    assert type_text(annotation) == text


def test_enum_members_are_kept_beside_the_type_in_the_order_of_its_enums() -> None:
    field = schema({"a": dict[Colour, Literal[3, "x"]]}).fields[0]

    assert field.type == "dict[enum,enum]"
    assert field.members == (('"blue"', '"red"'), ('"x"', "3"))


def test_a_schema_travels_as_a_message() -> None:
    sent = schema({"player": str, "colour": Colour | None}, {"colour": None}, key="player")

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=Schema) == sent
    assert [field.required for field in sent.fields] == [True, False]


def test_a_fingerprint_never_changes_between_versions_and_machines() -> None:
    found = schema({"player": str, "at": datetime, "colour": Colour | None}, key="player")

    assert found.fingerprint == "23815e501db7ed18"


@pytest.mark.parametrize(
    "same",
    [
        schema({"player": str, "clue": int}, {"clue": 0}),
        schema({"player": PlayerId, "clue": Annotated[int, msgspec.Meta(title="Clue")]}),
    ],
)
def test_a_fingerprint_ignores_what_the_wire_does_not_show(same: Schema) -> None:
    assert same.fingerprint == PLAYER_AND_CLUE.fingerprint


def test_a_fingerprint_ignores_the_names_of_classes_and_enum_members() -> None:
    assert schema({"a": Colour}).fingerprint == schema({"a": SameColour}).fingerprint
    assert schema({"a": Colour}).fingerprint == schema({"a": Literal["red", "blue"]}).fingerprint


@pytest.mark.parametrize(
    "other",
    [
        schema({"player": str, "clues": int}),
        schema({"player": str, "clue": float}),
        schema({"clue": int, "player": str}),
        schema({"player": str}),
        schema({"player": str, "clue": int, "more": int}),
        schema({"player": str, "clue": int}, key="player"),
    ],
)
def test_a_fingerprint_tells_other_fields_types_orders_and_keys_apart(other: Schema) -> None:
    assert other.fingerprint != PLAYER_AND_CLUE.fingerprint


def test_a_fingerprint_tells_enum_members_apart() -> None:
    assert schema({"a": Colour}).fingerprint != schema({"a": MoreColour}).fingerprint


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        (PLAYER_AND_CLUE, PLAYER_AND_CLUE),
        (
            PLAYER_AND_CLUE,
            schema({"player": str, "clue": int, "at": datetime | None}, {"at": None}),
        ),
        (schema({"player": str, "clue": int, "at": datetime}), PLAYER_AND_CLUE),
        (schema({"a": Colour}), schema({"a": SameColour})),
        (schema({"a": list[Colour]}), schema({"a": list[MoreColour]})),
        (schema({"a": Literal["red"]}), schema({"a": Colour})),
        (schema({"a": Point}), schema({"a": SamePoint})),
    ],
)
def test_a_reader_understands_a_writer(writer: Schema, reader: Schema) -> None:
    assert incompatibility(writer, reader) is None


@pytest.mark.parametrize(
    ("writer", "reader", "names", "fix"),
    [
        (
            PLAYER_AND_CLUE,
            schema({"player": str, "clue": int, "at": datetime}),
            "'at' is read but not written",
            "Give it a default",
        ),
        (
            PLAYER_AND_CLUE,
            schema({"player": str, "number": int}),
            "field 2 is 'clue' to the writer and 'number' to the reader",
            "append new ones at the end",
        ),
        (
            PLAYER_AND_CLUE,
            schema({"clue": int, "player": str}),
            "field 1 is 'player' to the writer and 'clue'",
            "Keep the order",
        ),
        (
            PLAYER_AND_CLUE,
            schema({"player": str, "clue": str}),
            "'clue' is written as int and read as str",
            "new name=",
        ),
        (
            schema({"player": str}),
            schema({"player": str}, key="player"),
            "orders it by no key, the reader by 'player'",
            "same key=",
        ),
        (
            schema({"a": list[MoreColour]}),
            schema({"a": list[Colour]}),
            "'a' may be written as \"gold\"",
            "reader's enum first",
        ),
        (
            schema({"a": Literal[1, 2]}),
            schema({"a": Literal[1]}),
            "'a' may be written as 2",
            "reader's enum first",
        ),
        (
            schema({"a": Point}),
            schema({"a": ArrayPoint}),
            "'a' is written as {",
            "new name=",
        ),
    ],
)
def test_a_reader_that_would_misunderstand_is_told_event_field_and_fix(
    writer: Schema, reader: Schema, names: str, fix: str
) -> None:
    problem = incompatibility(writer, reader)

    assert problem is not None
    assert problem.startswith("Event 'found': ")
    assert names in problem
    assert fix in problem


def test_compatibility_is_directional() -> None:
    older, newer = schema({"a": Colour}), schema({"a": MoreColour})

    assert incompatibility(older, newer) is None
    assert incompatibility(newer, older) is not None
