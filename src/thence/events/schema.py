"""What services tell one another about their events, and whether two of them can understand it.

Services share no classes. When two meet they exchange a schema per event type; the one that reads
decides, type by type, whether what the other writes decodes into what was meant. Values travel by
position, so order and types count as much as names.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

__all__ = ["FieldSchema", "Schema", "incompatibility"]


class FieldSchema(msgspec.Struct, frozen=True, array_like=True):
    """One field as it is on the wire; see `canonical` for `type` and `members`."""

    name: str
    type: str
    required: bool
    members: tuple[tuple[str, ...], ...] = ()


class Schema(msgspec.Struct, frozen=True, array_like=True):
    """One event type as a service declares it; it travels when two nodes greet each other."""

    name: str
    key: str | None
    fields: tuple[FieldSchema, ...]

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that differ if the key, a field's name, its type or its enum does.

        They depend on nothing else: not on defaults, which the wire doesn't show, nor on class
        names, the process or the version of Python. Computed at each call.
        """
        meaning = (self.key, [(field.name, field.type, field.members) for field in self.fields])
        return blake2b(msgspec.json.encode(meaning), digest_size=8).hexdigest()


def incompatibility(writer: Schema, reader: Schema) -> str | None:
    """Why the reader can't decode or would misunderstand what the writer writes, or None.

    It is directional: fields the writer has appended are ignored by an older reader, and fields
    the reader has appended take their defaults, so a sentence for one direction says nothing about
    the other. Both schemas bear the same event name.
    """
    problem = _problem(writer, reader)
    return None if problem is None else f"Event {writer.name!r}: {problem}"


def _problem(writer: Schema, reader: Schema) -> str | None:
    if writer.key != reader.key:
        return (
            f"the writer orders it by {_key(writer)}, the reader by {_key(reader)}. Declare the "
            "same key= in both, or give the changed event a new name=."
        )
    for position, (written, read) in enumerate(zip(writer.fields, reader.fields, strict=False)):
        if written.name != read.name:
            return (
                f"field {position + 1} is {written.name!r} to the writer and {read.name!r} to the "
                "reader. Keep the order of fields and append new ones at the end, with a default; "
                "to rename or remove one, give the changed event a new name=."
            )
        if written.type != read.type:
            return (
                f"field {written.name!r} is written as {written.type} and read as {read.type}. "
                "Declare the same type in both, or give the changed event a new name=."
            )
        unknown = _unknown_members(written, read)
        if unknown:
            return (
                f"field {written.name!r} may be written as {', '.join(unknown)}, which the reader "
                "doesn't know. Add to the reader's enum first, then to the writer's."
            )
    for read in reader.fields[len(writer.fields) :]:
        if read.required:
            return (
                f"field {read.name!r} is read but not written. Give it a default in the reader, or "
                "add it to the writer first."
            )
    return None


def _key(schema: Schema) -> str:
    return "no key" if schema.key is None else repr(schema.key)


def _unknown_members(written: FieldSchema, read: FieldSchema) -> list[str]:
    return [
        member
        for to_write, to_read in zip(written.members, read.members, strict=False)
        for member in to_write
        if member not in to_read
    ]
