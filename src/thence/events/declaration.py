"""The checks a class statement has to pass, so that an event that can't travel is never declared.

All of it runs once per class, at declaration; only types that don't exist yet put the checks of
field types off to the first use. Each refusal names the field and the fix.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic

import msgspec
from msgspec import inspect as types

from thence.errors import ConfigurationError
from thence.events.annotations import UnresolvedAnnotation
from thence.events.fields import Field
from thence.events.instants import explain_naive_datetime, naive_datetime_in
from thence.events.policy import EventPolicy
from thence.events.shapes import parts_of
from thence.events.suggestions import did_you_mean
from thence.limits import check_limits

__all__ = [
    "check_bases",
    "check_names",
    "checked_fields",
    "explained_refusals",
]

_STABLE_AS_KEY = (
    types.StrType,
    types.IntType,
    types.BytesType,
    types.BoolType,
    types.UUIDType,
    types.EnumType,
    types.LiteralType,
    types.DateType,
    types.DateTimeType,
)


def check_bases(class_name: str, bases: Sequence[type]) -> None:
    """Check what an event inherits from besides events.

    Raises:
        ConfigurationError: it is generic, or a mixin would give each event a dictionary.
    """
    for base in bases:
        if base is Generic:
            raise ConfigurationError(
                f"class {class_name}: an event can't be generic, as its name on the wire stands "
                "for one set of field types. Declare an event for each."
            )
        if not isinstance(base, msgspec.StructMeta) and base.__dictoffset__:
            raise ConfigurationError(
                f"class {class_name}: the base {base.__name__} gives its instances a __dict__, "
                "which an immutable event can't have. Add `__slots__ = ()` to it."
            )


@contextmanager
def explained_refusals(class_name: str) -> Generator[None]:
    """Translate what msgspec says of a class statement that it can't accept."""
    try:
        yield
    except (TypeError, ValueError) as error:
        problem, cannot_follow, _ = str(error).partition(" cannot follow optional fields.")
        if cannot_follow:
            fix = "Move it before the fields that have defaults, or give it a default."
            raise ConfigurationError(
                f"class {class_name}: {problem}{cannot_follow} {fix}"
            ) from error
        raise ConfigurationError(f"class {class_name} can't be declared: {problem}") from error


def check_names(event_type: msgspec.StructMeta, policy: EventPolicy) -> None:
    """Check all that needs the names of the fields only.

    Raises:
        ConfigurationError: a name is reserved or renamed, or the policy names no field.
    """
    names = event_type.__struct_fields__
    for name, encoded in zip(names, event_type.__struct_encode_fields__, strict=True):
        if name.startswith("__"):
            raise ConfigurationError(
                f"{event_type.__name__}.{name}: names that start with two underscores belong to "
                "Event itself. Rename the field."
            )
        if name != encoded:
            raise ConfigurationError(
                f"{event_type.__name__}.{name}: field(name={encoded!r}) has no effect, as events "
                f"travel without field names. Call the field {encoded!r}, or drop name=."
            )
    check_limits(f"class {event_type.__name__}", policy.limit, event_type, policy.key)
    if policy.overflow == "latest" and not (policy.limit and policy.key):
        raise ConfigurationError(
            f'class {event_type.__name__}: overflow="latest" keeps the newest of each key beyond a limit: '
            'give it key="..." and limit="10/s", or leave overflow out.'
        )
    named_in_policy = [("private", name) for name in policy.private]
    if policy.key is not None:
        named_in_policy.append(("key", policy.key))
    for keyword, name in named_in_policy:
        if name not in names:
            raise ConfigurationError(
                f"class {event_type.__name__}: {keyword} names {name!r}, which is no field of it."
                f"{did_you_mean(name, names)} Its fields are {', '.join(names) or 'none'}."
            )


def checked_fields(
    event_type: type, policy: EventPolicy, annotations: Mapping[str, Any]
) -> tuple[Field, ...]:
    """The fields of `event_type` in their order on the wire, its types and defaults checked.

    Raises:
        UnresolvedAnnotation: a type that a field is made of doesn't exist yet.
        ConfigurationError: a type, a default or the key can't be kept.
    """
    fields: list[Field] = []
    for described in _shape_of(event_type, annotations).fields:
        field = Field(
            owner=event_type,
            name=described.name,
            annotation=annotations[described.name],
            shape=described.type,
            parts=parts_of(described.type),
            required=described.required,
            private=described.name in policy.private,
        )
        _check_parts(field)
        if field.name == policy.key:
            _check_key(field)
        _check_defaults(field, described)
        fields.append(field)
    return tuple(fields)


