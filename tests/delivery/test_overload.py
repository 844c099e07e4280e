"""Ten times too much: what is handled is fresh, as much as can be is, and the rest is accounted for."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.delivery.watching import Watch, eventually, is_idle, lost

from thence import Budget, Event, Limit, Node, Service
from thence.flow.breaker import FAILING_FOR
from thence.testing import MemoryMesh, run

MESH = "memory:overload"

TARGET = 0.1
CAPACITY = 100
"""Events a second that the handlers here can do."""
SPIKE = 5.0
"""Seconds."""


class Asked(Event):
    number: int
    at: float


class Moved(Event, key="player"):
    number: int
    at: float
    player: str


class Urgent(Event, priority="high"):
    number: int
    at: float


class Idle(Event, priority="low"):
    number: int
    at: float


class Broken(Exception):
    """What a failing handler raises."""


def now() -> float:
    return asyncio.get_running_loop().time()


class Log:
    """When a handler was started, and for what."""

    def __init__(self) -> None:
        self.starts: list[tuple[float, Any]] = []

    def note(self, event: Any) -> None:
        self.starts.append((now(), event))

    def between(self, start: float, end: float) -> int:
        return sum(start <= at < end for at, _ in self.starts)

    def lateness(self, *kinds: type[Event]) -> list[float]:
        """How long each event was under way when its handler started, in order."""
        return sorted(
            at - event.at for at, event in self.starts if not kinds or type(event) in kinds
        )

    def count(self, kind: type[Event]) -> int:
        return sum(type(event) is kind for _, event in self.starts)


def percentile(values: list[float], share: float) -> float:
    return values[math.ceil(share * len(values)) - 1]


class Flood:
    """Emits when it is time to, whatever became of what it has emitted before."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.emitted: Counter[str] = Counter()
        self.emits: list[asyncio.Task[Any]] = []
        self.took: list[float] = []
        """Seconds, for each emit that has ended."""
        self.waiting_since: dict[int, float] = {}

    @property
    def longest(self) -> float:
        """Seconds that an emit took at most, also one that has not ended."""
        return max([*self.took, *(now() - began for began in self.waiting_since.values())])

    def emit(self, event: Event) -> None:
        self.emitted[type(event).__name__] += 1
        self.emits.append(asyncio.create_task(self._emit(event)))

    async def _emit(self, event: Event) -> None:
        self.waiting_since[id(event)] = now()
        await self.node.emit(event)
        self.took.append(now() - self.waiting_since.pop(id(event)))

    async def go_on(self, rate: float, seconds: float, make: Callable[[int], Event]) -> None:
        start = now()
        for number in range(round(rate * seconds)):
            self.emit(make(number))
            await asyncio.sleep(start + (number + 1) / rate - now())

    async def end(self) -> None:
        await asyncio.gather(*self.emits)


def report(node: Node, handler: str) -> Any:
    return next(one for one in node.report().handlers if one.handler == handler)


def ends(*nodes: Node) -> Counter[str]:
    """What became of all events, as nodes count it: of each that was emitted, one end or one loss."""
    counts: Counter[str] = Counter()
    for node in set(nodes):
        for handler in node.report().handlers:
            counts["handled"] += handler.handled
            counts["failed"] += handler.failed
            counts.update(handler.shed)
    counts.update(lost(*set(nodes)))
    return +counts


@asynccontextmanager
async def hosting(service: Service, remote: bool) -> AsyncGenerator[tuple[Node, Node]]:
    """The node of a service, and one to emit at: another one, or itself. Time has gone on for a while."""
    async with Node(service, mesh=MESH) as node, Node(mesh=MESH) as other:
        await asyncio.sleep(10)
        yield node, other if remote else node


# Much more than can be done


def busy_for(log: Log, seconds: float) -> Callable[[Any], Any]:
    async def handle(event: Any) -> None:
        log.note(event)
        if seconds:
            await asyncio.sleep(seconds)

    return handle


