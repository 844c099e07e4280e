"""A record of all events of some services, to hold later versions against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Literal, TypeAlias, cast

import msgspec

from thence.cascade.findings import Finding
from thence.cascade.graph import CascadeGraph, Use
from thence.errors import ConfigurationError
from thence.events import Event, EventSpec, spec_of
from thence.events.policy import EventPolicy
from thence.events.schema import FieldSchema, Schema, incompatibility

__all__ = ["Catalogue", "CatalogueEvent", "CatalogueField", "catalogue_of", "changes", "policy_of"]

Policy: TypeAlias = dict[str, str | int | float | bool | list[str] | None]

SAVE_AGAIN = "If it is meant, save the catalogue again."


class CatalogueField(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One field, in the order on the wire; see :class:`thence.events.schema.FieldSchema`."""

    name: str
    type: str
    required: bool
    members: tuple[tuple[str, ...], ...] = ()


class CatalogueEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event as one class declares it; an event that services declare differently has several of these."""

    name: str
    key: str | None
    fingerprint: str
    fields: tuple[CatalogueField, ...]
    policy: Policy
    """The class's keywords, apart from name and key; limits as texts, times in seconds."""
    emitted_by: tuple[str, ...]
    """Services whose handlers emit it."""
    handled_by: tuple[str, ...]

    @property
    def meaning(self) -> Schema:
        """What is compared when services meet."""
        return Schema(
            self.name,
            self.key,
            tuple(FieldSchema(f.name, f.type, f.required, f.members) for f in self.fields),
        )


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All events, by name."""

    schema: Literal["thence.catalogue/1"]
    events: tuple[CatalogueEvent, ...]

    @classmethod
    def parse(cls, document: bytes) -> Catalogue:
        """The catalogue that a file holds.

        :raises ConfigurationError: it holds none, or one that was changed by hand.
        """
        try:
            catalogue = msgspec.json.decode(document, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"it is no catalogue that this version of Thence can read ({error}): save it again"
            ) from error
        for event in catalogue.events:
            if event.meaning.fingerprint != event.fingerprint:
                raise ConfigurationError(
                    f"the fingerprint of {event.name!r} does not fit its fields, so somebody has changed the file: "
                    "save it again"
                )
        return catalogue

    def to_json(self) -> bytes:
        """The text of a file, the same whenever the events are."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def policy_of(spec: EventSpec[Any]) -> Policy:
    """What an event's class statement says, apart from its name and key, as JSON holds it."""
    policy: Policy = {}
    for field in fields(EventPolicy):
        value = getattr(spec.policy, field.name)
        if isinstance(value, tuple):
            value = [str(one) for one in cast("tuple[object, ...]", value)]
        if field.name not in ("name", "key"):
            policy[field.name] = value
    return policy


def catalogue_of(graph: CascadeGraph) -> Catalogue:
    """The catalogue of all events in a graph.

    :raises ConfigurationError: a field's type can't be carried, or not be found.
    """
    events: list[CatalogueEvent] = []
    for uses in graph.uses.values():
        by_class: dict[type[Event], list[Use]] = {}
        for use in uses:
            by_class.setdefault(use.type, []).append(use)
        events.extend(_entry(event_type, own) for event_type, own in by_class.items())
    events.sort(
        key=lambda event: (event.name, event.fingerprint, event.emitted_by, event.handled_by)
    )
    return Catalogue("thence.catalogue/1", tuple(events))


def _entry(event_type: type[Event], uses: Iterable[Use]) -> CatalogueEvent:
    spec = spec_of(event_type)
    schema = spec.schema
    return CatalogueEvent(
        schema.name,
        schema.key,
        schema.fingerprint,
        tuple(CatalogueField(f.name, f.type, f.required, f.members) for f in schema.fields),
        policy_of(spec),
        tuple(sorted(use.service for use in uses if use.emits)),
        tuple(sorted(use.service for use in uses if use.handles)),
    )


