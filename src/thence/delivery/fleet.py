"""Limits over all replicas of a service: carrying out what :mod:`thence.flow.fleet` decides.

Whichever replica holds a limit's lock lends the shares. The others ask it about ten times a second; none
asks anybody for an event. A limit for each value of the key needs no shares, as a key is handled by one
replica at a time: there a replica begins without credit for the keys that it takes over.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from thence.clock import stopwatch
from thence.delivery.about import EACH
from thence.delivery.hosted import HostedHandler, HostedService
from thence.flow.fleet import LEASE, MEMORY, STANDING, Allocator, Grant, Share, ShareRequest
from thence.flow.limit import KeyedGate, RateGate
from thence.flow.turns import Turns
from thence.limits import Limit
from thence.mesh.discovery.contract import BlockLocks
from thence.mesh.frames import BadFrame
from thence.mesh.link import Link
from thence.mesh.messages import ShareAsked, ShareLent
from thence.routing.replicas import block_of

__all__ = ["Fleet", "FleetGate"]

logger = logging.getLogger("thence")

SOON = 0.001
"""Seconds between two rounds of requests at least."""
NOTICEABLE = 0.05
"""Seconds within :data:`MEMORY` for which something else held a handler back, if that is to count."""

Place: TypeAlias = tuple[str, str]
"""A service, and a name that all its replicas give to one of its limits."""


class FleetGate:
    """This replica's share of one limit. Its users ask it through a seat each."""

    __slots__ = ("limit", "share", "turns")

    def __init__(self, limit: Limit, node: str) -> None:
        self.limit = limit
        # A gate may take the place of another one, whose requests must not be taken for later ones.
        self.share = Share(node, time.monotonic_ns() // 1000)
        self.turns = Turns()

    @property
    def reason(self) -> str:
        """Why it has refused an event just now."""
        return f"limit {self.limit}"

    def seat(self) -> Seat:
        """What one of its users asks."""
        return Seat(self)

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


class Seat:
    """One handler's access to a share, which it may have to itself or not.

    Implements :class:`thence.flow.limit.RateGate`.
    """

    __slots__ = (
        "_began",
        "_elsewhere",
        "_looked_at",
        "_patient",
        "_share",
        "_started",
        "_turns",
        "gate",
    )

    def __init__(self, gate: FleetGate) -> None:
        self.gate = gate
        self._share, self._turns = gate.share, gate.turns
        self._patient = True
        """Whether what is refused here waits, and comes back."""
        self._began = 0
        """Events let in since the last look."""
        self._looked_at = -math.inf
        self._started = self._elsewhere = 0.0
        """Of late: events let in, and seconds in which something else held the line back."""

    @property
    def limit(self) -> Limit:
        """The limit, as it is known here."""
        return self.gate.limit

    @property
    def reason(self) -> str:
        """Why it has refused an event just now."""
        return self.gate.reason

    def seat(self) -> Seat:
        """This one."""
        return self

    def admit(self, event: Any, source: str, now: float) -> float:
        """Let the event in (0.0), or tell how many seconds it is too early."""
        early = self.wait(event, source, now)
        if not early:
            self.take(event, source, now)
        return early

    def wait(self, event: Any, source: str, now: float) -> float:
        """Seconds until it may come."""
        early = self._share.wait(now)
        early = min(early, LEASE)
        if self._patient and (early or self._turns.line):
            early = self._turns.wait(self, early, self.gate.limit, now)
        return early

    def take(self, event: Any, source: str, now: float) -> None:
        """It comes now."""
        self._share.take(now)
        if self._turns.line:
            self._turns.take(self, self.gate.limit)
        self._began += 1

    def refused(self) -> None:
        """It was wanted all the same."""
        self._patient = False
        self._turns.leave(self)
        self._share.refused()

    def change(self, limit: Limit, now: float) -> None:
        """For all who sit there."""
        self.gate.change(limit, now)

    def waiting(self, handler: HostedHandler, now: float) -> int:
        """How many of those in line wait for this limit, rather than for a place or for another limit.

        If those others would let it begin so many a second, it is no use to it to be let in more often.
        """
        assert handler.gate is not None
        line = handler.line.size
        elsewhere = bool(line) and not (handler.has_place and handler.gate.refused_by is self)
        passed = now - self._looked_at
        fade = math.exp(-passed / max(MEMORY, 4 / self.limit.rate))
        self._started = self._started * fade + self._began
        self._elsewhere = self._elsewhere * fade + (passed if elsewhere else 0.0)
        self._began, self._looked_at = 0, now
        if self._elsewhere < NOTICEABLE or not line:
            return line
        at_once = 0 if elsewhere else handler.concurrency - handler.in_flight
        return min(line, max(at_once, int(self._started / self._elsewhere * STANDING)))


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
        self._gates: dict[Place, FleetGate] = {}
        """The limits that need shares."""
        self._allocators: dict[Place, Allocator] = {}
        self._locks: dict[Place, BlockLocks] = {}
        """Of the limits whose shares this node lends."""
        self._lenders: dict[Place, Link] = {}
        """Who has answered last."""
        self._warned: set[Place] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Ask for shares from now on, where there are limits that need them. Again, when limits have changed."""
        self._gates = {
            (name, place): gate
            for name, service in self._services.items()
            for place, gate in _fleet_gates(service)
        }
        for place in self._locks.keys() - self._gates.keys():
            # Another replica may still have this limit, and be able to lend shares of it.
            self._locks.pop(place).release([0])
            self._allocators.pop(place, None)
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

    def taken_over(self, service: HostedService, blocks: Collection[int]) -> None:
        """These blocks of keys have come from another replica, or may have."""
        now = self._now()
        for gates in (service.gates, *(handler.gates for handler in service.handlers)):
            for gate in gates:
                if isinstance(gate, KeyedGate) and gate.limit.scope == "service":
                    gate.restart(blocks, block_of, now)

    def forget(self, node: str) -> None:
        """That node is certainly gone."""
        for allocator in self._allocators.values():
            allocator.forget(node)

    def asked(self, link: Link, message: ShareAsked) -> None:
        """A replica asks for its share; whoever lends none does not answer."""
        request = message.request
        if not (
            request.replica == link.node
            and 0 <= request.applied <= request.number
            and 0 <= request.demand < math.inf
            and request.waiting >= 0
        ):
            raise BadFrame("garbage", "a request for a share that makes no sense")
        grant = self._answer((message.service, message.place), request)
        if grant is not None:
            link.say(ShareLent(message.service, message.place, grant))

    def lent(self, link: Link, message: ShareLent) -> None:
        """A share, from whoever lends them."""
        grant, place = message.grant, (message.service, message.place)
        if not (
            grant.turn >= 0
            and 0 <= grant.again < math.inf
            and (grant.burst == 0 or (grant.burst > 0 and 0 < grant.rate < math.inf))
        ):
            raise BadFrame("garbage", "a share that makes no sense")
        if place in self._gates:
            self._lenders[place] = link
            self._apply(place, grant)
            self._schedule()

    def _answer(self, place: Place, request: ShareRequest) -> Grant | None:
        now = self._now()
        gate = self._gates.get(place)
        if gate is None or self._closed or not self._lends(place):
            return None
        allocator = self._allocators.get(place)
        if allocator is None:
            allocator = Allocator(gate.limit.rate, gate.limit.burst, now)
            self._allocators[place] = allocator
        elif (allocator.rate, allocator.burst) != (gate.limit.rate, gate.limit.burst):
            allocator.change(gate.limit.rate, gate.limit.burst)
        return allocator.answer(request, now)

    def _lends(self, place: Place) -> bool:
        """Whether this node holds the limit's lock, having tried to take it.

        A lock for each limit, as not every replica has them all: one may be of another version, or have
        heard of a change that others have not.
        """
        if place not in self._locks:
            service, name = place
            locks = self._locks_of(f"{service} limits {name}")
            if not locks.acquire([0]):
                return False
            self._locks[place] = locks
        return True

    def _ask(self) -> None:
        """One round of requests, as far as they are due."""
        self._timer = None
        self._lenders = {p: link for p, link in self._lenders.items() if link.established}
        for place, gate in self._gates.items():
            if gate.share.asks <= self._now():
                self._ask_for(place, gate)
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._gates and not self._closed:
            due = min(gate.share.asks for gate in self._gates.values())
            self._timer = self._loop.call_later(max(due - self._now(), SOON), self._ask)

    def _ask_for(self, place: Place, gate: FleetGate) -> None:
        service, name = place
        now = self._now()
        waiting = sum(seat.waiting(handler, now) for handler, seat in self._users(service, gate))
        request = gate.share.request(now, waiting)
        replicas = list(self._links_of(service))
        self._check_burst(place, gate, len(replicas) + 1)
        if self._lends(place):
            grant = self._answer(place, request)
            if grant is not None:
                self._apply(place, grant)
            return
        lender = self._lenders.get(place)
        known = lender is not None and lender.established and gate.share.until > now
        for link in [lender] if lender is not None and known else replicas:
            link.say(ShareAsked(service, name, request))

    def _apply(self, place: Place, grant: Grant) -> None:
        gate, limit = self._gates[place], self._gates[place].limit
        if grant.burst:
            # Whoever lends may know of another limit than this replica, which holds both.
            rate, burst = min(grant.rate, limit.rate), min(grant.burst, limit.burst)
            grant = Grant(grant.request, rate, burst, grant.turn, grant.again)
        gate.share.apply(grant, self._now())
        for handler, _ in self._users(place[0], gate):
            self._look_again(handler)

    def _users(self, service: str, gate: FleetGate) -> list[tuple[HostedHandler, Seat]]:
        """The handlers whose events this limit holds."""
        return [
            (handler, seat)
            for handler in self._services[service].handlers
            if handler.gate is not None
            for seat in handler.gate.gates
            if isinstance(seat, Seat) and seat.gate is gate
        ]

    def _check_burst(self, place: Place, gate: FleetGate, replicas: int) -> None:
        """Tell once if replicas take turns, and what comes in between is dropped."""
        if replicas <= gate.limit.burst or place in self._warned:
            return
        hasty = [
            handler.name
            for handler, _ in self._users(place[0], gate)
            if handler.overflow in ("drop", "reject")
        ]
        if hasty:
            self._warned.add(place)
            logger.warning(
                "service %s has %d replicas, and limit %s has a burst of %d: they take turns, and %s sheds "
                'what comes in between, so less gets in than the limit allows; use overflow="wait", or a '
                "burst of at least %d",
                place[0],
                replicas,
                gate.limit,
                gate.limit.burst,
                " and ".join(hasty),
                2 * replicas,
                extra=EACH,
            )


def _fleet_gates(service: HostedService) -> Iterator[tuple[str, FleetGate]]:
    """The limits of a service that need shares, by a name that all its replicas give them."""
    owned: list[tuple[str, list[RateGate]]] = [("", service.gates)]
    owned += [(handler.name, handler.gates) for handler in service.handlers]
    for owner, gates in owned:
        for index, gate in enumerate(gates):
            if isinstance(gate, FleetGate):
                yield f"{owner}#{index}", gate