WAYS: dict[str, tuple[float, dict[str, Any]]] = {
    "one at a time": (1 / CAPACITY, {"concurrency": 1}),
    "four at a time": (4 / CAPACITY, {"concurrency": 4}),
    "by a limit, without suspending": (0.0, {"limit": f"{CAPACITY}/s burst 1"}),
    "by a limit, suspending": (0.05, {"limit": f"{CAPACITY}/s burst 1"}),
}
"""How a handler comes to do so much and not more: seconds for an event, and its policy."""


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_ten_times_too_much_leaves_all_it_can_do_to_a_handler_and_what_it_does_is_fresh(
    way: str, keyed: bool, remote: bool
) -> None:
    async def main() -> None:
        log, service = Log(), Service("s")
        seconds, policy = WAYS[way]
        service.on(Asked, Moved, name="handle", queue_target=TARGET, **policy)(
            busy_for(log, seconds)
        )

        def make(number: int) -> Event:
            if keyed:
                return Moved(number=number, at=now(), player=f"p{number % 16}")
            return Asked(number=number, at=now())

        async with hosting(service, remote) as (node, emitter):
            flood, start = Flood(emitter), now()
            await flood.go_on(10 * CAPACITY, SPIKE, make)
            end = now()
            assert log.between(start, end) >= 0.95 * CAPACITY * SPIKE
            assert percentile(log.lateness(), 0.99) <= 2 * TARGET
            assert log.lateness()[-1] <= 2 * TARGET + 0.01
            # A line that has been standing for a while.
            standing = [at - event.at for at, event in log.starts if start + 1 <= at]
            assert max(standing) <= TARGET + 0.01
            assert flood.longest <= 0.01

            await asyncio.sleep(0.5)
            settled = report(node, "handle")
            assert (settled.waiting, settled.in_flight) == (0, 0)
            assert is_idle(node, emitter)
            flood.emit(make(0))
            await asyncio.sleep(0.1)
            assert log.starts[-1][0] - log.starts[-1][1].at < 0.01

            await flood.end()
            told = ends(node, emitter)
            assert told.keys() == {"handled", "overloaded"}
            assert told["handled"] == len(log.starts)
            assert told.total() == flood.emitted.total() == 10 * CAPACITY * SPIKE + 1

    run(main())


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_under_overload_the_lowest_priority_is_shed_first(way: str, remote: bool) -> None:
    async def main() -> None:
        log, service = Log(), Service("s")
        seconds, policy = WAYS[way]
        service.on(Urgent, Asked, Idle, name="handle", queue_target=TARGET, **policy)(
            busy_for(log, seconds)
        )

        def make(number: int) -> Event:
            kind = {0: Urgent, 7: Urgent, 13: Urgent, 3: Asked, 11: Asked}.get(number % 40, Idle)
            return kind(number=number, at=now())

        async with hosting(service, remote) as (node, emitter):
            flood, start = Flood(emitter), now()
            # Three of four places go to Urgent, two of four would go to Asked.
            await flood.go_on(10 * CAPACITY, SPIKE, make)
            end = now()
            assert log.between(start, end) >= 0.95 * CAPACITY * SPIKE
            await asyncio.sleep(0.5)
            assert is_idle(node, emitter)
            await flood.end()

            assert log.count(Urgent) == flood.emitted["Urgent"] == 375
            assert percentile(log.lateness(Urgent), 0.99) <= 0.02 + seconds
            assert flood.emitted["Asked"] == 250
            assert 100 <= log.count(Asked) < 150
            assert percentile(log.lateness(Asked), 0.99) <= 2 * TARGET
            assert log.count(Idle) <= 25
            told = ends(node, emitter)
            assert told.total() == flood.emitted.total()
            assert told["handled"] == len(log.starts)

    run(main())


def test_what_a_handler_can_do_is_shed_by_nobody_when_only_the_lowest_priority_is_too_much() -> (
    None
):
    async def main() -> None:
        log, service = Log(), Service("s")
        service.on(Urgent, Asked, Idle, name="handle", queue_target=TARGET, concurrency=1)(
            busy_for(log, 1 / CAPACITY)
        )

        def make(number: int) -> Event:
            kind = {0: Urgent, 9: Urgent, 5: Asked}.get(number % 40, Idle)
            return kind(number=number, at=now())

        async with hosting(service, remote=True) as (node, emitter):
            flood = Flood(emitter)
            await flood.go_on(10 * CAPACITY, SPIKE, make)
            await asyncio.sleep(0.5)
            assert log.count(Urgent) == flood.emitted["Urgent"] == 250
            assert log.count(Asked) == flood.emitted["Asked"] == 125
            assert 100 <= log.count(Idle) <= 150
            assert ends(node, emitter).total() == flood.emitted.total()

    run(main())


