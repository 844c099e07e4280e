"""Taking apart what msgspec says of a type."""

from __future__ import annotations

from typing import cast

from msgspec import inspect as types

__all__ = ["parts_of"]


def parts_of(shape: types.Type) -> tuple[types.Type, ...]:
    """`shape` and all that it is made of, each once, however the types refer to one another."""
    parts = {id(shape): shape}
    waiting = [shape]
    while waiting:
        part = waiting.pop()
        for attribute in part.__struct_fields__:
            inner: object = getattr(part, attribute)
            items = cast("tuple[object, ...]", inner) if isinstance(inner, tuple) else (inner,)
            for item in items:
                found = item.type if isinstance(item, types.Field) else item
                if isinstance(found, types.Type) and id(found) not in parts:
                    parts[id(found)] = found
                    waiting.append(found)
    return tuple(parts.values())
