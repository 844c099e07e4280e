"""A limit over a whole fleet, in a world of virtual time where everything that can go wrong does."""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import random
from collections.abc import Callable
from fractions import Fraction

import msgspec
import pytest

from thence.flow import fleet
from thence.flow.fleet import LEASE, Allocator, Grant, Share, ShareRequest


class Process:
    """One replica: a line of events, a share, and perhaps the allocator."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.share = world.make_share(name)
        self.allocator: Allocator | None = None
        self.alive = True
        self.stopped = False
        self.offset = world.random.choice([0.0, 1000.0, 1e6])
        self.inbox: list[Callable[[], None]] = []
        self.waiting = 0
        self.wakes_at = math.inf

    @property
    def clock(self) -> float:
        """Each process counts time from another moment."""
        return self.world.now + self.offset

    def receive(self, callback: Callable[[], None]) -> None:
        if self.stopped:
            self.inbox.append(callback)
        elif self.alive:
            callback()

    def arrive(self, events: int) -> None:
        for _ in range(self.waiting + events - self.world.queue):
            self.share.refused()
        self.waiting = min(self.waiting + events, self.world.queue)
        self.wake()

    def admit(self) -> None:
        while self.waiting and self.share.wait(self.clock) == 0.0:
            self.share.take(self.clock)
            self.waiting -= 1
            self.world.admissions.append((self.world.now, self.name))

    def wake(self) -> None:
        self.admit()
        now = self.clock
        if self.share.asks <= now:
            self.world.ask(self, self.share.request(now, self.waiting))
        wait = self.share.wait(now) if self.waiting else math.inf
        at = max(min(self.share.asks, now + wait), now + 1e-9)
        if at < self.wakes_at:
            self.wakes_at = at
            self.world.at(at - self.offset, lambda: self.receive(lambda: self.timer(at)))

    def timer(self, at: float) -> None:
        if at == self.wakes_at:
            self.wakes_at = math.inf
            self.wake()

    def apply(self, grant: Grant) -> None:
        self.share.apply(grant, self.clock)
        shares = [one.share for one in self.world.live if one.clock < one.share.until]
        self.world.most_rate = max(self.world.most_rate, sum(one.rate for one in shares))
        self.world.most_burst = max(self.world.most_burst, sum(one.burst for one in shares))
        self.wake()

    def resume(self) -> None:
        """Awake again: it admits at once, before it has heard anything."""
        self.stopped = False
        self.admit()
        inbox, self.inbox = self.inbox, []
        for callback in inbox:
            callback()
        self.wake()


class World:
    """Processes, messages between them, one lock, and a clock that only the world moves."""

    def __init__(
        self,
        seed: int = 0,
        rate: float = 100.0,
        burst: int = 5,
        *,
        delay: tuple[float, float] = (0.0001, 0.0004),
        make_allocator: Callable[[float, int, float], Allocator] = Allocator,
        make_share: Callable[[str], Share] = Share,
    ) -> None:
        self.random = random.Random(seed)
        self.now = self.random.uniform(0.0, 1e6)
        self.began = self.now
        self.limits = [(self.now, rate, burst)]
        self.delay = delay
        self.make_allocator = make_allocator
        self.make_share = make_share
        self.lost = self.repeated = self.late = 0.0
        self.queue = 1000
        self.processes: list[Process] = []
        self.holder: Process | None = None
        self.cut: set[tuple[str, str]] = set()
        """Whom nothing gets to ("in") or from ("out"), by name."""
        self.admissions: list[tuple[float, str]] = []
        self.most_rate, self.most_burst = 0.0, 0
        """The most that shares in force have ever added up to."""
        self.messages = 0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._names = itertools.count(1)

    @property
    def live(self) -> list[Process]:
        return [process for process in self.processes if process.alive]

    @property
    def awake(self) -> list[Process]:
        return [process for process in self.live if not process.stopped]

    def at(self, time: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time, next(self._order), callback))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._agenda and self._agenda[0][0] <= end:
            self.now, _, callback = heapq.heappop(self._agenda)
            callback()
        self.now = end

    def join(self) -> Process:
        process = Process(self, f"replica-{next(self._names)}")
        self.processes.append(process)
        if self.holder is None:
            self.elect()
        process.wake()
        return process

    def die(self, process: Process, *, told: bool = False) -> None:
        process.alive = process.stopped = False
        if told:
            self.at(self.now + 0.002, lambda: self.forget(process.name))
        if self.holder is process:
            self.holder = None
            self.at(self.now + self.random.uniform(0.0, 0.1), self.elect)

    def forget(self, name: str) -> None:
        if self.holder is not None and self.holder.allocator is not None:
            self.holder.allocator.forget(name)

    def stop(self, process: Process, seconds: float) -> None:
        process.stopped = True
        self.at(self.now + seconds, lambda: process.resume() if process.alive else None)

    def release(self) -> None:
        """The allocator answers no more, and lets another have the lock."""
        if self.holder is not None and not self.holder.stopped:
            self.holder.allocator = None
            self.holder = None
            self.elect()

    def elect(self) -> None:
        if self.holder is None and self.awake:
            self.holder = self.random.choice(self.awake)
            _, rate, burst = self.limits[-1]
            self.holder.allocator = self.make_allocator(rate, burst, self.holder.clock)
        elif self.holder is None and self.live:
            self.at(self.now + 0.1, self.elect)

    def change(self, rate: float, burst: int) -> None:
        if self.holder is None or self.holder.stopped:
            return
        self.limits.append((self.now, rate, burst))
        self.holder.allocator.change(rate, burst)

    def ask(self, process: Process, request: ShareRequest) -> None:
        holder = self.holder
        if holder is not None:
            self.send(process, holder, lambda: self.answer(holder, process, request))

    def answer(self, holder: Process, process: Process, request: ShareRequest) -> None:
        if holder.allocator is not None:
            grant = holder.allocator.answer(request, holder.clock)
            if grant is not None:
                self.send(holder, process, lambda: process.apply(grant))

    def send(self, sender: Process, receiver: Process, callback: Callable[[], None]) -> None:
        self.messages += 1
        if sender is not receiver and self.cut & {(sender.name, "out"), (receiver.name, "in")}:
            return
        copies = 2 if self.random.random() < self.repeated else 1
        for _ in range(copies):
            if self.random.random() >= self.lost:
                delay = self.random.uniform(*self.delay)
                if self.random.random() < self.late:
                    delay = self.random.uniform(0.0, 1.5 * LEASE)
                self.at(self.now + delay, lambda: receiver.receive(callback))

    def demand(self, process: Process, rate: float, *, even: bool = False) -> None:
        """Events for one process from now on, evenly spaced or as they happen to come (Poisson)."""
        if process.alive and rate > 0:
            gap = 1 / rate if even else self.random.expovariate(rate)

            def arrival() -> None:
                if process.alive:
                    process.receive(lambda: process.arrive(1))
                    self.demand(process, rate, even=even)

            self.at(self.now + gap, arrival)

    def rate_between(self, begin: float, end: float, name: str | None = None) -> float:
        """Admissions a second."""
        admitted = sum(
            begin < at <= end and name in {None, process} for at, process in self.admissions
        )
        return admitted / (end - begin)

    def excess(self) -> float:
        """By how many events the worst window exceeds what is allowed there: the oracle.

        Every window between two admissions is looked at. After a change, what was allowed before it is
        allowed for one more lease.
        """
        times = [at for at, _ in self.admissions]
        return excess(times, self.limits)


def excess(times: list[float], limits: list[tuple[float, float, int]]) -> float:
    """By how many events the worst window exceeds `rate * w + burst`."""
    edges = sorted({edge for at, _, _ in limits for edge in (at, at + LEASE)})

    def allowed(moment: float) -> tuple[float, int]:
        ends = [at for at, _, _ in limits[1:]] + [math.inf]
        in_force = [
            (rate, burst)
            for (at, rate, burst), end in zip(limits, ends, strict=True)
            if at <= moment < end + LEASE
        ]
        return max(rate for rate, _ in in_force), max(burst for _, burst in in_force)

    def budget(begin: float, end: float) -> float:
        stops = [begin, *(edge for edge in edges if begin < edge < end), end]
        return sum((b - a) * allowed(a)[0] for a, b in itertools.pairwise(stops))

    budgets = [0.0]
    for before, after in itertools.pairwise(times):
        budgets.append(budgets[-1] + budget(before, after))
    worst = -math.inf
    for first, begin in enumerate(times):
        burst = allowed(begin)[1]
        for last in range(first, len(times)):
            count = last - first + 1
            worst = max(worst, count - (budgets[last] - budgets[first]) - burst)
    return worst


def chaos(world: World, seconds: float = 8.0, *, changes: bool = False) -> None:
    """Everything that can go wrong does, and in between there is time to fill up what a burst allows."""
    dice = world.random
    world.lost, world.repeated, world.late = 0.03, 0.05, dice.choice([0.02, 0.3])
    world.delay = (0.0001, dice.choice([0.001, 0.05]))
    for _ in range(4):
        world.join()
    end = world.now + seconds

    def rush() -> None:
        """A lot of events for most of them, none for the others."""
        for process in world.live:
            if dice.random() < 0.7:
                process.receive(lambda process=process: process.arrive(dice.choice([20, 200])))

    def calm() -> None:
        for process in world.live:
            process.waiting = 0

    while world.now < end:
        world.run(dice.uniform(0.0, 0.6))
        dice.choice([rush, rush, calm])()
        world.run(dice.choice([0.0, 0.05, 0.3]))
        victim = dice.choice([*world.live, world.holder or world.live[0]])
        match dice.randrange(8 if changes else 7):
            case 0 | 1 if len(world.live) < 6:
                world.join().arrive(100)
            case 2 if len(world.live) > 3:
                world.die(victim, told=dice.random() < 0.5)
                rush()
            case 3 | 4 if not victim.stopped:
                world.stop(victim, dice.choice([0.05, 0.35, 1.0]))
            case 5:
                ways = {(victim.name, way) for way in dice.choice(["in", "out", "in out"]).split()}
                world.cut |= ways
                rush()
                world.at(
                    world.now + dice.choice([0.2, 0.8]),
                    functools.partial(world.cut.difference_update, ways),
                )
            case 6:
                world.release()
                rush()
            case 7:
                _, rate, burst = world.limits[0]
                world.change(rate * dice.choice([0.3, 1, 2]), max(1, burst + dice.randint(-4, 4)))
            case _:
                pass


LIMITS = [(60.0, 1), (60.0, 3), (60.0, 8), (12.0, 2), (150.0, 20)]


@pytest.mark.parametrize("seed", range(40))
def test_no_window_ever_holds_more_than_the_limit(seed):
    world = World(seed, *LIMITS[seed % len(LIMITS)])
    chaos(world)
    assert world.admissions
    assert world.excess() <= 1e-6
    _, rate, burst = world.limits[0]
    assert world.most_rate <= rate * (1 + 1e-12)
    assert world.most_burst <= burst


@pytest.mark.parametrize("seed", range(20))
def test_the_limit_holds_while_an_operator_changes_it(seed):
    world = World(seed, *LIMITS[seed % len(LIMITS)])
    chaos(world, changes=True)
    assert world.admissions
    assert world.excess() <= 1e-6


class ImpatientAllocator(Allocator):
    """Does not wait for what the allocator before it has lent."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        super().__init__(rate, burst, now - LEASE)


