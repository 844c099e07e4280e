"""Who wants to know what happens to events, while it happens.

An observer is told of everything at the moment it happens, on the loop; it must be quick. One that raises harms
nobody but itself. A node without one pays a comparison.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from thence.events.lineage import Lineage
from thence.identifiers import EventId

__all__ = ["GuardedObserver", "Observer"]

logger = logging.getLogger("thence")


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
        """An event did not leave for a service that wants it: no room, a limit, the cascade's budget.

        ``service`` is empty where the limit of its type kept it back from all of them.
        """
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


class GuardedObserver:
    """Tells another observer. What that raises is logged the first time, and harms nobody."""

    def __init__(self, observer: Observer) -> None:
        self.emitted = self._guarded(observer.emitted)
        self.refused = self._guarded(observer.refused)
        self.handled = self._guarded(observer.handled)
        self.failed = self._guarded(observer.failed)
        self.shed = self._guarded(observer.shed)
        self.limit_changed = self._guarded(observer.limit_changed)
        self._observer = observer
        self._told = False

    def _guarded(self, tell: Callable[..., None]) -> Callable[..., None]:
        def guarded(*arguments: Any) -> None:
            try:
                tell(*arguments)
            except Exception:
                if not self._told:
                    self._told = True
                    logger.exception(
                        "observer %r has raised, which loses it what it was told; this is logged once",
                        self._observer,
                    )

        return guarded
