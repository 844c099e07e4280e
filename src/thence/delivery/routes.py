"""The route table: what this node knows about who wants what.

It is kept up to date as peers come and go, so that an emit only looks up its type: what an emit costs does
not depend on how many services there are.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from thence.budget import Budget
from thence.cascade.settlement import Failure
from thence.clock import stopwatch
from thence.delivery.about import EACH
from thence.delivery.advice import HeededAdvice
from thence.delivery.moves import KeyMoves
from thence.delivery.outlets import LinkOutlet, Outlet
from thence.delivery.receipts import Sending
from thence.delivery.targets import Parcel, Route, Target
from thence.delivery.tracking import Tracker
from thence.events import Catalog, Event, EventSpec, spec_of
from thence.events.envelope import Arrival
from thence.events.lineage import Lineage
from thence.events.schema import incompatibility
from thence.identifiers import EventId
from thence.mesh.cork import Cork
from thence.mesh.frames import BadFrame
from thence.mesh.link import Link
from thence.mesh.messages import Advice, Incompatible, Moved, Subscribed
from thence.routing.placement import Placement

__all__ = ["RouteTable"]

logger = logging.getLogger("thence.routing")


class RouteTable:
    """The routes of every type emitted here, and the replicas behind them."""

    def __init__(
        self,
        node: str,
        name: str,
        catalog: Catalog,
        is_dead: Callable[[str], bool],
        fence_locally: Callable[[str, frozenset[int], Callable[[], None]], None],
        cork: Cork,
        budget: Budget,
        tracker: Tracker,
    ) -> None:
        self.node = node
        self._tracker = tracker
        self.routes: dict[type[Event], Route] = {}
        self.lost: Counter[tuple[str, str, str]] = Counter()
        """Events that were sent and are not accounted for, or could not be sent: by event, service, reason."""
        self.links: dict[str, Link] = {}
        self.outlet_to = LinkOutlet
        """Makes the way to a subscription of a peer."""
        self.moves = KeyMoves(
            node=node,
            link_to=self.links.get,
            fence_locally=fence_locally,
            decode=self._decode,
            is_dead=is_dead,
            lose=self.count_lost,
            decide=tracker.decide,
            flush=cork.release,
        )
        self.budget = budget
        """What the cascade of a root event of this node may use up."""
        self.placements: dict[str, Placement[Parcel]] = {}
        self._name = name
        self._catalog = catalog
        self._targets: dict[str, dict[tuple[str, bool], Target]] = {}
        self._wanted: dict[tuple[str, str, str], Subscribed] = {}
        """What a node's service said it wants: by event, service and node."""
        self._ready: dict[str, frozenset[str]] = {}
        """The services of each node that takes events."""
        self._told: set[tuple[str, str, str]] = set()
        self._now = stopwatch(asyncio.get_running_loop())

    # -- what is emitted here

    def route(self, spec: EventSpec[Any]) -> Route:
        """The route of a type that is emitted here, made at its first use."""
        route = self.routes.get(spec.type)
        if route is None:
            self._catalog.add(spec.type)
            sending = Sending(self.node, (), (), self._tracker)
            route = self.routes[spec.type] = Route(spec, sending)
            self._refresh(spec.name)
        return route

    def _decode(self, event: str, payload: bytes) -> Event:
        spec = next(route.spec for route in self.routes.values() if route.spec.name == event)
        return spec.decode(payload)

    def count_lost(self, target: Target, reason: str, count: int = 1) -> None:
        """Account for events that a service does not get."""
        if count:
            self.lost[target.event, target.service, reason] += count

    # -- who is there

    def add_local(self, event: str, service: str, broadcast: bool, outlet: Outlet) -> None:
        """A service of this very node wants that type."""
        target = self._target(event, service, broadcast)
        target.local = self.node
        target.attach(self.node, outlet)

    def add_link(self, link: Link) -> None:
        """A peer has introduced itself: note what it wants. It gets nothing before it is ready."""
        assert link.peer is not None
        self.links[link.node] = link
        for wanted in link.peer.subscribed:
            outlet = self.outlet_to(link, wanted)
            link.outlets[wanted.number] = outlet
            self._target(wanted.schema.name, wanted.service, wanted.broadcast).attach(
                link.node, outlet
            )
            self._wanted[wanted.schema.name, wanted.service, link.node] = wanted
        self._refresh(*{wanted.schema.name for wanted in link.peer.subscribed})

    def drop_link(self, link: Link, dead: bool) -> None:
        """The connection ended; what was unacknowledged on it is lost."""
        node = link.node
        del self.links[node]
        outlets = tuple(link.outlets.values())
        link.outlets.clear()
        for outlet in outlets:
            target = outlet.target
            del target.outlets[node]
            self._wanted.pop((target.event, target.service, node), None)
        self._refresh(*{outlet.target.event for outlet in outlets})
        if dead:
            self.forget(node)
        else:
            self.moves.gone(node)
        # Those that wait there look for another place at once, so the routes come first.
        for outlet in outlets:
            self.count_lost(outlet.target, "connection lost", outlet.close())
            self._write_off(outlet)

    def _write_off(self, outlet: Outlet) -> None:
        """Nobody will tell any more what became of the tracked events that went there."""
        target: Target = outlet.target
        children, outlet.children = outlet.children, {}
        for sequence, branch in children.items():
            event_id = str(EventId(self.node, sequence))
            branch.child_lost(
                Failure("lost", target.event, event_id, target.service, "connection lost")
            )

    def set_ready(self, node: str, services: frozenset[str]) -> None:
        """That node's services take events from now on."""
        self._ready[node] = services
        for service in services:
            self.place(service)

    def set_leaving(self, node: str) -> None:
        """That node takes no more events, but still ends those that it has."""
        for service in self._ready.pop(node, frozenset()):
            self.place(service)

    def forget(self, node: str) -> None:
        """That node has certainly died: its keys belong to others now."""
        for service in self._ready.pop(node, frozenset()):
            self.place(service, dead=node)
        self.moves.gone(node)

    def replicas(self, service: str) -> frozenset[str]:
        """The nodes that take events for a service."""
        return frozenset(node for node, services in self._ready.items() if service in services)

    @property
    def is_outstanding(self) -> bool:
        """Whether peers have, or are still to get, events of this node that have not ended."""
        return self.held > 0 or any(
            o.outstanding for link in self.links.values() for o in link.outlets.values()
        )

    @property
    def held(self) -> int:
        """How many events wait here while their keys move from one replica to another."""
        return sum(placement.held for placement in self.placements.values() if placement.holds)

    def targets(self) -> Iterator[Target]:
        """Every service's wish for every event type."""
        for targets in self._targets.values():
            yield from targets.values()

    def services_of(self, node: str) -> frozenset[str]:
        """The services of a node that takes events."""
        return self._ready.get(node, frozenset())

    def returned(self, link: Link, message: Moved) -> None:
        """A peer gives back events that it had not begun, because their keys belong to another now."""
        placement = self.placements.get(message.service)
        if placement is None:
            raise BadFrame(
                "garbage", f"events given back for an unknown service {message.service!r}"
            )
        self.moves.returned(link, placement, message)

    def returned_locally(
        self, event: str, service: str, owner: str, arrival: Arrival, lineage: Lineage | None
    ) -> None:
        """The same, from a service of this very node."""
        target = self._targets[event][service, False]
        block, _ = target.placement.hold_for(target.key_of(arrival.body))
        body: Event = arrival.body
        payload = spec_of(type(body)).encode(body)
        branch = target.outlets[self.node].children.pop(arrival.sequence, None)
        parcel = Parcel(
            target,
            block,
            arrival.sequence,
            payload,
            body,
            lineage,
            arrival.credits,
            branch,
            arrival.extras.sent if arrival.extras else 0,
        )
        target.placement.give_back(parcel, self.node, owner)

    def heed(self, outlet: Outlet, advice: Advice, now: float) -> None:
        """For a while, not all events are worth sending through that outlet.

        :raises ConfigurationError: the advice makes no sense.
        """
        target: Target = outlet.target
        heeded = outlet.advice
        if heeded is not None and heeded.renew(advice, now):
            return
        spec = next(r.spec for r in self.routes.values() if r.spec.name == target.event)
        outlet.advice = HeededAdvice(advice, spec.type, now)
        self._refresh(target.event)
        if heeded is None:
            self._forget_advice(outlet, now)

    def _forget_advice(self, outlet: Outlet, now: float) -> None:
        """Send as ever through that outlet when its advice does not hold any more."""
        advice = outlet.advice
        if advice is None or outlet.closed:
            return
        if now < advice.until:
            loop = asyncio.get_running_loop()
            loop.call_later(advice.until - now, lambda: self._forget_advice(outlet, self._now()))
        else:
            outlet.advice = None
            self._refresh(outlet.target.event)

    def set_congested(self, link: Link, congested: bool) -> None:
        """More waits on that link than its peer takes."""
        for outlet in link.outlets.values():
            outlet.set_congested(congested)

    # -- inside

    def _target(self, event: str, service: str, broadcast: bool) -> Target:
        targets = self._targets.setdefault(event, {})
        target = targets.get((service, broadcast))
        if target is None:
            placement = self._placement(service)
            target = targets[service, broadcast] = Target(event, service, broadcast, placement)
        return target

    def _placement(self, service: str) -> Placement[Parcel]:
        known = self.placements.get(service)
        if known is not None:
            return known
        placement: Placement[Parcel] = Placement(
            service,
            outstanding=lambda node: self._is_outstanding(service, node),
            fence=lambda hold: self.moves.fence(placement, hold),
            changed=lambda: self._refresh_service(service),
        )
        self.placements[service] = placement
        return placement

    def place(self, service: str, dead: str | None = None) -> None:
        """The replicas of a service may have changed."""
        self._placement(service).update(self.replicas(service), dead)

    def _is_outstanding(self, service: str, node: str) -> bool:
        """Whether that node has events of ours for that service which have not ended."""
        return any(
            target.service == service
            and node in target.outlets
            and target.outlets[node].outstanding
            for target in self.targets()
        )

    def _refresh_service(self, service: str) -> None:
        self._refresh(
            *(event for event, targets in self._targets.items() if _wants(targets, service))
        )

    def _refresh(self, *events: str) -> None:
        """Work out the routes of these event types anew."""
        for route in self.routes.values():
            name = route.spec.name
            if name not in events:
                continue
            targets = self._targets.get(name, {}).values()
            route.refusals = {}
            for target in targets:
                self._refuse_incompatible(route, target)
                target.refresh(route.spec.key)
            route.set_targets(
                tuple(target for target in targets if target.placement.nodes), self.budget
            )
            for target in list(targets):
                target.review()

    def _refuse_incompatible(self, route: Route, target: Target) -> None:
        target.refused.clear()
        for node in target.outlets:
            wanted = self._wanted.get((target.event, target.service, node))
            if wanted is None or wanted.schema == route.spec.schema:
                continue
            problem = incompatibility(route.spec.schema, wanted.schema)
            if problem is None:
                continue
            target.refused.add(node)
            route.refusals[target.service] = (
                f"not sent from {self._name} to service {target.service!r}: {problem}"
            )
            if (target.event, target.service, node) in self._told:
                continue
            self._told.add((target.event, target.service, node))
            link = self.links[node]
            logger.error(
                "event %r is not sent from %s to service %r on %r: %s",
                target.event, self._name, target.service, link, problem,
                extra=EACH,
            )  # fmt: skip
            link.say(Incompatible(target.service, target.event, problem))


def _wants(targets: dict[tuple[str, bool], Target], service: str) -> bool:
    return (service, False) in targets or (service, True) in targets