class TrustingAllocator(Allocator):
    """Takes a smaller share for applied as soon as it has answered."""

    def answer(self, request: ShareRequest, now: float) -> Grant | None:
        grant = super().answer(request, now)
        if grant is not None:
            promises = self._members[request.replica].promises
            promises[:] = [one for one in promises if one[0] is grant]
        return grant


class RichShare(Share):
    """Starts a new share with all that its burst allows."""

    def apply(self, grant: Grant, now: float) -> None:
        new = now >= self.until
        super().apply(grant, now)
        if new and self.burst:
            self._due = now


class LateShare(Share):
    """Counts its lease from the answer."""

    def apply(self, grant: Grant, now: float) -> None:
        if grant.request in self._sent:
            self._sent[grant.request] = now
        super().apply(grant, now)


class StubbornShare(Share):
    """Keeps its share when the lease has run out."""

    def apply(self, grant: Grant, now: float) -> None:
        super().apply(grant, now)
        if self.burst:
            self.until += LEASE


@pytest.mark.parametrize("fault", [ImpatientAllocator, RichShare, LateShare, StubbornShare])
def test_control_the_oracle_sees_it_when_a_rule_is_left_out(fault):
    faulty = {"make_allocator" if issubclass(fault, Allocator) else "make_share": fault}

    def exceeds(seed: int) -> bool:
        world = World(seed, *LIMITS[seed % len(LIMITS)], **faulty)
        chaos(world)
        return world.excess() > 1e-6

    assert any(map(exceeds, range(300)))


