"""A context for calling one handler as the plain function it is."""

from __future__ import annotations

import logging
from typing import Any

from thence.app.context import Context
from thence.events import Event
from thence.events.lineage import Lineage
from thence.identifiers import EventId

__all__ = ["context"]

NODE = "0" * 19 + "1"


def context(*, state: Any = None, source: str = "test", depth: int = 0) -> Context:
    """A context as a handler would get it; afterwards ``ctx.emitted`` lists what the handler emitted.

    :param state: what the service's lifespan would yield.
    :param source: the service that would have emitted the event.
    :param depth: how far from its root the event would be.
    """
    lineage = Lineage(depth, NODE, depth, NODE, 1) if depth else None

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
    )
