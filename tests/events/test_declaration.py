"""What a class statement may declare, and how it is told off otherwise."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import new_class
from typing import Annotated, Any, Generic, Literal, NewType, TypeVar, cast
from uuid import UUID

import msgspec
import pytest

from thence.errors import ConfigurationError
from thence.events import Event, spec_of

Player = NewType("Player", str)
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class PlainClass:
    """Nothing that MessagePack knows."""


def declare(
    annotations: dict[str, Any],
    /,
    values: dict[str, Any] | None = None,
    policy: dict[str, Any] | None = None,
    class_name: str = "Declared",
) -> type[Event]:
    """A class statement with parts that come from a test's parameters."""
    body = {"__module__": __name__, "__annotations__": annotations, **(values or {})}
    event_type = new_class(class_name, (Event,), policy, lambda namespace: namespace.update(body))
    return cast("type[Event]", event_type)


@pytest.mark.parametrize(
    ("class_name", "expected"),
    [
        ("ClueFound", "clue_found"),
        ("GPSFix", "gps_fix"),
        ("HTTPServerError2", "http_server_error2"),
        ("Move", "move"),
        ("V2Move", "v2_move"),
        ("Clue_Found", "clue_found"),
    ],
)
def test_the_wire_name_is_the_class_name_in_snake_case(class_name: str, expected: str) -> None:
    assert spec_of(declare({}, class_name=class_name)).name == expected


def test_a_policy_is_kept_as_declared() -> None:
    class ClueFound(Event, name="clue", key="player", max_bytes=256, private=("email",)):
        player: str
        email: str

    spec = spec_of(ClueFound)

    assert spec.type is ClueFound
    assert (spec.name, spec.key, spec.max_bytes, spec.private) == (
        "clue",
        "player",
        256,
        ("email",),
    )


def test_an_event_without_policy_has_the_documented_defaults() -> None:
    class Started(Event):
        pass

    spec = spec_of(Started)

    assert (spec.key, spec.max_bytes, spec.private) == (None, 65_536, ())
    assert spec.key_of(Started()) is None


def test_a_subclass_takes_over_fields_and_policy_but_not_the_name() -> None:
    class PlayerEvent(Event, name="player", key="player", max_bytes=99, private=("email",)):
        player: str
        email: str

    class Joined(PlayerEvent, private=("address",)):
        address: str

    spec = spec_of(Joined)

    assert [field.name for field in spec.fields] == ["player", "email", "address"]
    assert (spec.name, spec.key, spec.max_bytes) == ("joined", "player", 99)
    assert spec.private == ("email", "address")
    assert spec_of(PlayerEvent).name == "player"


@pytest.mark.parametrize("keyword", ["durable", "frozen", "rename"])
def test_an_unknown_keyword_is_refused_and_the_known_ones_are_named(keyword: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"class Declared: '{keyword}'.*name, key, max_bytes, private"
    ):
        declare({"player": str}, policy={keyword: True})


def test_a_class_whose_name_is_too_long_for_the_wire_needs_another_name_there() -> None:
    with pytest.raises(ConfigurationError, match='1 to 128 characters.*name="clue_found"'):
        type("X" * 129, (Event,), {})
    short = type("X" * 129, (Event,), {}, name="x")
    assert spec_of(short).name == "x"


def test_a_misspelt_keyword_is_recognised() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'max_bytes'"):
        declare({"player": str}, policy={"max_byte": 3})


