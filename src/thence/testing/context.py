"""A context for calling one handler as the plain function it is."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any

from thence.app.context import Context
from thence.budget import Budget
from thence.events import Event
from thence.events.lineage import Lineage, Path
from thence.identifiers import EventId

__all__ = ["context"]

NODE = "0" * 19 + "1"


class _SystemClock:
    """For a context outside of any loop."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)


def context(*, state: Any = None, source: str = "test", depth: int = 0) -> Context:
    """A context as a handler would get it; afterwards ``ctx.emitted`` lists what the handler emitted.

    :param state: what the service's lifespan would yield.
    :param source: the service that would have emitted the event.
    :param depth: how far from its root the event would be.
    """
    budget = Budget()
    lineage = None
    if depth:
        path = Path.through(f"test.handler_{number}" for number in range(1, depth + 1))
        lineage = Lineage(
            path, NODE, depth, NODE, 1, time.monotonic() + budget.seconds, budget.depth
        )

    def check(event: Event) -> None:
        if not isinstance(event, Event):
            raise TypeError(f"ctx.emit takes an event, not {type(event).__name__}")

    return Context(
        event_id=EventId(NODE, depth + 1),
        lineage=lineage,
        source=source,
        state=state,
        check=check,
        logger=logging.getLogger("thence.service.test"),
        clock=_SystemClock(),
        due=time.monotonic() + budget.seconds,
        credits=budget.events - 1,
    )