@pytest.mark.parametrize(("allocator", "holds"), [(Allocator, True), (TrustingAllocator, False)])
def test_control_a_lost_answer_harms_only_where_a_smaller_share_is_taken_for_granted(
    allocator, holds
):
    world = World(1, 150.0, 4, make_allocator=allocator)
    holder, busy = world.join(), world.join()
    assert world.holder is holder
    world.demand(busy, 1000.0)
    world.run(2.0)
    world.cut.add((busy.name, "in"))
    holder.arrive(1000)
    world.run(1.0)
    assert (world.excess() <= 1e-6) is holds


def test_control_the_oracle_counts_windows():
    limits = [(0.0, 10.0, 2)]
    assert excess([1.0, 1.0, 1.1, 1.2], limits) == pytest.approx(0.0)
    assert excess([1.0, 1.0, 1.05, 1.2], limits) == pytest.approx(0.5)
    assert excess([1.0, 2.0, 2.0, 2.0], limits) == pytest.approx(1.0)


def fleet_of(world: World, demands: list[float], *, even: bool = True) -> World:
    for demand in demands:
        world.demand(world.join(), demand, even=even)
    return world


def skewed(total: float, replicas: int) -> list[float]:
    return [0.97 * total, *[0.03 * total / (replicas - 1)] * (replicas - 1)]


