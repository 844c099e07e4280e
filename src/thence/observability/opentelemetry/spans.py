"""Spans of OpenTelemetry, made after the fact: with their own ids, and the times that were noted.

They go through the tracer provider that the program has set up, with its resource, limits and processors. Its
tracer is asked for spans with ids of our choice, which needs OpenTelemetry's SDK; nothing else here does.
"""

from __future__ import annotations

import copy
import logging
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

from thence.errors import ConfigurationError
from thence.identifiers import EventId
from thence.observability.opentelemetry.identifiers import (
    SAMPLED,
    Trace,
    process_span_id,
    send_span_id,
    trace_for,
)
from thence.observability.opentelemetry.recollection import Emitted, Handled, Refused

if TYPE_CHECKING:
    from opentelemetry.trace import Link, SpanContext, SpanKind

__all__ = ["SpanMaker", "require"]

logger = logging.getLogger("thence")

SYSTEM = "thence"


def require() -> None:
    """See that spans can be made here.

    :raises ConfigurationError: OpenTelemetry is not installed, or its SDK is not.
    """
    for module, package in (
        ("opentelemetry.trace", "opentelemetry-api"),
        ("opentelemetry.sdk.trace", "opentelemetry-sdk"),
    ):
        try:
            import_module(module)
        except ImportError as error:
            raise ConfigurationError(
                f"export of spans needs {package}, which can't be imported ({error}): pip install 'thence[otel]' "
                "opentelemetry-sdk, and set a tracer provider; or leave out the setting export"
            ) from error


class _ChosenIds:
    """Gives a tracer the ids that the next span is to have."""

    trace = span = 1

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span

    def is_trace_id_random(self) -> bool:
        return False


