"""What a team can rely on when it tests its services with `thence.testing.Mesh`."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pytest

from thence import (
    Batch,
    Budget,
    CascadeReport,
    ConfigurationError,
    Context,
    Event,
    Limit,
    Node,
    NodeClosed,
    RateLimited,
    Service,
    SettleTimeout,
    ThenceError,
)
from thence.testing import (
    Cascade,
    MemoryMesh,
    Mesh,
    Occurrence,
    Outcome,
    VirtualTimeLoop,
    in_virtual_time,
    run,
)
from thence.testing.handlers import KnownHandlers


class ClueFound(Event, key="player"):
    player: str
    clue: int = 1


class ScoreChanged(Event, key="player"):
    player: str
    points: int


class RankChanged(Event, key="player"):
    player: str
    rank: int


class Told(Event):
    text: str


class Game:
    """scores → ranks and badges → notifications."""

    def __init__(self) -> None:
        self.scores = Service("scores")
        self.ranks = Service("ranks")
        self.badges = Service("badges")
        scores, ranks, badges = self.scores, self.ranks, self.badges

        @scores.on(ClueFound)
        async def award(found: ClueFound) -> ScoreChanged:
            await asyncio.sleep(0.002)
            return ScoreChanged(player=found.player, points=10 * found.clue)

        @ranks.on(ScoreChanged)
        async def rank(change: ScoreChanged) -> list[RankChanged | Told]:
            return [RankChanged(player=change.player, rank=1), Told(text=change.player)]

        @badges.on(ScoreChanged)
        async def reward(change: ScoreChanged, ctx: Context) -> None: ...

        self.award, self.rank, self.reward = award, rank, reward

    def mesh(self) -> Mesh:
        return Mesh(self.scores, self.ranks, self.badges)


ANA = ClueFound(player="ana")


# -- running


@in_virtual_time
async def test_a_cascade_has_settled_when_emit_returns():
    ended: list[str] = []
    slow = Service("slow")

    @slow.on(RankChanged)
    async def crawl(change: RankChanged) -> None:
        await asyncio.sleep(20)
        ended.append(change.player)

    game = Game()
    async with Mesh(game.scores, game.ranks, slow) as mesh:
        cascade = await mesh.emit(ANA)
        assert ended == ["ana"]
    assert cascade.complete
    assert cascade.report.events == 3
    assert cascade.report.seconds == pytest.approx(20.002)


@pytest.mark.parametrize("virtual", [True, False])
def test_it_runs_on_a_virtual_loop_and_on_any_other(virtual):
    async def body() -> tuple[bool, list[RankChanged]]:
        async with Game().mesh() as mesh:
            cascade = await mesh.emit(ANA)
        return cascade.complete, cascade.handled(ScoreChanged)

    ran = run(body()) if virtual else asyncio.run(body())
    assert ran == (True, [ScoreChanged(player="ana", points=10)])


def test_a_test_in_virtual_time_needs_no_plugin_and_keeps_its_name_and_its_parameters():
    @in_virtual_time
    async def test_something(number: int, *, other: str) -> tuple[int, str, bool]:
        """Why."""
        await asyncio.sleep(1000)
        return number, other, isinstance(asyncio.get_running_loop(), VirtualTimeLoop)

    assert test_something(1, other="x") == (1, "x", True)
    assert (test_something.__name__, test_something.__doc__) == ("test_something", "Why.")
    assert not asyncio.iscoroutinefunction(test_something)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
async def game_mesh(anyio_backend: object) -> AsyncIterator[Mesh]:
    async with Game().mesh() as mesh:
        yield mesh


@pytest.mark.anyio
async def test_it_can_be_a_fixture_of_the_anyio_plugin_on_a_virtual_loop(game_mesh: Mesh):
    cascade = await game_mesh.emit(ANA)
    await asyncio.sleep(5000)
    assert cascade.handled(ScoreChanged) == [ScoreChanged(player="ana", points=10)]
    assert (await game_mesh.emit(ANA)).complete


@in_virtual_time
async def test_events_cross_a_wire_to_services_that_share_no_classes():
    def another() -> type[Event]:
        class ScoreChanged(Event, key="player"):
            player: str
            points: int

        return ScoreChanged

    theirs: Any = another()
    got: list[Event] = []
    reader = Service("reader")

    @reader.on(theirs)
    async def read(change: Event) -> None:
        got.append(change)

    game = Game()
    async with Mesh(game.scores, reader) as mesh:
        cascade = await mesh.emit(ANA)
    assert [type(event) for event in got] == [theirs]
    assert cascade.handled(theirs) == [theirs(player="ana", points=10)]
    assert cascade.handled(ScoreChanged) == [ScoreChanged(player="ana", points=10)]


@in_virtual_time
async def test_services_that_understand_an_event_differently_are_found_out():
    def another() -> type[Event]:
        class ScoreChanged(Event, key="player"):
            player: str
            points: str

        return ScoreChanged

    theirs: Any = another()
    reader = Service("reader")

    @reader.on(theirs)
    async def read(change: Event) -> None: ...

    async with Mesh(Game().scores, reader) as mesh:
        cascade = await mesh.emit(ANA)
    (shed,) = cascade.shed
    assert (shed.event, shed.handler) == (ScoreChanged(player="ana", points=10), "reader")
    assert "points" in shed.reason


@in_virtual_time
async def test_a_service_runs_its_lifespan_unless_it_is_given_a_state():
    entered: list[str] = []

    def service(name: str) -> Service:
        @asynccontextmanager
        async def lifespan(node: Node) -> AsyncGenerator[list[int]]:
            entered.append(f"{name} in")
            yield []
            entered.append(f"{name} out")

        made = Service(name, lifespan=lifespan)

        @made.on(ClueFound)
        async def note(found: ClueFound, ctx: Context) -> None:
            ctx.state.append(found.clue)

        return made

    state: list[int] = []
    one, other = service("one"), service("other")
    lifespan = other.lifespan
    async with Mesh(one, other, state={"other": state}) as mesh:
        assert entered == ["one in"]
        cascade = await mesh.emit(ClueFound(player="ana", clue=7))
    assert entered == ["one in", "one out"]
    assert (state, len(cascade.outcomes), cascade.failed) == ([7], 2, [])
    assert other.lifespan is lifespan, "the service itself stays as it was"


@in_virtual_time
async def test_a_lifespan_that_fails_fails_the_test_and_the_others_are_left():
    left: list[str] = []

    @asynccontextmanager
    async def fine(node: Node) -> AsyncGenerator[None]:
        yield
        left.append("fine")

    @asynccontextmanager
    async def broken(node: Node) -> AsyncGenerator[None]:
        raise OSError("no database")
        yield

    with pytest.raises(OSError, match="no database"):
        async with Mesh(Service("a", lifespan=fine), Service("b", lifespan=broken)):
            pytest.fail("the mesh has opened")
    assert left == ["fine"]


@pytest.mark.parametrize("delay", [1.5, 1000.0])
@in_virtual_time
async def test_services_are_tested_when_they_have_found_each_other_or_not_at_all(
    delay, monkeypatch
):
    monkeypatch.setattr("thence.testing.mesh._numbers", iter(["slow"]))
    MemoryMesh.named("thence.testing.Mesh slow").delay = delay
    with nullcontext() if delay < 10 else pytest.raises(ThenceError, match="found each other"):
        async with Game().mesh() as mesh:
            assert (await mesh.emit(ANA)).report.events == 3


@in_virtual_time
async def test_meshes_are_private_and_nothing_is_left_of_them():
    game = Game()
    async with Mesh(game.scores) as one, game.mesh() as other:
        first, second = await asyncio.gather(one.emit(ANA), other.emit(ANA))
        assert (first.report.events, second.report.events) == (1, 3)
    await asyncio.sleep(1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@in_virtual_time
async def test_cascades_that_run_at_the_same_time_are_told_apart():
    async with Game().mesh() as mesh:
        cascades = await asyncio.gather(
            *(mesh.emit(ClueFound(player=str(n), clue=n)) for n in range(20))
        )
    for number, cascade in enumerate(cascades):
        assert cascade.handled(ScoreChanged) == [
            ScoreChanged(player=str(number), points=10 * number)
        ]
        assert cascade.complete
        assert len(cascade.outcomes) == cascade.report.events == 3


@in_virtual_time
async def test_what_services_emit_of_themselves_is_no_part_of_a_cascade():
    @asynccontextmanager
    async def walking(node: Node) -> AsyncGenerator[None]:
        async def walk() -> None:
            while True:
                await node.emit(ClueFound(player="bo"))
                await asyncio.sleep(0.001)

        task = asyncio.create_task(walk())
        yield
        task.cancel()

    async with Mesh(Game().scores, Service("players", lifespan=walking), Service("idle")) as mesh:
        await asyncio.sleep(1)
        cascade = await mesh.emit(ANA)
        assert mesh._recorder is not None
        assert mesh._recorder._recordings == {}, "nor is it remembered"
    assert [event.player for event in cascade.handled(ClueFound)] == ["ana"]
    assert cascade.report.events == 1


@in_virtual_time
async def test_handlers_of_all_kinds_are_recorded():
    kinds = Service("kinds")

    @kinds.on(ClueFound)
    def plain(found: ClueFound) -> Told:
        return Told(text="plain")

    @kinds.on(ClueFound)
    async def generator(found: ClueFound) -> AsyncIterator[Told]:
        yield Told(text="first")
        await asyncio.sleep(1)
        yield Told(text="second")

    @kinds.on(ClueFound, emits=[Told])
    async def contextual(found: ClueFound, ctx: Context) -> None:
        ctx.emit(Told(text="by context"))

    @kinds.on(ClueFound, emits=[Told])
    async def joined(found: ClueFound, ctx: Context) -> None:
        await ctx.state.emit(Told(text="by node"))

    @asynccontextmanager
    async def lifespan(node: Node) -> AsyncGenerator[Node]:
        yield node

    kinds.lifespan = lifespan
    async with Mesh(kinds) as mesh:
        cascade = await mesh.emit(ANA)
    assert {o.handler: [e.event.text for e in o.emitted] for o in cascade.outcomes} == {
        "kinds.plain": ["plain"],
        "kinds.generator": ["first", "second"],
        "kinds.contextual": ["by context"],
        "kinds.joined": ["by node"],
    }
    assert cascade.complete


@in_virtual_time
async def test_settings_of_the_machine_do_not_hold_in_a_test(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thence.toml").write_text('[limits]\n"scores.award" = "1/d"\n')
    for name, value in {
        "LISTEN": "tcp://127.0.0.1:1",
        "NAME": "elsewhere",
        "BUDGET": "events=1",
        "LOOPS": "observe",
    }.items():
        monkeypatch.setenv(f"THENCE_{name}", value)
    async with Game().mesh() as mesh:
        for _ in range(3):
            cascade = await mesh.emit(ANA)
            assert (cascade.report.events, cascade.report.seconds) == (3, pytest.approx(0.002))


@in_virtual_time
async def test_a_handler_sees_the_test_as_the_source_of_a_root_event():
    seen: list[str] = []
    service = Service("seeing")

    @service.on(ClueFound)
    async def see(found: ClueFound, ctx: Context) -> None:
        seen.append(ctx.source)

    async with Mesh(service) as mesh:
        await mesh.emit(ANA)
    assert seen == ["test"]


# -- asking a cascade


@in_virtual_time
async def test_it_tells_what_was_emitted_and_what_was_handled_each_event_once():
    async with Game().mesh() as mesh:
        cascade = await mesh.emit(ANA)
    assert cascade.emitted(ClueFound) == cascade.handled(ClueFound) == [ANA]
    changed = [ScoreChanged(player="ana", points=10)]
    assert cascade.emitted(ScoreChanged) == changed
    assert cascade.handled(ScoreChanged) == changed, "two handlers, one event"
    assert cascade.emitted(RankChanged) == [RankChanged(player="ana", rank=1)]
    assert cascade.handled(RankChanged) == [], "nobody wants it"


@in_virtual_time
async def test_events_are_listed_in_the_order_in_which_they_were_emitted_and_handled():
    service = Service("shuffling")

    @service.on(ClueFound)
    async def spread(found: ClueFound) -> list[Told]:
        return [Told(text=text) for text in "abc"]

    @service.on(Told)
    async def shuffle(told: Told) -> None:
        await asyncio.sleep({"a": 3, "b": 1, "c": 2}[told.text])

    async with Mesh(service) as mesh:
        cascade = await mesh.emit(ANA)
    assert [told.text for told in cascade.emitted(Told)] == ["a", "b", "c"]
    assert [told.text for told in cascade.handled(Told)] == ["b", "c", "a"]


@in_virtual_time
async def test_it_tells_by_which_handler_events_were_handled():
    game = Game()
    async with game.mesh() as mesh:
        mesh.fail(game.reward)
        cascade = await mesh.emit(ANA)
    changed = [ScoreChanged(player="ana", points=10)]
    assert cascade.handled(ScoreChanged) == changed
    assert cascade.handled(ScoreChanged, by=game.rank) == changed
    assert cascade.handled(ScoreChanged, by="ranks.rank") == changed
    assert cascade.handled(ScoreChanged, by="badges.reward") == []
    with pytest.raises(ConfigurationError, match=r"Did you mean 'badges\.reward'"):
        cascade.handled(ScoreChanged, by="badges.rewrd")


@in_virtual_time
async def test_it_tells_what_caused_what():
    async with Game().mesh() as mesh:
        cascade = await mesh.emit(ANA)
    change = ScoreChanged(player="ana", points=10)
    rank = RankChanged(player="ana", rank=1)
    assert cascade.caused(ANA) == [change]
    assert cascade.caused(ScoreChanged) == [rank, Told(text="ana")]
    assert cascade.caused(rank) == []
    with pytest.raises(LookupError, match=r"rank=2\) is not in this cascade:\nClueFound"):
        cascade.caused(RankChanged(player="ana", rank=2))
    root = cascade.tree
    assert (root.event, root.depth, root.at) == (ANA, 0, 0.0)
    assert [child.event for child in root.children] == [change]
    (award,) = root.outcomes
    assert (award.handler, award.kind, award.at) == ("scores.award", "handled", 0.0)
    assert award.seconds == pytest.approx(0.002)
    (changed,) = award.emitted
    assert (changed.depth, changed.at) == (1, pytest.approx(0.002))
    assert changed.event_id != root.event_id
    assert [o.handler for o in changed.outcomes] == ["ranks.rank", "badges.reward"]
    assert [o.event for o in cascade.tree.walk()] == [ANA, change, rank, Told(text="ana")]


@in_virtual_time
async def test_counts_of_the_report_are_those_of_the_tree():
    game = Game()
    async with game.mesh() as mesh:
        mesh.fail(game.rank)
        cascade = await mesh.emit(ANA)
    ran = [o for o in cascade.outcomes if o.kind in ("handled", "failed")]
    assert len(ran) == cascade.report.events == 3
    assert len(cascade.failed) == cascade.report.failed == 1
    assert cascade.report.event_id == cascade.tree.event_id


class Chance(Event, key="group"):
    group: int
    number: int


class Fading(Event, key="group", ttl="1s"):
    group: int
    number: int


class Free(Event):
    group: int
    number: int


class Scarce(Event, limit="20/s burst 2"):
    group: int
    number: int


class Newest(Event, key="group", limit="5/s burst 1", overflow="latest"):
    group: int
    number: int


KINDS: list[Any] = [Chance, Fading, Free, Scarce, Newest]


def random_service(name: str, chance: random.Random) -> Service:
    service = Service(name, concurrency=chance.choice([None, None, 1, 3]))
    for number in range(chance.randint(1, 4)):
        emits = chance.sample(KINDS, chance.randint(0, 3))
        limit = chance.choice([None, None, "10/s", "2/s burst 2"])

        async def handle(event: Event, ctx: Context, emits: list[Any] = emits) -> None:
            await asyncio.sleep(chance.choice([0, 0, 0, 0.1, 3]))
            if chance.random() < 0.1:
                raise ValueError("by chance")
            for kind in emits:
                for _ in range(chance.choice([0, 1, 1, 3])):
                    ctx.emit(kind(group=chance.randrange(3), number=chance.randrange(99)))

        service.on(
            *chance.sample(KINDS, chance.choice([1, 2])),
            name=f"handler_{number}",
            emits=emits,
            limit=limit,
            overflow=chance.choice(["wait", "drop", "reject"]) if limit else "wait",
            queue=chance.choice([1000, 1, 3]),
            queue_target=chance.choice([None, "100ms"]),
            concurrency=chance.choice([64, 1]),
            timeout=chance.choice(["30s", "0.5s"]),
            max_loops=chance.choice([0, 3]),
            budget=chance.choice([None, Budget(events=5), Budget(seconds="1s")]),
        )(handle)
    return service


@pytest.mark.parametrize("seed", range(25))
@in_virtual_time
async def test_whatever_happens_each_handler_of_each_event_has_one_outcome_as_the_report_counts(
    seed,
):
    chance = random.Random(seed)
    services = [random_service(f"service_{n}", chance) for n in range(chance.randint(1, 4))]
    async with Mesh(*services) as mesh:

        async def emit() -> Cascade | None:
            await asyncio.sleep(chance.random())
            event = chance.choice(KINDS)(group=0, number=0)
            try:
                return await mesh.emit(event, budget=chance.choice([None, Budget(events=20)]))
            except RateLimited:
                return None

        for cascade in filter(None, await asyncio.gather(*(emit() for _ in range(8)))):
            kinds = Counter(outcome.kind for outcome in cascade.outcomes)
            report = cascade.report
            assert kinds == Counter(
                handled=report.events - report.failed,
                failed=report.failed,
                shed=report.shed,
                cut=report.cut,
                expired=report.expired,
                merged=report.merged,
            ), cascade
            assert cascade.complete


# -- failures


@in_virtual_time
async def test_the_next_runs_of_a_handler_fail_so_many_times():
    game = Game()
    async with game.mesh() as mesh:
        mesh.fail(game.award, times=2)
        ends = [[o.kind for o in (await mesh.emit(ANA)).tree.outcomes] for _ in range(3)]
    assert ends == [["failed"], ["failed"], ["handled"]]


@in_virtual_time
async def test_a_planted_failure_says_that_it_was_planted_and_the_handler_does_not_run():
    ran: list[ClueFound] = []
    service = Service("s")

    @service.on(ClueFound)
    def work(found: ClueFound) -> None:
        ran.append(found)

    async with Mesh(service) as mesh:
        mesh.fail("s.work")
        cascade = await mesh.emit(ANA)
    (failed,) = cascade.failed
    assert (failed.handler, failed.event) == ("s.work", ANA)
    assert failed.reason == "RuntimeError: planted by mesh.fail"
    assert isinstance(failed.error, RuntimeError)
    assert cascade.complete
    assert ran == []


@in_virtual_time
async def test_a_failure_raises_what_the_test_wants_and_failures_come_in_the_order_of_planting():
    game = Game()
    error = KeyError("cave")
    async with game.mesh() as mesh:
        mesh.fail(game.award, error=error)
        mesh.fail("scores.award", error=ConnectionError)
        errors = [(await mesh.emit(ANA)).failed[0].error for _ in range(2)]
    assert errors[0] is error
    assert type(errors[1]) is ConnectionError


@in_virtual_time
async def test_a_failure_may_be_planted_before_the_mesh_is_entered():
    game = Game()
    mesh = game.mesh()
    mesh.fail(game.award)
    async with mesh:
        assert (await mesh.emit(ANA)).failed


@in_virtual_time
async def test_a_failure_of_a_handler_leaves_the_others_alone():
    game = Game()
    async with game.mesh() as mesh:
        mesh.fail(game.reward)
        cascade = await mesh.emit(ANA)
    assert [(o.handler, o.kind) for o in cascade.outcomes] == [
        ("scores.award", "handled"),
        ("ranks.rank", "handled"),
        ("badges.reward", "failed"),
    ]


def test_a_failure_for_an_unknown_handler_names_the_known_ones():
    game = Game()
    mesh = game.mesh()

    async def rewrd(change: ScoreChanged) -> None: ...

    for wrong in ("badges.rewrd", rewrd, "reward"):
        with pytest.raises(ConfigurationError, match=r"badges\.reward, ranks\.rank, scores\.award"):
            mesh.fail(wrong)
    with pytest.raises(ConfigurationError, match=r"Did you mean 'badges\.reward'\?"):
        mesh.fail("badges.rewrd")
    with pytest.raises(ConfigurationError, match=r"Did you mean 'badges\.reward'\?"):
        mesh.fail(rewrd)


class NeedsWords(Exception):
    def __init__(self, words: str) -> None:
        super().__init__(words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": 0}, "1 or more"),
        ({"times": True}, "1 or more"),
        ({"times": "2"}, "1 or more"),
        ({"error": "broken"}, "an exception or its class"),
        ({"error": int}, "an exception or its class"),
        ({"error": asyncio.CancelledError}, "an exception or its class"),
        ({"error": NeedsWords}, r'give an instance, as in error=NeedsWords\("\.\.\."\)'),
    ],
)
def test_a_failure_that_makes_no_sense_is_refused(arguments, message):
    game = Game()
    with pytest.raises(ConfigurationError, match=message):
        game.mesh().fail(game.award, **arguments)


@in_virtual_time
async def test_a_handler_that_never_ends_has_failed_by_its_timeout():
    service = Service("s")

    @service.on(ClueFound)
    async def hang(found: ClueFound) -> None:
        await asyncio.Event().wait()

    async with Mesh(service) as mesh:
        cascade = await mesh.emit(ANA)
    (failed,) = cascade.failed
    assert failed.reason == "TimeoutError: did not end within its timeout of 30 s"
    assert failed.seconds == pytest.approx(30)


# -- what is not handled


def kinds_of(cascade: Any) -> list[tuple[str, str, str]]:
    return [(o.kind, o.handler, o.reason) for o in cascade.outcomes if o.kind != "handled"]


@in_virtual_time
async def test_it_tells_what_a_limit_has_shed():
    service = Service("hints")

    @service.on(ClueFound, limit=Limit("1/s", per="player"), overflow="drop")
    async def offer(found: ClueFound) -> None: ...

    async with Mesh(service) as mesh:
        first, second = await mesh.emit(ANA), await mesh.emit(ANA)
        await asyncio.sleep(1.001)
        third = await mesh.emit(ANA)
    assert [bool(cascade.shed) for cascade in (first, second, third)] == [False, True, False]
    assert kinds_of(second) == [("shed", "hints.offer", "limit 1/s per player")]
    assert second.complete
    assert second.report.shed == 1
    assert second.handled(ClueFound) == []


@in_virtual_time
async def test_it_tells_what_a_full_queue_has_shed():
    service = Service("slow")

    @service.on(ClueFound)
    async def spread(found: ClueFound) -> list[Told]:
        return [Told(text=str(number)) for number in range(6)]

    @service.on(Told, queue=2, concurrency=1)
    async def crawl(told: Told) -> None:
        await asyncio.sleep(1)

    async with Mesh(service) as mesh:
        cascade = await mesh.emit(ANA)
    assert len(cascade.handled(Told)) + len(cascade.shed) == 6
    assert cascade.shed
    assert len(cascade.shed) == cascade.report.shed


@in_virtual_time
async def test_whoever_emits_is_told_of_a_rejection():
    service = Service("strict")

    @service.on(ClueFound, limit="1/min burst 1", overflow="reject")
    async def work(found: ClueFound) -> None: ...

    async with Mesh(service) as mesh:
        await mesh.emit(ANA)
        with pytest.raises(RateLimited):
            await mesh.emit(ANA)


class Ping(Event):
    number: int


class Pong(Event):
    number: int


def rally() -> tuple[Service, Service]:
    one, other = Service("one"), Service("other")

    @one.on(Ping, max_loops=100)
    async def ping(event: Ping) -> Pong:
        return Pong(number=event.number + 1)

    @other.on(Pong, max_loops=100)
    async def pong(event: Pong) -> Ping:
        return Ping(number=event.number + 1)

    return one, other


@pytest.mark.parametrize(
    ("budget", "starts", "reason"),
    [
        (None, 17, "cascade budget: depth"),
        (Budget(depth=3), 4, "cascade budget: depth"),
        (Budget(events=5), 5, "cascade budget: events"),
    ],
)
@in_virtual_time
async def test_it_tells_what_the_budget_has_cut(budget, starts, reason):
    async with Mesh(*rally()) as mesh:
        cascade = await mesh.emit(Ping(number=0), budget=budget)
    (cut,) = cascade.cut
    assert cut.reason == reason
    assert cut.handler == ("one", "other")[starts % 2]
    assert cascade.report.events == starts
    assert cascade.complete


@in_virtual_time
async def test_it_tells_which_loop_was_cut():
    echo = Service("echo")

    @echo.on(Ping)
    async def call(event: Ping) -> Pong:
        return Pong(number=event.number)

    @echo.on(Pong)
    async def answer(event: Pong) -> Ping:
        return Ping(number=event.number)

    async with Mesh(echo) as mesh:
        cascade = await mesh.emit(Ping(number=0))
    (cut,) = cascade.cut
    assert cut.handler == "echo.call"
    assert cut.reason == "loop echo.call → echo.answer → echo.call"
    assert cascade.complete


@in_virtual_time
async def test_it_tells_what_has_expired_with_the_budget_of_its_cascade():
    service = Service("s")

    @service.on(ClueFound)
    async def slowly(found: ClueFound) -> Told:
        await asyncio.sleep(3)
        return Told(text="late")

    @service.on(Told)
    async def note(told: Told) -> None: ...

    async with Mesh(service) as mesh:
        cascade = await mesh.emit(ANA, budget=Budget(seconds="2s"))
    assert kinds_of(cascade) == [("expired", "s.note", "cascade budget: seconds")]
    assert cascade.expired[0].at == pytest.approx(3)
    assert cascade.report.expired == 1


class Fleeting(Event, ttl="1s"):
    number: int


@in_virtual_time
async def test_it_tells_what_has_expired_by_its_time_to_live():
    service = Service("s")

    @service.on(Fleeting, concurrency=1)
    async def slowly(event: Fleeting) -> None:
        await asyncio.sleep(2)

    async with Mesh(service) as mesh:
        first, second = await asyncio.gather(
            mesh.emit(Fleeting(number=1)), mesh.emit(Fleeting(number=2))
        )
    assert kinds_of(first) == []
    assert kinds_of(second) == [("expired", "s.slowly", "expired")]
    assert "⊘ s.slowly  +2 s  expired" in str(second)


@in_virtual_time
async def test_it_tells_what_a_newer_event_has_replaced():
    service = Service("s")

    @service.on(ClueFound, overflow="latest", limit="1/s burst 1")
    async def newest(found: ClueFound) -> None: ...

    async with Mesh(service) as mesh:
        cascades = await asyncio.gather(
            *(mesh.emit(ClueFound(player="ana", clue=number)) for number in range(3))
        )
    assert [bool(cascade.merged) for cascade in cascades] == [False, True, False]
    assert kinds_of(cascades[1]) == [("merged", "s.newest", "replaced by a newer one")]
    assert cascades[2].tree.outcomes[0].at == pytest.approx(1, abs=0.01)


class Position(Event, key="player", limit="1/s burst 1", overflow="latest"):
    player: str
    metres: int


class Alarm(Event, limit="1/s burst 1"):
    number: int


@in_virtual_time
async def test_it_tells_what_the_limit_of_a_type_has_kept_back():
    service = Service("s")

    @service.on(Position)
    async def note(position: Position) -> None: ...

    async with Mesh(service) as mesh:
        cascades = await asyncio.gather(
            *(mesh.emit(Position(player="ana", metres=number)) for number in range(3))
        )
    assert [len(cascade.handled(Position)) for cascade in cascades] == [1, 0, 1]
    assert kinds_of(cascades[1]) == [("merged", "", "replaced by a newer one")]
    assert cascades[1].emitted(Position) == []
    assert cascades[2].tree.at == pytest.approx(1, abs=0.01)


@in_virtual_time
async def test_it_tells_which_consequences_the_limit_of_their_type_did_not_let_out():
    service = Service("s")

    @service.on(ClueFound)
    async def cry(found: ClueFound) -> list[Alarm]:
        return [Alarm(number=number) for number in range(3)]

    @service.on(Alarm)
    async def note(alarm: Alarm) -> None: ...

    async with Mesh(service) as mesh:
        cascade = await mesh.emit(ANA)
        assert cascade.emitted(Alarm) == cascade.handled(Alarm) == [Alarm(number=0)]
        assert [(o.event, o.handler, o.reason) for o in cascade.shed] == [
            (Alarm(number=1), "", "limit of its type: limit 1/s burst 1"),
            (Alarm(number=2), "", "limit of its type: limit 1/s burst 1"),
        ]
        assert cascade.report.shed == 2
        await asyncio.sleep(2)
        await mesh.emit(Alarm(number=3))
        with pytest.raises(RateLimited):
            await mesh.emit(Alarm(number=4))


@in_virtual_time
async def test_batches_are_handled_event_by_event_and_fail_as_one_run():
    service = Service("s")

    @service.on(ClueFound, batch=Batch(size=3, within="1s"))
    async def together(found: list[ClueFound]) -> Told:
        await asyncio.sleep(2)
        return Told(text=str(len(found)))

    async def emit_three(mesh: Mesh) -> list[Any]:
        return await asyncio.gather(
            *(mesh.emit(ClueFound(player=str(number))) for number in range(3))
        )

    async with Mesh(service) as mesh:
        fine = await emit_three(mesh)
        mesh.fail(together)
        failed = await emit_three(mesh)
    ends = [cascade.tree.outcomes[0] for cascade in fine]
    assert [(end.kind, round(end.seconds, 3)) for end in ends] == [("handled", 2.0)] * 3
    assert [cascade.emitted(Told) for cascade in fine] == [[], [], [Told(text="3")]]
    assert [len(cascade.failed) for cascade in failed] == [1, 1, 1]


@in_virtual_time
async def test_an_event_that_nobody_wants_is_settled_at_once_and_said_to_be_so():
    async with Game().mesh() as mesh:
        cascade = await mesh.emit(RankChanged(player="ana", rank=1))
    assert cascade.complete
    assert cascade.outcomes == []
    assert str(cascade).startswith("RankChanged(player='ana', rank=1)  nobody wants it\nsettled")


# -- what does not settle


@in_virtual_time
async def test_a_cascade_that_does_not_settle_in_time_is_drawn_as_far_as_it_is_known():
    service, other = Service("s"), Service("other")

    @service.on(ClueFound)
    async def spread(found: ClueFound) -> list[Told]:
        return [Told(text="a"), Told(text="b")]

    @other.on(Told, concurrency=1)
    async def hang(told: Told) -> None:
        await asyncio.sleep(10)

    async with Mesh(service, other) as mesh:
        with pytest.raises(SettleTimeout, match="within 5 s") as caught:
            await mesh.emit(ANA, timeout="5s")
        report: Any = caught.value.report
        assert not report.complete
        assert str(caught.value).splitlines()[1:] == [
            "ClueFound(player='ana', clue=1)",
            "└─✓ s.spread  +0 ms",
            "   ├─▶ Told(text='a')",
            "   │  └─… other.hang  +0 ms  running",
            "   └─▶ Told(text='b')",
            "      └─… other.hang  +0 ms  waiting",
            str(report),
        ]
        assert (await mesh.emit(ANA)).complete, "the mesh goes on"


# -- what is printed


@in_virtual_time
async def test_a_cascade_prints_as_a_tree():
    game = Game()
    curse = Service("curse")

    @curse.on(RankChanged)
    async def spread(change: RankChanged) -> ClueFound:
        return ANA

    async with Mesh(game.scores, game.ranks, game.badges, curse) as mesh:
        mesh.fail(game.reward, error=KeyError("cave"))
        cascade = await mesh.emit(ANA)
    assert str(cascade).splitlines() == [
        "ClueFound(player='ana', clue=1)",
        "└─✓ scores.award  +0 ms  2 ms",
        "   └─▶ ScoreChanged(player='ana', points=10)",
        "      ├─✓ ranks.rank  +2 ms",
        "      │  ├─▶ RankChanged(player='ana', rank=1)",
        "      │  │  └─✓ curse.spread  +2 ms",
        "      │  │     └─▶ ClueFound(player='ana', clue=1)",
        "      │  │        └─✂ scores.award  +2 ms  cut: loop scores.award → ranks.rank → curse.spread → scores.award",
        "      │  └─▶ Told(text='ana')  nobody wants it",
        "      └─✗ badges.reward  +2 ms  KeyError: 'cave'",
        str(cascade.report),
    ]


class Secret(Event, private=("password",)):
    user: str
    password: str


@in_virtual_time
async def test_private_fields_are_printed_nowhere():
    service = Service("s")

    @service.on(ClueFound)
    async def leak(found: ClueFound) -> list[Secret]:
        return [Secret(user="ana", password="hunter2")]

    @service.on(Secret)
    async def keep(secret: Secret) -> None: ...

    async with Mesh(service) as mesh:
        mesh.fail(keep)
        cascade = await mesh.emit(ANA)
        with pytest.raises(LookupError) as caught:
            cascade.caused(Secret(user="bo", password="hunter2"))
    printed = [str(cascade), repr(cascade), repr(cascade.failed), repr(cascade.tree)]
    printed += [repr(list(cascade.tree.walk())), str(caught.value)]
    assert "Secret(user='ana', password=•••)" in printed[0]
    assert not [text for text in printed if "hunter2" in text]
    assert cascade.emitted(Secret)[0].password == "hunter2"


@in_virtual_time
async def test_an_assertion_shows_what_went_wrong_within_what_pytest_prints_of_an_object():
    game = Game()
    async with game.mesh() as mesh:
        mesh.fail(game.reward, error=KeyError("cave"))
        cascade = await mesh.emit(ANA)
        mesh.fail(game.reward, error=KeyError("cave" * 100))
        longer = await mesh.emit(ANA)
    assert repr(cascade).startswith("<Cascade of ClueFound, settled: 3 handlers started")
    assert ": ✗ badges.reward KeyError: 'cave', ✓ scores.award, ✓ ranks.rank>" in repr(cascade)
    assert len(repr(longer)) <= 240
    assert repr(cascade.failed) == (
        "[<✗ badges.reward on ScoreChanged(player='ana', points=10): KeyError: 'cave'>]"
    )
    assert repr(cascade.tree) == "<ClueFound(player='ana', clue=1): ✓ scores.award>"


@in_virtual_time
async def test_a_failed_assertion_within_the_mesh_carries_the_trees_of_the_last_cascades():
    trees: list[str] = []
    with pytest.raises(AssertionError) as caught:
        async with Game().mesh() as mesh:
            for number in range(5):
                trees.append(str(await mesh.emit(ClueFound(player="ana", clue=number))))
            raise AssertionError("it should have been otherwise")
    assert caught.value.__notes__ == trees[-3:]


def test_pytest_shows_the_tree_under_a_failed_assertion(tmp_path):
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            from thence import Event, Service
            from thence.testing import Mesh, in_virtual_time

            class Clue(Event):
                number: int

            scores = Service("scores")

            @scores.on(Clue)
            async def award(clue: Clue) -> None: ...

            @in_virtual_time
            async def test_it(tmp_path):
                async with Mesh(scores) as mesh:
                    mesh.fail(award)
                    cascade = await mesh.emit(Clue(number=1))
                    assert cascade.handled(Clue) == [Clue(number=1)]
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "└─✗ scores.award  +0 ms  RuntimeError: planted by mesh.fail" in done.stdout


@in_virtual_time
async def test_a_huge_cascade_is_drawn_only_as_far_as_anybody_reads():
    service = Service("s")

    @service.on(ClueFound)
    async def spread(found: ClueFound) -> list[Told]:
        return [Told(text="x" * 1000) for _ in range(500)]

    async with Mesh(service) as mesh:
        cascade = await mesh.emit(ANA)
    lines = str(cascade).splitlines()
    assert len(lines) < 210
    assert lines[-2] == "… and 302 more lines"
    assert max(map(len, lines)) < 250
    assert len(cascade.emitted(Told)) == 500


def test_a_cascade_may_be_deeper_than_pythons_stack():
    tree = Occurrence(ANA, "", 0.0, 0, ())
    for _ in range(5000):
        run_of_it = Outcome(ANA, "s.spread", "handled", emitted=(tree,))
        tree = Occurrence(ANA, "", 0.0, 0, (run_of_it,))
    report = CascadeReport(event_id="", events=5000, depth=5000, seconds=0.0, complete=True)
    cascade = Cascade(report, tree, KnownHandlers([]))
    assert "more lines" in str(cascade)
    assert len(cascade.handled(ClueFound)) == 5000
    assert len(repr(cascade)) <= 240


# -- wrong use


def test_a_mesh_that_makes_no_sense_is_refused():
    game = Game()
    with pytest.raises(ConfigurationError, match="pass the services"):
        Mesh()
    with pytest.raises(ConfigurationError, match="share a name"):
        Mesh(game.scores, Service("scores"))
    with pytest.raises(ConfigurationError, match="Did you mean 'scores'"):
        Mesh(game.scores, game.ranks, state={"score": {}})
    with pytest.raises(ConfigurationError, match="pass Service objects"):
        Mesh(game.award)  # type: ignore


@in_virtual_time
async def test_a_mesh_is_used_within_its_block_and_once():
    mesh = Game().mesh()
    with pytest.raises(NodeClosed, match="async with Mesh"):
        await mesh.emit(ANA)
    async with mesh:
        pass
    with pytest.raises(NodeClosed, match="async with Mesh"):
        await mesh.emit(ANA)
    with pytest.raises(NodeClosed, match="make a new Mesh"):
        async with mesh:
            pass
