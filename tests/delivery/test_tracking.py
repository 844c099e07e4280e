"""Only those cascades are followed whose receipts somebody keeps: the others pay nothing for it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
from tests.delivery.cascading import followed, new_mesh, running, tapped_wire

from thence import Event, Limit, Node, Receipt, Service
from thence.delivery import tracking
from thence.delivery.tracking import discards_result
from thence.mesh import cork
from thence.mesh.messages import Settled, Track
from thence.testing import run

pytestmark = pytest.mark.carriers


class Found(Event):
    number: int = 0


class Scored(Event):
    number: int = 0


class Moved(Event, key="player"):
    player: str
    number: int = 0


class Shown(Event, limit="10/s burst 1", overflow="latest", key="player"):
    player: str = ""
    number: int = 0


@pytest.fixture(autouse=True)
def unsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is followed unasked is no part of this."""
    monkeypatch.setenv("THENCE_CASCADE_SAMPLE", "0")


class Scene:
    """An emitter, and a service that is at the same node, at another or has replicas at several."""

    def __init__(self, hosting: str, **policy: Any) -> None:
        self.handled: list[int] = []
        mesh = new_mesh()
        if hosting == "here":
            self.emitter = Node(self.service(**policy), mesh=mesh)
            self.nodes = [self.emitter]
        else:
            replicas = 3 if hosting == "at replicas" else 1
            self.emitter = Node(mesh=mesh)
            hosts = [Node(self.service(**policy), mesh=mesh) for _ in range(replicas)]
            self.nodes = [*hosts, self.emitter]

    def service(self, **policy: Any) -> Service:
        service = Service("scores")

        @service.on(Found, Moved, Shown, **policy)
        async def award(found: Found | Moved | Shown) -> Scored:
            await asyncio.sleep(0.01)
            self.handled.append(found.number)
            return Scored(number=found.number)

        @service.on(Scored)
        async def rank(scored: Scored) -> None: ...

        return service

    @property
    def tracked(self) -> int:
        runtime = self.emitter._runtime
        assert runtime is not None
        return len(runtime.branches)


HOSTING = ["here", "at another node", "at replicas"]


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is followed as a sample."""
    monkeypatch.setenv("THENCE_CASCADE_SAMPLE", "0")


@pytest.fixture(params=HOSTING)
def hosting(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["alone", "together"])
def pace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether each emit is taken to come alone, or none."""
    monkeypatch.setattr(cork, "ALONE", -1.0 if request.param == "alone" else 1e9)
    return request.param


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    with tapped_wire(monkeypatch) as heard:
        yield heard


def following(wire: list[Any]) -> int:
    """Messages that only tracking needs."""
    return sum(isinstance(message, Settled | Track) for message in wire)


Play = Callable[[Callable[[int], Coroutine[Any, Any, Receipt]]], Awaitable[Any]]


def play(
    hosting: str, play: Play, kind: type[Event], count: int, **policy: Any
) -> tuple[Any, Scene]:
    """Let ``play(emit)`` emit ``count`` events; what it returns are the receipts that it keeps."""

    async def main() -> tuple[Any, Scene]:
        scene = Scene(hosting, **policy)

        def emit(number: int) -> Coroutine[Any, Any, Receipt]:
            event = (
                kind(number=number)  # type: ignore[call-arg]
                if kind is Found
                else kind(player=f"p{number}", number=number)  # type: ignore[call-arg]
            )
            return scene.emitter.emit(event)

        async with running(*scene.nodes):
            kept = await play(emit)
            most = scene.tracked
            async with asyncio.timeout(100):
                while len(scene.handled) < count:
                    most = max(most, scene.tracked)
                    await asyncio.sleep(0.001)
            await asyncio.sleep(0.1)
            for receipt in kept or ():
                report = await receipt.settled(10)
                assert report.complete, report
                assert report.events == 2
            assert not followed(*scene.nodes)
            scene.most = most  # type: ignore[attr-defined]
            return kept, scene

    return run(main())


# -- receipts that nobody keeps


async def lone(emit: Any) -> None:
    for number in range(20):
        await emit(number)
        await asyncio.sleep(0.005)


async def in_one_tick(emit: Any) -> None:
    for number in range(20):
        await emit(number)


async def rebound(emit: Any) -> None:
    for number in range(20):
        receipt = await emit(number)
        assert receipt.targets


async def rebound_apart(emit: Any) -> None:
    for number in range(20):
        receipt = await emit(number)
        assert receipt.targets
        receipt = None
        await asyncio.sleep(0.005)


