"""One limit over all replicas of a service, without asking anybody per event.

One replica, the allocator, lends each of them a share, a rate and a burst of its own, for one lease (Gray
and Cheriton, "Leases", 1989). Each admits within its share by itself, with the generic cell rate algorithm
(ITU-T I.371, 1993).

Why no window of w seconds ever has more than rate * w + burst admissions: a cell's credit never exceeds its
burst and grows only at its rate, and what may be in force at any moment adds up to no more than the limit.
For that, the allocator counts a lease from its answer, the replica from *sending* its request, so it stops
first; a smaller share counts as the larger one before it until the replica says that it applied it; a new
share starts without credit; a new allocator waits until what the one before it lent has run out. It depends
on no message to arrive, and on no clock but that a second lasts equally long for all.

Where the burst has fewer events than there are replicas with something to admit, several share a seat and
take turns on it: with less than one event a cell never admits.
"""

from __future__ import annotations

import itertools
import math

from msgspec import Struct

__all__ = ["LEASE", "Allocator", "Grant", "Share", "ShareRequest"]

LEASE = 0.3
"""Seconds for which a share is lent."""
PERIOD = 0.1
"""Seconds between two requests of a replica: one that is lost does no harm."""
POLL = 0.001
"""Seconds between two requests while others wait for what this one says or gets."""
SAMPLE = 0.09
"""Seconds over which demand is measured at least, however often a replica asks."""
MEMORY = 1.0
"""Seconds over which demand is averaged; at low rates as long as four events take."""
STANDING = 0.5
"""Seconds that events may wait before their waiting counts as demand. Less wastes shares on chance."""
CYCLE = 1.0
"""Seconds in which each replica should have had a turn."""
PATIENCE = 0.1
"""Seconds by which a turn may be late before it is cut off."""
GRACE = 0.02
"""Seconds for which a free seat is kept for the replica whose turn it is."""
PROMISES = 8
"""Grants that are remembered one by one for a replica."""


class ShareRequest(Struct, array_like=True, frozen=True):
    """What a replica tells the allocator, about ten times a second."""

    replica: str
    """One process: the next one in its place has another name."""
    number: int
    applied: int
    """The request whose grant is in force; grants to earlier ones will not be applied any more. The
    request's own number: the replica has given its share back."""
    demand: float
    """Events a second that came lately, admitted or not."""
    waiting: int
    """Events in line for this limit and nothing else."""


class Grant(Struct, array_like=True, frozen=True):
    """A share, in place of the one before it, until one lease after the request was sent."""

    request: int
    rate: float
    """Events a second."""
    burst: int
    """Zero: there is no share for now."""
    turn: int
    """Events after which the share goes back; zero: it stays."""
    again: float
    """Seconds after which to ask again."""


class Share:
    """One replica's part of the limit. What waits must look at :meth:`wait` anew after each grant."""

    def __init__(self, replica: str, number: int = 0) -> None:
        """``number`` is that of the last request before the first."""
        self.replica = replica
        self.rate = 0.0
        self.burst = 0
        self.until = -math.inf
        """When the lease ends: from then on rate and burst mean nothing."""
        self.asks = -math.inf
        """When the next request is due. One may be sent earlier."""
        self.admitted = 0
        self._refused = 0
        self._due = self._interval = self._tolerance = 0.0
        self._turn = self._turn_began = 0
        self._number = self._applied = number
        self._sent: dict[int, float] = {}
        self._counted = 0
        self._measured = -math.inf
        self._demand = 0.0

    def wait(self, now: float) -> float:
        """Seconds until an event may come, 0.0 when it may now, infinity while there is no share."""
        if now >= self.until:
            return math.inf
        early = self._due - self._tolerance - now
        if early > 0.0:
            return early
        return 0.0

    def take(self, now: float) -> None:
        """An event comes now; :meth:`wait` has allowed it at the same ``now``."""
        due = self._due
        self._due = due + self._interval if due > now else now + self._interval
        self.admitted += 1

    def refused(self) -> None:
        """An event was turned away. One that still waits is not counted here."""
        self._refused += 1

    def request(self, now: float, waiting: int = 0) -> ShareRequest:
        """The next request, to be sent at once: the lease is counted from ``now``."""
        self._number = number = self._number + 1
        if now >= self.until:
            self._drop()
        elif self._turn and (
            self.admitted >= self._turn_began + self._turn or (not waiting and not self.wait(now))
        ):
            self._drop()
            self._applied = number
        if now - self._measured >= SAMPLE:
            count = self.admitted + self._refused + waiting
            self._demand = max(count - self._counted, 0) / (now - self._measured)
            self._counted, self._measured = count, now
        self._sent = {
            sent: at
            for sent, at in self._sent.items()
            if sent >= self._applied and at + LEASE > now
        }
        self._sent[number] = now
        self.asks = now + PERIOD
        return ShareRequest(self.replica, number, self._applied, self._demand, waiting)

    def apply(self, grant: Grant, now: float) -> None:
        """Takes a grant over, unless it is overtaken or has run out. Doing it twice does no harm."""
        until = self._sent.get(grant.request, -math.inf) + LEASE
        if grant.request < self._applied or now >= until:
            return
        self._applied = grant.request
        self.asks = now + grant.again
        if not grant.burst:
            self._drop()
            return
        credit = 0.0
        if now < self.until:
            credit = self.burst - max(self._due - now, 0.0) / self._interval
        else:
            self._drop()
            self._turn_began = self.admitted
        if grant.rate != self.rate or grant.burst != self.burst:
            self.rate, self.burst = grant.rate, grant.burst
            # A billionth of a second too much, so that roundings never add up to an event.
            self._interval = 1 / grant.rate + min(1e-9, 0.001 / grant.rate)
            self._tolerance = (grant.burst - 1) * self._interval
            self._due = now + max(grant.burst - credit, 0.0) * self._interval + 1e-9
        self.until = until
        self._turn = grant.turn
        if grant.turn:
            left = max(self._turn_began + grant.turn - self.admitted, 1)
            over = now + self.wait(now) + (left - 1) * self._interval + 1e-6
            if over < self.asks + PERIOD / 2:
                self.asks = max(over, now + POLL)

    def _drop(self) -> None:
        self.rate, self.burst, self.until, self._turn = 0.0, 0, -math.inf, 0


