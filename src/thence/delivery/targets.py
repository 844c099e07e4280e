"""Who gets an event of one type: the services that want it, and for each the outlet to take."""

from __future__ import annotations

import random
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from thence.budget import Budget
from thence.cascade.credits import CUT, divide
from thence.cascade.settlement import Branch, Failure
from thence.delivery.outlets import Outlet
from thence.delivery.receipts import Sending
from thence.delivery.room import RoomLine
from thence.events import Event, EventSpec
from thence.events.envelope import DEFAULT
from thence.events.lineage import Lineage
from thence.flow.limit import Gate, gate_for
from thence.identifiers import EventId
from thence.routing.placement import Hold, Placement

__all__ = ["HeldOutlet", "Parcel", "Route", "Target"]

MAX_HELD = 10_000
"""Events that may wait while the keys of a service move."""


class Parcel(Struct, eq=False):
    """An event that waits while its key moves."""

    target: Target
    block: int
    sequence: int
    payload: bytes
    body: Event
    lineage: Lineage | None
    credits: int
    branch: Branch | None
    """Who waits for its end, if it is tracked."""
    sent: int

    def lose(self, node: str, reason: str) -> None:
        """It was not sent."""
        if self.branch is not None:
            event_id = str(EventId(node, self.sequence))
            self.branch.child_lost(
                Failure("lost", self.target.event, event_id, self.target.service, reason)
            )


class HeldOutlet(Outlet):
    """Stands in for the outlet of a key that is on its way to another replica."""

    __slots__ = ("_block", "_hold")

    def __init__(self, target: Target, block: int, hold: Hold[Parcel]) -> None:
        starts, spreads = _needs(target.outlets.values())
        super().__init__("", MAX_HELD, starts=starts, spreads=spreads)
        self.room = MAX_HELD - len(hold)
        self.target, self._block, self._hold = target, block, hold

    def send(
        self,
        sequence: int,
        payload: bytes,
        body: Event,
        lineage: Lineage | None = None,
        credits: int = 0,
        tracked: bool = False,
        sent: int = 0,
    ) -> None:
        """Let the event wait for its key."""
        branch = self.children.pop(sequence, None)
        target, block = self.target, self._block
        self._hold.waiting.append(
            Parcel(target, block, sequence, payload, body, lineage, credits, branch, sent)
        )

    def track(self, sequence: int, branch: Branch) -> None:
        """Have the event tracked, which has just begun to wait."""
        for parcel in reversed(self._hold.waiting):
            if parcel.sequence == sequence and parcel.target is self.target:
                parcel.branch = branch
                return
        target = self.target
        branch.child_lost(Failure("lost", target.event, "", target.service, "its key moved"))


class Target:
    """One service that wants one type of event."""

    __slots__ = (
        "_key",
        "broadcast",
        "candidates",
        "event",
        "line",
        "local",
        "only",
        "outlets",
        "placement",
        "refused",
        "service",
    )

    def __init__(
        self, event: str, service: str, broadcast: bool, placement: Placement[Parcel]
    ) -> None:
        self.event = event
        self.service = service
        self.broadcast = broadcast
        self.placement = placement
        self.outlets: dict[str, Outlet] = {}
        """By node; also those that are not ready yet, or leaving."""
        self.refused: set[str] = set()
        """Nodes whose idea of the type does not fit this node's."""
        self.local: str | None = None
        self.only: Outlet | None = None
        """The outlet for every event of this type, where there is no choice."""
        self.candidates: list[Outlet] = []
        self.line = RoomLine(self._is_choice)
        """Who waits for room at any of the outlets, where each of them would do."""
        self._key: str | None = None

    def attach(self, node: str, outlet: Outlet) -> None:
        """That node wants this type, through that outlet."""
        outlet.target = self
        self.outlets[node] = outlet

    def refresh(self, key: str | None) -> None:
        """Replicas, holds or outlets have changed; ``key`` is the field that orders events of this type."""
        self._key = key
        nodes = self.placement.nodes
        takers = {
            node: outlet for node, outlet in self.outlets.items() if node in nodes - self.refused
        }
        self.candidates = list(takers.values())
        self.only = None
        if key is None and not self.broadcast:
            for outlet in self.outlets.values():
                outlet.line = self.line
        if self.broadcast:
            return
        if key is None:
            if self.local in takers:
                self.only = takers[self.local]
            elif len(self.candidates) == 1:
                self.only = self.candidates[0]
        elif len(nodes) == 1 and not self.placement.holds and self.candidates:
            self.only = self.candidates[0]

    def review(self) -> None:
        """Have those who wait for room look whether they wait at the right place."""
        if self._key is None and not self.broadcast:
            self.line.review()
            return
        for outlet in list(self.outlets.values()):
            if outlet.line.waiting:
                outlet.line.review()

    def key_of(self, event: Event) -> object:
        """The value that orders this event among others."""
        assert self._key is not None
        return getattr(event, self._key)

    def choose(self, event: Event) -> Outlet | None:
        """The outlet for this event, one with room if there is a choice; None when nobody can take it."""
        if self.only is not None:
            return self.only
        if self._key is not None:
            block, hold = self.placement.hold_for(getattr(event, self._key))
            if hold is not None:
                return HeldOutlet(self, block, hold)
            return self.outlet_for(block)
        candidates = self.candidates
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        first, second = random.sample(candidates, 2)
        better = first if first.room >= second.room else second
        return better if better.room > 0 else max(candidates, key=_room_of)

    def _is_choice(self, outlet: Outlet) -> bool:
        """Whether an event without a key may go through that outlet."""
        if self.only is not None:
            return outlet is self.only
        return outlet in self.candidates

    def outlet_for(self, block: int) -> Outlet | None:
        """The outlet of the node that owns a block of keys; None when it can't be reached."""
        owner = self.placement.owner_of(block)
        return None if owner is None or owner in self.refused else self.outlets.get(owner)


