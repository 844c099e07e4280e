"""What a cascade was made of: the events, and what became of each at each handler. Data only, a tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from thence.events import Event

__all__ = ["Occurrence", "Outcome", "OutcomeKind", "shown_event"]

OutcomeKind: TypeAlias = Literal[
    "handled", "failed", "shed", "cut", "expired", "merged", "running", "waiting"
]

MARKS: dict[OutcomeKind, str] = {
    "handled": "✓",
    "failed": "✗",
    "shed": "⊘",
    "cut": "✂",
    "expired": "⊘",
    "merged": "⊘",
    "running": "…",
    "waiting": "…",
}
LONGEST_EVENT = 160
LONGEST_REASON = 240
"""Characters."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Outcome:
    """What became of one event at one handler."""

    event: Event
    handler: str
    """``service.handler``; just the service if the event did not get as far as its handlers, and empty if it did
    not even leave its emitter."""
    kind: OutcomeKind
    """``handled``, ``failed``; ``shed`` (a limit, a full queue), ``cut`` (the budget, a loop), ``expired`` (too old),
    ``merged`` (a newer event took its place); ``running`` and ``waiting`` in a cascade that has not settled."""
    reason: str = ""
    """Why, unless it was handled."""
    error: BaseException | None = None
    """What the handler raised."""
    at: float = 0.0
    """Seconds after the root event at which the handler began, or at which the event was refused."""
    seconds: float = 0.0
    """How long the handler ran."""
    emitted: tuple[Occurrence, ...] = ()
    """What the handler emitted, in its order."""
    number: int = 0
    """Counts what happened in the cascade, as it happened; moments of virtual time are often equal."""

    @property
    def mark(self) -> str:
        """``✓`` handled, ``✗`` failed, ``✂`` cut, ``⊘`` not handled for other reasons, ``…`` not yet."""
        return MARKS[self.kind]

    @property
    def why(self) -> str:
        """The kind and the reason on one line; empty if it was handled."""
        if self.kind == "handled":
            return ""
        reason = self.reason.partition("\n")[0]
        if len(reason) > LONGEST_REASON:
            reason = f"{reason[:LONGEST_REASON]}…"
        if self.kind in ("failed", reason):
            return reason
        return f"{self.kind}: {reason}" if reason else self.kind

    def __repr__(self) -> str:
        where = self.handler or "nobody"
        why = f": {self.why}" if self.why else ""
        return f"<{self.mark} {where} on {shown_event(self.event)}{why}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Occurrence:
    """One event of a cascade."""

    event: Event
    event_id: str
    """Empty if it was never sent."""
    at: float
    """Seconds after the root event."""
    depth: int
    """How far from the root: 0 for the root itself."""
    outcomes: tuple[Outcome, ...]
    """What became of it, at one handler after the other, as they ended."""
    sent: bool = True
    """Whether it left the node that emitted it: the limit of its type may have kept it back."""
    payload: bytes = b""
    """As it was sent."""
    number: int = 0
    """Counts what happened in the cascade, as it happened."""

    @property
    def children(self) -> tuple[Occurrence, ...]:
        """The events that its handlers emitted."""
        return tuple(child for outcome in self.outcomes for child in outcome.emitted)

    def walk(self) -> Iterator[Occurrence]:
        """This event and all that followed from it, as in the drawn tree."""
        waiting: list[Occurrence] = [self]
        while waiting:
            occurrence = waiting.pop()
            yield occurrence
            waiting.extend(reversed(occurrence.children))

    def __repr__(self) -> str:
        ends = " ".join(f"{one.mark} {one.handler or 'nobody'}" for one in self.outcomes)
        return f"<{shown_event(self.event)}: {ends or 'nobody wants it'}>"


def shown_event(event: Event) -> str:
    """The event as it prints itself, private fields hidden, on one line that is not too long."""
    shown = repr(event).replace("\n", " ")
    return shown if len(shown) <= LONGEST_EVENT else f"{shown[:LONGEST_EVENT]}…"
