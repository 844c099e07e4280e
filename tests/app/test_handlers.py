"""What handlers may look like, what they give back, and what becomes of them when they fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from thence import ConfigurationError, Context, Event, Handlers, Node, Service
from thence.testing import run


class Found(Event, key="player"):
    player: str
    clue: int = 0


class Scored(Event, key="player", private=["points"]):
    player: str
    points: int


async def one(found: Found) -> Scored:
    return Scored(player=found.player, points=1)


async def a_list(found: Found, ctx: Context) -> list[Scored]:
    return [Scored(player=found.player, points=n) for n in (1, 2)]


async def perhaps(found: Found) -> Scored | None:
    return None


async def yielding(found: Found) -> AsyncIterator[Scored]:
    yield Scored(player=found.player, points=1)
    await asyncio.sleep(0.01)
    yield Scored(player=found.player, points=2)


def in_a_thread(found: Found) -> Scored:
    return Scored(player=found.player, points=1)


def generating(found: Found) -> Iterator[Scored]:
    yield Scored(player=found.player, points=1)
    yield Scored(player=found.player, points=2)


async def by_context(found: Found, ctx: Context) -> Scored:
    ctx.emit(Scored(player=found.player, points=1))
    return Scored(player=found.player, points=2)


def playing(handlers: Handlers, *events: Event) -> tuple[list[int], dict[str, Any]]:
    """The points that were heard of, and the handlers' reports, after these events."""
    heard: list[int] = []
    service = Service("scores")
    service.include(handlers)
    ranks = Service("ranks")

    @ranks.on(Scored)
    async def note(scored: Scored) -> None:
        heard.append(scored.points)

    async def main() -> dict[str, Any]:
        async with Node(service, mesh="memory:playing") as node, Node(ranks, mesh="memory:playing"):
            await asyncio.sleep(0.1)
            for event in events:
                await node.emit(event)
            await asyncio.sleep(60)
            return {report.handler: report for report in node.report().handlers}

    reports = run(main())
    return heard, reports


@pytest.mark.parametrize(
    ("function", "points"),
    [
        (one, [1]),
        (a_list, [1, 2]),
        (perhaps, []),
        (yielding, [1, 2]),
        (in_a_thread, [1]),
        (generating, [1, 2]),
        (by_context, [1, 2]),
    ],
)
def test_whatever_a_handler_gives_back_is_emitted_in_its_order(
    function: Callable[..., Any], points: list[int]
) -> None:
    handlers = Handlers()
    assert handlers.on(Found)(function) is function
    heard, reports = playing(handlers, Found(player="ana"))
    assert heard == points
    assert reports[function.__name__].handled == 1


def test_a_handler_that_fails_is_logged_with_its_ids_and_harms_no_later_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handlers = Handlers()

    @handlers.on(Found)
    async def award(found: Found, ctx: Context) -> Scored:
        ctx.emit(Scored(player=found.player, points=-1))
        if found.clue == 1:
            raise ValueError("no such clue")
        return Scored(player=found.player, points=found.clue)

    heard, reports = playing(handlers, *(Found(player="ana", clue=clue) for clue in range(3)))
    assert heard == [-1, 0, -1, 2], "what a failed run has emitted leaves with nothing"
    assert (reports["award"].handled, reports["award"].failed) == (2, 1)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    said = record.getMessage()
    assert "handler award of service scores failed on found" in said
    assert "root" in said


def test_several_handlers_of_one_event_run_separately() -> None:
    handlers = Handlers()

    @handlers.on(Found)
    async def failing(found: Found) -> None:
        raise ValueError("not today")

    @handlers.on(Found)
    async def award(found: Found) -> Scored:
        return Scored(player=found.player, points=7)

    heard, reports = playing(handlers, Found(player="ana"))
    assert heard == [7]
    assert (reports["failing"].failed, reports["award"].handled) == (1, 1)


