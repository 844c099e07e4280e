"""Putting together what became of an event, from the accounts of the nodes that were there.

A pure function of the accounts: any subset of facts, in any order, gives a tree without cycles and without an event
that nobody has told of, and what is missing is said to be missing.

Clocks: each node's moments are by its own stopwatch. How far these are apart is first taken from how long the
question and its answer were under way (as in Cristian, "Probabilistic clock synchronization", 1989), and then
corrected so far that nothing arrives before it was sent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from thence.identifiers import EventId
from thence.observability.accounts import Account, Ancestry, Fact, Pending, Ran, Refused, Sent

__all__ = ["Handling", "Heard", "Occurrence", "Outcome", "Trace", "assemble"]

Outcome: TypeAlias = Literal[
    "handled", "failed", "shed", "cut", "expired", "merged", "pending", "unknown"
]
WRONG: tuple[Outcome, ...] = ("failed", "shed", "cut", "expired", "unknown")
"""What should not have happened."""
SAME = 1e-6
"""Seconds by which moments may differ and still be taken for the same."""


class Heard(Struct, frozen=True):
    """An account, and what is known of its node's clock."""

    account: Account
    ahead: float = 0.0
    """Seconds to be added to its moments, to have them by the asker's clock."""
    error: float = 0.0
    """By how many that may be wrong."""


class Handling(Struct, eq=False):
    """What became of an event at one handler, or on its way to one service."""

    place: str
    """``service.handler``; or the service, or nothing where none was told of."""
    node: str
    """The name of the node; empty if it is not known."""
    outcome: Outcome
    reason: str = ""
    """The error, or why it was not handled."""
    received: float | None = None
    """Seconds after the root was emitted, as the others."""
    began: float | None = None
    ended: float | None = None
    company: int = 1
    """How many events the times are for, which were handled one after the other."""
    consequences: list[Occurrence] = []
    is_critical: bool = False
    """Whether it is on the way that took longest."""

    @property
    def last(self) -> float:
        """The last moment that is known of it."""
        return max(filter(None, (self.received, self.began, self.ended)), default=0.0)


class Occurrence(Struct, eq=False):
    """An event of the cascade."""

    event_id: EventId
    event: str = ""
    """Its name; empty if only its consequences are known."""
    node: str = ""
    """The name of the node that emitted it."""
    at: float | None = None
    """When, in seconds after the root."""
    size: int | None = None
    payload: str = ""
    key: str = ""
    """The value of the field that orders its type, if there is one and it is not private."""
    ancestry: Ancestry | None = None
    handlings: list[Handling] = []
    is_known: bool = False
    """Whether anybody has told of it itself."""

    def consequences(self) -> Iterator[Occurrence]:
        """The events that its handlers emitted."""
        for handling in self.handlings:
            yield from handling.consequences

    def walk(self) -> Iterator[Occurrence]:
        """It and all that it caused, causes before effects."""
        waiting: list[Occurrence] = [self]
        while waiting:
            one = waiting.pop(0)
            yield one
            waiting.extend(one.consequences())


