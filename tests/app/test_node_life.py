"""A node's life: starting, being there, closing, and what may not be done in between."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from thence import ConfigurationError, Context, Event, Node, NodeClosed, Service
from thence.testing import MemoryMesh, run


class Found(Event, key="player"):
    player: str


def finder(heard: list[str], name: str = "finder") -> Service:
    service = Service(name)

    @service.on(Found)
    async def note(found: Found) -> None:
        heard.append(found.player)

    return service


def test_a_node_may_be_started_in_one_task_and_closed_in_another() -> None:
    async def main() -> None:
        heard: list[str] = []
        node = Node(finder(heard), mesh="memory:tasks")
        await asyncio.create_task(node.start())
        await asyncio.create_task(_emit(node, "ana"))
        await asyncio.create_task(node.close())
        assert heard == ["ana"]

    async def _emit(node: Node, player: str) -> None:
        await node.emit(Found(player=player))

    run(main())


class Lost(Event, key="player"):
    player: str


def test_nothing_of_a_closed_node_stays_in_memory() -> None:
    nodes: list[weakref.ref[object]] = []

    async def main() -> None:
        service, mesh = Service("finder"), "memory:forgotten"

        @service.on(Found)
        async def note(found: Found, ctx: Context) -> None:
            if found.player == "bob":
                await asyncio.sleep(0)

        @service.on(Lost)
        async def note_too(lost: Lost) -> None: ...

        async with Node(service, mesh=mesh) as one, Node(mesh=mesh) as two:
            for node in (one, two):
                await node.emit(Found(player="ana"))
                await node.emit(Found(player="bob"))
                await node.emit(Lost(player="ana"))
            await asyncio.sleep(1)
            nodes.extend(
                weakref.ref(node._runtime.hosting.dispatcher)  # type: ignore[union-attr]
                for node in (one, two)
            )

    async def another() -> None:
        async with Node(mesh="memory:another"):
            ...

    run(main())
    run(another())
    gc.collect()
    assert [node() for node in nodes] == [None, None]


def test_a_node_that_is_not_running_says_what_to_do() -> None:
    async def main() -> None:
        node = Node(mesh="memory:states")
        with pytest.raises(NodeClosed, match="async with Node"):
            await node.emit(Found(player="ana"))
        with pytest.raises(NodeClosed, match="not started"):
            node.report()
        await node.start()
        with pytest.raises(NodeClosed, match="make a new Node"):
            await node.start()
        await node.close()
        with pytest.raises(NodeClosed, match="make a new Node"):
            await node.emit(Found(player="ana"))
        with pytest.raises(NodeClosed, match="make a new Node"):
            await node.start()

    run(main())


def test_closing_twice_or_before_the_start_harms_nothing() -> None:
    async def main() -> None:
        never = Node(mesh="memory:closing")
        await never.close()
        with pytest.raises(NodeClosed):
            await never.start()
        node = Node(mesh="memory:closing")
        await node.start()
        await asyncio.gather(node.close(), node.close())
        await node.close()
        assert not MemoryMesh.named("closing").members

    run(main())


def test_whoever_gives_up_waiting_for_a_close_does_not_stop_it() -> None:
    async def main() -> None:
        service = Service("slow")
        ended: list[str] = []

        @service.on(Found)
        async def note(found: Found) -> None:
            await asyncio.sleep(2)
            ended.append(found.player)

        node = Node(service, mesh="memory:patience")
        await node.start()
        await node.emit(Found(player="ana"))
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(node.close(), 0.5)
        await node.close()
        assert ended == ["ana"]

    run(main())


def test_entering_returns_once_the_peers_already_there_have_been_met() -> None:
    async def main() -> None:
        heard: list[str] = []
        async with Node(finder(heard), mesh="memory:meeting"), Node(mesh="memory:meeting") as node:
            receipt = await node.emit(Found(player="ana"))
            assert receipt.targets == ("finder",)

    run(main())


def test_a_peer_that_does_not_answer_holds_up_a_start_for_a_second_at_most() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard: list[str] = []
        silent = Node(finder(heard), mesh="memory:silent", name="silent")
        await silent.start()
        mesh = MemoryMesh.named("silent")
        mesh.stop("silent")
        began = loop.time()
        async with Node(mesh="memory:silent") as node:
            assert 0 < loop.time() - began <= 1.1
            assert (await node.emit(Found(player="ana"))).targets == ()
        mesh.resume("silent")
        await silent.close()

    run(main())


def test_nothing_reaches_a_service_before_it_is_ready() -> None:
    async def main() -> None:
        heard: list[str] = []
        during: list[int] = []
        service = finder(heard)

        @asynccontextmanager
        async def slowly(node: Node) -> AsyncGenerator[None]:
            await asyncio.sleep(3)
            during.append(len(heard))
            yield

        service.lifespan = slowly
        async with Node(mesh="memory:ready") as emitter:
            starting = asyncio.create_task((node := Node(service, mesh="memory:ready")).start())
            await asyncio.sleep(1)
            early = await emitter.emit(Found(player="early"))
            await starting
            await asyncio.sleep(0.1)
            late = await emitter.emit(Found(player="late"))
            await asyncio.sleep(0.1)
            await node.close()
        assert (early.targets, late.targets) == ((), ("finder",))
        assert during == [0]
        assert heard == ["late"]

    run(main())


@pytest.mark.parametrize(
    ("services", "said"),
    [
        ((Service("twin"), Service("twin")), "share a name"),
        (("scores",), "pass Service objects"),
    ],
)
def test_what_can_not_be_hosted_is_refused_at_once(
    services: tuple[Service, ...], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Node(*services, mesh="memory:refused")


def test_a_start_that_fails_leaves_nothing_behind() -> None:
    async def main() -> None:
        left: list[str] = []

        @asynccontextmanager
        async def fine(node: Node) -> AsyncGenerator[None]:
            yield
            left.append("fine")

        @asynccontextmanager
        async def failing(node: Node) -> AsyncGenerator[None]:
            raise OSError("no database")
            yield

        first = Service("first", lifespan=fine)
        second = Service("second", lifespan=failing)
        node = Node(first, second, mesh="memory:failing")
        with pytest.raises(OSError, match="no database"):
            await node.start()
        assert left == ["fine"]
        mesh = MemoryMesh.named("failing")
        assert not mesh.members
        assert not mesh.listeners
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(NodeClosed):
            await node.emit(Found(player="ana"))

    run(main())


def test_a_node_closed_while_it_starts_says_so_to_whoever_started_it() -> None:
    async def main() -> None:
        @asynccontextmanager
        async def endless(node: Node) -> AsyncGenerator[None]:
            await asyncio.sleep(1000)
            yield

        node = Node(Service("slow", lifespan=endless), mesh="memory:impatient")
        starting = asyncio.create_task(node.start())
        await asyncio.sleep(2)
        await node.close()
        with pytest.raises(NodeClosed, match="closed"):
            await starting
        assert not MemoryMesh.named("impatient").members

    run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_node_is_refused_in_a_forked_child_and_goes_on_in_its_parent(tmp_path: Path) -> None:
    async def main() -> None:
        heard: list[str] = []
        async with Node(finder(heard), mesh=f"local:{tmp_path}") as node:
            pid = os.fork()
            if pid == 0:
                try:
                    _in_the_child(node)
                finally:
                    os.kill(os.getpid(), signal.SIGKILL)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            await node.emit(Found(player="ana"))
            async with asyncio.timeout(20):
                while not heard:
                    await asyncio.sleep(0.01)

    asyncio.run(main())


def _in_the_child(node: Node) -> None:
    try:
        node.emit(Found(player="ana"))
    except NodeClosed as error:
        os._exit(0 if "start a Node of its own" in str(error) else 1)
    os._exit(2)


def test_what_a_lifespan_yields_is_the_state_of_every_handler_of_its_service() -> None:
    async def main() -> None:
        seen: list[tuple[str, object]] = []

        @asynccontextmanager
        async def counting(node: Node) -> AsyncGenerator[dict[str, str]]:
            yield {"node": node.name}

        scores = Service("scores", lifespan=counting)
        ranks = Service("ranks")
        for service in (scores, ranks):

            @service.on(Found, name="note")
            async def note(found: Found, ctx: Context, name: str = service.name) -> None:
                seen.append((name, ctx.state))

        async with Node(scores, ranks, mesh="memory:state", name="both") as node:
            await node.emit(Found(player="ana"))
            await asyncio.sleep(0.1)
        assert sorted(seen, key=str) == [("ranks", None), ("scores", {"node": "both"})]

    run(main())


def test_a_lifespan_with_a_task_group_is_entered_and_left_in_one_task() -> None:
    async def main() -> None:
        beats: list[float] = []

        @asynccontextmanager
        async def beating(node: Node) -> AsyncGenerator[None]:
            async def beat() -> None:
                while True:
                    beats.append(asyncio.get_running_loop().time())
                    await asyncio.sleep(1)

            async with asyncio.TaskGroup() as group:
                task = group.create_task(beat())
                yield
                task.cancel()

        node = Node(Service("heart", lifespan=beating), mesh="memory:beating")
        await asyncio.create_task(node.start())
        await asyncio.sleep(3.5)
        await asyncio.create_task(node.close())
        assert len(beats) == 4

    run(main())


def test_lifespans_are_left_in_reverse_and_one_that_fails_keeps_no_other_from_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        course: list[str] = []

        def living(name: str, *, fail: bool = False) -> Service:
            @asynccontextmanager
            async def lifespan(node: Node) -> AsyncGenerator[None]:
                course.append(f"enter {name}")
                yield
                course.append(f"leave {name}")
                if fail:
                    raise RuntimeError("the database has gone")

            return Service(name, lifespan=lifespan)

        services = living("a"), living("b", fail=True), living("c")
        async with Node(*services, mesh="memory:reverse"):
            pass
        assert course == [
            *("enter a", "enter b", "enter c"),
            *("leave c", "leave b", "leave a"),
        ]

    run(main())
    assert "a lifespan failed while it was left" in caplog.text
    assert "the database has gone" in caplog.text