STEADY = [
    *itertools.product([[250.0] * 4, skewed(1000.0, 4)], [1, 2, 3, 4, 20], [True, False]),
    *itertools.product([[1000.0, 125.0, 125.0]], [1, 3, 20], [True, False]),
]


@pytest.mark.parametrize(("demands", "burst", "even"), STEADY)
def test_a_steady_fleet_uses_99_percent_of_its_limit(demands, burst, even):
    world = fleet_of(World(burst, 500.0, burst), demands, even=even)
    world.run(2.0)
    began, messages = world.now, world.messages
    world.run(5.0)
    assert world.rate_between(began, world.now) >= 0.99 * 500.0
    assert (world.messages - messages) / 5 <= 50 * len(demands)


def test_a_small_demand_is_met_in_full_beside_one_that_wants_everything():
    world = fleet_of(World(1, 200.0, 8), [2000.0, 30.0, 10.0])
    world.run(2.0)
    began = world.now
    world.run(5.0)
    _, second, third = world.processes
    assert world.rate_between(began, world.now, second.name) == pytest.approx(30.0, rel=0.05)
    assert world.rate_between(began, world.now, third.name) == pytest.approx(10.0, rel=0.05)
    assert second.waiting < 30


def test_what_nobody_wants_is_headroom_for_all():
    world = fleet_of(World(1, 90.0, 9), [0.0, 0.0, 0.0])
    world.run(1.0)
    assert [process.share.rate for process in world.processes] == pytest.approx([30.0] * 3)
    assert [process.share.burst for process in world.processes] == [3, 3, 3]


