"""Where an event comes from: the event that caused it and the root of its cascade. Data only."""

from __future__ import annotations

from msgspec import Struct

from thence.identifiers import EventId

__all__ = ["Lineage"]


class Lineage(Struct, frozen=True, gc=False):
    """The ancestry of a consequence. A root event has none.

    Flat, because one is made for every handler run that has consequences.
    """

    depth: int
    """How far from the root: 1 for a direct consequence of it."""
    cause_node: str
    cause_sequence: int
    root_node: str
    root_sequence: int

    @property
    def cause(self) -> EventId:
        """The event whose handler emitted this one."""
        return EventId(self.cause_node, self.cause_sequence)

    @property
    def root(self) -> EventId:
        """The event that nothing caused."""
        return EventId(self.root_node, self.root_sequence)