async def in_tasks(emit: Any) -> None:
    for number in range(20):
        task = asyncio.create_task(emit(number))
        del task
    await asyncio.sleep(0)


async def through_a_function(emit: Any) -> None:
    async def tell(number: int) -> None:
        await emit(number)

    for number in range(20):
        await tell(number)
        await asyncio.sleep(0.005)


async def with_a_timeout(emit: Any) -> None:
    for number in range(20):
        async with asyncio.timeout(1):
            await emit(number)
        await asyncio.sleep(0.005)


DROPPED = [lone, in_one_tick, rebound, in_tasks, through_a_function, with_a_timeout]


@pytest.mark.parametrize("kind", [Found, Moved], ids=["plain", "keyed"])
@pytest.mark.parametrize("how", DROPPED, ids=lambda how: how.__name__)
def test_an_event_whose_receipt_nobody_keeps_is_not_followed(
    hosting: str, pace: str, how: Play, kind: type[Event], wire: list[Any]
) -> None:
    if pace == "alone" and hosting != "here" and how in (rebound, in_tasks):
        pytest.skip("it leaves before anybody can tell whether its receipt will be kept")
    _, scene = play(hosting, how, kind, 20)
    assert scene.most == 0  # type: ignore[attr-defined]
    assert following(wire) == 0


@pytest.mark.parametrize("how", [rebound, rebound_apart, in_tasks], ids=lambda how: how.__name__)
def test_a_receipt_that_might_have_been_kept_costs_its_own_tracking_at_most(
    hosting: str, pace: str, how: Play, wire: list[Any]
) -> None:
    play(hosting, how, Found, 20)
    # Each is told of once by its emitter, and once with its consequence by its receiver.
    assert sum(isinstance(message, Track) for message in wire) <= 20
    reports = [one for message in wire if isinstance(message, Settled) for one in message.reports]
    assert len(reports) <= 20


SHORT_OF_ROOM = {"queue": 2, "concurrency": 1}
REFUSABLE = {"limit": Limit("10000/s", burst=100), "overflow": "reject"}


@pytest.mark.parametrize(
    "how", [in_one_tick, with_a_timeout, through_a_function], ids=lambda h: h.__name__
)
def test_an_event_that_waited_for_room_is_not_followed_if_nobody_keeps_its_receipt(
    hosting: str, how: Play, wire: list[Any]
) -> None:
    _, scene = play(hosting, how, Found, 20, **SHORT_OF_ROOM)
    assert scene.most == 0  # type: ignore[attr-defined]
    assert following(wire) == 0


@pytest.mark.parametrize(
    "how", [in_one_tick, with_a_timeout, through_a_function], ids=lambda h: h.__name__
)
def test_a_refusable_event_is_not_followed_if_nobody_keeps_its_receipt(
    hosting: str, pace: str, how: Play, wire: list[Any]
) -> None:
    _, scene = play(hosting, how, Found, 20, **REFUSABLE)
    assert scene.most == 0  # type: ignore[attr-defined]
    assert following(wire) == 0


