"""What a node can tell about itself: for ``thence map``, for people, for tests. Counters since its start."""

from __future__ import annotations

import os
from functools import lru_cache

import msgspec
from msgspec import Struct

from thence.app.runtime import Runtime
from thence.events.schema import Schema
from thence.histogram import Histogram

__all__ = [
    "AccountReport",
    "EmittedReport",
    "HandlerReport",
    "NodeReport",
    "RouteReport",
    "report_on",
]


class AccountReport(Struct, frozen=True):
    """One type of event at one handler."""

    event: str
    handled: int
    failed: int
    shed: dict[str, int]
    """By reason."""
    in_flight: int
    """Runs that have suspended."""
    ran: Histogram
    """How long runs took. Of those that never suspended and came together with others a sample was timed, and each
    counts for several.
    """
    waited: Histogram
    """How long events were here before their run was begun."""


class HandlerReport(Struct, frozen=True):
    """One handler here."""

    service: str
    handler: str
    events: tuple[str, ...]
    emits: tuple[str, ...]
    handled: int
    failed: int
    shed: dict[str, int]
    in_flight: int
    waiting: int
    limits: tuple[str, ...] = ()
    """Its own, and then its service's."""
    breaker: str = "closed"
    """"closed", or why its events are shed: "open", or "probing"."""
    accounts: tuple[AccountReport, ...] = ()
    """The same by type of event, with times."""
    concurrency: int = 0
    """Runs that may be in flight; 0 if that is not told."""


class EmittedReport(Struct, frozen=True):
    """One event type emitted here."""

    event: str
    emitted: int
    unheard: int
    limits: tuple[str, ...] = ()
    """Of its type: what a node emits at most."""


class RouteReport(Struct, frozen=True):
    """What went from here to one service at one node."""

    event: str
    service: str
    node: str
    sent: int
    outstanding: int


class NodeReport(Struct, frozen=True):
    """A node, as it sees itself."""

    node: str
    name: str
    pid: int
    address: str
    ready: bool
    services: tuple[str, ...]
    peers: tuple[str, ...]
    handlers: tuple[HandlerReport, ...]
    emitted: tuple[EmittedReport, ...]
    routes: tuple[RouteReport, ...]
    lost: tuple[tuple[str, str, str, int], ...]
    """Event, service, reason, count: what was sent and is not accounted for, or found no room."""
    closures: dict[str, int]
    """Connections that ended, by reason."""
    invalid: dict[str, int]
    """Events that could not be decoded, by sender."""
    bytes_written: int
    service_limits: dict[str, tuple[str, ...]] = {}
    """By service, the limits that all its handlers share."""
    held: int = 0
    """Events that wait here while their keys move from one replica to another."""
    cascades: Histogram = Histogram()
    """How long the cascades of root events emitted here took, in the last minute: of those that were followed to
    their end, because their receipts were kept or as a sample.
    """
    all_cascades: Histogram = Histogram()
    """The same since the node's start."""
    lag: Histogram = Histogram()
    """How late the timers of its event loop were in the last minute."""
    all_lag: Histogram = Histogram()
    """The same since its start."""

    schemas: dict[str, str] = {}
    """By event type, the fingerprint of what this node understands by it: all that it emits, may emit or wants."""

    def encode(self) -> bytes:
        """For the wire; :meth:`decode` is the inverse."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> NodeReport:
        """A peer's report. Fields that this version does not know are passed over."""
        return msgspec.msgpack.decode(data, type=cls)


def report_on(runtime: Runtime) -> NodeReport:
    """The report of one running node."""
    table = runtime.table
    runtime.ring.digest()
    in_flight = runtime.dispatcher.in_flight()
    handlers = tuple(
        HandlerReport(
            service.name,
            handler.name,
            tuple(s.event.name for s in handler.subscriptions),
            tuple(sorted(event.__event__.name for event in handler.declared)),
            handler.handled,
            handler.failed,
            dict(handler.shed),
            handler.in_flight,
            handler.backlog,
            tuple(str(gate.limit) for gate in handler.gate.gates) if handler.gate else (),
            handler.breaker.state,
            tuple(
                AccountReport(
                    account.event,
                    account.handled,
                    account.failed,
                    dict(account.shed),
                    in_flight[account],
                    *account.times(),
                )
                for account in handler.accounts
            ),
            handler.concurrency,
        )
        for service in runtime.services.values()
        for handler in service.handlers
    )
    routes = tuple(
        RouteReport(target.event, target.service, node, outlet.sent, outlet.outstanding)
        for target in table.targets()
        for node, outlet in target.outlets.items()
        if outlet.sent
    )
    lost = table.lost + runtime.emitter.refused
    return NodeReport(
        node=runtime.node,
        name=runtime.name,
        pid=os.getpid(),
        address=runtime.traffic.address,
        ready=runtime.traffic.ready,
        services=tuple(runtime.services),
        peers=tuple(sorted(table.links)),
        handlers=handlers,
        emitted=tuple(
            EmittedReport(r.spec.name, r.emitted, r.unheard, tuple(map(str, r.spec.policy.limit)))
            for r in table.routes.values()
        ),
        routes=routes,
        lost=tuple((*key, count) for key, count in sorted(lost.items())),
        closures=dict(runtime.peers.closures),
        invalid=dict(runtime.traffic.invalid),
        bytes_written=runtime.peers.bytes_written,
        service_limits={
            service.name: tuple(str(gate.limit) for gate in service.gates)
            for service in runtime.services.values()
            if service.gates
        },
        held=table.held,
        cascades=runtime.cascade_times.histogram(),
        all_cascades=runtime.cascade_times.ever.histogram(),
        lag=runtime.lag.times.histogram(),
        all_lag=runtime.lag.times.ever.histogram(),
        schemas=_schemas(runtime),
    )


def _schemas(runtime: Runtime) -> dict[str, str]:
    specs = [route.spec for route in runtime.table.routes.values()]
    for handler in runtime.hosting.handlers:
        specs += [subscription.event for subscription in handler.subscriptions]
        specs += [event.__event__ for event in handler.declared]
    return {schema.name: _fingerprint(schema) for schema in {spec.schema for spec in specs}}


@lru_cache(maxsize=1000)
def _fingerprint(schema: Schema) -> str:
    return schema.fingerprint