@pytest.mark.parametrize("burst", [1, 2, 10])
@pytest.mark.parametrize("change", ["death", "certain death", "join", "handover", "stop"])
def test_a_fleet_is_balanced_again_within_a_second(change, burst):
    world = fleet_of(World(burst, 500.0, burst), [400.0] * 4)
    world.run(2.0)
    other = next(process for process in world.processes if process is not world.holder)
    match change:
        case "death" | "certain death":
            world.die(other, told=change == "certain death")
        case "join":
            fleet_of(world, [400.0])
        case "handover":
            world.release()
        case _:
            world.stop(other, 10.0)
    world.run(1.0)
    began = world.now
    world.run(2.0)
    assert world.rate_between(began, world.now) >= 0.985 * 500.0
    assert world.awake
    for process in world.awake:
        part = world.rate_between(began, world.now, process.name)
        assert part == pytest.approx(500.0 / len(world.awake), rel=0.25)


@pytest.mark.parametrize(("rate", "burst", "replicas"), [(100, 1, 4), (100, 2, 5), (40, 3, 8)])
def test_where_the_burst_has_too_few_events_replicas_take_turns(rate, burst, replicas):
    world = fleet_of(World(1, rate, burst), [rate] * replicas)
    world.run(2.0)
    began = world.now
    for _ in range(500):
        world.run(0.01)
        holding = [one for one in world.processes if one.share.until > one.clock]
        assert len(holding) <= burst
        assert sum(one.share.burst for one in holding) <= burst
    for process in world.processes:
        mine = [at for at, name in world.admissions if name == process.name and at > began]
        assert max(b - a for a, b in itertools.pairwise([began, *mine, world.now])) < 1.3


def test_a_slow_limit_goes_round_one_event_at_a_time():
    world = fleet_of(World(1, 2.0, 1), [5.0] * 4)
    world.run(5.0)
    began = world.now
    world.run(20.0)
    admitted = [name for at, name in world.admissions if at > began]
    assert len(admitted) >= 39
    assert all(len(set(admitted[at : at + 4])) == 4 for at in range(len(admitted) - 3))


def test_a_lowered_limit_is_kept_once_the_leases_ran_out_and_is_used_soon():
    world = fleet_of(World(1, 200.0, 12), [200.0] * 3)
    world.run(2.0)
    world.change(50.0, 6)
    world.run(LEASE)
    began = world.now
    world.run(0.7)
    assert world.rate_between(began, world.now) <= 50.0 + 6 / 0.7
    began = world.now
    world.run(4.0)
    assert world.rate_between(began, world.now) >= 0.99 * 50.0


def lent(share: Share, now: float, rate: float, burst: int, turn: int = 0) -> Grant:
    """What an allocator might answer to the share's next request."""
    return Grant(share.request(now).number, rate, burst, turn, 0.1)


def admitted_at_once(share: Share, now: float) -> int:
    count = 0
    while share.wait(now) == 0.0:
        share.take(now)
        count += 1
    return count


def test_a_new_share_starts_empty_and_an_enlarged_one_keeps_what_it_had():
    share = Share("one")
    assert share.wait(10.0) == math.inf
    share.apply(lent(share, 10.0, 10.0, 3), 10.0)
    assert share.wait(10.0) == pytest.approx(0.1)
    share.apply(lent(share, 10.15, 100.0, 30), 10.15)
    assert admitted_at_once(share, 10.15) == 1
    assert share.wait(10.15) == pytest.approx(0.005, abs=1e-6)


def test_a_share_made_smaller_loses_what_its_burst_no_longer_allows():
    share = Share("one")
    share.apply(lent(share, 10.0, 100.0, 9), 10.0)
    share.apply(lent(share, 10.2, 100.0, 2), 10.2)
    assert admitted_at_once(share, 10.2 + 1e-6) == 2


