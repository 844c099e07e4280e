"""What can happen to an event, and who wants to know.

An observer is told of everything at the moment it happens, on the loop; it must be quick and must not
raise. A node without one pays a comparison.
"""

from __future__ import annotations

from typing import Protocol

from thence.events.lineage import Lineage
from thence.identifiers import EventId

__all__ = ["Observer"]


class Observer(Protocol):
    """Somebody who watches one node. A root event's ``lineage`` is None."""

    def emitted(
        self, event_id: EventId, lineage: Lineage | None, event: str, size: int, targets: int
    ) -> None:
        """An event left for ``targets`` services; its payload has ``size`` bytes."""
        ...

    def refused(
        self,
        event_id: EventId,
        lineage: Lineage | None,
        event: str,
        service: str,
        reason: str,
    ) -> None:
        """An event did not leave for a service that wants it: no room, a limit, the cascade's budget."""
        ...

    def handled(
        self, event_id: EventId, lineage: Lineage | None, event: str, service: str, handler: str
    ) -> None:
        """A handler has ended well."""
        ...

    def failed(
        self,
        event_id: EventId,
        lineage: Lineage | None,
        event: str,
        service: str,
        handler: str,
        error: BaseException,
    ) -> None:
        """A handler has raised, or timed out."""
        ...

    def shed(
        self,
        event_id: EventId,
        lineage: Lineage | None,
        event: str,
        service: str,
        handler: str,
        reason: str,
    ) -> None:
        """A handler never got to run."""
        ...

    def limit_changed(self, place: str, before: str, after: str, by: str) -> None:
        """Somebody has changed the limits of a handler or a service while it runs."""
        ...
