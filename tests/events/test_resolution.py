"""When annotations get their meaning: at declaration, or when what they name exists.

This module has no `from __future__ import annotations`, so that both kinds of annotation occur.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from thence.errors import ConfigurationError, InvalidEvent
from thence.events import Catalog, Event, spec_of
from thence.events.annotations import UnresolvedAnnotation

if TYPE_CHECKING:
    from fractions import Fraction as Invisible


class Early(Event):
    later: "Later"
    at: datetime


class EarlyBase(Event):
    later: "Later"
    at: datetime


class EarlyChild(EarlyBase):
    since: datetime


class Later(msgspec.Struct):
    number: int


class NeverUsable(Event):
    later: "AlsoLater"


class AlsoLater(msgspec.Struct):
    odd: complex


class Hopeless(Event):
    a: "Invisible"


ZONED = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("use", ["seal", "decode", "to_json", "from_json", "schema", "resolve"])
def test_a_type_defined_further_down_is_found_at_first_use(use: str) -> None:
    class Fresh(Event):
        later: "Later2"

    module = globals()
    module["Later2"] = Later
    try:
        spec = spec_of(Fresh)
        event = Fresh(Later(1))
        uses: dict[str, Any] = {
            "seal": lambda: spec.seal(event)[1] == event,
            "decode": lambda: spec.decode(spec.encode(event)) == event,
            "to_json": lambda: spec.to_json(event) == b'{"later":{"number":1}}',
            "from_json": lambda: spec.from_json({"later": {"number": 1}}) == event,
            "schema": lambda: spec.schema.fields[0].type == '{"number":int}',
            "resolve": lambda: spec.resolve() is spec,
        }
        assert uses[use]()
    finally:
        del module["Later2"]


if TYPE_CHECKING:
    Later2 = Later


def test_rules_on_field_types_hold_even_if_resolved_late() -> None:
    with pytest.raises(InvalidEvent, match=r"Early\.at holds a datetime without a timezone"):
        spec_of(Early).seal(Early(Later(1), datetime(2024, 1, 1)))
    with pytest.raises(ConfigurationError, match=r"NeverUsable\.later: complex can't be carried"):
        spec_of(NeverUsable).resolve()


def test_a_subclass_of_an_event_resolved_late_holds_the_rules_for_inherited_fields_too() -> None:
    spec = spec_of(EarlyChild).resolve()
    naive = EarlyChild(Later(1), datetime(2024, 1, 1), ZONED)

    with pytest.raises(InvalidEvent, match=r"EarlyChild\.at holds a datetime without a timezone"):
        spec.seal(naive)
    with pytest.raises(msgspec.ValidationError, match="timezone"):
        spec.decode(spec.encode(naive))


def test_a_name_that_never_exists_at_run_time_is_explained_at_first_use() -> None:
    with pytest.raises(UnresolvedAnnotation, match=r"Hopeless: name 'Invisible'.*TYPE_CHECKING"):
        spec_of(Hopeless).resolve()
    with pytest.raises(ConfigurationError, match="Invisible"):
        Catalog().add(Hopeless)


def test_names_local_to_a_function_are_known_to_its_events() -> None:
    class Local(msgspec.Struct):
        number: int

    class Moved(Event):
        local: "list[Local]"

    assert spec_of(Moved).seal(Moved([Local(1)]))[1] == Moved([Local(1)])


def test_a_local_name_hides_that_of_the_module_as_anywhere_in_python() -> None:
    class Later(msgspec.Struct):  # pyright: ignore[reportUnusedClass]
        text: str

    class Moved(Event):
        later: "Later"

    assert spec_of(Moved).schema.fields[0].type == '{"text":str}'


def test_a_class_inside_the_event_may_be_the_type_of_a_field() -> None:
    class Moved(Event):
        class Place(msgspec.Struct):
            x: int

        to: "Place"

    assert spec_of(Moved).schema.fields[0].type == '{"x":int}'
