"""What a handler may know and do besides its event."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from datetime import datetime, timedelta
from typing import Any

from thence.budget import Budget
from thence.clock import Clock
from thence.events import Event
from thence.events.lineage import Lineage
from thence.identifiers import EventId

__all__ = ["Context"]


class Context:
    """Given to handlers that take a second parameter. One for each run."""

    __slots__ = (
        "_check",
        "_clock",
        "_credits",
        "_due",
        "_event_id",
        "_lineage",
        "_logger",
        "emitted",
        "source",
        "state",
    )

    def __init__(
        self,
        *,
        event_id: EventId,
        lineage: Lineage | None,
        source: str,
        state: Any,
        check: Callable[[Event], None],
        logger: logging.Logger,
        clock: Clock,
        due: float,
        credits: int,
    ) -> None:
        self._event_id = event_id
        self._lineage = lineage
        self._check = check
        self._logger = logger
        self._clock = clock
        self._due = due
        self._credits = credits
        self.emitted: list[Event] = []
        """What :meth:`emit` was given. It leaves when the handler has succeeded."""
        self.source = source
        """Name of the node that emitted the event."""
        self.state = state
        """What the service's lifespan yielded."""

    def emit(self, event: Event) -> None:
        """Emit ``event`` as a consequence, together with what the handler returns, once it has succeeded.

        :raises UndeclaredEvent: the handler does not declare this type, in ``emits=[...]`` or in its
            return annotation.
        :raises ThenceError: the handler has ended.
        """
        self._check(event)
        self.emitted.append(event)

    @property
    def event_id(self) -> str:
        """The event's identifier, the same for every attempt at it: an idempotency key."""
        return str(self._event_id)

    @property
    def root_id(self) -> str:
        """The identifier of the event that began the cascade: a correlation id."""
        return str(self._lineage.root if self._lineage and self._lineage.path else self._event_id)

    @property
    def cause_id(self) -> str | None:
        """The identifier of the event whose handler emitted this one: a causation id. None for a root."""
        return str(self._lineage.cause) if self._lineage and self._lineage.path else None

    @property
    def depth(self) -> int:
        """How far from the root: 0 for a root event."""
        return self._lineage.depth if self._lineage else 0

    @property
    def deadline(self) -> datetime:
        """When plain events of the cascade are not begun any more, in UTC."""
        clock = self._clock
        return clock.now() + timedelta(seconds=self._due - clock.monotonic())

    @property
    def budget(self) -> Budget:
        """What the consequences of this run may use up: handler starts, hops from here, seconds from now."""
        max_depth = self._lineage.max_depth if self._lineage else Budget().depth
        left = self._due - self._clock.monotonic()
        return Budget.left(self._credits, max_depth - self.depth, left)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry the event's ids."""
        ids = {"event_id": self.event_id, "root_id": self.root_id, "cause_id": self.cause_id}
        return _IdsAdapter(self._logger, ids)


class _IdsAdapter(logging.LoggerAdapter[logging.Logger]):
    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