@pytest.mark.parametrize("remote", [False, True])
def test_a_burst_that_is_done_within_the_target_is_handled_whole(remote: bool) -> None:
    async def main() -> None:
        log, service = Log(), Service("s")
        service.on(Asked, name="handle", queue_target=TARGET, concurrency=1)(
            busy_for(log, 1 / CAPACITY)
        )

        async with hosting(service, remote) as (node, emitter):
            flood = Flood(emitter)
            for burst in range(10):
                for number in range(int(2 * TARGET * CAPACITY) - 1):
                    flood.emit(Asked(number=100 * burst + number, at=now()))
                await asyncio.sleep(0.5)
            assert ends(node, emitter) == {"handled": flood.emitted.total()}

    run(main())


def test_a_burst_of_one_key_that_is_done_within_the_target_is_handled_whole() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")
        service.on(Moved, name="handle", queue_target=TARGET)(busy_for(log, 1 / CAPACITY))

        async with hosting(service, remote=False) as (node, emitter):
            flood = Flood(emitter)
            for number in range(int(2 * TARGET * CAPACITY) - 1):
                flood.emit(Moved(number=number, at=now(), player="ana"))
            await asyncio.sleep(1)
            assert ends(node, emitter) == {"handled": flood.emitted.total()}

    run(main())


@pytest.mark.parametrize("queue", [1, 3, 20])
def test_where_the_line_is_shorter_than_the_target_emitters_wait_and_all_is_accounted_for(
    queue: int,
) -> None:
    async def main() -> None:
        log, service = Log(), Service("s")
        service.on(Asked, name="handle", queue=queue, queue_target=TARGET, concurrency=1)(
            busy_for(log, 1 / CAPACITY)
        )

        async with hosting(service, remote=True) as (node, emitter):
            flood, start = Flood(emitter), now()
            await flood.go_on(10 * CAPACITY, SPIKE, lambda number: Asked(number=number, at=now()))
            assert log.between(start, now()) >= 0.95 * CAPACITY * SPIKE
            await flood.end()
            await eventually(lambda: is_idle(node, emitter))
            assert ends(node, emitter).total() == flood.emitted.total()

    run(main())


def test_a_key_that_its_limit_held_up_takes_turns_again_when_others_fill_the_line() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")
        service.on(Moved, name="handle", concurrency=1, limit=Limit("10/s burst 1", per="player"))(
            busy_for(log, 0.05)
        )

        async with hosting(service, remote=False) as (_, emitter):
            flood = Flood(emitter)

            async def play(player: str, rate: float, seconds: float) -> None:
                await flood.go_on(rate, seconds, lambda n: Moved(number=n, at=now(), player=player))

            eager = asyncio.create_task(play("eager", 12, 12))
            await asyncio.sleep(2)  # the limit holds "eager" up: nobody else is there
            start = now()
            await asyncio.gather(*(play(player, 8, 10) for player in "abcd"))
            turns = Counter(event.player for at, event in log.starts if start <= at)
            await eager
            await flood.end()
            # 20 a second for five players.
            assert turns["eager"] >= 20, turns

    run(main())


def test_the_lowest_priority_is_shed_first_and_the_highest_goes_first_where_a_limit_is_per_key() -> (
    None
):
    async def main() -> None:
        log, service = Log(), Service("s")
        service.on(Urgent, Idle, name="handle", queue=6, limit=Limit("1/s burst 1", per="number"))(
            busy_for(log, 0.0)
        )

        async with hosting(service, remote=False) as (node, emitter):
            flood = Flood(emitter)
            for kind in (Idle, Urgent):
                for _ in range(4):
                    flood.emit(kind(number=0, at=now()))
                await asyncio.sleep(0.01)
            await asyncio.sleep(10)
            kinds = [type(event).__name__ for _, event in log.starts]
            assert kinds == ["Idle"] + ["Urgent"] * 4 + ["Idle"] * 2
            assert report(node, "handle").shed == {"queue full": 1}

    run(main())


@pytest.mark.parametrize("remote", [False, True])
def test_a_handler_that_never_suspends_sheds_what_has_waited_behind_others_of_its_batch(
    remote: bool,
) -> None:
    async def main() -> None:
        log, service = Log(), Service("s")
        loop: Any = asyncio.get_running_loop()

        @service.on(Asked, name="handle", queue_target=TARGET)
        async def compute(asked: Asked) -> None:
            log.note(asked)
            # What a handler that uses the processor does to everybody's time.
            loop._now += 1 / CAPACITY

        async with hosting(service, remote) as (node, emitter):
            flood = Flood(emitter)
            for number in range(500):
                flood.emit(Asked(number=number, at=now()))
            await asyncio.sleep(5)
            counts = ends(node, emitter)
            assert counts.total() == 500
            assert set(counts) == {"handled", "overloaded"}
            # What has not been read yet does not grow old: from elsewhere come two batches.
            batches = 2 if remote else 1
            assert counts["handled"] >= TARGET * CAPACITY - 1
            assert counts["handled"] <= batches * 2 * TARGET * CAPACITY + 2
            assert max(log.lateness()) <= batches * (2 * TARGET + 1 / CAPACITY) + 1 / CAPACITY

    run(main())