class SpanMaker:
    """Makes the spans of one node, and hands them over.

    :param node: its identifier; ``name``: what people call it.
    """

    def __init__(self, node: str, name: str) -> None:
        self.made = 0
        """Spans handed over."""
        self._node = node
        self._name = name
        self._ids = _ChosenIds()
        self._api: ModuleType = import_module("opentelemetry.trace")
        self._nowhere: Any = import_module("opentelemetry.context").Context()
        self._tracer: Any = None
        self._told = False

    def make_emitted(self, one: Emitted, at: int, error: tuple[str, str] | None = None) -> None:
        """``send X``: an event left, at that time in nanoseconds since 1970."""
        trace = trace_for(one.root, one.foreign)
        parent: SpanContext | None = None
        if one.cause is not None:
            parent = self._context(trace, process_span_id(one.cause, one.place, self._node))
        elif trace.parent is not None:
            parent = self._context(trace, trace.parent.span)
        about = self._about("send", one.event_id, one.event, one.root)
        if one.size is not None:
            about["messaging.message.body.size"] = one.size
        kind = self._api.SpanKind.PRODUCER
        self._make(trace, send_span_id(one.event_id), parent, kind, about, at, at, error)

    def make_handled(self, one: Handled, began: int, ended: int) -> None:
        """``process X``: a handler has ended."""
        about = self._about("process", one.event_id, one.event, one.root) | _place(one.place)
        if one.since is not None:
            about["thence.waited"] = max(0.0, one.began - one.since)
        if one.company > 1:
            about["thence.company"] = one.company
        error = None
        if one.error is not None:
            kind, _, text = one.error.partition(": ")
            error = kind or "error", text
        self._make_processed(one, about, began, ended, error)

    def make_refused(self, one: Refused, at: int) -> None:
        """``process X`` of what was not begun, or not sent to that service; ``send X`` of what did not leave."""
        if not one.place:
            sent = Emitted(*one[:4], None, (), one.cause, one.emitter, None)
            self.make_emitted(sent, at, (one.kind, one.reason))
            return
        about = self._about("process", one.event_id, one.event, one.root) | _place(one.place)
        about["thence.outcome"] = one.kind
        about["thence.reason"] = one.reason
        error = None if one.kind == "merged" else (one.kind, one.reason)
        self._make_processed(one, about, at, at, error)

    def _make_processed(
        self,
        one: Handled | Refused,
        about: dict[str, Any],
        began: int,
        ended: int,
        error: tuple[str, str] | None,
    ) -> None:
        trace = trace_for(one.root, one.foreign)
        remote = one.event_id.node != self._node
        parent = self._context(trace, send_span_id(one.event_id), remote)
        kind, span = (
            self._api.SpanKind.CONSUMER,
            process_span_id(one.event_id, one.place, self._node),
        )
        self._make(trace, span, parent, kind, about, began, ended, error, (self._api.Link(parent),))

    def _about(
        self, operation: str, event_id: EventId, event: str, root: EventId
    ) -> dict[str, Any]:
        return {
            "messaging.system": SYSTEM,
            "messaging.operation.name": operation,
            "messaging.operation.type": operation,
            "messaging.destination.name": event,
            "messaging.message.id": str(event_id),
            "messaging.message.conversation_id": str(root),
            "messaging.client.id": self._name,
        }

    def _make(
        self,
        trace: Trace,
        span: int,
        parent: SpanContext | None,
        kind: SpanKind,
        about: dict[str, Any],
        began: int,
        ended: int,
        error: tuple[str, str] | None = None,
        links: tuple[Link, ...] = (),
    ) -> None:
        tracer = self._tracer or self._found_tracer()
        if tracer is None:
            return
        self._ids.trace, self._ids.span = trace.number, span
        context = self._nowhere
        if parent is not None:
            holder = self._api.NonRecordingSpan(parent)
            context = self._api.set_span_in_context(holder, self._nowhere)
        if error is not None:
            about["error.type"] = error[0]
        made = tracer.start_span(
            f"{about['messaging.operation.name']} {about['messaging.destination.name']}",
            context,
            kind,
            about,
            links,
            began,
        )
        if error is not None:
            made.set_status(self._api.StatusCode.ERROR, error[1])
        made.end(max(began, ended))
        self.made += 1

    def _context(self, trace: Trace, span: int, remote: bool = False) -> SpanContext:
        flags = self._api.TraceFlags(SAMPLED)
        made: SpanContext = self._api.SpanContext(trace.number, span, remote, flags)
        return made

    def _found_tracer(self) -> Any:
        """The provider's tracer, with ids and a choice of spans that are ours; None if it can't have them."""
        provider: Any = self._api.get_tracer_provider()
        tracer = copy.copy(provider.get_tracer(SYSTEM, version("thence")))
        if hasattr(tracer, "id_generator") and hasattr(tracer, "sampler"):
            tracer.id_generator = self._ids
            # It was decided before which cascades leave, and for all spans of each.
            tracer.sampler = import_module("opentelemetry.sdk.trace.sampling").ALWAYS_ON
            self._tracer = tracer
            return tracer
        if not self._told:
            self._told = True
            logger.error(
                "%s: spans are to be exported, but OpenTelemetry's SDK is not set up here (%s), so they are lost: "
                "call opentelemetry.trace.set_tracer_provider with a TracerProvider of opentelemetry.sdk, or start "
                "the program with opentelemetry-instrument; this is logged once",
                self._name,
                type(provider).__name__,
            )
        return None

    def flush(self) -> None:
        """Have everything leave that waits for company. Takes its time: not to be called on the loop."""
        flush = getattr(self._api.get_tracer_provider(), "force_flush", None)
        if flush is not None:
            flush(FLUSH_WITHIN)


FLUSH_WITHIN = 1000
"""Milliseconds."""


def _place(place: str) -> dict[str, Any]:
    service, _, handler = place.partition(".")
    about: dict[str, Any] = {}
    if service:
        about["messaging.consumer.group.name"] = service
    if handler:
        about["thence.handler"] = place
    return about
