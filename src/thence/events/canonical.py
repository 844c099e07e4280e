"""The text that stands for a type between services which share no classes.

Two types with one text look the same on the wire and mean the same. Class names don't count, as
nobody sends them; what a class is made of does. The values of enums and literals are kept beside
the text, since a reader may know more of them than the writer, but not fewer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec import inspect as types

__all__ = ["CanonicalType", "canonical_type"]

_NAMES: dict[type[types.Type], str] = {
    types.AnyType: "any",
    types.NoneType: "none",
    types.BoolType: "bool",
    types.IntType: "int",
    types.FloatType: "float",
    types.StrType: "str",
    types.BytesType: "bytes",
    types.ByteArrayType: "bytes",
    types.DateTimeType: "datetime",
    types.TimeType: "time",
    types.DateType: "date",
    types.TimeDeltaType: "timedelta",
    types.UUIDType: "uuid",
    types.DecimalType: "decimal",
    types.ListType: "list",
    types.VarTupleType: "list",
    types.SetType: "set",
    types.FrozenSetType: "set",
    types.TupleType: "tuple",
    types.DictType: "dict",
}
_CONSTRAINTS = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length")

_Compound: TypeAlias = (
    types.StructType | types.DataclassType | types.NamedTupleType | types.TypedDictType
)


class CanonicalType(NamedTuple):
    """A type's text, and for each `enum` in it, in order, the values that it may take (as JSON)."""

    text: str
    members: tuple[tuple[str, ...], ...] = ()


def canonical_type(shape: types.Type) -> CanonicalType:
    """The canonical form of a type; the same on every machine and version of Python."""
    return _canonical(shape, ())


def _canonical(shape: types.Type, enclosing: tuple[types.Type, ...]) -> CanonicalType:
    match shape:
        case types.Metadata(type=kept):
            return _canonical(kept, enclosing)
        case types.EnumType(cls=enum):
            return _enum(member.value for member in enum)
        case types.LiteralType(values=values):
            return _enum(values)
        case types.UnionType(types=choices):
            return _join("", sorted(_canonical(choice, enclosing) for choice in choices), "|", "")
        case (
            types.StructType()
            | types.DataclassType()
            | types.NamedTupleType()
            | types.TypedDictType()
        ):
            return _compound(shape, enclosing)
        case _:
            return _plain(shape, enclosing)


def _enum(values: Iterable[object]) -> CanonicalType:
    return CanonicalType("enum", (tuple(sorted(_json(value) for value in values)),))


def _plain(shape: types.Type, enclosing: tuple[types.Type, ...]) -> CanonicalType:
    """A type that msgspec itself defines, with its constraints and what it is a collection of."""
    name = _NAMES[type(shape)]
    constraints = [
        f"{constraint}={_json(bound)}"
        for constraint in _CONSTRAINTS
        if (bound := getattr(shape, constraint, None)) is not None
    ]
    if isinstance(shape, types.TimeType) and shape.tz is not None:
        constraints.append(f"tz={_json(shape.tz)}")
    if constraints:
        name += f"({','.join(constraints)})"
    match shape:
        case types.DictType(key_type=key, value_type=value):
            items = [key, value]
        case types.TupleType(item_types=item_types):
            items = list(item_types)
        case (
            types.ListType(item_type=item)
            | types.VarTupleType(item_type=item)
            | types.SetType(item_type=item)
            | types.FrozenSetType(item_type=item)
        ):
            items = [item]
        case _:
            return CanonicalType(name)
    return _join(f"{name}[", (_canonical(item, enclosing) for item in items), ",", "]")


def _compound(shape: _Compound, enclosing: tuple[types.Type, ...]) -> CanonicalType:
    """A class with fields: `[...]` if the wire holds them by position, `{...}` if by name.

    A class inside itself is written as `@` and the number of levels up to where it stands.
    """
    for levels, outer in enumerate(reversed(enclosing), start=1):
        if outer is shape:
            return CanonicalType(f"@{levels}")
    by_position = isinstance(shape, types.NamedTupleType) or (
        isinstance(shape, types.StructType) and shape.array_like
    )
    fields = list(shape.fields)
    if not by_position:
        fields.sort(key=lambda field: field.encode_name)
    parts = [
        _join(
            f"{_json(field.encode_name)}{'?' if _may_be_absent(shape, field) else ''}:",
            [_canonical(field.type, (*enclosing, shape))],
        )
        for field in fields
    ]
    if isinstance(shape, types.StructType) and shape.tag is not None:
        tag_field = "" if by_position else f"{_json(shape.tag_field)}="
        parts.insert(0, CanonicalType(f"{tag_field}{_json(shape.tag)}"))
    return _join("[" if by_position else "{", parts, ",", "]" if by_position else "}")


def _may_be_absent(shape: _Compound, field: types.Field) -> bool:
    match shape:
        case types.StructType(cls=struct, array_like=False):
            return not field.required and struct.__struct_config__.omit_defaults
        case types.TypedDictType():
            return not field.required
        case _:
            return False


def _join(
    before: str, parts: Iterable[CanonicalType], between: str = "", after: str = ""
) -> CanonicalType:
    """One canonical type out of several, their members in the order of their texts."""
    joined = list(parts)
    text = between.join(part.text for part in joined)
    return CanonicalType(
        f"{before}{text}{after}", tuple(members for part in joined for members in part.members)
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
