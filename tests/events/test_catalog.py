"""One name, one class, within a node."""

from __future__ import annotations

import pytest

from thence.errors import ConfigurationError
from thence.events import Catalog, Event, spec_of


class Moved(Event):
    x: int


class Found(Event):
    x: int


def moved_again() -> type[Event]:
    class Moved(Event):
        x: int

    return Moved


def test_a_type_is_found_by_its_wire_name() -> None:
    catalog = Catalog()
    spec = catalog.add(Moved)

    assert spec is spec_of(Moved)
    assert catalog.get("moved") is spec
    assert catalog.get("found") is None
    assert "moved" in catalog
    assert "found" not in catalog


def test_a_catalog_lists_its_types_in_the_order_they_came() -> None:
    catalog = Catalog()
    for event_type in (Moved, Found, Moved):
        catalog.add(event_type)

    assert [spec.name for spec in catalog] == ["moved", "found"]
    assert len(catalog) == 2


def test_two_classes_cannot_bear_one_name() -> None:
    catalog = Catalog()
    catalog.add(Moved)

    with pytest.raises(ConfigurationError) as refusal:
        catalog.add(moved_again())

    assert "Two events are named 'moved'" in str(refusal.value)
    assert f"{__name__}.Moved" in str(refusal.value)
    assert f"{__name__}.moved_again.<locals>.Moved" in str(refusal.value)
    assert "name=" in str(refusal.value)
    assert catalog.get("moved") is spec_of(Moved)


def test_a_class_declared_again_at_its_place_replaces_the_former() -> None:
    catalog = Catalog()
    catalog.add(moved_again())
    reloaded = moved_again()
    catalog.add(reloaded)

    assert catalog.get("moved") is spec_of(reloaded)
    assert len(catalog) == 1


def test_a_catalog_accepts_event_types_only() -> None:
    with pytest.raises(ConfigurationError, match="no event type"):
        Catalog().add(Event)
