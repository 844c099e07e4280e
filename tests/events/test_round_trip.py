"""Every supported type, with values that hypothesis makes up, there and back again."""

from __future__ import annotations

import enum
import pickle
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from thence.events import Event, spec_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Tree(msgspec.Struct):
    at: datetime
    children: list[Tree]


@dataclass
class Size:
    width: float
    depth: int | None = None


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict, total=False):
    bold: bool
    since: date


class Everything(Event):
    flag: bool
    number: int
    fraction: float
    text: str
    raw: bytes
    nothing: None
    instant: datetime
    day: date
    hour: time
    span: timedelta
    identifier: UUID
    amount: Decimal
    colour: Colour
    level: Level
    choice: Literal["a", "b", 3, None]
    items: list[int]
    fixed: tuple[int, str]
    several: tuple[datetime, ...]
    unique: set[str]
    frozen: frozenset[int]
    by_number: dict[int, str]
    by_identifier: dict[UUID, datetime]
    either: int | str | None
    tree: Tree
    size: Size
    pair: Pair
    options: Options


texts = st.text(max_size=20)
integers = st.integers(-(2**63), 2**64 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
instants = st.datetimes(
    min_value=datetime(2, 1, 1),
    max_value=datetime(9998, 12, 31),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7, minutes=30))]),
)
trees = st.recursive(
    st.builds(Tree, instants, st.just([])),
    lambda children: st.builds(Tree, instants, st.lists(children, max_size=3)),
    max_leaves=5,
)
everything = st.builds(
    Everything,
    flag=st.booleans(),
    number=integers,
    fraction=finite,
    text=texts,
    raw=st.binary(),
    nothing=st.none(),
    instant=instants,
    day=st.dates(),
    hour=st.times(timezones=st.sampled_from([None, UTC])),
    span=st.timedeltas(),
    identifier=st.uuids(),
    amount=st.decimals(allow_nan=False, allow_infinity=False),
    colour=st.sampled_from(Colour),
    level=st.sampled_from(Level),
    choice=st.sampled_from(["a", "b", 3, None]),
    items=st.lists(integers),
    fixed=st.tuples(integers, texts),
    several=st.lists(instants).map(tuple),
    unique=st.sets(texts),
    frozen=st.frozensets(integers),
    by_number=st.dictionaries(integers, texts),
    by_identifier=st.dictionaries(st.uuids(), instants),
    either=st.none() | integers | texts,
    tree=trees,
    size=st.builds(Size, finite, st.none() | integers),
    pair=st.builds(Pair, integers, texts),
    options=st.fixed_dictionaries({}, optional={"bold": st.booleans(), "since": st.dates()}),
)


@given(everything)
def test_an_event_comes_back_from_the_wire_as_it_was(event: Everything) -> None:
    payload, twin = spec_of(Everything).seal(event)

    assert twin == event == spec_of(Everything).decode(payload)
    assert type(twin.level) is Level
    assert twin.instant.tzinfo is UTC


@given(everything)
def test_an_event_comes_back_from_json_as_it_was(event: Everything) -> None:
    spec = spec_of(Everything)

    assert spec.from_json(spec.to_json(event)) == event
    assert spec.from_json(spec.to_builtins(event)) == event


@given(everything)
def test_an_event_comes_back_from_a_pickle_as_it_was(event: Everything) -> None:
    assert pickle.loads(pickle.dumps(event)) == event
