"""Cascades that would not end: where they are cut, who is told, and whoever waits for their end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.delivery.cascading import followed, new_mesh, running, tapped_wire

from thence import (
    Batch,
    Budget,
    CascadeReport,
    ConfigurationError,
    Context,
    Event,
    Limit,
    Node,
    Receipt,
    Service,
    SettleTimeout,
    ThenceError,
)
from thence.mesh import link
from thence.mesh.messages import Settled
from thence.testing import MemoryMesh, run


class ClueFound(Event):
    number: int = 0


class ScoreChanged(Event):
    number: int = 0


class Hop(Event):
    number: int = 0


class Feud:
    """``scores.award`` and ``ranks.update`` answer each other for ever."""

    def __init__(self, hosting: str, *, award: int = 0, update: int = 0, **node: Any) -> None:
        self.awarded: list[int] = []
        self.updated: list[int] = []
        self.depths: list[int] = []
        scores, ranks = Service("scores"), Service("ranks")

        @scores.on(ClueFound, max_loops=award, name="award")
        async def on_clue(found: ClueFound, ctx: Context) -> ScoreChanged:
            self.awarded.append(found.number)
            self.depths.append(ctx.depth)
            return ScoreChanged(number=found.number + 1)

        @ranks.on(ScoreChanged, max_loops=update, name="update")
        async def on_score(change: ScoreChanged, ctx: Context) -> ClueFound:
            self.updated.append(change.number)
            self.depths.append(ctx.depth)
            return ClueFound(number=change.number + 1)

        mesh = new_mesh()
        together = [(scores, ranks)]
        apart: list[tuple[Service, ...]] = [(scores,), (ranks,), ()]
        groups = together if hosting == "one node" else apart
        self.nodes = [Node(*services, mesh=mesh, **node) for services in groups]
        self.emitter = self.nodes[-1]

    @property
    def starts(self) -> int:
        return len(self.awarded) + len(self.updated)

    async def play(self, budget: Budget | None = None) -> CascadeReport:
        async with running(*self.nodes):
            receipt = await self.emitter.emit(ClueFound(), budget=budget)
            report = await receipt.settled(20)
            await asyncio.sleep(1)
            assert report.events == self.starts, "something ran after the end"
            assert not followed(*self.nodes)
            return report

    def loops(self) -> dict[str, int]:
        """What the nodes have counted, by handler."""
        return {
            handler.place: handler.loops
            for node in self.nodes
            for service in node._runtime.services.values()  # type: ignore[union-attr]
            for handler in service.handlers
        }


@pytest.fixture(params=["one node", "two nodes"])
def hosting(request: pytest.FixtureRequest) -> str:
    return request.param


WIDE = Budget(events=10_000, depth=1000)


@pytest.mark.parametrize("depth", [1, 2, 3, 16, 100])
def test_events_down_to_the_depth_of_the_budget_are_handled_and_the_next_is_cut(
    hosting: str, depth: int
) -> None:
    feud = Feud(hosting, award=1000, update=1000)
    report = run(feud.play(Budget(events=10_000, depth=depth)))
    assert feud.depths == list(range(depth + 1))
    assert (report.events, report.depth, report.cut) == (depth + 1, depth, 1)
    assert report.complete


def test_the_default_budget_cuts_after_depth_sixteen(hosting: str) -> None:
    feud = Feud(hosting, award=1000, update=1000)
    report = run(feud.play())
    assert feud.depths == list(range(17))
    assert report.cut == 1


def test_the_budget_of_a_node_holds_for_what_it_emits(hosting: str) -> None:
    feud = Feud(hosting, award=1000, update=1000, budget=Budget(events=5))
    report = run(feud.play())
    assert (feud.starts, report.events, report.cut) == (5, 5, 1)


@pytest.mark.parametrize("loops", [0, 1, 2, 7])
def test_a_handler_runs_once_more_than_max_loops_on_one_path_and_is_then_cut(
    hosting: str, loops: int
) -> None:
    feud = Feud(hosting, award=loops, update=loops)
    report = run(feud.play(WIDE))
    assert (len(feud.awarded), len(feud.updated)) == (loops + 1, loops + 1)
    assert (report.events, report.cut, report.complete) == (2 * loops + 2, 1, True)


def test_the_handler_that_allows_fewest_loops_ends_them(hosting: str) -> None:
    feud = Feud(hosting, award=5, update=2)
    report = run(feud.play(WIDE))
    assert (len(feud.awarded), len(feud.updated)) == (4, 3)
    assert [failure.handler for failure in report.failures] == ["ranks.update"]


@pytest.mark.parametrize("events", [1, 2, 3, 50, 100])
def test_no_more_handlers_are_started_than_the_budget_has_events(hosting: str, events: int) -> None:
    feud = Feud(hosting, award=1000, update=1000)
    report = run(feud.play(Budget(events=events, depth=1000)))
    assert feud.starts == events
    assert (report.events, report.cut, report.complete) == (events, 1, True)


@pytest.mark.parametrize("depth", [300, 1000])
def test_a_cascade_of_hundreds_of_hops_settles(hosting: str, depth: int) -> None:
    feud = Feud(hosting, award=1000, update=1000)
    report = run(feud.play(Budget(events=10_000, depth=depth)))
    assert (report.events, report.depth) == (depth + 1, depth)
    assert (report.cut, report.complete) == (1, True)
    assert len(report.critical_path) == 64


def test_the_loop_is_named_in_the_log_and_in_the_report_of_the_root(
    hosting: str, caplog: pytest.LogCaptureFixture
) -> None:
    feud = Feud(hosting)
    with caplog.at_level(logging.INFO):
        report = run(feud.play(WIDE))
    loop = "scores.award → ranks.update → scores.award"
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [loop in record.getMessage() for record in told] == [True]
    assert "the event was cut" in told[0].getMessage()
    assert "max_loops=1" in told[0].getMessage()
    (failure,) = report.failures
    assert (failure.kind, failure.handler, failure.event) == ("loop", "scores.award", "clue_found")
    assert "CascadeLimit" in failure.error
    assert loop in failure.error
    assert feud.loops() == {"scores.award": 1, "ranks.update": 0}


@pytest.mark.parametrize("mode", ["observe", "warn"])
def test_where_loops_are_not_enforced_they_go_on_to_the_budget_and_are_counted(
    hosting: str, mode: Any, caplog: pytest.LogCaptureFixture
) -> None:
    feud = Feud(hosting, loops=mode)
    with caplog.at_level(logging.INFO):
        report = run(feud.play(Budget(events=41, depth=1000)))
    assert (feud.starts, report.events, report.cut) == (41, 41, 1)
    assert feud.loops() == {"scores.award": 20, "ranks.update": 19}
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    loops = [text for text in told if "→" in text]
    if mode == "observe":
        assert loops == []
    else:
        assert len(loops) == 2
        assert all("it goes on" in text for text in loops)
        assert "scores.award → ranks.update → scores.award" in loops[0]
        assert "ranks.update → scores.award → ranks.update" in loops[1]


def test_seconds_of_the_budget_end_what_has_not_begun(hosting: str) -> None:
    async def main() -> None:
        started: list[float] = []
        slow, quick = Service("slow"), Service("quick")
        loop = asyncio.get_running_loop()

        @slow.on(ClueFound, max_loops=1000)
        async def wait(found: ClueFound) -> ScoreChanged:
            started.append(loop.time())
            await asyncio.sleep(0.4)
            return ScoreChanged()

        @quick.on(ScoreChanged, max_loops=1000)
        async def answer(change: ScoreChanged) -> ClueFound:
            started.append(loop.time())
            return ClueFound()

        mesh = new_mesh()
        nodes = [Node(slow, quick, mesh=mesh)]
        if hosting != "one node":
            nodes = [Node(slow, mesh=mesh), Node(quick, mesh=mesh)]
        async with running(*nodes):
            began = loop.time()
            receipt = await nodes[-1].emit(ClueFound(), budget=Budget(seconds=1))
            report = await receipt.settled(20)
            assert max(started) - began < 1.0
            # At 0, 0.4 and 0.8 s; what follows from the last comes at 1.2 s.
            assert (report.events, report.expired, report.cut) == (5, 1, 0)
            assert report.complete

    run(main())


def test_a_handler_s_own_budget_bounds_what_one_run_of_it_returns(hosting: str) -> None:
    async def main() -> None:
        starts = 0
        first, rest = Service("first"), Service("rest")

        @first.on(ClueFound, budget=Budget(events=7, depth=2))
        async def spread(found: ClueFound) -> list[ScoreChanged]:
            return [ScoreChanged() for _ in range(3)]

        @rest.on(ScoreChanged, max_loops=100)
        async def multiply(change: ScoreChanged, ctx: Context) -> list[Hop]:
            nonlocal starts
            starts += 1
            assert ctx.budget.depth <= 2
            return [Hop() for _ in range(5)]

        @rest.on(Hop)
        async def end(hop: Hop) -> None:
            nonlocal starts
            starts += 1

        mesh = new_mesh()
        nodes = [Node(first, rest, mesh=mesh)]
        if hosting != "one node":
            nodes = [Node(first, mesh=mesh), Node(rest, mesh=mesh), Node(mesh=mesh)]
        async with running(*nodes):
            report = await (await nodes[-1].emit(ClueFound())).settled(20)
            assert starts == 7
            assert (report.events, report.cut) == (8, 15 - 4)

    run(main())


def test_what_a_handler_emits_while_it_runs_is_paid_from_its_own_budget(hosting: str) -> None:
    async def main() -> None:
        starts = 0
        first, rest = Service("first"), Service("rest")
        nodes: list[Node] = []

        @first.on(ClueFound, budget=Budget(events=7), emits=[Hop])
        async def spread(found: ClueFound) -> list[Hop]:
            for _ in range(5):
                await nodes[0].emit(Hop())
            return [Hop() for _ in range(5)]

        @rest.on(Hop)
        async def end(hop: Hop) -> None:
            nonlocal starts
            starts += 1

        mesh = new_mesh()
        nodes += [Node(first, rest, mesh=mesh)]
        if hosting != "one node":
            nodes[:] = [Node(first, mesh=mesh), Node(rest, mesh=mesh)]
        async with running(*nodes):
            report = await (await nodes[-1].emit(ClueFound())).settled(20)
            assert starts == 7
            assert (report.events, report.cut) == (8, 3)

    run(main())


def test_handlers_of_one_event_that_emit_by_turns_keep_to_their_shares() -> None:
    async def main() -> None:
        service, rest = Service("service"), Service("rest")
        node = Node(service, rest, mesh=new_mesh())
        starts = 0

        def host(name: str) -> None:
            @service.on(ClueFound, name=name, emits=[Hop])
            async def emit(found: ClueFound) -> None:
                nonlocal starts
                starts += 1
                for _ in range(20):
                    await asyncio.sleep(0.01)
                    await node.emit(Hop())

        @rest.on(Hop)
        async def end(hop: Hop) -> None:
            nonlocal starts
            starts += 1

        for name in ("one", "two", "three"):
            host(name)
        async with running(node):
            receipt = await node.emit(ClueFound(), budget=Budget(events=11))
            report = await receipt.settled(20)
            assert (starts, report.events, report.cut) == (11, 11, 52)

    run(main())


def test_what_a_task_emits_after_its_handler_s_end_is_paid_by_the_same_budget() -> None:
    async def main() -> None:
        service = Service("service")
        node = Node(service, mesh=new_mesh())
        tasks: list[asyncio.Task[Any]] = []
        starts = 0

        @service.on(ClueFound, emits=[Hop])
        async def spread(found: ClueFound) -> list[Hop]:
            async def later() -> None:
                for _ in range(20):
                    await asyncio.sleep(0.1)
                    await node.emit(Hop())

            tasks.append(asyncio.create_task(later()))
            return [Hop() for _ in range(20)]

        @service.on(Hop)
        async def end(hop: Hop) -> None:
            nonlocal starts
            starts += 1

        async with running(node):
            await node.emit(ClueFound(), budget=Budget(events=10))
            await asyncio.sleep(10)
            assert starts == 9

    run(main())


# -- waiting for the end


def test_waiting_for_the_end_of_what_a_handler_has_emitted_raises_there(hosting: str) -> None:
    async def main() -> None:
        service, other = Service("scores"), Service("ranks")
        nodes: list[Node] = []
        errors: list[ThenceError] = []

        @service.on(ClueFound, emits=[ScoreChanged])
        async def award(found: ClueFound) -> None:
            receipt = await nodes[0].emit(ScoreChanged())
            with pytest.raises(ThenceError) as caught:
                await receipt.settled(5)
            errors.append(caught.value)

        @other.on(ScoreChanged)
        async def update(change: ScoreChanged) -> None: ...

        mesh = new_mesh()
        nodes += [Node(service, other, mesh=mesh)]
        if hosting != "one node":
            nodes[:] = [Node(service, mesh=mesh), Node(other, mesh=mesh)]
        async with running(*nodes):
            report = await (await nodes[-1].emit(ClueFound())).settled(20)
            assert not isinstance(errors[0], SettleTimeout)
            assert "root event" in str(errors[0])
            assert report.events == 2
            assert report.seconds < 1

    run(main())


def test_waiting_for_one_s_own_root_from_inside_its_cascade_raises(hosting: str) -> None:
    async def main() -> None:
        service = Service("scores")
        receipts: list[Receipt] = []
        errors: list[BaseException] = []

        @service.on(ClueFound)
        async def award(found: ClueFound) -> ScoreChanged:
            return ScoreChanged()

        @service.on(ScoreChanged)
        async def update(change: ScoreChanged) -> None:
            await asyncio.sleep(0.01)
            try:
                await receipts[0].settled(5)
            except ThenceError as error:
                errors.append(error)

        mesh = new_mesh()
        nodes = [Node(service, mesh=mesh)]
        if hosting != "one node":
            nodes = [Node(service, mesh=mesh), Node(mesh=mesh)]
        async with running(*nodes):
            receipts.append(await nodes[-1].emit(ClueFound()))
            report = await receipts[0].settled(20)
            assert not isinstance(errors[0], SettleTimeout), "it waited for itself"
            assert receipts[0].event_id in str(errors[0])
            assert "Await settled() where the root event was emitted" in str(errors[0])
            assert report.seconds < 1

    run(main())


@pytest.mark.parametrize("how", ["at once", "of several", "in a batch", "in a task"])
def test_whatever_way_a_handler_runs_it_does_not_wait_for_its_own_root(how: str) -> None:
    async def main() -> None:
        service = Service("scores")
        receipts: list[Receipt] = []
        errors: list[BaseException] = []

        async def wait() -> None:
            try:
                await receipts[0].settled(5)
            except ThenceError as error:
                errors.append(error)

        if how == "in a batch":

            @service.on(ClueFound, batch=Batch(size=2, within="10ms"))
            async def together(found: list[ClueFound]) -> None:
                await wait()

        else:

            @service.on(ClueFound)
            async def award(found: ClueFound) -> None:
                await (asyncio.create_task(wait()) if how == "in a task" else wait())

        if how == "of several":

            @service.on(ClueFound)
            async def other(found: ClueFound) -> None: ...

        node = Node(service, mesh=new_mesh())
        async with running(node):
            receipts += [await node.emit(ClueFound()), await node.emit(ClueFound())]
            reports = [await receipt.settled(20) for receipt in receipts]
            assert errors
            assert not any(isinstance(error, SettleTimeout) for error in errors)
            assert all(report.complete for report in reports)
            assert not followed(node)

    run(main())


def test_a_task_that_has_outlived_its_handler_may_wait_for_the_end_of_the_cascade() -> None:
    async def main() -> None:
        service = Service("scores")
        receipts: list[Receipt] = []
        tasks: list[asyncio.Task[CascadeReport]] = []

        async def watch() -> CascadeReport:
            await asyncio.sleep(0.1)
            return await receipts[0].settled(5)

        @service.on(ClueFound)
        async def award(found: ClueFound) -> ScoreChanged:
            tasks.append(asyncio.create_task(watch()))
            return ScoreChanged()

        @service.on(ClueFound)
        async def linger(found: ClueFound) -> None:
            await asyncio.sleep(0.5)

        @service.on(ScoreChanged)
        async def update(change: ScoreChanged) -> None:
            await asyncio.sleep(1)

        node = Node(service, mesh=new_mesh())
        async with running(node):
            receipts.append(await node.emit(ClueFound()))
            report = await receipts[0].settled(20)
            assert await tasks[0] == report
            assert (report.events, report.complete) == (3, True)

    run(main())


def test_waiting_for_another_cascade_s_end_inside_a_handler_is_allowed() -> None:
    async def main() -> None:
        service = Service("scores")
        node = Node(service, mesh=new_mesh())
        receipts: list[Receipt] = []
        reports: list[CascadeReport] = []

        @service.on(ScoreChanged)
        async def update(change: ScoreChanged) -> None:
            await asyncio.sleep(0.1)

        @service.on(ClueFound)
        async def award(found: ClueFound) -> None:
            reports.append(await receipts[0].settled(5))

        async with running(node):
            receipts.append(await node.emit(ScoreChanged()))
            report = await (await node.emit(ClueFound())).settled(20)
            assert report.complete
            assert reports[0].complete

    run(main())


def test_a_settle_timeout_tells_what_is_known_so_far_and_the_cascade_goes_on(hosting: str) -> None:
    async def main() -> None:
        quick, slow = Service("quick"), Service("slow")
        loop = asyncio.get_running_loop()

        @quick.on(ClueFound)
        async def answer(found: ClueFound) -> ScoreChanged:
            return ScoreChanged()

        @slow.on(ScoreChanged)
        async def wait(change: ScoreChanged) -> None:
            await asyncio.sleep(5)

        mesh = new_mesh()
        nodes = [Node(quick, slow, mesh=mesh)]
        if hosting != "one node":
            nodes = [Node(quick, mesh=mesh), Node(slow, mesh=mesh), Node(mesh=mesh)]
        async with running(*nodes):
            receipt = await nodes[-1].emit(ClueFound())
            began = loop.time()
            with pytest.raises(SettleTimeout) as caught:
                await receipt.settled("2s")
            assert loop.time() - began == pytest.approx(2)
            assert isinstance(caught.value, TimeoutError)
            partial: Any = caught.value.report
            assert isinstance(partial, CascadeReport)
            assert not partial.complete
            assert partial.event_id == receipt.event_id
            assert partial.seconds == pytest.approx(2, abs=0.01)
            report = await receipt.settled(20)
            assert (report.complete, report.events) == (True, 2)
            # Whoever asks again is answered at once, with the same.
            assert await receipt.settled(0.001) == report

    run(main())


@pytest.mark.parametrize("early", [-1, 0, 1])
def test_a_timeout_in_the_moment_of_the_end_is_a_timeout_or_the_report(early: int) -> None:
    async def main() -> None:
        service = Service("scores")

        @service.on(ClueFound)
        async def award(found: ClueFound) -> None:
            await asyncio.sleep(1)

        node = Node(service, mesh=new_mesh())
        async with running(node):
            receipt = await node.emit(ClueFound())
            await asyncio.sleep(0.5)
            try:
                report: Any = await receipt.settled(0.5 + early * 1e-9)
            except SettleTimeout as error:
                report = error.report
                assert not report.complete
            else:
                assert report.complete
            assert (await receipt.settled(5)).complete

    run(main())


def test_many_may_wait_for_one_end_each_with_a_timeout_of_their_own() -> None:
    async def main() -> None:
        service = Service("scores")

        @service.on(ClueFound)
        async def award(found: ClueFound) -> None:
            await asyncio.sleep(1)

        node = Node(service, mesh=new_mesh())
        async with running(node):
            receipt = await node.emit(ClueFound())
            waits = [receipt.settled(0.1 * number) for number in range(1, 21)]
            ends = await asyncio.gather(*waits, return_exceptions=True)
            late = [end for end in ends if isinstance(end, SettleTimeout)]
            reports = [end for end in ends if isinstance(end, CascadeReport)]
            assert len(late) in (9, 10)
            assert len(late) + len(reports) == 20
            assert len(set(reports)) == 1

    run(main())


# -- what is reported for what it is


def test_each_misfortune_is_reported_for_what_it_is(hosting: str) -> None:
    async def main() -> None:
        hub = Service("hub")
        failing, limited, fading = Service("failing"), Service("limited"), Service("fading")

        @hub.on(ClueFound)
        async def spread(found: ClueFound) -> list[Hop]:
            return [Hop(number=number) for number in range(3)]

        @failing.on(Hop)
        async def fail(hop: Hop) -> None:
            if hop.number == 1:
                raise ValueError("no such clue")

        @limited.on(Hop, limit=Limit("1/min", burst=1), overflow="drop")
        async def drop(hop: Hop) -> None: ...

        @fading.on(Hop, timeout=0.5)
        async def linger(hop: Hop) -> None:
            if hop.number == 2:
                await asyncio.sleep(60)

        mesh = new_mesh()
        nodes = [Node(hub, failing, limited, fading, mesh=mesh)]
        if hosting != "one node":
            nodes = [Node(s, mesh=mesh) for s in (failing, limited, fading, hub)]
        async with running(*nodes):
            report = await (await nodes[-1].emit(ClueFound())).settled(20)
            assert report.complete
            assert (report.events, report.failed, report.shed) == (8, 2, 2)
            kinds = {(failure.handler, failure.kind) for failure in report.failures}
            assert kinds == {("failing.fail", "failed"), ("fading.linger", "failed")}
            errors = {failure.handler: failure.error for failure in report.failures}
            assert errors["failing.fail"] == "ValueError: no such clue"
            assert errors["fading.linger"].startswith("TimeoutError")
            assert not followed(*nodes)

    run(main())


def test_a_node_that_dies_is_a_lost_delivery_and_nothing_is_called_complete() -> None:
    async def main() -> None:
        quick, doomed = Service("quick"), Service("doomed")

        @quick.on(ClueFound)
        async def answer(found: ClueFound) -> ScoreChanged:
            return ScoreChanged()

        @doomed.on(ScoreChanged)
        async def wait(change: ScoreChanged) -> None:
            await asyncio.sleep(5)

        mesh = new_mesh()
        nodes = [Node(quick, mesh=mesh), Node(doomed, mesh=mesh), Node(mesh=mesh)]
        async with running(*nodes):
            receipt = await nodes[2].emit(ClueFound())
            await asyncio.sleep(1)
            MemoryMesh.named(mesh.removeprefix("memory:")).kill(nodes[1].report().node)
            report = await receipt.settled(20)
            assert not report.complete
            assert (report.events, report.lost) == (1, 1)
            (failure,) = report.failures
            assert (failure.kind, failure.handler, failure.event) == (
                "lost",
                "doomed",
                "score_changed",
            )
            assert report.seconds < 2
            assert not followed(nodes[0], nodes[2])

    run(main())


def test_the_critical_path_names_the_runs_that_ended_last_from_the_root_on(hosting: str) -> None:
    async def main() -> None:
        hub, quick, slow = Service("hub"), Service("quick"), Service("slow")

        @hub.on(ClueFound)
        async def spread(found: ClueFound) -> list[Event]:
            await asyncio.sleep(0.1)
            return [Hop(), ScoreChanged()]

        @quick.on(Hop)
        async def hurry(hop: Hop) -> None: ...

        @slow.on(ScoreChanged)
        async def linger(change: ScoreChanged) -> None:
            await asyncio.sleep(0.3)

        # ``list[Event]`` declares nothing.
        spread.__annotations__["return"] = list[Hop | ScoreChanged]
        mesh = new_mesh()
        nodes = [Node(hub, quick, slow, mesh=mesh)]
        if hosting != "one node":
            nodes = [Node(s, mesh=mesh) for s in (quick, slow, hub)]
        async with running(*nodes):
            report = await (await nodes[-1].emit(ClueFound())).settled(20)
            path = [(step.handler, round(step.ran, 3)) for step in report.critical_path]
            assert path == [("hub.spread", 0.1), ("slow.linger", 0.3)]

    run(main())


def test_each_step_of_the_critical_path_is_the_cause_of_the_next() -> None:
    async def main() -> None:
        hub, slow = Service("hub"), Service("slow")

        @hub.on(ClueFound)
        async def cause(found: ClueFound) -> ScoreChanged:
            return ScoreChanged()

        @hub.on(ClueFound)
        async def bystander(found: ClueFound) -> None:
            await asyncio.sleep(0.1)

        @slow.on(ScoreChanged)
        async def linger(change: ScoreChanged) -> None:
            await asyncio.sleep(0.3)

        node = Node(hub, slow, mesh=new_mesh())
        async with running(node):
            report = await (await node.emit(ClueFound())).settled(20)
            assert [step.handler for step in report.critical_path] == ["hub.cause", "slow.linger"]

    run(main())


def test_each_run_s_time_is_its_own_where_one_event_starts_several() -> None:
    async def main() -> None:
        hub = Service("hub")

        @hub.on(ClueFound)
        async def first(found: ClueFound) -> None:
            await asyncio.sleep(0.3)

        @hub.on(ClueFound, limit="10/s burst 1")
        async def second(found: ClueFound) -> None:
            await asyncio.sleep(0.1)

        node = Node(hub, mesh=new_mesh())
        async with running(node):
            await node.emit(ClueFound())
            report = await (await node.emit(ClueFound())).settled(20)
            (step,) = report.critical_path
            assert (step.handler, round(step.ran, 3)) == ("hub.first", 0.3)

    run(main())


# -- what is no budget


@pytest.mark.parametrize(
    "wrong",
    [
        {"events": 0},
        {"events": -1},
        {"events": 1.5},
        {"events": True},
        {"events": 10**10},
        {"depth": 0},
        {"depth": -3},
        {"depth": 1001},
        {"seconds": 0},
        {"seconds": -1},
        {"seconds": "0s"},
        {"seconds": "soon"},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"seconds": "40d"},
    ],
    ids=str,
)
def test_a_budget_of_nothing_or_of_no_number_is_refused_by_its_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Budget(**wrong)


def test_a_node_and_a_handler_take_nothing_else_for_a_budget() -> None:
    wrong: Any = 1000
    with pytest.raises(ConfigurationError, match="Budget"):
        Node(budget=wrong)
    with pytest.raises(ConfigurationError, match="Budget"):
        Service("scores").on(ClueFound, budget=wrong)(lambda found: None)


@pytest.mark.parametrize("wrong", [1000, 0, "events=5", {"events": 5}], ids=repr)
def test_an_emit_takes_nothing_else_for_a_budget(wrong: Any) -> None:
    async def main() -> None:
        service = Service("scores")
        errors: list[BaseException] = []

        @service.on(ScoreChanged, emits=[Hop])
        async def update(change: ScoreChanged) -> None:
            with pytest.raises(ConfigurationError, match="Budget") as caught:
                await node.emit(Hop(), budget=wrong)
            errors.append(caught.value)

        node = Node(service, mesh=new_mesh())
        async with running(node):
            with pytest.raises(ConfigurationError, match="Budget"):
                await node.emit(ClueFound(), budget=wrong)
            await (await node.emit(ScoreChanged())).settled(5)
            assert len(errors) == 1

    run(main())


def test_a_budget_of_one_event_starts_the_first_handler_alone(hosting: str) -> None:
    feud = Feud(hosting)
    report = run(feud.play(Budget(events=1)))
    assert (feud.starts, report.cut) == (1, 1)


def test_of_several_receivers_those_are_cut_that_the_budget_does_not_reach() -> None:
    async def main() -> None:
        started: list[str] = []
        services = [Service(name) for name in ("a", "b", "c")]

        def host(service: Service) -> None:
            @service.on(ClueFound)
            async def handle(found: ClueFound) -> None:
                started.append(service.name)

        for service in services:
            host(service)
        node = Node(*services, mesh=new_mesh())
        async with running(node):
            receipt = await node.emit(ClueFound(), budget=Budget(events=2))
            report = await receipt.settled(5)
            assert len(started) == 2
            assert (report.events, report.cut, report.complete) == (2, 1, True)
            assert [refusal.reason for refusal in receipt.refused] == ["cascade budget: events"]

    run(main())


# -- nobody is left behind


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    with tapped_wire(monkeypatch) as heard:
        yield heard


def test_a_report_rides_up_once_for_each_delivery(wire: list[Any]) -> None:
    feud = Feud("two nodes", award=3, update=3)
    report = run(feud.play(WIDE))
    told = [one for message in wire if isinstance(message, Settled) for one in message.reports]
    # The root's and one for each consequence, the one that was cut included.
    assert len(told) == report.events + report.cut


def on_two_nodes(play: Callable[[Node, Node], Any], service: Service, **policy: Any) -> None:
    async def main() -> None:
        mesh = new_mesh()
        host, emitter = Node(service, mesh=mesh, **policy), Node(mesh=mesh)
        async with running(host, emitter):
            await play(host, emitter)

    run(main())


def test_an_event_that_its_receiver_can_not_decode_does_not_keep_its_cascade_open() -> None:
    class Stricter(Event, name="hop"):
        number: int = 0

        def __post_init__(self) -> None:
            if self.number < 0:
                raise ValueError("not here")

    service = Service("strict")

    @service.on(Stricter)
    async def handle(hop: Stricter) -> None: ...

    async def play(host: Node, emitter: Node) -> None:
        receipt = await emitter.emit(Hop(number=-1))
        report = await receipt.settled(5)
        assert not report.complete or report.shed or report.failed or report.lost
        assert not followed(host, emitter)

    on_two_nodes(play, service)


class Placed(Event, key="player"):
    player: str = "ana"
    number: int = 0


def test_an_event_that_a_handler_has_begun_does_not_give_way_at_another_handler() -> None:
    async def main() -> None:
        service = Service("service")
        ran: list[tuple[str, int]] = []

        @service.on(Placed, overflow="latest")
        async def quick(placed: Placed) -> None:
            await asyncio.sleep(0.01)
            ran.append(("quick", placed.number))

        @service.on(Placed, overflow="latest", limit="1/s burst 1")
        async def limited(placed: Placed) -> None:
            ran.append(("limited", placed.number))

        node = Node(service, mesh=new_mesh())
        async with running(node):
            receipts = []
            for number in range(3):
                receipts.append(await node.emit(Placed(number=number)))
                await asyncio.sleep(0.005)
            reports = [await receipt.settled(20) for receipt in receipts]
            assert sum(report.events for report in reports) == len(ran)
            assert {number for name, number in ran if name == "quick"} == {
                number for name, number in ran if name == "limited"
            }
            assert sum(report.events + report.merged for report in reports) == 6
            assert ("quick", 2) in ran
            assert not followed(node)

    run(main())


def test_a_handler_that_emits_nothing_runs_beside_several_that_do(hosting: str) -> None:
    async def main() -> None:
        service = Service("service")
        ran: list[str] = []

        def host(name: str, *emits: type[Event]) -> None:
            @service.on(ClueFound, name=name, emits=emits)
            async def handle(found: ClueFound, ctx: Context) -> list[Hop]:
                ran.append(name)
                return [Hop() for _ in emits]

            handle.__annotations__["return"] = list[Hop] if emits else None

        for name, emits in (("one", [Hop]), ("quiet", []), ("two", [Hop])):
            host(name, *emits)
        mesh = new_mesh()
        nodes = [Node(service, mesh=mesh)]
        if hosting != "one node":
            nodes = [Node(service, mesh=mesh), Node(mesh=mesh)]
        async with running(*nodes):
            report = await (await nodes[-1].emit(ClueFound())).settled(20)
            assert ran == ["one", "quiet", "two"]
            assert (report.events, report.failed) == (3, 0)

    run(main())


def test_a_refusable_event_that_waited_for_room_is_followed_once(hosting: str) -> None:
    async def main() -> None:
        service = Service("service")

        @service.on(ClueFound, queue=1, concurrency=1, limit="1000/s", overflow="reject")
        async def handle(found: ClueFound) -> None:
            await asyncio.sleep(0.1)

        mesh = new_mesh()
        nodes = [Node(service, mesh=mesh)]
        if hosting != "one node":
            nodes = [Node(service, mesh=mesh), Node(mesh=mesh)]
        async with running(*nodes):
            receipts = await asyncio.gather(*(nodes[-1].emit(ClueFound()) for _ in range(4)))
            reports = [await receipt.settled(20) for receipt in receipts]
            assert [report.events for report in reports] == [1] * 4
            assert not followed(*nodes)

    run(main())


def test_an_observer_is_told_no_lineage_of_a_root_that_is_refused() -> None:
    async def main() -> None:
        told: list[Any] = []

        class Watching:
            def refused(self, event_id: Any, lineage: Any, *_: Any) -> None:
                told.append(lineage)

            def __getattr__(self, name: str) -> Any:
                return lambda *_: None

        service = Service("service")

        @service.on(ClueFound)
        @service.on(ClueFound, name="again")
        async def handle(found: ClueFound) -> None: ...

        node = Node(service, mesh=new_mesh())
        node.observe(Watching())  # type: ignore[arg-type]
        async with running(node):
            await node.emit(ClueFound(), budget=Budget(events=1, depth=3))
        assert told == [None]

    run(main())


def test_an_observer_is_told_of_a_consequence_that_its_type_s_limit_refuses() -> None:
    async def main() -> None:
        class Rare(Event, limit="1/min"):
            number: int = 0

        told: list[str] = []

        class Watching:
            def __getattr__(self, name: str) -> Any:
                return lambda *args: told.append(name)

        service = Service("service")

        @service.on(ClueFound)
        async def handle(found: ClueFound) -> list[Rare]:
            return [Rare() for _ in range(3)]

        @service.on(Rare)
        async def rarely(rare: Rare) -> None: ...

        handle.__annotations__["return"] = list[Rare]
        node = Node(service, mesh=new_mesh())
        async with running(node):
            node.observe(Watching())  # type: ignore[arg-type]
            report = await (await node.emit(ClueFound())).settled(5)
            assert (report.events, report.shed) == (2, 2)
            assert told.count("refused") == 2

    run(main())


def test_an_observer_is_told_once_of_each_event_that_its_type_s_limit_keeps_back_for_good() -> None:
    async def main() -> None:
        class Sight(Event, key="player", limit="1/s burst 1", overflow="latest"):
            player: str = "ana"
            number: int = 0

        told: list[tuple[str, Any, str, str]] = []

        class Watching:
            def refused(
                self, event_id: Any, lineage: Any, event: str, service: str, reason: str
            ) -> None:
                told.append((str(event_id), lineage, service, reason))

            def __getattr__(self, name: str) -> Any:
                return lambda *_: None

        services = [Service("near"), Service("far")]
        for service in services:

            @service.on(Sight)
            async def see(sight: Sight) -> None: ...

        node = Node(*services, mesh=new_mesh())
        node.observe(Watching())  # type: ignore[arg-type]
        async with running(node):
            kept = [await node.emit(Sight(number=number)) for number in range(4)]
            assert told == [
                (receipt.event_id, None, "", "replaced by a newer one") for receipt in kept[1:3]
            ]
            await asyncio.sleep(0.1)
            await node.close()
            assert told[2:] == [(kept[3].event_id, None, "", "closing")]

    run(main())


def test_a_replica_that_leaves_tells_what_became_of_what_it_has_handled() -> None:
    async def main() -> None:
        relay, slow = Service("relay"), Service("slow")

        @relay.on(ClueFound)
        async def answer(found: ClueFound) -> ScoreChanged:
            return ScoreChanged()

        @slow.on(ScoreChanged)
        async def linger(change: ScoreChanged) -> None:
            await asyncio.sleep(1)

        mesh = new_mesh()
        leaver = Node(relay, mesh=mesh)
        nodes = [Node(slow, mesh=mesh), leaver, Node(mesh=mesh)]
        async with running(*nodes):
            receipt = await nodes[2].emit(ClueFound())
            await asyncio.sleep(0.1)
            await leaver.close()
            report = await receipt.settled(20)
            assert (report.complete, report.events) == (True, 2)

    run(main())


def test_the_seconds_of_a_budget_are_counted_from_its_root_also_if_others_come_meanwhile() -> None:
    async def main() -> None:
        service = Service("service")
        deadlines: list[float] = []
        loop = asyncio.get_running_loop()

        @service.on(ClueFound)
        async def slow(found: ClueFound) -> ScoreChanged:
            await asyncio.sleep(20)
            return ScoreChanged()

        @service.on(Hop)
        async def other(hop: Hop) -> None: ...

        @service.on(ScoreChanged)
        async def late(change: ScoreChanged, ctx: Context) -> None:
            deadlines.append(loop.time() + ctx.budget.seconds)

        mesh = new_mesh()
        host, emitter = Node(service, mesh=mesh), Node(mesh=mesh)
        async with running(host, emitter):
            began = loop.time()
            await emitter.emit(ClueFound())
            await asyncio.sleep(15)
            await emitter.emit(Hop())
            await asyncio.sleep(10)
            assert deadlines == [pytest.approx(began + 30, abs=0.1)]

    run(main())


def test_a_run_that_has_suspended_keeps_its_lineage_also_if_others_get_its_numbers_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "MAX_PATHS", 1)

    async def main() -> None:
        relay, host = Service("relay"), Service("host")
        paths: list[tuple[str, ...]] = []

        class Watching:
            def handled(self, event_id: Any, lineage: Any, *_: Any) -> None:
                paths.append(lineage.path.handlers)

            def __getattr__(self, name: str) -> Any:
                return lambda *_: None

        @relay.on(ClueFound)
        async def first(found: ClueFound) -> ScoreChanged:
            return ScoreChanged(number=1)

        @relay.on(Hop)
        async def second(hop: Hop) -> ScoreChanged:
            return ScoreChanged(number=2)

        @host.on(ScoreChanged)
        async def linger(change: ScoreChanged) -> None:
            await asyncio.sleep(change.number)

        mesh = new_mesh()
        nodes = [Node(host, mesh=mesh), Node(relay, mesh=mesh)]
        nodes[0].observe(Watching())  # type: ignore[arg-type]
        async with running(*nodes):
            await nodes[1].emit(ClueFound())
            await asyncio.sleep(0.1)
            await nodes[1].emit(Hop())
            await asyncio.sleep(5)
            assert paths == [("relay.first",), ("relay.second",)]

    run(main())


class Shown(Event, key="player", limit="1000/s burst 100", overflow="latest"):
    player: str = "ana"
    number: int = 0


def test_an_event_that_is_cut_where_there_is_no_room_is_not_sent_again_where_there_is(
    hosting: str,
) -> None:
    async def main() -> None:
        quick, slow = Service("quick"), Service("slow")
        shown: list[int] = []

        @quick.on(Shown)
        async def show(one: Shown) -> None:
            shown.append(one.number)

        @slow.on(Shown, queue=1, concurrency=1)
        async def linger(one: Shown) -> None:
            await asyncio.sleep(1)

        mesh = new_mesh()
        nodes = [Node(quick, slow, mesh=mesh)]
        if hosting != "one node":
            nodes = [Node(quick, mesh=mesh), Node(slow, mesh=mesh), Node(mesh=mesh)]
        async with running(*nodes):
            await nodes[-1].emit(Shown(player="bob"))
            await asyncio.sleep(0.01)
            receipt = await nodes[-1].emit(Shown(number=1), budget=Budget(events=1))
            report = await receipt.settled(5)
            await asyncio.sleep(3)
            assert shown == [0, 1]
            assert (report.events, report.cut, report.complete) == (1, 1, True)

    run(main())