# A handler that does nothing but fail


class Patient:
    """A service with a handler that fails as long as it is broken, and others, unless it is alone."""

    def __init__(self, suspends: bool, alone: bool) -> None:
        self.broken = True
        self.tried, self.healed = Log(), Log()
        self.beside, self.other = Log(), Log()
        self.service = Service("s")

        @self.service.on(Asked)
        async def ill(asked: Asked) -> None:
            self.tried.note(asked)
            if suspends:
                await asyncio.sleep(0.001)
            if self.broken:
                raise Broken
            self.healed.note(asked)

        if alone:
            return

        @self.service.on(Asked)
        async def beside(asked: Asked) -> None:
            self.beside.note(asked)
            if suspends:
                await asyncio.sleep(0.001)

        @self.service.on(Urgent)
        async def other(urgent: Urgent) -> None:
            self.other.note(urgent)
            if suspends:
                await asyncio.sleep(0.001)


def both(flood: Flood) -> Callable[[int], Event]:
    def make(number: int) -> Event:
        flood.emit(Urgent(number=number, at=now()))
        return Asked(number=number, at=now())

    return make


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("suspends", [False, True])
def test_a_handler_that_only_fails_is_left_alone_for_a_while_and_recovers_by_itself(
    suspends: bool, alone: bool, remote: bool
) -> None:
    async def main() -> None:
        patient = Patient(suspends, alone)
        async with hosting(patient.service, remote) as (node, emitter):
            flood, start = Flood(emitter), now()
            await flood.go_on(50, FAILING_FOR - 0.1, both(flood))
            assert report(node, "ill").breaker == "closed"
            assert not report(node, "ill").shed

            await flood.go_on(50, 10, both(flood))
            ill = report(node, "ill")
            assert ill.breaker == "open"
            assert ill.shed.keys() == {"breaker open"}
            opened = start + FAILING_FOR
            probes = [at - opened for at, _ in patient.tried.starts if at > opened + 0.1]
            assert probes == pytest.approx([1, 3, 7], abs=0.1)

            patient.broken = False
            await flood.go_on(50, 10, both(flood))
            assert patient.healed.starts[0][0] - opened == pytest.approx(15, abs=0.15)
            assert report(node, "ill").breaker == "closed"
            # From the first success on, everything is handled.
            numbers = [event.number for _, event in patient.healed.starts]
            assert numbers == list(range(numbers[0], 500))
            await flood.end()
            await eventually(lambda: is_idle(node, emitter))

            ill = report(node, "ill")
            assert ill.handled == len(patient.healed.starts)
            assert ill.failed == len(patient.tried.starts) - len(patient.healed.starts)
            emitted = flood.emitted["Asked"]
            assert ill.handled + ill.failed + ill.shed["breaker open"] == emitted
            others = {} if alone else {"beside": patient.beside, "other": patient.other}
            for name, log in others.items():
                assert report(node, name).handled == len(log.starts) == emitted
                assert not report(node, name).shed
                assert log.lateness()[-1] <= 0.01

    run(main())


@pytest.mark.parametrize("suspends", [False, True])
def test_a_handler_that_succeeds_now_and_then_is_never_left_alone(suspends: bool) -> None:
    async def main() -> None:
        service = Service("s")

        @service.on(Asked)
        async def unsteady(asked: Asked) -> None:
            if suspends:
                await asyncio.sleep(0.001)
            if asked.number % 200:
                raise Broken

        async with hosting(service, remote=True) as (node, emitter):
            flood = Flood(emitter)
            await flood.go_on(50, 60, lambda number: Asked(number=number, at=now()))
            await eventually(lambda: is_idle(node, emitter))
            told = report(node, "unsteady")
            assert (told.handled, told.failed, told.shed) == (15, 2985, {})

    run(main())