@pytest.mark.parametrize("way", ["returned", "emitted"])
def test_a_type_that_is_not_declared_is_not_emitted_and_the_error_says_where_to_name_it(
    caplog: pytest.LogCaptureFixture, way: str
) -> None:
    handlers = Handlers()

    @handlers.on(Found)
    async def sly(found: Found, ctx: Context) -> Any:
        event = Scored(player=found.player, points=1)
        if way == "returned":
            return event
        ctx.emit(event)
        return None

    heard, reports = playing(handlers, Found(player="ana"))
    assert heard == []
    assert reports["sly"].failed == 1
    assert "emits=[Scored]" in caplog.text


def test_values_of_private_fields_are_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    handlers = Handlers()

    @handlers.on(Scored)
    async def failing(scored: Scored) -> None:
        raise ValueError("not today")

    @handlers.on(Found)
    async def wrong(found: Found) -> Scored:
        value: Any = "secret-82451"
        return Scored(player=found.player, points=value)

    playing(handlers, Scored(player="ana", points=82451), Found(player="ana"))
    assert "not today" in caplog.text
    assert "82451" not in caplog.text


def test_a_consequence_tells_whence_it_came_over_three_nodes() -> None:
    async def main() -> None:
        contexts: dict[str, Context] = {}
        scores, ranks = Service("scores"), Service("ranks")

        @scores.on(Found)
        async def award(found: Found, ctx: Context) -> Scored:
            contexts["scores"] = ctx
            return Scored(player=found.player, points=1)

        @ranks.on(Scored)
        async def rank(scored: Scored, ctx: Context) -> None:
            contexts["ranks"] = ctx

        async with (
            Node(scores, mesh="memory:three"),
            Node(ranks, mesh="memory:three"),
            Node(mesh="memory:three", name="kiosk") as kiosk,
        ):
            receipt = await kiosk.emit(Found(player="ana"))
            await asyncio.sleep(0.1)
        first, second = contexts["scores"], contexts["ranks"]
        assert receipt.event_id == first.event_id == first.root_id == second.root_id
        assert (first.cause_id, second.cause_id) == (None, first.event_id)
        assert second.event_id not in (first.event_id, None)
        assert (first.depth, second.depth) == (0, 1)
        assert (first.source, second.source) == ("kiosk", "scores")

    run(main())


def test_two_handlers_of_one_name_are_refused_and_a_name_tells_them_apart() -> None:
    group = Handlers()
    group.on(Found)(one)
    service = Service("scores")
    service.on(Found)(one)
    with pytest.raises(ConfigurationError, match="name="):
        service.include(group)
    other = Handlers()
    other.on(Found, name="second")(one)
    service.include(other)
    assert [handler.name for handler in service.handlers] == ["one", "second"]


def test_a_handler_s_name_has_to_fit_into_paths_and_reports() -> None:
    service = Service("service")
    with pytest.raises(ConfigurationError, match="128 characters.*name="):
        service.on(Found, name="x" * 129)(one)
    service.on(Found, name="x" * 128)(one)


@pytest.mark.parametrize(
    "policy",
    [
        {"queue": 0},
        {"concurrency": 0},
        {"concurrency": 2.5},
        {"timeout": "soon"},
        {"timeout": -1},
        {"emits": [int]},
        {"broadcast": "yes"},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_where_it_is_written(policy: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(policy))):
        Service("scores").on(Found, **policy)


def test_a_handler_whose_parameters_do_not_fit_is_refused() -> None:
    def none() -> None: ...
    def many(found: Found, ctx: Context, more: int) -> None: ...

    for function in (none, many):
        with pytest.raises(ConfigurationError, match=function.__name__):
            Service("scores").on(Found)(function)  # type: ignore[arg-type]


def test_a_handler_may_use_a_name_that_gets_its_value_only_with_the_node() -> None:
    async def main() -> None:
        service = Service("scores")
        heard = asyncio.Event()

        @service.on(Found, emits=[Scored])
        async def award(found: Found) -> None:
            await node.emit(Scored(player=found.player, points=1))

        @service.on(Scored)
        async def hear(scored: Scored) -> None:
            heard.set()

        async with Node(service, mesh="memory:late-names") as node:
            await node.emit(Found(player="ana"))
            async with asyncio.timeout(5):
                await heard.wait()

    run(main())