class Member:
    """What the allocator knows of a replica."""

    def __init__(self, request: ShareRequest, now: float) -> None:
        self.number = request.number
        self.asked = self.sampled = now
        self.demand = request.demand
        self.waiting = self.backlog = request.waiting
        self.promises: list[tuple[Grant, float]] = []
        """Grants that may be in force, and until when."""
        self.turn = 0
        self.turn_ends = now
        """When its turn is cut off; in the past, when it was over."""

    def hear(self, request: ShareRequest, memory: float, now: float) -> None:
        """Takes in what a request says. Demand is averaged exponentially over ``memory`` seconds."""
        self.number, self.waiting, self.asked = request.number, request.waiting, now
        if now - self.sampled >= SAMPLE:
            weight = -math.expm1((self.sampled - now) / memory)
            self.demand += (request.demand - self.demand) * weight
            self.backlog, self.sampled = request.waiting, now
        if request.applied == request.number:
            self.turn_ends = min(self.turn_ends, now)
        self.promises = [
            (grant, until)
            for grant, until in self.promises
            if grant.request >= request.applied and until > now
        ]

    def wants(self, patience: float) -> float:
        """Events a second: what comes, and what has been waiting for more than so many seconds."""
        return self.demand + max(self.backlog - self.demand * patience, 0.0) / CYCLE

    def promise(self, grant: Grant, now: float) -> None:
        """Remembers a grant. Too many are remembered as if they were one, the largest."""
        self.promises.append((grant, now + LEASE))
        if len(self.promises) > PROMISES:
            (one, _), (two, until) = self.promises[:2]
            rate, burst = max(one.rate, two.rate), max(one.burst, two.burst)
            self.promises[:2] = [(Grant(two.request, rate, burst, 0, 0.0), until)]

    def held(self, now: float) -> tuple[float, int]:
        """The rate and the burst that it may have now."""
        rate, burst = 0.0, 0
        for grant, until in self.promises:
            if until > now:
                rate, burst = max(rate, grant.rate), max(burst, grant.burst)
        return rate, burst