@pytest.mark.parametrize("suspends", [False, True])
def test_what_waits_in_line_when_a_handler_is_left_alone_is_shed_at_once(suspends: bool) -> None:
    async def main() -> None:
        service = Service("s")

        @service.on(Asked, limit="10/s")
        async def ill(asked: Asked) -> None:
            if suspends:
                await asyncio.sleep(0.001)
            raise Broken

        async with hosting(service, remote=False) as (node, emitter):
            flood = Flood(emitter)
            for number in range(500):
                flood.emit(Asked(number=number, at=now()))
            await asyncio.sleep(FAILING_FOR + 0.2)
            told = report(node, "ill")
            assert told.waiting == 0
            assert told.failed == pytest.approx(51, abs=1)
            assert told.shed == {"breaker open": 500 - told.failed}

    run(main())


def test_events_of_a_handler_that_is_left_alone_do_not_hold_up_their_key_or_their_emitter() -> None:
    async def main() -> None:
        log, service = Log(), Service("s")

        @service.on(Moved, queue=5)
        async def ill(moved: Moved) -> None:
            await asyncio.sleep(0.01)
            raise Broken

        @service.on(Moved, queue=5)
        async def well(moved: Moved) -> None:
            log.note(moved)

        async with hosting(service, remote=True) as (node, emitter):
            flood = Flood(emitter)
            await flood.go_on(
                50, 10, lambda number: Moved(number=number, at=now(), player=f"p{number % 3}")
            )
            await eventually(lambda: is_idle(node, emitter))
            assert report(node, "ill").shed.keys() == {"breaker open"}
            assert [event.number for _, event in log.starts] == list(range(500))
            assert log.lateness()[-1] <= 0.05
            assert flood.longest <= 0.01

    run(main())


@pytest.mark.parametrize("policy", [{"concurrency": 1}, {"limit": "50/s burst 1"}])
def test_a_handler_recovers_though_others_keep_its_service_busy(policy: dict[str, Any]) -> None:
    async def main() -> None:
        healed, service = Log(), Service("s", **policy)
        broken = True

        @service.on(Asked)
        async def ill(asked: Asked) -> None:
            if broken:
                raise Broken
            healed.note(asked)

        @service.on(Urgent)
        async def busy(urgent: Urgent) -> None:
            await asyncio.sleep(0.02)

        async with hosting(service, remote=True) as (node, emitter):
            flood = Flood(emitter)

            def make(number: int) -> Event:
                if not number % 4:
                    flood.emit(Asked(number=number, at=now()))
                return Urgent(number=number, at=now())

            await flood.go_on(100, FAILING_FOR + 3, make)
            assert report(node, "ill").breaker != "closed"
            broken = False
            await flood.go_on(100, 20, make)
            try:
                assert healed.starts
            finally:
                for emit in flood.emits:
                    emit.cancel()

    run(main())


# Services that answer each other


class Pinged(Event):
    left: int
    """How often it may be answered when the game is over."""


class Ponged(Event):
    left: int


@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("policy", [{}, {"limit": "200/s"}, {"queue_target": "20ms"}])
@pytest.mark.parametrize("queue", [1, 16])
def test_services_that_emit_to_each_other_at_full_tilt_never_block_each_other(
    queue: int, policy: dict[str, Any], suspends: bool
) -> None:
    async def main() -> None:
        playing = True
        here, there = Service("here"), Service("there")
        endless = Budget(events=1_000_000, depth=1000)
        answered: Counter[str] = Counter()

        async def work(event: Pinged | Ponged) -> int:
            answered[type(event).__name__] += 1
            if suspends:
                await asyncio.sleep(0.002)
            return event.left if playing else event.left - 1

        @here.on(Ponged, queue=queue, concurrency=2, max_loops=1000, **policy)
        async def ping(ponged: Ponged) -> Pinged | None:
            left = await work(ponged)
            return Pinged(left=left) if left > 0 else None

        @there.on(Pinged, queue=queue, concurrency=2, max_loops=1000, **policy)
        async def pong(pinged: Pinged) -> Ponged | None:
            left = await work(pinged)
            return Ponged(left=left) if left > 0 else None

        async def serve(node: Node) -> None:
            while playing:
                await node.emit(Pinged(left=20))
                await node.emit(Ponged(left=20))
                await asyncio.sleep(0.0005)

        async with (
            Node(here, mesh=MESH, budget=endless) as one,
            Node(there, mesh=MESH, budget=endless) as two,
            Node(mesh=MESH, budget=endless) as three,
        ):
            # Else a handler that does not suspend would take no time, and the game never end.
            MemoryMesh.named(MESH.removeprefix("memory:")).delay = 0.001
            nodes = (one, two, three)
            watch = Watch(*nodes)
            servers = [asyncio.create_task(serve(node)) for node in nodes for _ in range(2)]
            await asyncio.sleep(1)
            so_far = answered.copy()
            assert min(so_far["Pinged"], so_far["Ponged"]) > 150
            playing = False
            await asyncio.gather(*servers)
            await asyncio.sleep(2)
            assert is_idle(*nodes)
            assert answered != so_far

            for node, event in ((three, Pinged(left=1)), (three, Ponged(left=1))):
                before = answered.total()
                assert (await node.emit(event)).targets
                await asyncio.sleep(0.01)
                assert answered.total() == before + 1
            assert is_idle(*nodes)
            assert not watch.errors
            assert sum(watch.reached.values()) == watch.totals().total()
            assert watch.totals().keys() <= {"handled", "overloaded", "queue full"}

    run(main())