class Trace(Struct, eq=False):
    """A cascade, as far as it is known."""

    root: Occurrence
    answered: tuple[str, ...] = ()
    """The nodes that were heard."""
    silent: tuple[str, ...] = ()
    """Those that are there and were not."""
    forgotten: tuple[str, ...] = ()
    """Those that were, and may have forgotten some of it."""
    gaps: tuple[str, ...] = ()
    """What else is missing, in words."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return not (self.silent or self.forgotten or self.gaps)

    def find(self, event_id: EventId) -> Occurrence | None:
        """One event of it."""
        return next((one for one in self.root.walk() if one.event_id == event_id), None)

    def way_to(self, event_id: EventId) -> list[tuple[Occurrence, Handling | None]]:
        """From the root to that event: each event, and which of its handlings caused the next."""
        parents: dict[EventId, tuple[Occurrence, Handling]] = {}
        for one in self.root.walk():
            for handling in one.handlings:
                for below in handling.consequences:
                    parents[below.event_id] = one, handling
        found = self.find(event_id)
        if found is None:
            return []
        way: list[tuple[Occurrence, Handling | None]] = [(found, None)]
        while (above := parents.get(way[-1][0].event_id)) is not None:
            way.append(above)
        return list(reversed(way))

    def wrongs(self) -> list[tuple[Occurrence, Handling]]:
        """What went wrong in it, the first first."""
        found = [
            (one, handling)
            for one in self.root.walk()
            for handling in one.handlings
            if handling.outcome in WRONG
        ]
        return sorted(found, key=lambda pair: pair[1].last or (pair[0].at or 0.0))


def assemble(root: EventId, heard: Sequence[Heard], silent: Iterable[str] = ()) -> Trace:
    """The cascade of that root event.

    :param silent: the names of nodes that are there and did not answer.
    """
    heard = sorted(heard, key=lambda one: one.account.node)
    ahead = _clocks(heard)
    tree = _Tree(root, heard, ahead)
    for one in heard:
        for fact in one.account.facts:
            tree.take(one.account, fact)
    top = tree.planted()
    began = top.at if top.at is not None else tree.earliest
    _relative_to(began or 0.0, top)
    _causes_first(top, 0.0)
    _mark_critical(top)
    forgotten = tuple(
        one.account.name
        for one in heard
        if one.account.since > one.account.born
        and (began is None or one.account.since + ahead[one.account.node] > began)
    )
    return Trace(
        top,
        tuple(sorted(one.account.name for one in heard)),
        tuple(sorted(silent)),
        forgotten,
        tuple(tree.gaps),
    )


class _Tree:
    """The events by their identifiers, while facts about them come in."""

    def __init__(self, root: EventId, heard: Sequence[Heard], ahead: dict[str, float]) -> None:
        self.gaps: list[str] = []
        self.earliest: float | None = None
        self._root = root
        self._ahead = ahead
        self._names = {one.account.node: one.account.name for one in heard}
        self._events: dict[EventId, Occurrence] = {}
        self._services: dict[EventId, set[str]] = defaultdict(set)
        if any(one.account.cut_short for one in heard):
            self.gaps.append("the cascade is larger than what was asked for")

    def take(self, account: Account, fact: Fact) -> None:
        """A fact of that account."""
        above = fact.ancestry
        if fact.event_id != self._root and (above is None or above.root != self._root):
            return
        one = self._event(fact.event_id, above if fact.event_id != self._root else None)
        one.event = one.event or fact.event
        one.is_known = True
        if isinstance(fact, Ran | Refused):
            one.key = one.key or fact.key
        ahead = self._ahead[account.node]
        match fact:
            case Sent(services=services, size=size, by=by, payload=payload):
                one.size, one.payload = size, one.payload or payload
                if by is not None and one.at is None:
                    one.at = by + ahead
                self._services[fact.event_id].update(services)
            case Ran():
                self._ran(one, account, fact, ahead)
            case Refused(place=place, at=at, reason=reason, kind=kind):
                outcome: Outcome = kind if kind in ("shed", "cut", "expired", "merged") else "shed"  # type: ignore[assignment]
                handling = Handling(place, account.name, outcome, reason, ended=at + ahead)
                self._add(one, handling)
                self._note_time(at + ahead)
            case Pending(place=place, since=since):
                received = None if since is None else since + ahead
                self._add(one, Handling(place, account.name, "pending", "", received))

    def _ran(self, one: Occurrence, account: Account, fact: Ran, ahead: float) -> None:
        began, since = fact.began, fact.since
        received = since if since is not None else began
        self._add(
            one,
            Handling(
                fact.place,
                account.name,
                "handled" if fact.error is None else "failed",
                fact.error or "",
                None if received is None else received + ahead,
                None if began is None else began + ahead,
                fact.ended + ahead,
                fact.company,
            ),
        )
        if fact.sent is not None and fact.event_id.node in self._ahead:
            # It left for each service in a batch of its own.
            left = fact.sent + self._ahead[fact.event_id.node]
            one.at = left if one.at is None else min(left, one.at)
        elif received is not None and one.at is None:
            one.at = received + ahead
        self._note_time(received + ahead if received is not None else fact.ended + ahead)

    def _note_time(self, at: float) -> None:
        self.earliest = at if self.earliest is None else min(at, self.earliest)

    def _add(self, one: Occurrence, handling: Handling) -> None:
        """A better account of the same takes the place of a worse one."""
        for index, before in enumerate(one.handlings):
            if before.place == handling.place and before.node == handling.node:
                if before.outcome == "pending" or (
                    before.outcome != "failed" and handling.outcome == "failed"
                ):
                    one.handlings[index] = handling
                return
        one.handlings.append(handling)

    def _event(self, event_id: EventId, above: Ancestry | None) -> Occurrence:
        one = self._events.get(event_id)
        if one is None:
            one = self._events[event_id] = Occurrence(
                event_id, node=self._names.get(event_id.node, ""), ancestry=above
            )
        elif one.ancestry is None:
            one.ancestry = above
        return one

    def planted(self) -> Occurrence:
        """The root, with everything in its place."""
        top = self._event(self._root, None)
        top.ancestry = None
        if not top.is_known:
            self.gaps.append("nobody told of the root event itself")
        for event_id, services in self._services.items():
            self._note_unheard_of(self._events[event_id], services)
        # Causes that only their consequences tell of stand for themselves, without a name.
        for one in list(self._events.values()):
            self._plant_cause(one)
        for one in sorted(self._events.values(), key=_order):
            if one is not top:
                self._plant(one, top)
        for one in top.walk():
            for handling in one.handlings:
                if handling.outcome == "unknown":
                    name = one.event or str(one.event_id)
                    place = handling.place or "an unknown handler"
                    self.gaps.append(f"nobody told what became of {name} at {place}")
        return top

    def _plant_cause(self, one: Occurrence) -> None:
        above = one.ancestry
        if above is None or above.cause in self._events:
            return
        depth = len(above.path)
        self.gaps.append(f"nobody told of the event that caused {one.event} {one.event_id}")
        if depth <= 1:
            return
        # How that one came about is not known, but for the handlers on the way.
        cause = self._event(above.cause, Ancestry(self._root, self._root, above.path[:-1]))
        cause.is_known = False

    def _plant(self, one: Occurrence, top: Occurrence) -> None:
        above = one.ancestry
        assert above is not None
        cause = self._events.get(above.cause, top)
        if _depth(cause) >= _depth(one):
            self.gaps.append(
                f"what was told of {one.event} {one.event_id} can't be true of its cause"
            )
            cause = top
        place = above.path[-1] if above.path else ""
        for handling in cause.handlings:
            if handling.place == place:
                handling.consequences.append(one)
                return
        untold = "nobody told how this handler ended"
        for handling in cause.handlings:
            if handling.outcome == "unknown" and handling.place == place.partition(".")[0]:
                handling.place, handling.reason = place, untold
                handling.consequences.append(one)
                return
        handling = Handling(place, "", "unknown", untold)
        handling.consequences.append(one)
        cause.handlings.append(handling)

    def _note_unheard_of(self, one: Occurrence, services: set[str]) -> None:
        told = {handling.place.partition(".")[0] for handling in one.handlings}
        if "" in told:
            return
        for service in sorted(services - told):
            one.handlings.append(Handling(service, "", "unknown", "nobody told what became of it"))


def _depth(one: Occurrence) -> int:
    return 0 if one.ancestry is None else max(1, len(one.ancestry.path))


def _order(one: Occurrence) -> tuple[int, float, EventId]:
    return _depth(one), one.at if one.at is not None else float("inf"), one.event_id


def _relative_to(began: float, top: Occurrence) -> None:
    for one in top.walk():
        if one.at is not None:
            one.at -= began
        for handling in one.handlings:
            for moment in ("received", "began", "ended"):
                value = getattr(handling, moment)
                if value is not None:
                    setattr(handling, moment, value - began)


def _causes_first(top: Occurrence, earliest: float) -> None:
    """Nothing is shown to have happened before its cause, whatever error is left in the clocks."""
    waiting = [(top, earliest)]
    while waiting:
        one, earliest = waiting.pop()
        one.at = earliest if one.at is None else max(one.at, earliest)
        for handling in one.handlings:
            floor = one.at
            for moment in ("received", "began", "ended"):
                value = getattr(handling, moment)
                if value is not None:
                    floor = max(floor, value)
                    setattr(handling, moment, floor)
            start = handling.began if handling.began is not None else handling.received
            waiting += [
                (below, one.at if start is None else start) for below in handling.consequences
            ]


def _mark_critical(top: Occurrence) -> None:
    """The way to what ended last."""
    last: dict[int, float] = {}
    for one in reversed(list(top.walk())):
        for handling in one.handlings:
            below = [last[id(h)] for b in handling.consequences for h in b.handlings]
            last[id(handling)] = max((handling.last, *below))
    now: Occurrence | None = top
    while now is not None:
        handled = [h for h in now.handlings if h.outcome != "unknown" or h.consequences]
        if not handled:
            return
        latest = max(handled, key=lambda h: last[id(h)])
        latest.is_critical = True
        caused = [b for b in latest.consequences if b.handlings]
        now = max(caused, key=lambda b: max(last[id(h)] for h in b.handlings), default=None)


def _clocks(heard: Sequence[Heard]) -> dict[str, float]:
    """By node, what is to be added to its moments."""
    ahead = {one.account.node: 0.0 if abs(one.ahead) <= one.error else one.ahead for one in heard}
    hops: dict[tuple[str, str], float] = {}
    for one in heard:
        for fact in one.account.facts:
            if isinstance(fact, Ran) and fact.sent is not None and fact.event_id.node in ahead:
                received = fact.since if fact.since is not None else fact.began
                pair = fact.event_id.node, one.account.node
                if received is not None and pair[0] != pair[1]:
                    hops[pair] = min(hops.get(pair, float("inf")), received - fact.sent)
    for _ in ahead:
        moved = False
        for (sender, receiver), journey in sorted(hops.items()):
            early = ahead[sender] - ahead[receiver] - journey
            if early > SAME:
                ahead[receiver] += early
                moved = True
        if not moved:
            break
    return ahead