class Route:
    """What emitting one type of event takes, looked up by its class."""

    __slots__ = (
        "emitted",
        "gate",
        "name",
        "needs",
        "outlets",
        "refusals",
        "root_outlet",
        "root_outlets",
        "seal",
        "sending",
        "services",
        "single",
        "spec",
        "targets",
        "unheard",
    )

    def __init__(self, spec: EventSpec[Event], sending: Sending) -> None:
        self.spec = spec
        self.name = spec.name
        self.seal = spec.seal
        self.sending = sending
        """For receipts of events that went to all :attr:`outlets`."""
        self.targets: tuple[Target, ...] = ()
        self.outlets: tuple[Outlet, ...] | None = ()
        """The outlets of all targets, when none of them leaves a choice."""
        self.single: Outlet | None = None
        """The outlet, when that is just one."""
        self.root_outlets: tuple[Outlet, ...] | None = ()
        """The same for root events with the node's budget, if that is no trouble either."""
        self.root_outlet: Outlet | None = None
        self.needs: tuple[tuple[int, bool], ...] = ()
        """For each of :attr:`outlets`, how many handlers it starts and whether they may emit anything."""
        self.services: tuple[str, ...] = ()
        """The services behind the targets."""
        self.refusals: dict[str, str] = {}
        """Services that can't be sent this type, and why."""
        self.emitted = self.unheard = 0
        limits = spec.policy.limit
        self.gate = Gate([gate_for(limit) for limit in limits]) if limits else None
        """What each emission has to pass."""

    def set_targets(self, targets: tuple[Target, ...], budget: Budget) -> None:
        """These services want the type now; a root event has that budget."""
        self.targets = targets
        enough = self._divide(targets, budget.events)
        self.services = tuple(dict.fromkeys(target.service for target in targets))
        outlets = [None if self.is_special(target) else target.only for target in targets]
        self.outlets = self.root_outlets = None
        self.needs = ()
        if None not in outlets and self.gate is None and not self.spec.policy.record:
            self.outlets = tuple(outlet for outlet in outlets if outlet is not None)
            self.needs = tuple((outlet.starts, outlet.spreads) for outlet in self.outlets)
            if enough and (budget.depth, budget.seconds) == (DEFAULT.depth, DEFAULT.seconds):
                self.root_outlets = self.outlets
        self.single = _only(self.outlets)
        self.root_outlet = _only(self.root_outlets)
        self.sending = replace(self.sending, targets=self.services, deliveries=self.outlets or ())

    def _divide(self, targets: tuple[Target, ...], credits: int) -> bool:
        """Note at each outlet what a root event may cause there; whether there is enough for all."""
        deliveries: list[list[Outlet]] = []
        for target in targets:
            if target.broadcast:
                deliveries += [[outlet] for outlet in target.candidates]
            else:
                deliveries.append(list(target.outlets.values()))
        shares = divide(credits, [_needs(outlets) for outlets in deliveries])
        for outlets, share in zip(deliveries, shares, strict=True):
            for outlet in outlets:
                outlet.root_credits = max(share, 0)
        return CUT not in shares

    def is_special(self, target: Target) -> bool:
        """Whether more is to be done than to send: the short way is for types without policies."""
        return self.spec.policy.ttl is not None or any(
            outlet.answers or outlet.advice is not None for outlet in target.outlets.values()
        )


def _room_of(outlet: Outlet) -> int:
    return outlet.room


def _needs(outlets: Iterable[Outlet]) -> tuple[int, bool]:
    """How many handlers an event starts at one of these replicas, and whether they may emit anything."""
    starts, spreads = 0, False
    for outlet in outlets:
        starts = max(starts, outlet.starts)
        spreads = spreads or outlet.spreads
    return max(starts, 1), spreads


def _only(outlets: tuple[Outlet, ...] | None) -> Outlet | None:
    return outlets[0] if outlets is not None and len(outlets) == 1 else None
