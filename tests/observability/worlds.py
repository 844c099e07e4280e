"""Random cascades over nodes whose clocks are apart: what really happened, and what each node would tell of it."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

from msgspec import Struct

from thence.identifiers import EventId
from thence.observability.accounts import Account, Ancestry, Fact, Pending, Ran, Refused, Sent
from thence.observability.assembly import Handling, Occurrence, Trace
from thence.observability.clocks import Heard

__all__ = ["World", "accounts_of", "hostile_facts", "make_world", "shape", "times_are_in_order"]

SERVICES = {"a": ("x", "y"), "b": ("x",), "c": ("x", "y"), "d": ("x",)}
"""By name, the handlers of each service. ``c`` is broadcast."""
KINDS = ("shed", "cut", "expired", "merged")


class Place(Struct):
    """A node of the mesh."""

    node: str
    name: str
    skew: float
    """What its clock shows when it is 0 by the true one."""
    services: tuple[str, ...]


class World(Struct):
    """A cascade as it truly was."""

    root: EventId
    places: list[Place]
    facts: dict[str, list[Fact]]
    """By node, what it tells."""
    handlings: dict[EventId, set[tuple[str, str, str]]]
    """By event: at which place and node, and what became of it."""
    causes: dict[EventId, tuple[EventId, str, str]]
    """By event, the one that caused it, and the handler and node that emitted it."""
    moments: dict[tuple[EventId, str, str], tuple[float | None, float | None, float | None]]
    """By event, place and node: when it was received, begun and ended, by the true clock."""

    def all_facts(self) -> list[tuple[str, Fact]]:
        return [(node, fact) for node, facts in self.facts.items() for fact in facts]


def make_world(chance: random.Random, most: int = 12) -> World:
    """A cascade of at most so many events."""
    return _Making(chance, most).world


class _Making:
    def __init__(self, chance: random.Random, most: int) -> None:
        self.chance = chance
        count = chance.randint(1, 4)
        places = [
            Place(f"{number:020x}", f"n{number}", chance.uniform(-5, 5), ())
            for number in range(count)
        ]
        for service in SERVICES:
            homes = places if service == "c" else [chance.choice(places)]
            for home in homes:
                home.services = (*home.services, service)
        self.events = {
            f"e{number}": tuple(chance.sample(sorted(SERVICES), chance.randint(0, 3)))
            for number in range(4)
        }
        self.sequences: defaultdict[str, int] = defaultdict(int)
        self.left = most
        home = chance.choice(places)
        root = EventId(home.node, self.next_at(home))
        self.world = World(root, places, defaultdict(list), {}, {}, {})
        waiting = [(root, home, 100.0, None)]
        while waiting:
            waiting += self.emit(*waiting.pop(0))

    def next_at(self, place: Place) -> int:
        self.sequences[place.node] += 1
        return self.sequences[place.node]

    def tell(self, place: Place, fact: Fact) -> None:
        self.world.facts[place.node].append(fact)

    def emit(self, event_id: EventId, home: Place, at: float, above: Ancestry | None) -> list[Any]:
        chance, world = self.chance, self.world
        event = chance.choice(sorted(self.events))
        ends = world.handlings[event_id] = set()
        if above is not None and chance.random() < 0.1:
            self.tell(
                home, Refused(event_id, event, "", at + home.skew, "limit 1/s", "shed", above)
            )
            ends.add(("", home.name, "shed"))
            return []
        meant: list[str] = []
        after: list[Any] = []
        for service in self.events[event]:
            if chance.random() < 0.15:
                kind = chance.choice(KINDS)
                self.tell(
                    home, Refused(event_id, event, service, at + home.skew, "no room", kind, above)
                )
                ends.add((service, home.name, kind))
                meant.append(service)
                continue
            for place in world.places:
                if service in place.services:
                    meant.append(service)
                    after += self.arrive(event_id, event, home, at, above, service, place)
        by = at + chance.uniform(0, 1) + home.skew if above is None else None
        self.tell(home, Sent(event_id, event, tuple(meant), above, 10, by))
        return after

    def arrive(
        self,
        event_id: EventId,
        event: str,
        home: Place,
        at: float,
        above: Ancestry | None,
        service: str,
        place: Place,
    ) -> list[Any]:
        chance, world = self.chance, self.world
        received = at + (0.0 if place is home else chance.uniform(0.001, 0.2))
        after: list[Any] = []
        for handler in SERVICES[service]:
            where = f"{service}.{handler}"
            kind = chance.random()
            if kind < 0.1:
                outcome = chance.choice(KINDS)
                self.tell(
                    place,
                    Refused(event_id, event, where, received + place.skew, "full", outcome, above),
                )
                times: tuple[float | None, float | None, float | None] = (None, None, received)
            elif kind < 0.2:
                outcome, times = "pending", (received, None, None)
                self.tell(place, Pending(event_id, event, where, received + place.skew, above))
            else:
                began = received + chance.choice((0.0, chance.uniform(0, 0.1)))
                ended = began + chance.uniform(0.001, 0.1)
                error = "KeyError: 'cave'" if kind < 0.4 else None
                outcome = "handled" if error is None else "failed"
                short = began == received and error is None and chance.random() < 0.5
                times = (received, began, ended)
                self.tell(
                    place,
                    Ran(
                        event_id, event, where, began + place.skew, ended + place.skew, above,
                        since=None if short else received + place.skew,
                        sent=at + home.skew if short else None,
                        error=error,
                    ),
                )  # fmt: skip
                if error is None:
                    after += self.cause(event_id, above, where, place, ended)
            world.handlings[event_id].add((where, place.name, outcome))
            world.moments[event_id, where, place.name] = times
        return after

    def cause(
        self, event_id: EventId, above: Ancestry | None, where: str, place: Place, ended: float
    ) -> list[Any]:
        caused: list[Any] = []
        path = (*(() if above is None else above.path), where)
        for _ in range(self.chance.choice((0, 1, 1, 2))):
            self.left -= 1
            if self.left > 0:
                below = EventId(place.node, self.next_at(place))
                self.world.causes[below] = event_id, where, place.name
                caused.append((below, place, ended, Ancestry(event_id, self.world.root, path)))
        return caused


def accounts_of(
    world: World,
    facts: list[tuple[str, Fact]] | None = None,
    nodes: list[str] | None = None,
    wrong_by: float = 0.0,
    chance: random.Random | None = None,
) -> list[Heard]:
    """What is heard: of these facts, from these nodes, and with an idea of their clocks that is so far wrong."""
    told = defaultdict[str, list[Fact]](list)
    for node, fact in world.all_facts() if facts is None else facts:
        told[node].append(fact)
    heard = []
    for place in world.places:
        if nodes is not None and place.node not in nodes:
            continue
        places = {
            f"e{number}": tuple(
                tuple(f"{service}.{handler}" for handler in SERVICES[service])
                for service in place.services
            )
            for number in range(4)
        }
        account = Account(
            place.node, place.name, 200 + place.skew, place.skew, place.skew,
            tuple(told[place.node]), places=places,
        )  # fmt: skip
        error = 0.0 if chance is None else chance.uniform(-wrong_by, wrong_by)
        heard.append(Heard(account, -place.skew + error, wrong_by))
    return heard


def hostile_facts(chance: random.Random, root: EventId, count: int) -> list[tuple[str, Fact]]:
    """Anything that fits the types: wrong roots, cycles among causes, paths and moments that can't be."""
    nodes = [f"{number:020x}" for number in range(3)]

    def some_id() -> EventId:
        return (
            root if chance.random() < 0.2 else EventId(chance.choice(nodes), chance.randint(1, 5))
        )

    def some_time() -> float | None:
        return chance.choice((None, chance.uniform(-1e3, 1e3), 0.0))

    facts: list[tuple[str, Fact]] = []
    for _ in range(count):
        path = tuple(chance.choice(("a.x", "b.x", "", "a")) for _ in range(chance.randint(0, 4)))
        above = Ancestry(some_id(), root if chance.random() < 0.9 else some_id(), path)
        ancestry = chance.choice((None, above, above, above))
        event_id, event = some_id(), chance.choice(("e0", "e1", ""))
        place = chance.choice(("a.x", "b.x", "a", "", "."))
        at = chance.uniform(-1e3, 1e3)
        fact: Fact = chance.choice(
            (
                Sent(event_id, event, (place, place)[: chance.randint(0, 2)], ancestry, 3, some_time()),
                Ran(event_id, event, place, some_time(), at, ancestry, some_time(), some_time(),
                    chance.choice((None, "oh")), chance.randint(-1, 3)),
                Refused(event_id, event, place, at, "no", chance.choice((*KINDS, "odd")), ancestry),
                Pending(event_id, event, place, some_time(), ancestry),
            )
        )  # fmt: skip
        facts.append((chance.choice(nodes), fact))
    return facts


