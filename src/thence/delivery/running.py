"""Which handler's run the current code belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TypeAlias

from thence.cascade.settlement import Branch
from thence.delivery.hosted import HostedHandler
from thence.events.envelope import Arrival, event_id_of, lineage_of
from thence.identifiers import EventId

__all__ = ["RUNNING", "Running", "is_in_cascade_of", "run_of"]

Running: TypeAlias = Arrival | tuple[Arrival, HostedHandler]
"""An arrival that is being handled. With the handler, where it goes to several."""

RUNNING: ContextVar[Running | None] = ContextVar("thence_running", default=None)
"""What the current code is a handler's run for, so that what it emits joins its cascade. Tasks that a handler has
started inherit it, and may outlive the run."""


def run_of(running: Running) -> tuple[HostedHandler, Arrival]:
    """The handler that runs, and what for."""
    if isinstance(running, tuple):
        arrival, handler = running
        return handler, arrival
    return running.subscription.handlers[0], running


def is_in_cascade_of(root: EventId) -> bool:
    """Whether the current code belongs to a run, not ended, in the tracked cascade of that root event."""
    running = RUNNING.get()
    if running is None:
        return False
    handler, arrival = run_of(running)
    return any(
        _root_of(one) == root and _goes_on(handler, one) for one in arrival.members or (arrival,)
    )


def _goes_on(handler: HostedHandler, arrival: Arrival) -> bool:
    record: Branch | None = arrival.record
    if record is None:
        # It can cause nothing, so nothing has been opened for it so far.
        return arrival.extras is not None and bool(arrival.extras.tracked)
    branch = record.branch_of(handler.place)
    return branch.open > 0 and branch.step is None


def _root_of(arrival: Arrival) -> EventId:
    lineage = lineage_of(arrival)
    return event_id_of(arrival) if lineage is None else lineage.root
