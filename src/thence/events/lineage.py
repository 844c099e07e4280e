"""Where an event comes from: what caused it, the root of its cascade, the handlers between. Data only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from thence.identifiers import EventId

__all__ = ["Lineage", "Path"]


class Path:
    """The handlers between a root event and one of its consequences. Compared by identity."""

    __slots__ = ("above", "depth", "handler", "visits")

    def __init__(self, above: Path | None, handler: str, visits: int | None = None) -> None:
        self.above = above
        """The path to the event that ``handler`` handled; None for a root."""
        self.handler = handler
        """``service.handler``."""
        self.depth: int = 1 if above is None else above.depth + 1
        """How many handlers: how far from the root."""
        self.visits = 1 + _visits(above, handler) if visits is None else visits
        """How often ``handler`` is among them."""

    @classmethod
    def through(cls, handlers: Iterable[str]) -> Path:
        """The path through these handlers, the root's first. There must be one."""
        path = None
        visits = Counter[str]()
        for handler in handlers:
            visits[handler] += 1
            path = cls(path, handler, visits[handler])
        assert path is not None
        return path

    @property
    def handlers(self) -> tuple[str, ...]:
        """All of them, the root's first."""
        names: list[str] = []
        path: Path | None = self
        while path is not None:
            names.append(path.handler)
            path = path.above
        return tuple(reversed(names))

    def __repr__(self) -> str:
        return f"<Path {' → '.join(self.handlers)}>"


def _visits(path: Path | None, handler: str) -> int:
    visits = 0
    while path is not None:
        visits += path.handler == handler
        path = path.above
    return visits


class Lineage(Struct, frozen=True, gc=False):
    """The ancestry of an event, and what its cascade has left of time and hops.

    Flat, because one is made for every handler run that has consequences.
    """

    path: Path | None
    """None for a root event; one of those has a lineage only if it has a budget of its own."""
    cause_node: str
    cause_sequence: int
    root_node: str
    root_sequence: int
    deadline: float
    """When plain events of the cascade are not begun any more, in seconds of this node's stopwatch."""
    max_depth: int
    """The depth that none of its consequences may exceed."""
    began: float = 0.0
    """When the root was emitted, in seconds of this node's stopwatch; 0.0 if :attr:`deadline` is the default time
    later, or nobody asked for it to be noted."""
    trace: bytes = b""
    """The trace that the root was emitted in, where others began one; see :mod:`thence.delivery.tracing`."""

    @property
    def depth(self) -> int:
        """How far from the root: 0 for the root itself."""
        return 0 if self.path is None else self.path.depth

    @property
    def cause(self) -> EventId:
        """The event whose handler emitted this one."""
        return EventId(self.cause_node, self.cause_sequence)

    @property
    def root(self) -> EventId:
        """The event that nothing caused."""
        return EventId(self.root_node, self.root_sequence)