def _shape_of(event_type: type, annotations: Mapping[str, Any]) -> types.StructType:
    try:
        shape = types.type_info(event_type)
    except NameError as error:
        raise UnresolvedAnnotation.of(event_type, error) from error
    except TypeError as error:
        name = next((name for name in annotations if _is_refused(annotations[name])), None)
        place = event_type.__name__ if name is None else f"{event_type.__name__}.{name}"
        raise ConfigurationError(
            f"{place} can't be carried by MessagePack: {error}. Declare it with a type that can."
        ) from error
    assert isinstance(shape, types.StructType)
    return shape


def _is_refused(annotation: Any) -> bool:
    try:
        types.type_info(annotation)
    except TypeError:
        return True
    return False


def _check_parts(field: Field) -> None:
    for part in field.parts:
        refusal = _refusal_of(part)
        if refusal is not None:
            raise ConfigurationError(f"{field.label}: {refusal}")


def _refusal_of(part: types.Type) -> str | None:
    match part:
        case types.CustomType(cls=unknown):
            return (
                f"{unknown.__qualname__} can't be carried by MessagePack. Use numbers, text, "
                "bytes, dates, UUID, Decimal, an Enum or Literal, a list, tuple, set or dict of "
                "these, or a msgspec.Struct, dataclass or TypedDict made of them."
            )
        case types.RawType() | types.ExtType() | types.MemoryViewType():
            return "undecoded data has no meaning to a reader. Use bytes."
        case types.DateTimeType(tz=False):
            return "events carry no datetimes without a timezone. Drop Meta(tz=False)."
        case types.StructType(cls=nested) if hasattr(nested, "__event__"):
            return (
                f"{nested.__qualname__} is an event, and an event can't be part of another. Move "
                "what they share into a msgspec.Struct, or carry the other's id."
            )
        case _:
            return None


def _check_key(field: Field) -> None:
    shape = field.shape.type if isinstance(field.shape, types.Metadata) else field.shape
    choices = shape.types if isinstance(shape, types.UnionType) else (shape,)
    values = [choice for choice in choices if not isinstance(choice, types.NoneType)]
    if len(values) != 1 or not isinstance(values[0], _STABLE_AS_KEY):
        raise ConfigurationError(
            f"{field.label} can't be the key: equal values of its type may be encoded in different "
            "ways. Use a field of type str, int, bytes, bool, UUID, Enum, Literal, date or "
            "datetime (or one of these and None)."
        )


def _check_defaults(field: Field, described: types.Field) -> None:
    """Check the field's own default, and those of the classes that it is made of."""
    if described.default is not msgspec.NODEFAULT:
        objection = field.objection_to(described.default)
        if objection is not None:
            raise ConfigurationError(f"Unusable default: {objection}")
    elif described.default_factory is not msgspec.NODEFAULT:
        _check_factory(field.owner, described)
    elif not described.required:
        raise ConfigurationError(
            f"Unusable default: {field.label} is UNSET, and a field that travels by position can't "
            "be left out. Use None."
        )
    for part in field.parts:
        if isinstance(part, types.StructType | types.DataclassType | types.NamedTupleType):
            for nested in part.fields:
                _check_instants(part.cls, nested, nested.default)
                _check_factory(part.cls, nested)


def _check_factory(owner: type, described: types.Field) -> None:
    """Look at what a default factory makes, calling it only if that may hold a datetime."""
    factory = described.default_factory
    if factory is not msgspec.NODEFAULT and any(
        isinstance(part, types.AnyType | types.DateTimeType) for part in parts_of(described.type)
    ):
        _check_instants(owner, described, factory())


def _check_instants(owner: type, described: types.Field, default: object) -> None:
    path = naive_datetime_in(default)
    if path is not None:
        place = f"{owner.__name__}.{described.name}{path}"
        raise ConfigurationError(f"Unusable default: {explain_naive_datetime(place)}")
