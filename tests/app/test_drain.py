"""Leaving in good order: what is here is finished, what comes is refused, and there is an end to it."""

from __future__ import annotations

import asyncio

import pytest

from thence import Event, Node, NodeClosed, Service
from thence.testing import run


class Found(Event, key="player"):
    player: str


class Scored(Event, key="player"):
    player: str


def scores(seconds: float) -> Service:
    service = Service("scores")

    @service.on(Found)
    async def award(found: Found) -> Scored:
        await asyncio.sleep(seconds)
        return Scored(player=found.player)

    return service


def ranks(heard: list[str]) -> Service:
    service = Service("ranks")

    @service.on(Scored)
    async def note(scored: Scored) -> None:
        heard.append(scored.player)

    return service


def test_runs_in_flight_are_finished_and_their_consequences_leave() -> None:
    async def main() -> None:
        heard: list[str] = []
        async with Node(ranks(heard), mesh="memory:finish"), Node(mesh="memory:finish") as emitter:
            leaving = Node(scores(3), mesh="memory:finish")
            await leaving.start()
            await asyncio.sleep(0.1)
            for player in ("ana", "bo", "cy"):
                await emitter.emit(Found(player=player))
            await asyncio.sleep(0.1)
            await leaving.close()
            await asyncio.sleep(0.1)
            assert emitter.report().lost == ()
        assert sorted(heard) == ["ana", "bo", "cy"]

    run(main())


def test_consequences_are_handled_in_the_node_that_drains_when_it_hosts_their_service() -> None:
    async def main() -> None:
        heard: list[str] = []
        node = Node(scores(2), ranks(heard), mesh="memory:monolith")
        await node.start()
        await node.emit(Found(player="ana"))
        await asyncio.sleep(0.1)
        await node.close()
        assert heard == ["ana"]

    run(main())


def test_a_draining_node_takes_no_new_roots() -> None:
    async def main() -> None:
        node = Node(scores(2), mesh="memory:draining")
        await node.start()
        await node.emit(Found(player="ana"))
        await asyncio.sleep(0.1)
        closing = asyncio.create_task(node.close())
        await asyncio.sleep(0.1)
        with pytest.raises(NodeClosed, match="closing"):
            await node.emit(Found(player="bo"))
        await closing

    run(main())


def test_peers_send_a_draining_node_nothing_new_and_turn_to_another_replica() -> None:
    async def main() -> None:
        heard: list[str] = []
        async with Node(ranks(heard), mesh="memory:turning"), Node(mesh="memory:turning") as node:
            old = Node(scores(2), mesh="memory:turning", name="old")
            new = Node(scores(0), mesh="memory:turning", name="new")
            await old.start()
            await asyncio.sleep(0.1)
            for number in range(5):
                await node.emit(Found(player=f"p{number}"))
            await new.start()
            await asyncio.sleep(0.1)
            closing = asyncio.create_task(old.close())
            await asyncio.sleep(0.1)
            for number in range(5, 20):
                assert (await node.emit(Found(player=f"p{number}"))).targets == ("scores",)
            await closing
            await asyncio.sleep(1)
            assert node.report().lost == ()
            await new.close()
        assert sorted(heard) == sorted(f"p{number}" for number in range(20))

    run(main())


def test_what_still_runs_after_four_seconds_is_cancelled_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard: list[str] = []
        async with Node(ranks(heard), mesh="memory:cancelled"):
            node = Node(scores(100), mesh="memory:cancelled")
            await node.start()
            await node.emit(Found(player="ana"))
            await asyncio.sleep(0.1)
            began = loop.time()
            await node.close()
            assert 4 <= loop.time() - began <= 5
            (handler,) = node.report().handlers
            assert (handler.handled, handler.failed, handler.in_flight) == (0, 1, 0)
            await asyncio.sleep(0.1)
        assert heard == []

    run(main())


def test_a_handler_deaf_to_cancellation_does_not_keep_the_node() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        service = Service("deaf")
        over = False

        @service.on(Found)
        async def deaf(found: Found) -> None:
            while not over:
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    continue

        node = Node(service, mesh="memory:deaf")
        await node.start()
        await node.emit(Found(player="ana"))
        await asyncio.sleep(0.1)
        began = loop.time()
        await node.close()
        assert loop.time() - began <= 5
        over = True

    run(main())
