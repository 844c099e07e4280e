"""What a test asks about a cascade: what was handled, what failed or was refused and why, what caused what."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter, itemgetter
from typing import TypeVar

from thence.delivery.receipts import CascadeReport
from thence.events import Event, spec_of
from thence.testing.drawing import draw
from thence.testing.handlers import HandlerName, KnownHandlers
from thence.testing.occurrences import Occurrence, Outcome, OutcomeKind, shown_event

__all__ = ["Cascade"]

E = TypeVar("E", bound=Event)

LONGEST_REPR = 230
"""Characters. pytest shows no more of an object in an assertion."""


class Cascade:
    """Everything that followed from one event, when it had settled. ``print(cascade)`` draws it as a tree.

    Events are told apart by their names on the wire, as services need not share classes: ask with any class that
    can read them.
    """

    def __init__(self, report: CascadeReport, tree: Occurrence, handlers: KnownHandlers) -> None:
        self.report = report
        """What ``receipt.settled()`` tells in production: the counts, the time, the critical path."""
        self.tree = tree
        """The root event; ``tree.outcomes`` are its handlers, and ``outcome.emitted`` what these emitted."""
        self._handlers = handlers

    @property
    def complete(self) -> bool:
        """Whether everything has ended and is accounted for. Failures, sheds and cuts are accounted for."""
        return self.report.complete

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of each event at each handler, as in the drawn tree."""
        return [outcome for occurrence in self.tree.walk() for outcome in occurrence.outcomes]

    def handled(self, event_type: type[E], *, by: HandlerName | None = None) -> list[E]:
        """The events of that type that were handled, in the order in which they were. Each is there once,
        however many handlers it had.

        :param by: only what that handler has handled: the function, or ``"service.handler"``.
        :raises ConfigurationError: there is no such handler.
        """
        places = None if by is None else self._handlers.find(by)
        ends: list[tuple[int, Occurrence]] = []
        for occurrence in self._of(event_type):
            numbers = [
                outcome.number
                for outcome in occurrence.outcomes
                if outcome.kind == "handled" and (places is None or outcome.handler in places)
            ]
            if numbers:
                ends.append((min(numbers), occurrence))
        ends.sort(key=itemgetter(0))
        return [_as(event_type, occurrence) for _, occurrence in ends]

    def emitted(self, event_type: type[E]) -> list[E]:
        """The events of that type that were emitted, the root among them, whatever became of them."""
        sent = [occurrence for occurrence in self._of(event_type) if occurrence.sent]
        sent.sort(key=attrgetter("number"))
        return [_as(event_type, occurrence) for occurrence in sent]

    def caused(self, cause: Event | type[Event]) -> list[Event]:
        """The events that the handlers of that event, or of all events of that type, emitted.

        :raises LookupError: it is not in this cascade.
        """
        kind = cause if isinstance(cause, type) else type(cause)
        causes = [o for o in self._of(kind) if isinstance(cause, type) or _as(kind, o) == cause]
        if not causes:
            shown = kind.__name__ if isinstance(cause, type) else shown_event(cause)
            raise LookupError(f"{shown} is not in this cascade:\n{self}")
        return [child.event for occurrence in causes for child in occurrence.children]

    @property
    def failed(self) -> list[Outcome]:
        """Handler runs that raised or timed out, each with its ``event``, ``handler``, ``reason`` and ``error``."""
        return self._ended("failed")

    @property
    def shed(self) -> list[Outcome]:
        """What was not handled because of a limit, a full queue, an open breaker and the like."""
        return self._ended("shed")

    @property
    def cut(self) -> list[Outcome]:
        """What was not handled because the cascade's budget was used up, or because of a loop."""
        return self._ended("cut")

    @property
    def expired(self) -> list[Outcome]:
        """What was not handled because the event, or the cascade, was too old."""
        return self._ended("expired")

    @property
    def merged(self) -> list[Outcome]:
        """What was not handled because a newer event of its key took its place."""
        return self._ended("merged")

    def _ended(self, kind: OutcomeKind) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.kind == kind]

    def _of(self, event_type: type[Event]) -> Iterable[Occurrence]:
        name = spec_of(event_type).name
        return (o for o in self.tree.walk() if spec_of(type(o.event)).name == name)

    def __str__(self) -> str:
        return "\n".join((*draw(self.tree), str(self.report)))

    def __repr__(self) -> str:
        ends = sorted(self.outcomes, key=lambda outcome: outcome.kind == "handled")
        told = ", ".join(f"{o.mark} {o.handler or 'not sent'} {o.why}".rstrip() for o in ends)
        name = type(self.tree.event).__name__
        shown = f"Cascade of {name}, {self.report}: {told or 'nobody wants it'}"
        return f"<{shown[: LONGEST_REPR - 3]}…>" if len(shown) > LONGEST_REPR - 2 else f"<{shown}>"


def _as(event_type: type[E], occurrence: Occurrence) -> E:
    """The event as that class reads it."""
    if isinstance(occurrence.event, event_type):
        return occurrence.event
    return spec_of(event_type).decode(occurrence.payload)