def test_a_lease_ends_one_lease_after_the_request_was_sent():
    share = Share("one")
    grant = lent(share, 10.0, 100.0, 5)
    share.apply(grant, 10.25)
    assert share.wait(10.299) == 0.0
    assert share.wait(10.0 + LEASE) == math.inf
    assert share.request(10.4).applied == grant.request
    share.apply(grant, 10.4)
    assert share.wait(10.4) == math.inf
    assert (share.rate, share.burst) == (0.0, 0)


def test_a_grant_that_is_overtaken_repeated_or_unasked_for_changes_nothing():
    share = Share("one")
    early, late = lent(share, 10.0, 100.0, 5), lent(share, 10.05, 10.0, 1)
    share.apply(late, 10.06)
    share.apply(early, 10.07)
    share.apply(Grant(99, 1000.0, 50, 0, 0.1), 10.07)
    share.apply(late, 10.165)
    assert (share.rate, share.burst) == (10.0, 1)
    assert share.wait(10.165) == 0.0
    assert share.request(10.17).applied == late.request


def test_when_its_turn_is_over_a_replica_gives_its_share_back_for_good():
    share = Share("one")
    before = lent(share, 10.0, 100.0, 1, turn=2)
    share.apply(before, 10.0)
    assert share.asks == pytest.approx(10.02, abs=1e-4)
    for now in (10.0101, 10.0202):
        assert share.wait(now) == 0.0
        share.take(now)
    request = share.request(10.0203, waiting=5)
    assert request.applied == request.number
    share.apply(before, 10.0204)
    assert share.wait(10.1) == math.inf


def test_demand_is_all_that_came_whether_admitted_refused_or_still_in_line():
    share = Share("one")
    share.apply(lent(share, 10.0, 100.0, 5), 10.0)
    for _ in range(3):
        share.refused()
    share.take(10.2)
    assert share.request(10.2, waiting=6).demand == pytest.approx(50.0)
    assert share.request(10.201, waiting=7).demand == pytest.approx(50.0)
    assert share.request(10.4, waiting=6).demand == 0.0


@pytest.mark.parametrize("rate", [0.1, 3.0, 1 / 3e-3, 9973.0, 1e6])
@pytest.mark.parametrize("began", [0.0, 123456.7, 4e6])
@pytest.mark.parametrize("burst", [1, 3])
def test_no_rounding_ever_adds_up_to_an_event(rate, began, burst):
    share, now, dice = Share("one"), began, random.Random(7)
    share.apply(lent(share, now, rate, burst), now)
    rates = [rate, math.nextafter(rate, 0.0)]
    times = []
    for step in range(1000):
        if step % 100 == 0:
            now += 5 / rate
        if step % 7 == 0:
            for _ in range(30):
                share.apply(lent(share, now, dice.choice(rates), burst), now)
        share.until = math.inf
        # The first moment at which it may come, to the last bit.
        now = max(now, share._due - share._tolerance)
        assert share.wait(now) == 0.0
        share.take(now)
        times.append(now)
    exact = [Fraction(rate) * Fraction(at) for at in times]
    lowest = -math.inf
    for index, reached in enumerate(exact):
        lowest = max(lowest, reached - index)
        assert index + 1 - reached + lowest <= burst


def ask(replica: str, number: int = 1, applied: int = 0, demand: float = 10.0) -> ShareRequest:
    return ShareRequest(replica, number, applied, demand, 0)


def test_a_new_allocator_lends_nothing_for_one_lease():
    allocator = Allocator(100.0, 10, 5.0)
    assert allocator.answer(ask("one", 1), 5.1) is None
    assert allocator.answer(ask("one", 2), 5.299) is None
    grant = allocator.answer(ask("one", 3), 5.3)
    assert grant is not None
    assert (grant.request, grant.rate, grant.burst) == (3, 100.0, 10)