class Allocator:
    """Lends the shares of one limit.

    There is one at a time: it is made only after the one before it has given its last answer. Each ``now``
    was read after the request arrived.
    """

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._lends_from = now + LEASE
        self._members: dict[str, Member] = {}

    def change(self, rate: float, burst: int) -> None:
        """Another limit from now on. A lower one is kept when what was lent before has run out."""
        self.rate = rate
        self.burst = burst

    def forget(self, replica: str) -> None:
        """That process is certainly gone, so its share is free at once."""
        self._members.pop(replica, None)

    def answer(self, request: ShareRequest, now: float) -> Grant | None:
        """That replica's share; None when the request is overtaken, or nothing may be lent yet."""
        for name in [n for n, one in self._members.items() if one.asked + LEASE <= now]:
            del self._members[name]
        me = self._members.get(request.replica)
        if me is None:
            me = self._members[request.replica] = Member(request, now)
        elif request.number <= me.number:
            return None
        me.hear(request, max(MEMORY, 4 / self.rate), now)
        if now < self._lends_from:
            return None
        return self._lend(me, *self._plan(me, now), now)

    def _lend(
        self, me: Member, rate: float, burst: int, turn: int, again: float, now: float
    ) -> Grant:
        """What is meant for a replica, as far as nobody else may have it still."""
        others = [one.held(now) for one in self._members.values() if one is not me]
        free_rate = self.rate - sum(rate for rate, _ in others)
        free_burst = self.burst - sum(burst for _, burst in others)
        if free_rate < rate or free_burst < burst:
            again = min(again, PERIOD / 4)
            rate, burst = min(rate, free_rate), min(burst, free_burst)
        if burst < 1 or rate <= self.rate * 1e-9:
            rate, burst, turn = 0.0, 0, 0
        held_rate, held_burst = me.held(now)
        if rate < held_rate or burst < held_burst:
            again = POLL
        grant = Grant(me.number, rate, burst, turn, again)
        if burst:
            me.promise(grant, now)
        if turn and me.turn_ends <= now:
            me.turn, me.turn_ends = turn, now + turn / rate + PATIENCE
        return grant

    def _plan(self, me: Member, now: float) -> tuple[float, int, int, float]:
        """The rate, burst and turn meant for a replica, and when it is to ask again."""
        seated = list(self._members.values())
        wanting = [one for one in seated if one.wants(CYCLE) > 0.1]
        turns = len(wanting) > self.burst
        if turns:
            seated = wanting
        elif len(seated) > self.burst:
            seated = (wanting + [one for one in seated if one not in wanting])[: self.burst]
        if me not in seated:
            return 0.0, 0, 0, PERIOD
        index = seated.index(me)
        # Between two turns events have to wait; that alone is no demand.
        rates = fair([one.wants(CYCLE if turns else STANDING) for one in seated], self.rate)
        if not turns:
            return rates[index], whole(self.burst, rates)[index], 0, PERIOD
        seat = range(index % self.burst, len(seated), self.burst)
        rate = sum(rates[place] for place in seat)
        if len(seat) == 1:
            return rate, 1, 0, PERIOD
        turn, again = self._turn(me, [(seated[at], rates[at]) for at in seat], rate, now)
        return (rate, 1, turn, again) if turn else (0.0, 0, 0, again)

    def _turn(
        self, me: Member, seat: list[tuple[Member, float]], rate: float, now: float
    ) -> tuple[int, float]:
        """For how many events it is this replica's turn, and when it is to ask again."""
        holder = next((one for one, _ in seat if one.turn_ends > now), None)
        if holder is me:
            return me.turn, PERIOD
        # Where events wait in lines, a turn is of no use to who has none in line.
        free = [(one, share) for one, share in seat if one is not holder]
        line = [pair for pair in free if pair[0].waiting] or free
        line.sort(key=lambda pair: pair[0].turn_ends)
        events = {id(one): max(1, round(share * CYCLE)) for one, share in line}
        if id(me) not in events:
            return 0, PERIOD
        first, last = line[0][0], line[-1][0]
        if holder is None and (me is first or now >= last.turn_ends + GRACE):
            mine = events[id(me)]
            return min(mine, me.waiting) if me.waiting else mine, PERIOD
        ahead = itertools.takewhile(lambda pair: pair[0] is not me, line)
        delay = sum(events[id(one)] for one, _ in ahead) / rate
        if holder is not None:
            delay += holder.turn_ends - PATIENCE - now
        return 0, min(max(delay, POLL, -delay / 4), PERIOD)


def fair(demands: list[float], rate: float) -> list[float]:
    """Max-min fair rates (Bertsekas and Gallager, "Data Networks", 1992, section 6.5): small demands are met,
    large ones get equal parts of the rest. What is left over goes to all equally, as headroom.
    """
    rates = [0.0] * len(demands)
    left = rate
    for met, index in enumerate(sorted(range(len(demands)), key=demands.__getitem__)):
        rates[index] = min(demands[index], left / (len(demands) - met))
        left -= rates[index]
    return [one + max(left, 0.0) / len(rates) for one in rates]


def whole(burst: int, rates: list[float]) -> list[int]:
    """The burst in whole events: one for each, the others in proportion to the rates."""
    per_rate = (burst - len(rates)) / sum(rates)
    ends = [round(per_rate * end) for end in itertools.accumulate(rates)]
    return [1 + end - begin for begin, end in itertools.pairwise([0, *ends])]
