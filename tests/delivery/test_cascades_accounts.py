"""What a cascade's budget, its loops and its report say where events are batched, merged, limited or sent to many."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.delivery.cascading import followed, new_mesh, running

from thence import (
    Batch,
    Budget,
    CascadeReport,
    Context,
    Event,
    Limit,
    Node,
    RateLimited,
    Receipt,
    Service,
    ThenceError,
)
from thence.mesh import cork
from thence.testing import run

pytestmark = pytest.mark.carriers


class Found(Event):
    number: int = 0
    text: str = ""


class Scored(Event):
    number: int = 0


class Spread(Event): ...


class Seldom(Event, limit="1/min"): ...


class Asked(Event, key="player"):
    player: str = "ana"
    number: int = 0


class Answered(Event, key="player"):
    player: str = "ana"
    number: int = 0


class Fresh(Event, ttl="5s"):
    number: int = 0


class Shown(Event, key="player", limit=Limit("1/s", burst=1, per="player"), overflow="latest"):
    player: str = ""
    text: str = ""


# -- nothing is awaited for ever


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """No emit is taken to come alone, so that frames grow until they are cut."""
    monkeypatch.setattr(cork, "ALONE", 1e9)


def two_services(mesh: str, *events: type[Event]) -> Node:
    """Both want these events; one of them wants Scored, too."""
    first, second = Service("first"), Service("second")

    @first.on(*events, Scored, name="one")  # type: ignore[call-overload,misc]
    async def one(event: Any) -> None: ...

    @second.on(*events, name="other")  # type: ignore[call-overload,misc]
    async def other(event: Any) -> None: ...

    return Node(first, second, mesh=mesh)


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("size", [0, 1000])
@pytest.mark.parametrize("budget", [None, Budget(events=50)], ids=["plain", "with a budget"])
def test_events_for_two_services_of_one_node_settle_wherever_a_frame_ends(
    size: int, budget: Budget | None
) -> None:
    async def main() -> None:
        mesh = new_mesh()
        host, emitter = two_services(mesh, Found), Node(mesh=mesh)
        async with running(host, emitter):
            # Frames are cut after so many envelopes: after the first copy of an event, by this one.
            await emitter.emit(Scored())
            kept = [
                await emitter.emit(Found(number=number, text="x" * size), budget=budget)
                for number in range(200)
            ]
            reports = await asyncio.gather(*(receipt.settled(20) for receipt in kept))
            assert [(one.events, one.complete) for one in reports] == [(2, True)] * 200
            assert not followed(host, emitter)

    run(main())


@pytest.mark.usefixtures("together")
def test_events_that_their_type_s_limit_kept_back_settle_wherever_a_frame_ends() -> None:
    async def main() -> None:
        mesh = new_mesh()
        host, emitter = two_services(mesh, Shown), Node(mesh=mesh)
        async with running(host, emitter):
            players = [f"p{number}" for number in range(60)]
            for player in players:
                await emitter.emit(Shown(player=player))
            kept = [await emitter.emit(Shown(player=player, text="x" * 3000)) for player in players]
            reports = await asyncio.gather(*(receipt.settled(20) for receipt in kept))
            assert [(one.events, one.complete) for one in reports] == [(2, True)] * len(players)

    run(main())


# -- loops


@pytest.mark.parametrize(
    "policy",
    [{"overflow": "latest", "limit": "1/s"}, {"batch": Batch(size=10, within="1s")}],
    ids=["the newest of a key", "a batch"],
)
def test_a_loop_is_cut_also_where_its_event_finds_another_of_its_key_waiting(
    policy: dict[str, Any],
) -> None:
    async def main() -> None:
        asking, answering = Service("asking"), Service("answering")
        depths: list[int] = []

        async def ask(asked: Any, ctx: Context) -> list[Answered]:
            depths.append(ctx.depth)
            many = asked if isinstance(asked, list) else [asked]
            return [Answered(number=one.number) for one in many]

        asking.on(Asked, name="ask", **policy)(ask)

        @answering.on(Answered)
        async def answer(answered: Answered) -> Asked:
            await asyncio.sleep(0.1)
            return Asked(number=answered.number + 100)

        mesh = new_mesh()
        nodes = [Node(asking, mesh=mesh), Node(answering, mesh=mesh), Node(mesh=mesh)]
        async with running(*nodes):
            first = await nodes[2].emit(Asked(number=0))
            await asyncio.sleep(1.05 if "batch" in policy else 0.05)
            second = await nodes[2].emit(Asked(number=1))
            reports = [await receipt.settled(20) for receipt in (first, second)]
            assert depths == [0, 0], "it came back through its own consequences"
            assert [(one.events, one.cut) for one in reports] == [(2, 1)] * 2
            assert all("asking.ask → answering.answer" in str(r.failures) for r in reports)

    run(main())


# -- seconds


@pytest.mark.parametrize("at_once", [True, False])
def test_a_task_that_outlives_its_handler_does_not_prolong_the_cascade_with_each_emit(
    at_once: bool,
) -> None:
    async def main() -> None:
        service = Service("s")
        tasks: list[asyncio.Task[None]] = []
        handled: list[int] = []

        @service.on(Found, emits=[Scored])
        async def find(found: Found) -> None:
            async def later() -> None:
                for number in range(1, 5):
                    await asyncio.sleep(40)
                    await node.emit(Scored(number=number))

            if at_once:
                await node.emit(Scored())
            tasks.append(asyncio.create_task(later()))

        @service.on(Scored)
        async def note(scored: Scored) -> None:
            handled.append(scored.number)

        @service.on(Answered)
        async def tick(answered: Answered) -> None: ...

        async with Node(service, mesh=new_mesh()) as node:
            await node.emit(Found())
            while not tasks or not tasks[0].done():
                # The node goes on reading what others send.
                await node.emit(Answered())
                await asyncio.sleep(1)
            assert handled == ([0] if at_once else [1])

    run(main())


# -- what is counted


def told(report: CascadeReport) -> dict[str, int]:
    kinds = ("events", "shed", "expired", "merged", "failed")
    return {kind: count for kind in kinds if (count := getattr(report, kind))}


async def batched(node: Node) -> tuple[Any, Any]:
    runtime: Any = node._runtime
    (handler,) = runtime.services["s"].handlers
    return runtime.dispatcher, handler


def batching() -> Service:
    service = Service("s")

    @service.on(Fresh, batch=Batch(size=10, within="8s"))
    async def handle(batch: list[Fresh]) -> None: ...

    return service


def test_what_expires_while_its_batch_is_filled_is_reported_as_expired_and_the_others_once() -> (
    None
):
    async def main() -> None:
        async with Node(batching(), mesh=new_mesh()) as node:
            kept = [await node.emit(Fresh(number=0))]
            await asyncio.sleep(1)
            kept += [await node.emit(Fresh(number=number)) for number in (1, 2)]
            await asyncio.sleep(0.01)
            dispatcher, handler = await batched(node)
            # The loop was busy when the batch was to be closed.
            handler.batch_timer.cancel()
            await asyncio.sleep(4.2)
            dispatcher.admission.queueing._batch_is_due(handler)
            reports = [told(await receipt.settled(5)) for receipt in kept]
            assert reports == [{"expired": 1}, {"merged": 1}, {"events": 1}]

    run(main())


def test_what_is_shed_with_an_open_batch_is_reported_as_shed_alone() -> None:
    async def main() -> None:
        async with Node(batching(), mesh=new_mesh()) as node:
            kept = [await node.emit(Fresh(number=number)) for number in range(3)]
            await asyncio.sleep(0.1)
            dispatcher, _ = await batched(node)
            dispatcher.stop()
            assert [told(await r.settled(5)) for r in kept] == [{"shed": 1}] * 3

    run(main())


@pytest.mark.parametrize("consequence", [False, True])
def test_each_replica_that_a_broadcast_does_not_reach_is_counted(consequence: bool) -> None:
    async def main() -> None:
        def host() -> Node:
            service = Service("s")

            @service.on(Scored, broadcast=True)
            async def note(scored: Scored) -> None: ...

            return Node(service, mesh=mesh)

        mesh, first = new_mesh(), Service("first")

        @first.on(Found)
        async def award(found: Found) -> Scored:
            return Scored()

        nodes = [*(host() for _ in range(4)), Node(first, mesh=mesh)]
        emitter = nodes[-1]
        async with running(*nodes):
            event, budget = (Found(), Budget(events=2)) if consequence else (Scored(), Budget(1))
            receipt = await emitter.emit(event, budget=budget)
            report = await receipt.settled(5)
            assert (report.events, report.cut) == (budget.events, 3)
            runtime: Any = emitter._runtime
            assert sum(runtime.emitter.refused.values()) == 3
            if not consequence:
                assert [(one.service, one.count) for one in receipt.refused] == [("s", 3)]

    run(main())


# -- credits


class Spender:
    """A handler that emits while it runs, as it is told; ``Scored`` is handled once, ``Spread`` twice."""

    def __init__(self) -> None:
        self.started = 0
        self.receipts: list[Receipt] = []
        root, scored, spread = Service("root"), Service("scored"), Service("spread")

        @root.on(Found, emits=[Scored, Spread, Seldom])
        async def spend(found: Found) -> None:
            await self.spend()

        @scored.on(Scored, emits=[Found])
        async def score(scored: Scored) -> None:
            self.started += 1

        @spread.on(Spread)
        async def one(event: Spread) -> None: ...

        @spread.on(Spread)
        async def two(event: Spread) -> None: ...

        @scored.on(Seldom, emits=[Found])
        async def seldom(event: Seldom) -> None: ...

        self.node = Node(root, scored, spread, mesh=new_mesh())

    async def spend(self) -> None: ...

    def play(self, budget: Budget | None = None) -> CascadeReport:
        async def main() -> CascadeReport:
            async with self.node as node:
                return await (await node.emit(Found(), budget=budget)).settled(20)

        return run(main())


def test_an_emit_with_a_small_budget_takes_no_more_than_that_from_its_handler() -> None:
    class Small(Spender):
        async def spend(self) -> None:
            for _ in range(100):
                await self.node.emit(Scored(), budget=Budget(events=1))

    spender = Small()
    report = spender.play()
    assert (spender.started, report.cut) == (100, 0)


def test_an_emit_that_its_type_s_limit_refuses_costs_its_handler_nothing() -> None:
    class Refused(Spender):
        async def spend(self) -> None:
            refused = 0
            for _ in range(21):
                try:
                    await self.node.emit(Seldom())
                except RateLimited:
                    refused += 1
            assert refused == 20
            await self.node.emit(Scored())

    spender = Refused()
    report = spender.play()
    assert (spender.started, report.cut) == (1, 0)


def test_an_emit_that_is_cut_leaves_its_handler_what_it_could_not_use() -> None:
    class Cut(Spender):
        async def spend(self) -> None:
            await self.node.emit(Spread())
            await self.node.emit(Scored())

    spender = Cut()
    report = spender.play(Budget(events=2))
    assert (spender.started, report.events, report.cut) == (1, 2, 1)


# -- nothing is lost in silence


@pytest.mark.parametrize("suspends", [False, True])
def test_a_context_takes_nothing_after_its_handler_s_end(suspends: bool) -> None:
    async def main() -> None:
        service = Service("s")
        tasks: list[asyncio.Task[None]] = []
        handled: list[int] = []

        @service.on(Found, emits=[Scored])
        async def find(found: Found, ctx: Context) -> None:
            async def later() -> None:
                await asyncio.sleep(1)
                ctx.emit(Scored(number=2))

            tasks.append(asyncio.create_task(later()))
            if suspends:
                await asyncio.sleep(0.1)
            ctx.emit(Scored(number=1))

        @service.on(Scored)
        async def note(scored: Scored) -> None:
            handled.append(scored.number)

        async with Node(service, mesh=new_mesh()) as node:
            report = await (await node.emit(Found())).settled(5)
            assert (report.events, report.failed) == (2, 0)
            with pytest.raises(ThenceError, match=r"after its end.*node\.emit"):
                await tasks[0]
            assert handled == [1]

    run(main())
