"""All that the rest of Thence needs to know about one event type, in one object.

Whoever carries, stores or shows events asks the spec, never the class. What it offers is made once
per type and costs an attribute look-up afterwards; what is costly and not needed to declare an
event, its schema, is made when first asked for.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec

from thence.events.annotations import settle_annotations
from thence.events.canonical import canonical_type
from thence.events.codec import decoder_of, encode
from thence.events.declaration import checked_fields
from thence.events.documents import parse_document, read_document, write_document
from thence.events.fields import Field
from thence.events.policy import EventPolicy
from thence.events.schema import FieldSchema, Schema
from thence.events.sealing import sealer

__all__ = ["EventSpec"]

E = TypeVar("E")


@dataclass(frozen=True, slots=True, eq=False)
class EventSpec(Generic[E]):
    """How events of one type are named, encoded, checked and described.

    `encode`, `decode`, `seal` and `key_of` are functions to take out once and call often; `encode`
    and `decode` are bound methods in C. `encode` alone checks nothing: `seal` does.
    """

    type: builtins.type[E]
    """The event class."""
    policy: EventPolicy
    """What its class statement says besides the fields."""

    name: str = field(init=False, repr=False)
    """Its name on the wire."""
    key: str | None = field(init=False, repr=False)
    """The field whose value orders events, if any."""
    max_bytes: int = field(init=False, repr=False)
    """The most bytes an encoded event may take."""
    private: tuple[str, ...] = field(init=False, repr=False)
    """Fields whose values are shown to nobody."""

    encode: Callable[[E], bytes] = field(init=False, repr=False)
    """The payload: positional MessagePack, unchecked."""
    decode: Callable[[bytes], E] = field(init=False, repr=False)
    """The event that a payload holds. Raises msgspec's own errors for one that holds none."""
    seal: Callable[[E], tuple[bytes, E]] = field(init=False, repr=False)
    """The payload and the decoded copy, in which all datetimes are UTC.

    Raises `InvalidEvent` for values that don't fit, `PayloadTooLarge` for too many bytes.
    """
    key_of: Callable[[E], Any] = field(init=False, repr=False)
    """The value of the key field; None for a type without key."""

    _copy: Callable[[E], tuple[bytes, E]] = field(init=False, repr=False)
    _fields: tuple[Field, ...] | None = field(init=False, repr=False, default=None)
    _schema: Schema | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        policy = self.policy
        self._fill(
            name=policy.name,
            key=policy.key,
            max_bytes=policy.max_bytes,
            private=policy.private,
            encode=encode,
            decode=self._resolve_and_decode,
            seal=self._resolve_and_seal,
            key_of=_no_key if policy.key is None else attrgetter(policy.key),
        )

    def resolve(self, surroundings: Mapping[str, object] | None = None) -> EventSpec[E]:
        """Find out what the annotations mean and check the field types; later calls do nothing.

        It happens by itself: at declaration, or at first use if an annotation names a type that is
        defined further down. `surroundings` are the local names where the class is declared.

        Raises:
            UnresolvedAnnotation: a name in an annotation still means nothing.
            ConfigurationError: a field's type or default can't be carried, or can't be the key.
        """
        if self._fields is None:
            for base in self.type.__mro__[1:]:
                if (inherited := vars(base).get("__event__")) is not None:
                    inherited.resolve()
            annotations = settle_annotations(self.type, surroundings or {})
            fields = checked_fields(self.type, self.policy, annotations)
            decode = decoder_of(self.type)
            self._fill(
                decode=decode,
                seal=sealer(self.name, fields, decode, self.max_bytes),
                _copy=sealer(self.name, fields, decode, sys.maxsize),
                _fields=fields,
            )
        return self

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields in their order on the wire."""
        if self._fields is None:
            self.resolve()
        assert self._fields is not None
        return self._fields

    @property
    def schema(self) -> Schema:
        """What other services need to know of it."""
        if self._schema is None:
            self._fill(_schema=_schema_of(self.name, self.key, self.fields))
        assert self._schema is not None
        return self._schema

    def to_builtins(self, event: E) -> dict[str, Any]:
        """The event as a JSON object in Python's terms; shows private fields, holds no budget.

        Raises:
            InvalidEvent: its values don't fit their types, or JSON can't hold one of them.
        """
        fields = self.fields
        return write_document(fields, self._copy(event)[1])

    def to_json(self, event: E) -> bytes:
        """The event as the text of a JSON object; see `to_builtins`."""
        return msgspec.json.encode(self.to_builtins(event))

    def from_json(self, document: bytes | str | Mapping[str, object]) -> E:
        """The event that a JSON object, as text or parsed, describes by field names.

        Raises:
            InvalidEvent: it is no JSON object, or a field is unknown, missing or doesn't fit.
        """
        fields = self.fields
        if isinstance(document, (bytes, str)):
            document = parse_document(self.name, document)
        return self._copy(read_document(self.type, fields, document))[1]

    def _resolve_and_decode(self, payload: bytes) -> E:
        return self.resolve().decode(payload)

    def _resolve_and_seal(self, event: E) -> tuple[bytes, E]:
        return self.resolve().seal(event)

    def _fill(self, **made: object) -> None:
        for name, value in made.items():
            object.__setattr__(self, name, value)


def _no_key(event: object) -> None:
    return None


def _schema_of(name: str, key: str | None, fields: tuple[Field, ...]) -> Schema:
    canonical = [canonical_type(field.shape) for field in fields]
    return Schema(
        name=name,
        key=key,
        fields=tuple(
            FieldSchema(field.name, text, field.required, members)
            for field, (text, members) in zip(fields, canonical, strict=True)
        ),
    )