@pytest.mark.parametrize(
    ("policy", "fix"),
    [
        ({"name": ""}, 'name="clue_found"'),
        ({"name": "clue found"}, "no spaces"),
        ({"name": "clue\n"}, "no control characters"),
        ({"name": "x" * 129}, "1 to 128 characters"),
        ({"name": 3}, 'name="clue_found"'),
        ({"key": 3}, 'key="player"'),
        ({"key": "playr"}, "Did you mean 'player'"),
        ({"key": "zzz"}, "Its fields are player"),
        ({"private": ("playr",)}, "Did you mean 'player'"),
        ({"private": "player"}, 'private=("email",)'),
        ({"private": (3,)}, 'private=("email",)'),
        ({"max_bytes": 0}, "at least 1"),
        ({"max_bytes": True}, "whole number of bytes"),
        ({"max_bytes": "1k"}, "whole number of bytes"),
        ({"max_bytes": 4 * 1024 * 1024 + 1}, "claim check"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused_with_its_fix(
    policy: dict[str, Any], fix: str
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        declare({"player": str}, policy=policy)

    assert fix in str(refusal.value)
    assert "class Declared" in str(refusal.value)


def test_the_largest_budget_is_four_mebibytes() -> None:
    assert (
        spec_of(declare({"a": str}, policy={"max_bytes": 4 * 1024 * 1024})).max_bytes
        == 4 * 1024 * 1024
    )


@pytest.mark.parametrize(
    "annotation",
    [
        *(str, int, bytes, bool, UUID, Colour, Literal["a", "b"], date, datetime, Player),
        *(str | None, datetime | None, Colour | None, Literal["a", None]),
        Annotated[str, msgspec.Meta(min_length=1, description="a player's id")],
    ],
)
def test_a_field_of_a_stable_type_can_be_the_key(annotation: Any) -> None:
    assert spec_of(declare({"player": annotation}, policy={"key": "player"})).key == "player"


@pytest.mark.parametrize(
    "annotation",
    [float, Decimal, time, timedelta, list[str], dict[str, str], Any, str | int, None],
)
def test_a_field_of_any_other_type_cannot_be_the_key(annotation: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Declared\.player can't be the key.*Use a field"):
        declare({"player": annotation}, policy={"key": "player"})


@pytest.mark.parametrize(
    "annotation",
    [
        *(PlainClass, complex, object, Callable[[int], int], type, range),
        *(list[PlainClass], dict[str, list[PlainClass | None]], tuple[int, PlainClass]),
        *(list[int] | list[str], datetime | str, set[int] | tuple[int, ...]),
        *(msgspec.Raw, msgspec.msgpack.Ext, memoryview),
        Annotated[datetime, msgspec.Meta(tz=False)],
        enum.Enum("Fractions", {"HALF": 0.5}),
    ],
)
def test_a_type_that_cannot_travel_is_refused_where_it_is_declared(annotation: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Declared\.odd.*(Use|Declare|Drop)"):
        declare({"fine": str, "odd": annotation})


def test_a_type_that_cannot_travel_is_found_within_classes_of_the_users_own() -> None:
    with pytest.raises(ConfigurationError, match=r"Declared\.outer: complex can't be carried"):
        declare({"outer": Outer})


def test_an_event_cannot_be_part_of_an_event() -> None:
    class Part(Event):
        a: int

    with pytest.raises(ConfigurationError, match=r"Part is an event.*msgspec.Struct"):
        declare({"parts": list[Part]})

    with pytest.raises(ConfigurationError, match="an event can't be part of another"):

        class Tree(Event):  # pyright: ignore[reportUnusedClass]
            children: list[Tree]


NAIVE = datetime(2024, 1, 1)
ZONED = datetime(2024, 1, 1, tzinfo=UTC)


class Inner(msgspec.Struct):
    odd: list[complex]


@dataclass
class Outer:
    inner: dict[str, Inner]


class WithInstant(msgspec.Struct, frozen=True):
    at: datetime


class DefaultsToNaive(msgspec.Struct):
    at: datetime = NAIVE


class MakesNaive(msgspec.Struct):
    at: datetime = msgspec.field(default_factory=datetime.now)


@dataclass
class DataclassWithNaive:
    at: list[datetime] = dataclass_field(default_factory=lambda: [NAIVE])


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (datetime, NAIVE),
        (datetime | None, NAIVE),
        (Any, NAIVE),
        (tuple[datetime, ...], (ZONED, NAIVE)),
        (WithInstant, WithInstant(NAIVE)),
        (datetime, msgspec.field(default_factory=datetime.now)),
        (list[datetime], msgspec.field(default_factory=lambda: [NAIVE])),
        (DefaultsToNaive | None, None),
        (dict[str, MakesNaive] | None, None),
        (DataclassWithNaive | None, None),
    ],
)
def test_a_naive_datetime_is_refused_as_a_default(annotation: Any, default: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"\.at.* without a timezone.*timezone\.utc"):
        declare({"at": annotation}, {"at": default})


def test_a_default_factory_is_left_alone_where_it_cannot_make_a_datetime() -> None:
    def count() -> int:
        raise AssertionError("called at declaration")

    declare({"number": int}, {"number": msgspec.field(default_factory=count)})


@pytest.mark.parametrize(
    ("annotation", "default"),
    [(int, "1"), (str | None, 3), (Colour, "green"), (str | msgspec.UnsetType, msgspec.UNSET)],
)
def test_a_default_has_to_fit_its_field(annotation: Any, default: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Unusable default: Declared\.a"):
        declare({"a": annotation}, {"a": default})


def test_a_required_field_after_one_with_a_default_is_refused_with_the_fix() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'b'.*Move it before.*or give it a default"
    ) as it:
        declare({"a": int, "b": int}, {"a": 1})

    assert "kw_only" not in str(it.value)


def test_a_shared_mutable_default_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="default_factory"):
        declare({"a": list[int]}, {"a": [1]})


def test_a_field_cannot_take_a_name_that_belongs_to_event() -> None:
    with pytest.raises(ConfigurationError, match=r"__event__.*Rename the field"):
        declare({"__event__": str})


def test_a_renamed_field_is_refused_because_the_name_would_never_show() -> None:
    with pytest.raises(ConfigurationError, match="Call the field 'b', or drop name="):
        declare({"a": int}, {"a": msgspec.field(name="b")})


def test_a_generic_event_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"can't be generic.*Declare an event for each"):

        class Box(Event, Generic[T]):  # pyright: ignore[reportUnusedClass]
            content: T


def test_a_mixin_may_add_methods_if_it_adds_no_dictionary() -> None:
    class Slotted:
        __slots__ = ()

        def shout(self) -> str:
            return "!"

    class Unslotted:
        pass

    class Fine(Event, Slotted):
        a: int

    assert Fine(1).shout() == "!"
    with pytest.raises(ConfigurationError, match=r"Unslotted.*__slots__ = "):

        class Heavy(Event, Unslotted):  # pyright: ignore[reportUnusedClass]
            a: int


@pytest.mark.parametrize("other", [Event, PlainClass, WithInstant, 3, "ClueFound", None])
def test_only_event_types_have_a_spec(other: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no event type.*pass the class itself"):
        spec_of(other)


def test_an_event_itself_is_no_event_type() -> None:
    class Moved(Event):
        a: int

    with pytest.raises(ConfigurationError, match="pass the class itself"):
        spec_of(Moved(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_spec_cannot_be_changed() -> None:
    class Moved(Event):
        a: int

    with pytest.raises(AttributeError):
        spec_of(Moved).name = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