def shape(trace: Trace) -> Any:
    """All that a trace tells, to be compared."""

    def of(one: Occurrence) -> Any:
        return (
            one.event_id, one.event, one.node, one.at, one.size, one.payload, one.ancestry, one.is_known,
            [handling_of(handling) for handling in one.handlings],
        )  # fmt: skip

    def handling_of(one: Handling) -> Any:
        return (
            one.place, one.node, one.outcome, one.reason, one.received, one.began, one.ended, one.company,
            one.is_critical, [below.event_id for below in one.consequences],
        )  # fmt: skip

    return (
        [of(one) for one in trace.root.walk()],
        trace.answered, trace.silent, trace.strange, trace.forgotten, trace.gaps,
    )  # fmt: skip


def times_are_in_order(trace: Trace) -> bool:
    """Whether nothing is shown before what it follows from."""
    for one in trace.root.walk():
        if one.at is None or one.at < 0:
            return False
        for handling in one.handlings:
            moments = [
                moment
                for moment in (one.at, handling.received, handling.began, handling.ended)
                if moment is not None
            ]
            start = handling.began if handling.began is not None else handling.received
            start = one.at if start is None else start
            if moments != sorted(moments) or any(
                below.at is None or below.at < start for below in handling.consequences
            ):
                return False
    return True