def sampled(
    hosting: str, policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[Scene, list[float]]:
    """Emit 20 events, all of which are to be in the sample; how long the cascades took that were."""
    monkeypatch.setenv("THENCE_CASCADE_SAMPLE", "100%")
    monkeypatch.setattr(tracking, "SAMPLES_PER_SECOND", 1e9)

    async def main() -> tuple[Scene, list[float]]:
        scene = Scene(hosting, **policy)
        settled: list[float] = []
        async with running(*scene.nodes):
            runtime = scene.emitter._runtime
            assert runtime is not None
            runtime.tracker.settled = settled.append
            for number in range(20):
                await scene.emitter.emit(Found(number=number))
                await asyncio.sleep(0.001)
            await asyncio.sleep(1)
            assert not followed(*scene.nodes)
        return scene, settled

    return run(main())


@pytest.mark.parametrize("policy", [SHORT_OF_ROOM, REFUSABLE], ids=["short of room", "refusable"])
def test_an_event_that_leaves_before_its_emit_returns_is_in_the_sample_too(
    hosting: str, policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, settled = sampled(hosting, policy, monkeypatch)
    assert len(settled) == len(scene.handled) == 20


@pytest.mark.parametrize("policy", [SHORT_OF_ROOM, REFUSABLE], ids=["short of room", "refusable"])
def test_no_cascade_is_in_the_sample_that_could_not_be_followed_any_more(
    hosting: str, policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking.Tracker, "samples_now", lambda self: False)
    scene, settled = sampled(hosting, policy, monkeypatch)
    assert len(settled) < len(scene.handled) == 20
    assert min(settled, default=1.0) > 0.005


@pytest.mark.parametrize(
    "paced",
    [
        -1.0,
        1e9,
    ],
    ids=["alone", "together"],
)
def test_what_a_handler_emits_in_a_cascade_that_nobody_follows_is_not_followed(
    wire: list[Any], monkeypatch: pytest.MonkeyPatch, paced: float
) -> None:
    monkeypatch.setattr(cork, "ALONE", paced)

    async def main() -> None:
        relay, end = Service("relay"), Service("end")
        mesh = new_mesh()
        nodes = [Node(relay, mesh=mesh), Node(end, mesh=mesh), Node(mesh=mesh)]
        handled: list[int] = []

        @relay.on(Found, emits=[Scored])
        async def pass_on(found: Found) -> None:
            await asyncio.sleep(0.01)
            await nodes[0].emit(Scored(number=found.number))

        @end.on(Scored)
        async def note(scored: Scored) -> None:
            handled.append(scored.number)

        async with running(*nodes):
            for number in range(20):
                await nodes[2].emit(Found(number=number))
                await asyncio.sleep(0.02)
            async with asyncio.timeout(10):
                while len(handled) < 20:
                    await asyncio.sleep(0.01)
        assert following(wire) == 0

    run(main())


# -- receipts that somebody keeps


async def kept_lone(emit: Any) -> list[Receipt]:
    kept = []
    for number in range(20):
        kept.append(await emit(number))
        await asyncio.sleep(0.005)
    return kept


async def kept_in_one_tick(emit: Any) -> list[Receipt]:
    return [await emit(number) for number in range(20)]


async def every_third(emit: Any) -> list[Receipt]:
    kept = []
    for number in range(20):
        if number % 3:
            await emit(number)
        else:
            kept.append(await emit(number))
    return kept


async def the_last(emit: Any) -> list[Receipt]:
    for number in range(19):
        await emit(number)
    return [await emit(19)]


async def gathered(emit: Any) -> list[Receipt]:
    return list(await asyncio.gather(*map(emit, range(20))))


async def in_kept_tasks(emit: Any) -> list[Receipt]:
    tasks = [asyncio.create_task(emit(number)) for number in range(20)]
    await asyncio.sleep(0.1)
    return [await task for task in tasks]


async def in_tasks_one_by_one(emit: Any) -> list[Receipt]:
    kept = []
    for number in range(20):
        kept.append(await asyncio.create_task(emit(number)))
        await asyncio.sleep(0.005)
    return kept


async def in_a_group(emit: Any) -> list[Receipt]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(emit(number)) for number in range(20)]
    return [task.result() for task in tasks]


async def waited_for(emit: Any) -> list[Receipt]:
    kept = []
    for number in range(20):
        kept.append(await asyncio.wait_for(emit(number), 1))
        await asyncio.sleep(0.005)
    return kept


async def through_functions(emit: Any) -> list[Receipt]:
    async def inner(number: int) -> Receipt:
        return await emit(number)

    async def outer(number: int) -> Receipt:
        try:
            return await inner(number)
        finally:
            await asyncio.sleep(0)

    kept = []
    for number in range(20):
        kept.append(await outer(number))
        await asyncio.sleep(0.005)
    return kept


KEPT = [
    kept_lone,
    kept_in_one_tick,
    every_third,
    the_last,
    gathered,
    in_kept_tasks,
    in_tasks_one_by_one,
    in_a_group,
    waited_for,
    through_functions,
]


@pytest.mark.parametrize("kind", [Found, Moved], ids=["plain", "keyed"])
@pytest.mark.parametrize("how", KEPT, ids=lambda how: how.__name__)
def test_an_event_whose_receipt_is_kept_settles_also_if_that_is_asked_late(
    hosting: str, pace: str, how: Play, kind: type[Event]
) -> None:
    play(hosting, how, kind, 20)


@pytest.mark.parametrize("how", KEPT, ids=lambda how: how.__name__)
def test_an_event_that_waited_for_room_settles(hosting: str, how: Play) -> None:
    play(hosting, how, Found, 20, **SHORT_OF_ROOM)


@pytest.mark.parametrize("how", KEPT, ids=lambda how: how.__name__)
def test_a_refusable_event_settles(hosting: str, how: Play) -> None:
    play(hosting, how, Found, 20, **REFUSABLE)


def test_an_event_that_its_type_s_limit_kept_back_settles_also_if_that_is_asked_late() -> None:
    async def main() -> None:
        scene = Scene("at another node")
        async with running(*scene.nodes):
            kept = [await scene.emitter.emit(Shown(number=n)) for n in range(3)]
            async with asyncio.timeout(10):
                while len(scene.handled) < 2:
                    await asyncio.sleep(0.01)
            reports = [await receipt.settled(5) for receipt in kept]
            assert [report.events for report in reports] == [2, 0, 2]
            assert reports[1].merged == 1
            assert not followed(*scene.nodes)

    run(main())


def test_an_event_that_its_type_s_limit_kept_back_settles_if_that_is_asked_at_once() -> None:
    async def main() -> None:
        scene = Scene("at another node")
        async with running(*scene.nodes):
            kept = []
            for number in range(3):
                receipt = await scene.emitter.emit(Shown(number=number))
                kept.append(asyncio.create_task(receipt.settled(5)))
                await asyncio.sleep(0)
            reports = [await one for one in kept]
            assert [report.events for report in reports] == [2, 0, 2]
            assert reports[1].merged == 1
            assert not followed(*scene.nodes)

    run(main())


@pytest.mark.parametrize("late", [False, True], ids=["asked at once", "asked late"])
def test_an_event_whose_key_is_moving_settles(late: bool) -> None:
    async def main() -> None:
        mesh = new_mesh()
        emitter = Node(mesh=mesh)
        handled: list[int] = []

        def host() -> Node:
            service = Service("scores")

            @service.on(Moved)
            async def award(moved: Moved) -> None:
                await asyncio.sleep(0.3)
                handled.append(moved.number)

            return Node(service, mesh=mesh)

        first, second = host(), host()
        async with running(first, emitter):
            for number in range(20):
                await emitter.emit(Moved(player=f"p{number}", number=number))
            await asyncio.sleep(0.1)
            # About half of the keys move now, as soon as what is under way has ended.
            await second.start()
            await asyncio.sleep(0.01)
            runtime = emitter._runtime
            assert runtime is not None
            placement = runtime.table.placements["scores"]
            moving = [f"p{n}" for n in range(20) if placement.hold_for(f"p{n}")[1] is not None]
            assert moving
            kept = [await emitter.emit(Moved(player=player, number=99)) for player in moving]
            if late:
                async with asyncio.timeout(60):
                    while handled.count(99) < len(moving):
                        await asyncio.sleep(0.01)
                reports = [await receipt.settled(20) for receipt in kept]
            else:
                reports = await asyncio.gather(*(receipt.settled(20) for receipt in kept))
            assert [(r.complete, r.events) for r in reports] == [(True, 1)] * len(moving)
            assert not followed(emitter, first, second)
            await second.close()

    run(main())


def test_no_more_roots_are_followed_unasked_than_a_hundred_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THENCE_CASCADE_SAMPLE", "100%")

    async def main() -> None:
        scene = Scene("at another node")
        settled: list[float] = []
        async with running(*scene.nodes):
            runtime = scene.emitter._runtime
            assert runtime is not None
            runtime.tracker.settled = settled.append
            for number in range(2000):
                await scene.emitter.emit(Scored(number=number))
            await asyncio.sleep(1)
        assert 1 <= len(settled) <= 100

    run(main())


# -- who is seen to throw a receipt away


@pytest.fixture
def seen() -> list[bool]:
    return []


def asks(seen: list[bool]) -> Callable[[], Coroutine[Any, Any, int]]:
    async def asked() -> int:
        seen.append(discards_result(sys._getframe(1)))
        return 7

    return asked


@contextlib.asynccontextmanager
async def entered() -> Any:
    yield


async def bare(ask: Any) -> None:
    await ask()


async def bare_in_try(ask: Any) -> None:
    try:
        await ask()
    except ValueError:
        raise AssertionError from None
    finally:
        await ask()


async def bare_in_except(ask: Any) -> None:
    try:
        raise ValueError
    except ValueError:
        await ask()


async def bare_in_with(ask: Any) -> None:
    with contextlib.suppress(ValueError):
        await ask()
    async with entered():
        await ask()


async def bare_in_if(ask: Any) -> None:
    if ask:
        await ask()
    else:
        raise AssertionError


async def bare_in_for(ask: Any) -> None:
    for _ in range(3):
        await ask()


async def bare_in_while(ask: Any) -> None:
    left = 3
    while left:
        left -= 1
        await ask()


async def bare_in_match(ask: Any) -> None:
    match ask:
        case None:
            raise AssertionError
        case _:
            await ask()


async def bare_in_a_generator(ask: Any) -> None:
    async def generate() -> Any:
        await ask()
        yield 1

    async for _ in generate():
        await ask()


async def bare_before_return(ask: Any) -> int:
    await ask()
    return 1


BARE = [
    bare,
    bare_in_try,
    bare_in_except,
    bare_in_with,
    bare_in_if,
    bare_in_for,
    bare_in_while,
    bare_in_match,
    bare_in_a_generator,
    bare_before_return,
]


@pytest.mark.parametrize("how", BARE, ids=lambda how: how.__name__)
def test_a_result_that_is_thrown_away_is_seen_to_be(how: Any, seen: list[bool]) -> None:
    asyncio.run(how(asks(seen)))
    assert seen
    assert all(seen)


async def assigned(ask: Any) -> None:
    result = await ask()
    assert result == 7


async def assigned_and_not_used(ask: Any) -> None:
    _ = await ask()


async def assigned_by_walrus(ask: Any) -> None:
    if (result := await ask()) != 7:
        raise AssertionError(result)


async def unpacked(ask: Any) -> None:
    first, second = await ask(), await ask()
    assert first == second


async def to_an_attribute(ask: Any) -> None:
    asks.result = await ask()  # type: ignore[attr-defined]


async def to_an_item(ask: Any) -> None:
    results: dict[int, int] = {}
    results[1] = await ask()


async def returned(ask: Any) -> Any:
    return await ask()


async def returned_in_try(ask: Any) -> Any:
    try:
        return await ask()
    finally:
        await asyncio.sleep(0)


async def returned_in_with(ask: Any) -> Any:
    async with entered():
        return await ask()


async def yielded(ask: Any) -> None:
    async def generate() -> Any:
        yield await ask()

    async for result in generate():
        assert result == 7


async def passed_on(ask: Any) -> None:
    results: list[int] = []
    results.append(await ask())


async def in_a_list(ask: Any) -> list[Any]:
    return [await ask() for _ in range(3)]


async def in_a_dict(ask: Any) -> Any:
    return {number: await ask() for number in range(3)}


async def in_a_condition(ask: Any) -> None:
    if await ask():
        return


async def in_an_attribute(ask: Any) -> Any:
    return (await ask()).real


async def by_gather(ask: Any) -> None:
    assert await asyncio.gather(ask(), ask()) == [7, 7]


async def by_wait_for(ask: Any) -> None:
    assert await asyncio.wait_for(ask(), 1) == 7


async def by_task(ask: Any) -> None:
    assert await asyncio.create_task(ask()) == 7


async def by_hand(ask: Any) -> None:
    coroutine = ask()
    with pytest.raises(StopIteration):
        coroutine.send(None)


async def by_shield(ask: Any) -> None:
    assert await asyncio.shield(ask()) == 7


USED = [
    assigned,
    assigned_and_not_used,
    assigned_by_walrus,
    unpacked,
    to_an_attribute,
    to_an_item,
    returned,
    returned_in_try,
    returned_in_with,
    yielded,
    passed_on,
    in_a_list,
    in_a_dict,
    in_a_condition,
    in_an_attribute,
    by_gather,
    by_wait_for,
    by_task,
    by_hand,
    by_shield,
]


@pytest.mark.parametrize("how", USED, ids=lambda how: how.__name__)
def test_a_result_that_may_be_used_is_never_taken_to_be_thrown_away(
    how: Any, seen: list[bool]
) -> None:
    asyncio.run(how(asks(seen)))
    assert seen
    assert not any(seen)


def test_a_long_function_is_judged_by_the_await_that_runs(seen: list[bool]) -> None:
    lines = ["async def main(ask):"]
    for number in range(30):
        lines += [f"    kept{number} = await ask()", "    await ask()"]
    scope: dict[str, Any] = {}
    exec("\n".join(lines), scope)
    asyncio.run(scope["main"](asks(seen)))
    assert seen == [False, True] * 30


def test_code_that_is_made_again_and_again_is_judged_anew_and_not_remembered_for_ever(
    seen: list[bool],
) -> None:
    for number in range(1500):
        scope: dict[str, Any] = {}
        body = "await ask()" if number % 2 else "x = await ask()"
        exec(f"async def main(ask):\n    {body}", scope)
        coroutine = scope["main"](asks(seen))
        with pytest.raises(StopIteration):
            coroutine.send(None)
    assert seen == [False, True] * 750
    assert len(tracking._known) <= tracking.MAX_KNOWN


def test_where_there_is_no_frame_nothing_is_taken_to_be_thrown_away() -> None:
    assert not discards_result(None)
    assert not discards_result(sys._getframe())
