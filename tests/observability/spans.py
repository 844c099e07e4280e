"""What tests of exported spans share: a tracer provider that keeps them, nodes that export, a faster beat."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.delivery.cascading import running

from thence import Node, Service
from thence.app.settings import Settings

__all__ = ["KEPT", "eventually", "exporting", "of_cascades", "roots_of", "shape_of", "trace_of"]

KEPT = InMemorySpanExporter()
"""Every span of this process; one provider is all that a process can have."""
_provider = TracerProvider()
_provider.add_span_processor(SimpleSpanProcessor(KEPT))
trace.set_tracer_provider(_provider)
assert trace.get_tracer_provider() is _provider


def node_with(mesh: str, name: str, *services: Service, export: str, **settings: Any) -> Node:
    """A node with these settings, whatever the environment says. What is sampled must make no difference."""
    node = Node(*services, mesh=mesh, name=name)
    settings = {"cascade_sample": 0, **settings}
    node._settings = Settings(mesh=mesh, name=name, export=export, **settings)
    node._budget = node._settings.cascade_budget()
    return node


@asynccontextmanager
async def exporting(
    mesh: str, export: str, *services: Service, **settings: Any
) -> AsyncIterator[Node]:
    """Each service on a node of its own, and one that emits."""
    nodes = [node_with(mesh, s.name, s, export=export, **settings) for s in services]
    emitter = node_with(mesh, "emitter", export=export, **settings)
    async with running(*nodes, emitter):
        yield emitter


async def eventually(condition: Callable[[], object], within: float = 20.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


def of_cascades(spans: Iterable[ReadableSpan]) -> list[ReadableSpan]:
    """Those that Thence made."""
    return [span for span in spans if (span.attributes or {}).get("messaging.system") == "thence"]


def roots_of(spans: Iterable[ReadableSpan]) -> dict[str, list[ReadableSpan]]:
    """The spans by the root events of their cascades."""
    found: dict[str, list[ReadableSpan]] = defaultdict(list)
    for span in of_cascades(spans):
        found[str(span.attributes["messaging.message.conversation_id"])].append(span)
    return found


def trace_of(event_id: str) -> list[ReadableSpan]:
    """The spans of the cascade of that root event."""
    return roots_of(KEPT.get_finished_spans()).get(event_id, [])


def shape_of(spans: Iterable[ReadableSpan]) -> Counter[tuple[str, ...]]:
    """What spans are, without what differs each time: for each, its place and those of all above it."""
    spans = list(spans)
    known = {span.context.span_id: span for span in spans}
    assert len(known) == len(spans), "a span came twice"

    def way(span: ReadableSpan) -> tuple[str, ...]:
        attributes = span.attributes or {}
        name = (
            f"{span.name} {attributes.get('thence.handler', '')} {attributes.get('error.type', '')}"
        )
        if span.parent is None:
            return (name,)
        above = known.get(span.parent.span_id)
        return (*(("?",) if above is None else way(above)), name)

    return Counter(map(way, spans))