# A service that stands still


class Noted(Event):
    number: int
    at: float


@pytest.mark.parametrize("queue", [1, 10, 1000])
def test_a_service_that_stands_still_holds_up_nobody_elses_events(queue: int) -> None:
    async def main() -> None:
        log, still, other = Log(), Service("still"), Service("other")
        still.on(Asked, name="handle", queue=queue)(busy_for(Log(), 0.0))
        other.on(Noted, name="handle", queue=queue)(busy_for(log, 0.0))

        async with (
            Node(still, mesh=MESH, name="still"),
            Node(other, mesh=MESH) as node,
            Node(mesh=MESH) as emitter,
        ):
            mesh = MemoryMesh.named(MESH.removeprefix("memory:"))
            mesh.delay = 0.001
            await asyncio.sleep(5)
            blocked, flood = Flood(emitter), Flood(emitter)

            def make(number: int) -> Event:
                blocked.emit(Asked(number=number, at=now()))
                return Noted(number=number, at=now())

            mesh.stop("still")
            await flood.go_on(200, 3, make)
            mesh.resume("still")
            await blocked.end()
            await flood.end()
            await eventually(lambda: is_idle(node, emitter))
            assert (blocked.longest > 1) == (queue < 600)
            assert flood.longest <= 0.05
            assert [event.number for _, event in log.starts] == list(range(600))
            assert log.lateness()[-1] <= 0.01
            assert not lost(emitter)

    run(main())


def test_a_service_that_stands_still_holds_up_no_event_of_its_own_while_its_line_has_room() -> None:
    async def main() -> None:
        log, still, other = Log(), Service("still"), Service("other")
        still.on(Asked, name="handle", queue=1000)(busy_for(Log(), 0.0))
        other.on(Asked, name="handle", queue=10)(busy_for(log, 0.0))

        async with (
            Node(still, mesh=MESH, name="still"),
            Node(other, mesh=MESH) as node,
            Node(mesh=MESH) as emitter,
        ):
            mesh = MemoryMesh.named(MESH.removeprefix("memory:"))
            await asyncio.sleep(5)
            mesh.stop("still")
            flood = Flood(emitter)
            await flood.go_on(200, 3, lambda number: Asked(number=number, at=now()))
            mesh.resume("still")
            await eventually(lambda: is_idle(node, emitter))
            assert flood.longest <= 0.05
            assert len(log.starts) == 600
            assert log.lateness()[-1] <= 0.01

    run(main())


@pytest.mark.parametrize("queue", [1, 10, 1000])
def test_a_replica_that_stands_still_holds_up_no_event_that_another_can_take(queue: int) -> None:
    async def main() -> None:
        logs = defaultdict[int, Log](Log)
        nodes: list[Node] = []
        for number in range(3):
            service = Service("s")
            service.on(Asked, name="handle", queue=queue)(busy_for(logs[number], 0.0))
            nodes.append(Node(service, mesh=MESH, name=f"replica-{number}"))
            await nodes[-1].start()
        async with Node(mesh=MESH) as emitter:
            mesh = MemoryMesh.named(MESH.removeprefix("memory:"))
            mesh.delay = 0.001
            await asyncio.sleep(5)
            mesh.stop("replica-1")
            flood = Flood(emitter)
            await flood.go_on(200, 3, lambda number: Asked(number=number, at=now()))
            assert flood.longest <= 0.05
            assert max(logs[0].lateness()[-1], logs[2].lateness()[-1]) <= 0.01
            mesh.resume("replica-1")
            await flood.end()
            await eventually(lambda: is_idle(*nodes, emitter))
            assert sum(len(log.starts) for log in logs.values()) == 600
            assert not lost(emitter)
        for node in nodes:
            await node.close()

    run(main())
