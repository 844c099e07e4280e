"""The current span of OpenTelemetry: the one that a root event is emitted in, and the one that a handler runs in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from thence.delivery.running import RUNNING
from thence.events.envelope import Arrival, event_id_of, lineage_of
from thence.observability.opentelemetry.identifiers import (
    SAMPLED,
    SpanId,
    process_span_id,
    trace_for,
)

__all__ = ["current_trace", "with_current_span"]

Call = Callable[..., Coroutine[Any, Any, Any]]


def current_trace() -> bytes:
    """The span that the current code runs in, as it travels; empty if there is none."""
    if not get_current():
        return b""
    context = get_current_span().get_span_context()
    if not context.is_valid:
        return b""
    return SpanId(context.trace_id, context.span_id, context.trace_flags).encode()


def with_current_span(call: Call, place: str, node: str, *, always: bool) -> Call:
    """The same handler, which sees the span that its run is going to be as the current one.

    So what it does itself with OpenTelemetry is part of the trace, such as a request to a service that knows
    nothing of Thence.

    :param always: also where the trace is its cascade's own.
    """

    def called(*arguments: Any) -> Coroutine[Any, Any, Any]:
        running = RUNNING.get()
        arrival = running[0] if isinstance(running, tuple) else running
        # What is nothing special belongs to nobody's trace.
        if arrival is not None and (always or arrival.extras is not None):
            foreign = _foreign(arrival)
            if foreign or always:
                return within(_span_of(arrival, foreign, place, node), arguments)
        return call(*arguments)

    async def within(context: Context, arguments: tuple[Any, ...]) -> Any:
        token = attach(context)
        try:
            return await call(*arguments)
        finally:
            detach(token)

    return called


def _foreign(arrival: Arrival) -> bytes:
    lineage, extras = arrival.lineage, arrival.extras
    if lineage is not None:
        found: bytes = lineage.trace
        return found
    return b"" if extras is None else extras.trace


def _span_of(arrival: Arrival, foreign: bytes, place: str, node: str) -> Context:
    # A batch is a copy of the newest in it.
    event_id, lineage = event_id_of(arrival), lineage_of(arrival)
    trace = trace_for(event_id if lineage is None else lineage.root, foreign)
    flags = TraceFlags(SAMPLED if trace.is_sampled else 0)
    span = SpanContext(trace.number, process_span_id(event_id, place, node), True, flags)
    return set_span_in_context(NonRecordingSpan(span), Context())
