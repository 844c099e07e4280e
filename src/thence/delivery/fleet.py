"""Limits over all replicas of a service: carrying out what :mod:`thence.flow.fleet` decides.

Whichever replica holds the service's lock lends the shares. The others ask it about ten times a second; none
asks anybody for an event. A limit for each value of the key needs no shares, as a key is handled by one
replica at a time: there a replica begins without credit for the keys that it takes over.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from thence.clock import stopwatch
from thence.delivery.hosted import HostedHandler, HostedService
from thence.flow.fleet import LEASE, Allocator, Grant, Share, ShareRequest
from thence.flow.limit import KeyedGate
from thence.limits import Limit
from thence.mesh.discovery.contract import BlockLocks
from thence.mesh.frames import BadFrame
from thence.mesh.link import Link
from thence.mesh.messages import ShareAsked, ShareLent

__all__ = ["Fleet", "FleetGate"]

SOON = 0.001
"""Seconds between two rounds of requests at least."""


class FleetGate:
    """This replica's share of one limit. Implements :class:`thence.flow.limit.RateGate`."""

    __slots__ = ("limit", "share")

    def __init__(self, limit: Limit, node: str) -> None:
        self.limit = limit
        self.share = Share(node)

    def admit(self, event: Any, source: str, now: float) -> float:
        """Let the event in (0.0), or tell how many seconds it is too early."""
        early = self.wait(event, source, now)
        if not early:
            self.share.take(now)
        return early

    def wait(self, event: Any, source: str, now: float) -> float:
        """Seconds until it may come; while there is no share, until there may be one."""
        early = self.share.wait(now)
        return min(LEASE, early)

    def take(self, event: Any, source: str, now: float) -> None:
        """It comes now."""
        self.share.take(now)

    def refused(self) -> None:
        """It was wanted all the same."""
        self.share.refused()

    def change(self, limit: Limit, now: float) -> None:
        """Whoever lends the shares hears of it by itself."""
        self.limit = limit


class Fleet:
    """The shares of one node's services, and what it lends of those whose lock it holds.

    ``links_of(service)`` are the links to its other replicas; ``look_again(handler)`` is called when a
    handler's share has changed.
    """

    def __init__(
        self,
        node: str,
        services: Mapping[str, HostedService],
        locks_of: Callable[[str], BlockLocks],
        links_of: Callable[[str], Iterable[Link]],
        look_again: Callable[[HostedHandler], None],
    ) -> None:
        self._node = node
        self._services = services
        self._locks_of = locks_of
        self._links_of = links_of
        self._look_again = look_again
        self._loop = asyncio.get_running_loop()
        self._now = stopwatch(self._loop)
        self._allocators: dict[tuple[str, str], Allocator] = {}
        self._locks: dict[str, BlockLocks] = {}
        """Of the services whose shares this node lends."""
        self._lender: dict[str, Link] = {}
        """By service, who has answered last."""
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Ask for shares from now on, where there are limits that need them."""
        self._schedule()

    def close(self) -> None:
        """Ask for nothing and lend nothing any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for locks in self._locks.values():
            locks.release([0])
        self._locks.clear()
        self._allocators.clear()

    def taken_over(self, service: HostedService) -> None:
        """Blocks of keys have come from another replica, or may have."""
        now = self._now()
        for gate in _gates_of(service):
            if isinstance(gate, KeyedGate) and gate.limit.scope == "service":
                gate.restart(now)

    def forget(self, node: str) -> None:
        """That node is certainly gone."""
        for allocator in self._allocators.values():
            allocator.forget(node)

    def asked(self, link: Link, message: ShareAsked) -> None:
        """A replica asks for its share; whoever lends none does not answer."""
        request = message.request
        if (
            request.replica != link.node
            or not 0 <= request.demand < math.inf
            or request.waiting < 0
        ):
            raise BadFrame("garbage", "a request for a share that makes no sense")
        grant = self._answer(message.service, message.place, request)
        if grant is not None:
            link.say(ShareLent(message.service, message.place, grant))

    def lent(self, link: Link, message: ShareLent) -> None:
        """A share, from whoever lends them."""
        self._lender[message.service] = link
        self._apply(message.service, message.place, message.grant)
        self._schedule()

    def _answer(self, service: str, place: str, request: ShareRequest) -> Grant | None:
        now = self._now()
        gate = self._gates(service).get(place)
        if gate is None or self._closed or not self._lends(service):
            return None
        allocator = self._allocators.get((service, place))
        if allocator is None:
            allocator = Allocator(gate.limit.rate, gate.limit.burst, now)
            self._allocators[service, place] = allocator
        elif (allocator.rate, allocator.burst) != (gate.limit.rate, gate.limit.burst):
            allocator.change(gate.limit.rate, gate.limit.burst)
        return allocator.answer(request, now)

    def _lends(self, service: str) -> bool:
        """Whether this node holds the service's lock, having tried to take it."""
        if service not in self._locks:
            locks = self._locks_of(f"{service} limits")
            if not locks.acquire([0]):
                return False
            self._locks[service] = locks
        return True

    def _ask(self) -> None:
        """One round of requests, as far as they are due."""
        self._timer = None
        for name in self._services:
            for place, gate in self._gates(name).items():
                if gate.share.asks <= self._now():
                    self._ask_for(name, place, gate)
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = [gate.share.asks for name in self._services for gate in self._gates(name).values()]
        if due and not self._closed:
            self._timer = self._loop.call_later(max(min(due) - self._now(), SOON), self._ask)

    def _ask_for(self, service: str, place: str, gate: FleetGate) -> None:
        request = gate.share.request(self._now(), self._waiting(service, gate))
        if self._lends(service):
            grant = self._answer(service, place, request)
            if grant is not None:
                self._apply(service, place, grant)
            return
        lender = self._lender.get(service)
        known = lender is not None and lender.established and gate.share.until > self._now()
        for link in [lender] if lender is not None and known else self._links_of(service):
            link.say(ShareAsked(service, place, request))

    def _apply(self, service: str, place: str, grant: Grant) -> None:
        gate = self._gates(service).get(place)
        if gate is None or not _fits(grant, gate.limit):
            return
        gate.share.apply(grant, self._now())
        for handler in self._services[service].handlers:
            if handler.gate is not None and gate in handler.gate.gates:
                self._look_again(handler)

    def _waiting(self, service: str, gate: FleetGate) -> int:
        return sum(
            handler.line.size
            for handler in self._services[service].handlers
            if handler.gate is not None and gate in handler.gate.gates
        )

    def _gates(self, service: str) -> dict[str, FleetGate]:
        """The limits of a service that need shares, by a name that all its replicas give them."""
        hosted = self._services.get(service)
        if hosted is None:
            return {}
        owned = [("", hosted.gates), *((h.name, h.gates) for h in hosted.handlers)]
        return {
            f"{owner}#{index}": gate
            for owner, gates in owned
            for index, gate in enumerate(gates)
            if isinstance(gate, FleetGate)
        }


def _fits(grant: Grant, limit: Limit) -> bool:
    """Whether it is a part of the limit as it is known here; just after a change it may not be."""
    return grant.burst == 0 or (
        0 < grant.rate <= limit.rate * (1 + 1e-12) and 0 < grant.burst <= limit.burst
    )


def _gates_of(service: HostedService) -> Iterator[object]:
    yield from service.gates
    for handler in service.handlers:
        yield from handler.gates
