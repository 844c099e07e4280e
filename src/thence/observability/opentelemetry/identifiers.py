"""The ids of traces and spans, made out of the ids of events.

An event's id has as many digits as a trace's, so a cascade's trace is its root event. A span's id is a digest of
what the span is about. So any node can make the ids of its own spans and of their parents, at any time, and nothing
has to travel along with the events.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from thence.identifiers import EventId

__all__ = ["SpanId", "Trace", "process_span_id", "send_span_id", "trace_for"]

SAMPLED = 1


class SpanId(NamedTuple):
    """A span of any trace."""

    trace: int
    span: int
    flags: int = SAMPLED

    @property
    def is_sampled(self) -> bool:
        """Whether somebody means to keep its trace."""
        return bool(self.flags & SAMPLED)

    def encode(self) -> bytes:
        """As it travels: see :attr:`~thence.events.lineage.Lineage.trace`."""
        return self.trace.to_bytes(16) + self.span.to_bytes(8) + bytes([self.flags & 255])


class Trace(NamedTuple):
    """The trace of a cascade."""

    number: int
    parent: SpanId | None = None
    """The span that its root event was emitted in, where others began the trace."""

    @property
    def is_sampled(self) -> bool:
        """Whether whoever began it means to keep it."""
        return self.parent is None or self.parent.is_sampled


def trace_for(root: EventId, foreign: bytes = b"") -> Trace:
    """The trace of the cascade of that root event, which others may have begun."""
    if len(foreign) == 25:
        parent = SpanId(int.from_bytes(foreign[:16]), int.from_bytes(foreign[16:24]), foreign[24])
        if parent.trace and parent.span:
            return Trace(parent.trace, parent)
    return Trace(int(str(root), 16))


def send_span_id(event: EventId) -> int:
    """The span of an event's leaving its node."""
    return _digest(f"send {event}")


def process_span_id(event: EventId, place: str, node: str) -> int:
    """The span of a handler's run at a node. What the handler emits has that node in its own id."""
    return _digest(f"process {event} {place} {node}")


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) or 1
