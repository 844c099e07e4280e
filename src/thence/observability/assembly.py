"""Putting together what became of an event, from the accounts of the nodes that were there.

A pure function of the accounts: any subset of facts, in any order, gives a tree without cycles and without an event
that nobody has told of, and what is missing is said to be missing.

Nodes' clocks are apart; see :mod:`thence.observability.clocks`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from thence.identifiers import EventId
from thence.observability.accounts import Account, Ancestry, Fact, Pending, Ran, Refused, Sent
from thence.observability.clocks import Heard, clocks, left_by, received_at

__all__ = ["Handling", "Heard", "Occurrence", "Outcome", "Trace", "assemble"]

Outcome: TypeAlias = Literal[
    "handled", "failed", "shed", "cut", "expired", "merged", "pending", "unknown"
]
WRONG: tuple[Outcome, ...] = ("failed", "shed", "cut", "expired", "unknown")
"""What should not have happened."""
RANKS: dict[Outcome, int] = {"failed": 0, "handled": 1, "pending": 8, "unknown": 9}
"""Which of two accounts of the same is the better one; all others are in between."""

UNTOLD = "nobody told how this handler ended"


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
        waiting: deque[Occurrence] = deque([self])
        while waiting:
            one = waiting.popleft()
            yield one
            waiting.extend(one.consequences())


class Trace(Struct, eq=False):
    """A cascade, as far as it is known."""

    root: Occurrence
    answered: tuple[str, ...] = ()
    """The nodes that were heard."""
    silent: tuple[str, ...] = ()
    """Those that are there and were not."""
    strange: tuple[str, ...] = ()
    """Those that answered in a way that is not understood here."""
    forgotten: tuple[str, ...] = ()
    """Those that were, and may have forgotten some of it."""
    gaps: tuple[str, ...] = ()
    """What else is missing, in words."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return not (self.silent or self.strange or self.forgotten or self.gaps)

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


def assemble(
    root: EventId, heard: Sequence[Heard], silent: Iterable[str] = (), strange: Iterable[str] = ()
) -> Trace:
    """The cascade of that root event.

    :param silent: the names of nodes that are there and did not answer.
    :param strange: those of nodes that did, in a way that is not understood.
    """
    facts = _in_order(root, heard)
    ahead = clocks(heard, facts)
    tree = _Tree(root, heard, ahead)
    for account, fact in facts:
        tree.take(account, fact)
    top = tree.planted()
    began = top.at if top.at is not None else tree.earliest
    _relative_to(began or 0.0, top)
    _causes_first(top)
    for one in top.walk():
        one.handlings.sort(key=_handling_order)
    _mark_critical(top)
    forgotten = {
        one.account.name
        for one in heard
        if one.account.since > one.account.born
        and (began is None or one.account.since + ahead[one.account.node] >= began)
    }
    return Trace(
        top,
        tuple(sorted(one.account.name for one in heard)),
        tuple(sorted(silent)),
        tuple(sorted(strange)),
        tuple(sorted(forgotten)),
        tuple(dict.fromkeys(tree.gaps)),
    )


def _in_order(root: EventId, heard: Sequence[Heard]) -> list[tuple[Account, Fact]]:
    """The facts of that cascade, in an order that does not depend on who was heard first."""
    found: list[tuple[Any, Account, Fact]] = []
    for one in heard:
        account = one.account
        for fact in account.facts:
            above = fact.ancestry
            if fact.event_id == root:
                above = None
            elif above is None or above.root != root:
                continue
            # Those who had the event in their hands know better what it was than who sent it.
            order = fact.event_id, isinstance(fact, Sent), account.node, account.name
            plain = msgspec.msgpack.encode(replace(fact, ancestry=None))
            ancestry = () if above is None else (above.cause, above.path)
            found.append(((*order, plain, ancestry), account, replace(fact, ancestry=above)))
    found.sort(key=lambda one: one[0])
    return [(account, fact) for _, account, fact in found]