def changes(before: Catalogue, after: Catalogue) -> list[Finding]:
    """What has changed from one catalogue to a later one.

    While services are replaced one after the other, what is written by either version is read by the other,
    so both directions count. Of an event that no handler emits, any class may be the one that is written.
    """
    was, now = _by_name(before), _by_name(after)
    found: list[Finding] = []
    for name in sorted(was.keys() | now.keys()):
        if name not in now:
            services = sorted({s for e in was[name] for s in (*e.emitted_by, *e.handled_by)})
            found.append(
                Finding(
                    "warning",
                    "event-removed",
                    (name, *services),
                    f"event {name!r} is in the saved catalogue ({', '.join(services)}) and nobody uses it any more",
                    SAVE_AGAIN,
                )
            )
        elif name not in was:
            found.append(Finding("note", "event-added", (name,), f"event {name!r} is new"))
        else:
            found += _changes_of_schema(name, was[name], now[name])
            found += _changes_of_policy(name, was[name], now[name])
    return found


def _by_name(catalogue: Catalogue) -> dict[str, list[CatalogueEvent]]:
    found: dict[str, list[CatalogueEvent]] = {}
    for event in catalogue.events:
        found.setdefault(event.name, []).append(event)
    return found


def _changes_of_schema(
    name: str, was: list[CatalogueEvent], now: list[CatalogueEvent]
) -> list[Finding]:
    old, new = {event.meaning for event in was}, {event.meaning for event in now}
    if old == new:
        return []
    problems: dict[str, tuple[str, ...]] = {}
    for writers, readers, writer_is, reader_is in (
        (was, now, "as saved", "as it is now"),
        (now, was, "as it is now", "as saved"),
    ):
        for writer in _written(writers):
            for reader in _read(readers):
                if writer.meaning in old & new and reader.meaning in old & new:
                    continue
                problem = incompatibility(writer.meaning, reader.meaning)
                if problem is not None:
                    services = (*writer.emitted_by, *reader.handled_by)
                    problems.setdefault(
                        f"{problem} Written {writer_is} by {_names(writer.emitted_by)}, read {reader_is} by "
                        f"{_names(reader.handled_by)}.",
                        services,
                    )
    if problems:
        return [
            Finding(
                "error",
                "changed-incompatibly",
                (name, *dict.fromkeys(services)),
                problem,
                "where no old service, stored event or client is left, save the catalogue again",
            )
            for problem, services in problems.items()
        ]
    return [
        Finding(
            "note",
            "changed-compatibly",
            (name,),
            f"event {name!r} has changed, and old and new services understand each other: "
            f"{_difference(was, now)}",
        )
    ]


def _written(events: list[CatalogueEvent]) -> list[CatalogueEvent]:
    return [event for event in events if event.emitted_by] or events


def _read(events: list[CatalogueEvent]) -> list[CatalogueEvent]:
    return [event for event in events if event.handled_by] or events


def _names(services: tuple[str, ...]) -> str:
    return ", ".join(services) or "whoever does so outside of these services"


def _difference(was: list[CatalogueEvent], now: list[CatalogueEvent]) -> str:
    old = {field.name: field for event in was for field in event.fields}
    new = {field.name: field for event in now for field in event.fields}
    words = [
        *(f"field {name!r} added" for name in new.keys() - old.keys()),
        *(f"field {name!r} removed" for name in old.keys() - new.keys()),
        *(f"field {name!r} changed" for name in old.keys() & new.keys() if old[name] != new[name]),
    ]
    return ", ".join(sorted(words)) or "services declare it otherwise"


def _changes_of_policy(
    name: str, was: list[CatalogueEvent], now: list[CatalogueEvent]
) -> list[Finding]:
    if len(was) > 1 or len(now) > 1:
        return []
    old, new = was[0].policy, now[0].policy
    found: list[Finding] = []
    for keyword in sorted(old.keys() & new.keys()):
        if old[keyword] != new[keyword]:
            grave = keyword == "durable"
            found.append(
                Finding(
                    "warning" if grave else "note",
                    "policy-changed",
                    (name,),
                    f"event {name!r}: {keyword} was {old[keyword]!r} and is {new[keyword]!r}",
                    SAVE_AGAIN if grave else "",
                )
            )
    return found
