"""The event types a node knows, by the names they bear on the wire.

Names are what arrives from other services, so within a node a name must mean one class.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from thence.errors import ConfigurationError
from thence.events.event import Event, spec_of
from thence.events.spec import EventSpec

__all__ = ["Catalog"]

E = TypeVar("E", bound=Event)


class Catalog:
    """Event types by wire name; iterating yields their specs in the order they were added."""

    def __init__(self) -> None:
        self._specs: dict[str, EventSpec[Any]] = {}

    def add(self, event_type: type[E]) -> EventSpec[E]:
        """Know `event_type` by its name from now on; adding it again changes nothing.

        A class declared again at the same place (a notebook's cell, a reloaded module) replaces
        its predecessor.

        Raises:
            ConfigurationError: another class bears the name, or its field types can't be carried.
        """
        spec = spec_of(event_type).resolve()
        known = self._specs.get(spec.name)
        if known is not None and _place(known.type) != _place(event_type):
            raise ConfigurationError(
                f"Two events are named {spec.name!r}: {_place(known.type)} and "
                f"{_place(event_type)}. Import one of them in both places, or give one its own "
                "name=."
            )
        self._specs[spec.name] = spec
        return spec

    def get(self, name: str) -> EventSpec[Any] | None:
        """The event type of that wire name, or None."""
        return self._specs.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[EventSpec[Any]]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)


def _place(event_type: type) -> str:
    return f"{event_type.__module__}.{event_type.__qualname__}"