class _Tree:
    """The events by their identifiers, while facts about them come in."""

    def __init__(self, root: EventId, heard: Sequence[Heard], ahead: dict[str, float]) -> None:
        self.gaps: list[str] = []
        self.earliest: float | None = None
        self._root = root
        self._ahead = ahead
        self._names = {one.account.node: one.account.name for one in heard}
        self._places = {one.account.node: one.account.places for one in heard}
        self._events: dict[EventId, Occurrence] = {}
        self._handlings: dict[EventId, dict[tuple[str, str], Handling]] = defaultdict(dict)
        """By event, then by place and node: what became of it."""
        self._services: dict[EventId, tuple[str, ...]] = {}
        self._left: dict[EventId, float] = {}
        """When events left, as they were told by the clocks of their nodes."""
        cut_short = sorted(one.account.name for one in heard if one.account.cut_short)
        if cut_short:
            self.gaps.append(
                f"the cascade is larger than {', '.join(cut_short)} would tell at once"
            )

    def take(self, account: Account, fact: Fact) -> None:
        """A fact of that account."""
        event_id = fact.event_id
        one = self._event(event_id, fact.ancestry)
        if fact.ancestry != one.ancestry:
            self.gaps.append(f"what was told of {_called(one)} contradicts itself")
        one.event = one.event or fact.event
        one.is_known = True
        ahead = self._ahead[account.node]
        by = left_by(fact)
        if by is not None:
            one.at = by + ahead if one.at is None else min(one.at, by + ahead)
            if not isinstance(fact, Sent):
                earliest = self.earliest
                self.earliest = by + ahead if earliest is None else min(by + ahead, earliest)
        match fact:
            case Sent(services=services, size=size, payload=payload):
                one.size, one.payload = size or one.size or 0, one.payload or payload
                self._services[event_id] = max(services, self._services.get(event_id, ()))
            case Ran(place=place, error=error, began=began, ended=ended, company=company):
                handling = Handling(
                    place, account.name, "handled" if error is None else "failed", error or ""
                )
                received = received_at(fact)
                handling.received = None if received is None else received + ahead
                handling.began = None if began is None else began + ahead
                handling.ended, handling.company = ended + ahead, company
                self._add(one, account, handling)
                if fact.sent is not None and event_id.node in self._ahead:
                    left = fact.sent + self._ahead[event_id.node]
                    self._left[event_id] = min(left, self._left.get(event_id, left))
            case Refused(place=place, at=at, reason=reason, kind=kind):
                outcome: Outcome = kind if kind in ("cut", "expired", "merged") else "shed"  # type: ignore[assignment]
                handling = Handling(place, account.name, outcome, reason, ended=at + ahead)
                self._add(one, account, handling)
            case Pending(place=place, since=since):
                received = None if since is None else since + ahead
                self._add(one, account, Handling(place, account.name, "pending", "", received))

    def _add(self, one: Occurrence, account: Account, handling: Handling) -> None:
        """A better account of the same takes the place of a worse one."""
        handlings = self._handlings[one.event_id]
        before = handlings.setdefault((handling.place, account.node), handling)
        if RANKS.get(handling.outcome, 2) < RANKS.get(before.outcome, 2):
            handlings[handling.place, account.node] = handling

    def _event(self, event_id: EventId, above: Ancestry | None) -> Occurrence:
        one = self._events.get(event_id)
        if one is None:
            one = self._events[event_id] = Occurrence(
                event_id, node=self._names.get(event_id.node, ""), ancestry=above
            )
        return one

    def planted(self) -> Occurrence:
        """The root, with everything in its place."""
        top = self._event(self._root, None)
        if not top.is_known:
            self.gaps.append("nobody told of the root event itself")
        for event_id, left in self._left.items():
            self._events[event_id].at = left
        # Causes that only their consequences tell of stand for themselves, without a name.
        for one in list(self._events.values()):
            self._plant_cause(one)
        for one in sorted(self._events.values(), key=_order):
            if one is not top:
                self._plant(one, top)
        unsent: dict[str, list[Occurrence]] = defaultdict(list)
        for one in sorted(self._events.values(), key=_order):
            if one.is_known and not self._note_unheard_of(one):
                unsent[one.node].append(one)
            one.handlings = list(self._handlings[one.event_id].values())
        for node, events in sorted(unsent.items()):
            self.gaps.append(
                f"nobody told where all {node or 'a node that has left'} sent {_called(events[0])}"
                + _and_more(len(events))
            )
        unknown = [
            (one, handling)
            for one in top.walk()
            for handling in one.handlings
            if handling.outcome == "unknown"
        ]
        if unknown:
            one, handling = unknown[0]
            self.gaps.append(
                f"nobody told what became of {_called(one)} at {handling.place}"
                + _and_more(len(unknown))
            )
        return top

    def _plant_cause(self, one: Occurrence) -> None:
        above = one.ancestry
        if above is None or above.cause in self._events:
            return
        self.gaps.append(f"nobody told of the event that caused {_called(one)}")
        # How that one came about is not known, but for the handlers on the way.
        self._event(above.cause, Ancestry(self._root, self._root, above.path[:-1]))

    def _plant(self, one: Occurrence, top: Occurrence) -> None:
        above = one.ancestry
        assert above is not None
        cause, place = self._events[above.cause], above.path[-1] if above.path else ""
        reason = UNTOLD
        if _depth(cause) >= _depth(one):
            self.gaps.append(f"what was told of {_called(one)} can't be true of its cause")
            cause = top
        elif one.is_known and above.path[:-1] != _path(cause) and cause.is_known:
            self.gaps.append(f"what was told of {_called(one)} contradicts what was of its cause")
        elif not one.is_known:
            place, reason = " → ".join(above.path), "nobody told of the events between"
        handlings = self._handlings[cause.event_id]
        node = one.event_id.node
        handling = handlings.get((place, node))
        if handling is None:
            # Whoever emitted it has had the cause in their hands.
            name = self._names.get(node, "") if one.is_known else ""
            handling = handlings[place, node] = Handling(place, name, "unknown", reason)
        handling.consequences.append(one)

    def _note_unheard_of(self, one: Occurrence) -> bool:
        """Add what must have become of an event and nobody told; whether it is known where it was to go."""
        handlings = self._handlings[one.event_id]
        for node in {node for _, node in handlings}:
            for together in self._places.get(node, {}).get(one.event, ()):
                if any((place, node) in handlings for place in together):
                    for place in together:
                        if (place, node) not in handlings:
                            handlings[place, node] = Handling(
                                place, self._names[node], "unknown", UNTOLD
                            )
        told = defaultdict[str, set[tuple[str, bool]]](set)
        for place, node in handlings:
            service, _, handler = place.partition(".")
            told[service].add((node, bool(handler)))
        services = self._services.get(one.event_id)
        if services is None:
            return "" in told
        for service in sorted(set(services)):
            for number in range(services.count(service) - len(told[service])):
                handlings[service, f"?{number}"] = Handling(
                    service, "", "unknown", "nobody told what became of it"
                )
        return True


def _called(one: Occurrence) -> str:
    return f"{one.event} {one.event_id}".lstrip()


def _and_more(count: int) -> str:
    return f", and of {count - 1} more" if count > 1 else ""


def _path(one: Occurrence) -> tuple[str, ...]:
    return () if one.ancestry is None else one.ancestry.path


def _depth(one: Occurrence) -> int:
    return 0 if one.ancestry is None else max(1, len(one.ancestry.path))


def _order(one: Occurrence) -> tuple[int, float, EventId]:
    return _depth(one), one.at if one.at is not None else float("inf"), one.event_id


def _handling_order(one: Handling) -> tuple[bool, float, str, str]:
    return one.outcome == "unknown", one.last, one.place, one.node


def _relative_to(began: float, top: Occurrence) -> None:
    for one in top.walk():
        if one.at is not None:
            one.at -= began
        for handling in one.handlings:
            for moment in ("received", "began", "ended"):
                value = getattr(handling, moment)
                if value is not None:
                    setattr(handling, moment, value - began)


def _causes_first(top: Occurrence) -> None:
    """Nothing is shown to have happened before its cause, whatever error is left in the clocks."""
    waiting = [(top, 0.0)]
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
