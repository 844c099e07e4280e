"""What type checkers must accept of events."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, assert_type
from uuid import UUID

import msgspec

from thence.events import Catalog, Event, EventSpec, Schema, incompatibility, spec_of


class Colour(enum.Enum):
    RED = "red"


class Place(msgspec.Struct):
    x: float
    y: float


class Bare(Event):
    pass


class ClueFound(Event, key="player"):
    hunt: str
    player: str
    clue: int


class Full(Event, name="full", key="id", max_bytes=256, private=("note",)):
    id: UUID
    place: Place
    colour: Colour = Colour.RED
    kind: Literal["a", "b"] = "a"
    at: datetime | None = None
    tags: list[str] = msgspec.field(default_factory=list[str])
    note: str = ""

    @property
    def shouted(self) -> str:
        return self.note.upper()


class Nearer(ClueFound, private=["hint"]):
    hint: str = ""


found = ClueFound(hunt="h1", player="ana", clue=3)
by_position = ClueFound("h1", "ana", 3)
nearer = Nearer("h1", "ana", 3, hint="up")
full = Full(UUID(int=1), Place(1, 2), tags=["a"])
bare = Bare()

assert_type(found.clue, int)
assert_type(nearer.player, str)
assert_type(full.tags, list[str])
assert_type(full.shouted, str)
assert_type(found.__replace__(clue=4), ClueFound)
assert_type(found == by_position, bool)
distinct: set[ClueFound] = {found, by_position}

match found:
    case ClueFound(hunt, player=player):
        assert_type(hunt, str)
        assert_type(player, str)

spec = spec_of(ClueFound)
assert_type(spec, EventSpec[ClueFound])
assert_type(spec.type, type[ClueFound])
assert_type(spec.name, str)
assert_type(spec.key, str | None)
assert_type(spec.encode(found), bytes)
assert_type(spec.decode(b""), ClueFound)
assert_type(spec.seal(found), tuple[bytes, ClueFound])
assert_type(spec.to_json(found), bytes)
assert_type(spec.from_json(b"{}"), ClueFound)
assert_type(spec.to_builtins(found), dict[str, Any])
assert_type(spec.schema, Schema)
assert_type(incompatibility(spec.schema, spec_of(Full).schema), str | None)
assert_type(Catalog().add(ClueFound), EventSpec[ClueFound])
encode: Callable[[ClueFound], bytes] = spec.encode


def names(events: list[type[Event]]) -> list[str]:
    return [spec_of(event_type).name for event_type in events]


print(names([ClueFound, Full, Bare]))