def settled(*replicas: str) -> Allocator:
    allocator = Allocator(100.0, 10, 5.0)
    for number, replica in enumerate(replicas):
        assert allocator.answer(ask(replica), 5.1 + number / 100) is None
    return allocator


def test_a_request_that_is_overtaken_or_repeated_is_not_answered():
    allocator = settled("one")
    assert allocator.answer(ask("one", 3), 5.3) is not None
    assert allocator.answer(ask("one", 3), 5.31) is None
    assert allocator.answer(ask("one", 2), 5.32) is None


def test_what_a_smaller_share_frees_is_lent_when_it_is_confirmed_or_the_larger_one_ran_out():
    allocator = settled("one")
    assert allocator.answer(ask("one", 2), 5.35).rate == 100.0
    assert allocator.answer(ask("two", 1), 5.36).rate == 0.0
    assert allocator.answer(ask("one", 3, applied=2), 5.37).rate == pytest.approx(50.0)
    assert allocator.answer(ask("two", 2), 5.38).rate == 0.0
    assert allocator.answer(ask("one", 4, applied=3), 5.39).rate == pytest.approx(50.0)
    assert allocator.answer(ask("two", 3), 5.4).rate == pytest.approx(50.0)


def test_a_flood_of_requests_does_not_hide_that_an_earlier_share_was_larger():
    allocator = settled("one")
    assert allocator.answer(ask("one", 2), 5.35).burst == 10
    assert allocator.answer(ask("two", 1), 5.36).burst == 0
    for number in range(3, 60):
        assert allocator.answer(ask("one", number), 5.36 + number / 1e3).burst == 5
    assert allocator.answer(ask("two", 2), 5.42).burst == 0
    assert allocator.answer(ask("one", 60, applied=59), 5.43).burst == 5
    assert allocator.answer(ask("two", 3), 5.44).burst == 5


def test_the_share_of_a_dead_replica_is_free_at_once_when_its_death_is_certain():
    allocator = settled("one")
    assert allocator.answer(ask("one", 2), 5.35).burst == 10
    assert allocator.answer(ask("two", 1), 5.36).burst == 0
    allocator.forget("one")
    grant = allocator.answer(ask("two", 2), 5.37)
    assert (grant.rate, grant.burst) == (100.0, 10)


def test_an_allocator_remembers_only_who_asked_within_a_lease_and_few_grants_of_each():
    allocator = settled()
    for number in range(2000):
        allocator.answer(ask(f"replica-{number}"), 6.0 + number * 0.01)
        allocator.answer(ask("eager", number + 1), 6.0 + number * 0.01)
    assert len(allocator._members) <= 32
    assert all(len(one.promises) <= fleet.PROMISES for one in allocator._members.values())


def test_a_share_remembers_only_the_requests_of_a_lease():
    share = Share("one")
    for number in range(1000):
        share.request(10.0 + number / 100)
    assert len(share._sent) <= 31


@pytest.mark.parametrize("seed", range(50))
def test_fair_rates_are_max_min_and_nothing_is_left_over(seed):
    dice = random.Random(seed)
    demands = [dice.choice([0.0, dice.uniform(0, 5), dice.uniform(0, 100)]) for _ in range(6)]
    rates = fleet.fair(demands, 100.0)
    assert sum(rates) == pytest.approx(100.0)
    short = [rate for rate, demand in zip(rates, demands, strict=True) if rate < demand - 1e-9]
    assert max(rates) <= min(short, default=math.inf) + 1e-9
    bursts = fleet.whole(17, rates)
    assert sum(bursts) == 17
    assert min(bursts) >= 1


def test_requests_and_grants_travel_as_small_arrays():
    request = ShareRequest("one", 7, 6, 12.5, 3)
    grant = Grant(7, 50.0, 4, 0, 0.1)
    for message in (request, grant):
        wire = msgspec.msgpack.encode(message)
        assert msgspec.msgpack.decode(wire, type=type(message)) == message
        assert len(wire) < 40
