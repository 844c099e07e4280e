"""The services that a node hosts: how they are set up, and what keeps their keys where they belong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from thence.app.context import Context
from thence.app.local_line import LocalLine
from thence.app.service import Service
from thence.cascade.settlement import MAX_TEXT
from thence.clock import LoopClock
from thence.delivery.dispatch import Dispatcher
from thence.delivery.emission import Emitter, undeclared
from thence.delivery.fleet import Fleet, FleetGate
from thence.delivery.hosted import HostedHandler, HostedService, Subscription
from thence.delivery.loop_guard import LoopGuard
from thence.delivery.ownership import Ownership
from thence.delivery.routes import RouteTable
from thence.delivery.tracking import Tracker
from thence.errors import ThenceError
from thence.events import Catalog, Event, spec_of
from thence.events.envelope import (
    Arrival,
    Extras,
    all_extras_for,
    due_of,
    event_id_of,
    full_lineage_of,
    lineage_of,
)
from thence.facts import Ring
from thence.flow.limit import RateGate, gate_for
from thence.limits import Limit
from thence.mesh.discovery.contract import Discovery
from thence.mesh.link import Link
from thence.mesh.messages import Moved, Released
from thence.mesh.peers import Peers
from thence.routing.replicas import block_of

__all__ = ["Hosting"]

_encode = msgspec.msgpack.Encoder().encode


class Hosting:
    """The hosted services of one node, and everything that runs their handlers."""

    def __init__(
        self,
        name: str,
        services: Sequence[Service],
        *,
        catalog: Catalog,
        discovery: Discovery,
        peers: Peers,
        table: RouteTable,
        emitter: Emitter,
        tracker: Tracker,
        loops: LoopGuard,
        ring: Ring,
    ) -> None:
        self.services: dict[str, HostedService] = {}
        self.subscriptions: dict[int, Subscription] = {}
        """By their numbers on the wire."""
        self._node = table.node
        self._name = name
        self._catalog = catalog
        self._discovery = discovery
        self._peers = peers
        self._table = table
        self._emitter = emitter
        self._loop = asyncio.get_running_loop()
        self._clock = LoopClock(self._loop)
        self.dispatcher = Dispatcher(
            peers.cork,
            emitter.emit_consequences,
            self._make_context,
            self._give_back,
            tracker.branches,
            loops,
            name[:MAX_TEXT],
            ring,
        )
        self.admission = self.dispatcher.admission
        self.fleet = Fleet(
            self._node,
            self.services,
            discovery.block_locks,
            self._replica_links,
            self.admission.queueing.look_again,
        )
        self.line = LocalLine(
            self._node,
            "+".join(service.name for service in services) or name,
            tracker,
            peers.now,
            self._process_locally,
        )
        """What this node emits to its own services."""
        try:
            for service in services:
                self._host(service)
        except BaseException:
            self.dispatcher.stop()
            raise

    @property
    def handlers(self) -> Iterator[HostedHandler]:
        """The handlers of all services."""
        for service in self.services.values():
            yield from service.handlers

    @property
    def is_busy(self) -> bool:
        """Whether anything is unfinished."""
        return bool(self.line or any(service.unfinished for service in self.services.values()))

    def open(self) -> None:
        """The services take events from now on."""
        self._table.set_ready(self._node, frozenset(self.services))
        for service in self.services.values():
            self._update_ownership(service)
        self.fleet.start()

    def leave_to_others(self) -> None:
        """This node leaves: services that others host too get no new events here."""
        table = self._table
        others = {name for name in self.services if table.replicas(name) - {self._node}}
        if others:
            table.set_ready(self._node, frozenset(self.services) - others)
            for name in others:
                table.place(name)
                self._update_ownership(self.services[name])

    def close(self) -> None:
        """Begin nothing more and let go of everything."""
        self.dispatcher.stop()
        self.fleet.close()
        for service in self.services.values():
            if service.ownership is not None:
                service.ownership.close()
            for handler in service.handlers:
                handler.close()

    def dissolve(self) -> None:
        """Nothing arrives any more: let nothing be kept alive that has ended."""
        if not self.is_busy:
            self.line.close()
            # The codec remembers the unions of classes that it was last asked for, and all that these hold.
            for subscription in self.subscriptions.values():
                subscription.arrival.subscription = None

    def replicas_changed(self, services: Iterable[str]) -> None:
        """Nodes have come or gone that host these services."""
        for name in services:
            hosted = self.services.get(name)
            if hosted is not None:
                self._update_ownership(hosted)

    def link_lost(self, link: Link) -> None:
        """Nothing comes over that link any more."""
        for service in self.services.values():
            if service.ownership is not None:
                service.ownership.forget(link)

    def blocks_released(self, service: str) -> None:
        """Another replica of a service has let go of keys."""
        hosted = self.services.get(service)
        if hosted is not None and hosted.ownership is not None:
            hosted.ownership.take()
            self.admission.wake()

    def fence(
        self, service: str, link: Link, blocks: Iterable[int], ended: Callable[[], None]
    ) -> None:
        """Call ``ended`` when all keyed events that came over that link for a service have ended.

        None of ``blocks`` come before that.
        """
        hosted = self.services.get(service)
        if hosted is None:
            ended()
        else:
            self.admission.fence(hosted, link, blocks, ended)

    def fence_locally(
        self, service: str, blocks: frozenset[int], ended: Callable[[], None]
    ) -> None:
        """The same for what this node itself has emitted."""
        hosted = self.services.get(service)
        if hosted is None:
            self._loop.call_soon(ended)
        else:
            # What was emitted in this tick is still in the line.
            self._loop.call_soon(self.admission.fence, hosted, self.line, blocks, ended)

    # -- setting up

    def _host(self, service: Service) -> None:
        hosted = HostedService(service.name, service.concurrency, service.limits, self._make_gate)
        self.services[service.name] = hosted
        wanted: dict[tuple[type[Event], bool], list[HostedHandler]] = {}
        for spec in service.handlers:
            handler = HostedHandler(spec, hosted, self.dispatcher.expired)
            hosted.handlers.append(handler)
            for event in spec.events:
                self._catalog.add(event)
                wanted.setdefault((event, spec.policy.broadcast), []).append(handler)
            for event in handler.declared:
                self._catalog.add(event)
        for (event, broadcast), handlers in wanted.items():
            number = len(self.subscriptions)
            subscription = Subscription(spec_of(event), number, hosted, handlers, broadcast)
            self.subscriptions[number] = subscription
            hosted.subscriptions.append(subscription)
            outlet = self.line.outlet_for(subscription)
            self._table.add_local(subscription.event.name, service.name, broadcast, outlet)
        if any(subscription.owned for subscription in hosted.subscriptions):
            hosted.ownership = Ownership(
                service.name,
                self._node,
                self._discovery.block_locks(service.name),
                admit=self.admission.admit,
                changed=hosted.refresh,
                gained=lambda blocks: self.fleet.taken_over(hosted, blocks),
                released=lambda: self._tell_released(service.name),
            )
        for handler in hosted.handlers:
            for event in handler.declared:
                self._table.route(spec_of(event))

    def _make_gate(self, limit: Limit) -> RateGate:
        if limit.scope == "service" and limit.per is None:
            return FleetGate(limit, self._node)
        return gate_for(limit)

    def _replica_links(self, service: str) -> list[Link]:
        """Also to those that are about to leave, as one of them may lend shares until it has gone."""
        links = self._peers.links.values()
        return [link for link in links if link.peer is not None and service in link.peer.services]

    # -- keys that move

    def _update_ownership(self, service: HostedService) -> None:
        ownership = service.ownership
        if ownership is None:
            return
        blocks = [
            block_of(getattr(arrival.body, arrival.subscription.key))
            for arrival in service.unfinished
            if arrival.subscription.owned
        ]
        for arrival in ownership.update(self._table.replicas(service.name), blocks):
            self.admission.give_up(arrival)
        self.admission.wake()

    def _tell_released(self, service: str) -> None:
        for node in self._table.replicas(service) - {self._node}:
            link = self._peers.links.get(node)
            if link is not None:
                link.say(Released(service))

    def _give_back(self, arrival: Arrival, owner: str) -> None:
        subscription: Subscription = arrival.subscription
        source = arrival.source
        if source is self.line:
            outlet = self.line.outlets[subscription.number]
            outlet.acknowledged(1)
            outlet.judged(arrival.sequence, "", 0.0)
            self._table.returned_locally(
                subscription.event.name,
                subscription.service.name,
                owner,
                arrival,
                full_lineage_of(arrival),
            )
            return
        extras, lineage = arrival.extras, lineage_of(arrival)
        if extras is not None and lineage is not None:
            # The emitter's numbers may stand for something else by now: this node tells its own.
            numbered = all_extras_for(lineage, source, bool(extras.tracked), extras.sent)
            arrival.extras = replace(
                msgspec.convert(numbered, Extras),
                deadline=extras.deadline,
                began=extras.began,
            )
        arrival.lineage = arrival.source = arrival.since = arrival.due = None
        envelope = msgspec.Raw(_encode(arrival))
        source.say(Moved(subscription.service.name, owner, (envelope,)))

    # -- running

    def _process_locally(self, line: LocalLine, arrivals: list[Arrival]) -> None:
        with self._peers.cork:
            self.dispatcher.process(line, arrivals)

    def _make_context(self, handler: HostedHandler, arrival: Arrival) -> Context:
        def check(event: Event) -> None:
            if event.__class__ not in handler.declared:
                raise undeclared(event, handler)
            if not self.dispatcher.is_at_work_on(handler, arrival):
                raise ThenceError(
                    f"ctx.emit of handler {handler.name!r} of service {handler.service.name!r} was called after its "
                    "end, when what it had been given has left already: await in the handler what calls it, or "
                    "use 'await node.emit(event)' there"
                )

        return Context(
            event_id=event_id_of(arrival),
            lineage=full_lineage_of(arrival),
            source=arrival.source.label,
            state=handler.service.state,
            check=check,
            logger=logging.getLogger(f"thence.service.{handler.service.name}"),
            clock=self._clock,
            due=due_of(arrival),
            credits=self._emitter.credits_of(handler, arrival),
        )
