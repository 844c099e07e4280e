"""Faults that a test causes in the memory mesh, and what the nodes notice of them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from thence.identifiers import new_node_id
from thence.mesh.discovery.contract import Descriptor
from thence.mesh.discovery.memory import MemoryDiscovery
from thence.mesh.memory import MemoryMesh
from thence.mesh.wires.memory import MemoryWire
from thence.testing.conformance import eventually
from thence.testing.conformance.wire import Recorder


class Node:
    """A node that listens, and keeps the ends of its streams."""

    def __init__(self, mesh: MemoryMesh, name: str) -> None:
        self.id = new_node_id()
        self.name = name
        self.address = f"memory:{name}"
        self.accepted: list[Recorder] = []
        self.wire = MemoryWire(mesh, self.id)
        self.discovery = MemoryDiscovery(mesh, self.id)

    async def start(self) -> Node:
        await self.wire.listen(self.address, self._accept)
        await self.discovery.announce(Descriptor(self.id, self.name, self.address))
        return self

    async def dial(self, other: Node) -> tuple[Recorder, Recorder]:
        near = Recorder()
        await self.wire.dial(other.address, near)
        await eventually(lambda: other.accepted, what="a stream accepted")
        return near, other.accepted.pop()

    def _accept(self) -> Recorder:
        self.accepted.append(Recorder())
        return self.accepted[-1]


Test = Callable[[MemoryMesh, Node, Node], Coroutine[Any, Any, None]]


def with_two_nodes(test: Test) -> Callable[[], None]:
    async def main() -> None:
        mesh = MemoryMesh.named("faults")
        await test(mesh, await Node(mesh, "ana").start(), await Node(mesh, "ben").start())

    def run() -> None:
        asyncio.run(main())

    run.__name__ = test.__name__
    return run


async def ticks() -> None:
    """Time enough for anything that would happen without a delay."""
    for _ in range(10):
        await asyncio.sleep(0)


@with_two_nodes
async def test_what_is_written_in_one_tick_arrives_as_one_piece(
    mesh: MemoryMesh, ana: Node, ben: Node
) -> None:
    near, far = await ana.dial(ben)
    pieces: list[bytes] = []
    far.data_received = pieces.append  # type: ignore[method-assign]
    single = b"kept, not copied"
    near.transport.write(b"one ")
    near.transport.write(b"two")
    await ticks()
    near.transport.write(single)
    await ticks()
    assert pieces == [b"one two", single]
    assert pieces[1] is single


@with_two_nodes
async def test_a_kill_breaks_streams_frees_locks_and_is_certain(
    mesh: MemoryMesh, ana: Node, ben: Node
) -> None:
    near, far = await ana.dial(ben)
    assert ben.discovery.block_locks("scores").acquire([1]) == {1}
    far.transport.write(b"never delivered")
    mesh.kill("ben")
    assert ana.discovery.is_dead(ben.id)
    assert not ana.discovery.peers()
    assert ana.discovery.block_locks("scores").acquire([1]) == {1}
    await asyncio.gather(near.lost, far.lost)
    assert isinstance(near.losses[0], ConnectionResetError)
    assert not near.received
    assert ben.discovery.block_locks("scores").acquire([2]) == set()
    for dialling, dialled in ((ana, ben), (ben, ana)):
        with pytest.raises(ConnectionRefusedError):
            await dialling.wire.dial(dialled.address, Recorder())
    await ticks()
    assert len(near.losses) == len(far.losses) == 1
    assert not mesh.streams


@with_two_nodes
async def test_a_partition_delivers_nothing_until_it_is_healed(
    mesh: MemoryMesh, ana: Node, ben: Node
) -> None:
    near, far = await ana.dial(ben)
    mesh.partition({"ana"}, {"ben"})
    near.transport.write(b"late")
    await ticks()
    assert not far.received
    assert near.transport.get_write_buffer_size() == 4
    assert not ana.discovery.is_dead(ben.id)
    assert len(ana.discovery.peers()) == 1
    with pytest.raises(OSError, match="partition"):
        await ana.wire.dial(ben.address, Recorder())
    mesh.heal()
    await eventually(lambda: far.received == b"late")
    await ana.dial(ben)


@with_two_nodes
async def test_nodes_in_no_group_form_one_more(mesh: MemoryMesh, ana: Node, ben: Node) -> None:
    cleo = await Node(mesh, "cleo").start()
    mesh.partition([ana.id])
    await cleo.dial(ben)
    with pytest.raises(OSError, match="partition"):
        await cleo.wire.dial(ana.address, Recorder())
    mesh.partition(["ana", "ben"])
    await ana.dial(ben)
    with pytest.raises(OSError, match="partition"):
        await cleo.wire.dial(ben.address, Recorder())


@with_two_nodes
async def test_a_close_or_kill_is_not_noticed_across_a_partition(
    mesh: MemoryMesh, ana: Node, ben: Node
) -> None:
    closing, open_ = await ana.dial(ben)
    killed, left = await ana.dial(ben)
    mesh.partition(["ana"])
    closing.transport.write(b"goodbye")
    closing.transport.close()
    await closing.lost
    mesh.kill("ana")
    await killed.lost
    await ticks()
    assert not open_.losses
    assert not left.losses
    mesh.heal()
    await asyncio.gather(open_.lost, left.lost)
    assert open_.received == b"goodbye"
    assert open_.losses == [None]
    assert isinstance(left.losses[0], ConnectionResetError)


@with_two_nodes
async def test_a_stopped_node_is_silent_but_not_dead(
    mesh: MemoryMesh, ana: Node, ben: Node
) -> None:
    near, far = await ana.dial(ben)
    assert ben.discovery.block_locks("scores").acquire([1]) == {1}
    mesh.stop("ben")
    near.transport.set_write_buffer_limits(high=10)
    near.transport.write(b"more than ten bytes")
    far.transport.write(b"not while stopped")
    await ticks()
    assert not far.received
    assert not near.received
    assert near.pauses == 1
    assert not ana.discovery.is_dead(ben.id)
    assert ana.discovery.block_locks("scores").acquire([1]) == set()
    mesh.resume("ben")
    await eventually(lambda: far.received and near.received and near.resumes)


@with_two_nodes
async def test_a_dial_to_a_stopped_node_is_answered_when_it_goes_on(
    mesh: MemoryMesh, ana: Node, ben: Node
) -> None:
    mesh.stop("ben")
    near = Recorder()
    await ana.wire.dial(ben.address, near)
    near.transport.write(b"are you there?")
    await ticks()
    assert not ben.accepted
    mesh.resume("ben")
    await eventually(lambda: ben.accepted and ben.accepted[0].received == b"are you there?")


@with_two_nodes
async def test_a_stopped_node_can_be_killed(mesh: MemoryMesh, ana: Node, ben: Node) -> None:
    near, _ = await ana.dial(ben)
    mesh.stop("ben")
    unanswered = Recorder()
    await ana.wire.dial(ben.address, unanswered)
    mesh.kill("ben")
    await asyncio.gather(near.lost, unanswered.lost)
    assert ana.discovery.is_dead(ben.id)
    await ticks()
    assert not mesh.streams


@with_two_nodes
async def test_a_delay_takes_its_time_and_keeps_the_order(
    mesh: MemoryMesh, ana: Node, ben: Node
) -> None:
    loop = asyncio.get_running_loop()
    mesh.delay = 0.05
    before = loop.time()
    near, far = await ana.dial(ben)
    assert loop.time() - before >= 0.1, "a dial is there and back"
    before = loop.time()
    near.transport.write(b"1")
    await ticks()
    mesh.delay = 0.01
    near.transport.write(b"2")
    await ticks()
    mesh.delay = 0
    near.transport.write(b"3")
    near.transport.close()
    await far.lost
    assert far.received == b"123"
    assert loop.time() - before >= 0.045
    assert far.losses == [None]


@with_two_nodes
async def test_an_abort_overtakes_nothing_and_delivers_nothing(
    mesh: MemoryMesh, ana: Node, ben: Node
) -> None:
    mesh.delay = 0.005
    near, far = await ana.dial(ben)
    near.transport.write(b"under way")
    await ticks()
    near.transport.abort()
    await far.lost
    assert not far.received
    assert isinstance(far.losses[0], ConnectionResetError)


@with_two_nodes
async def test_a_protocol_that_fails_ends_its_stream_and_is_reported(
    mesh: MemoryMesh, ana: Node, ben: Node
) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    near, far = await ana.dial(ben)
    error = RuntimeError("out of luck")

    def fail(_: bytes) -> None:
        raise error

    far.data_received = fail  # type: ignore[method-assign]
    near.transport.write(b"x")
    await asyncio.gather(near.lost, far.lost)
    assert far.losses == [error]
    assert [context["exception"] for context in reported] == [error]


def test_a_node_that_is_not_there_is_named_with_those_that_are() -> None:
    async def main() -> None:
        mesh = MemoryMesh.named("names")
        await Node(mesh, "ana").start()
        with pytest.raises(
            ValueError, match=r"no node is called 'ben' in memory:names; use an id of: ana \("
        ):
            mesh.kill("ben")
        with pytest.raises(ValueError, match="2 nodes are called"):
            twin = MemoryDiscovery(mesh, new_node_id())
            await twin.announce(Descriptor(twin._node, "ana", "memory:twin"))
            mesh.stop("ana")
        with pytest.raises(TypeError, match=r"write \['ana'\]"):
            mesh.partition("ana")
        with pytest.raises(ValueError, match="0 seconds or more"):
            mesh.delay = -1

    asyncio.run(main())


def test_a_mesh_is_found_by_name_within_one_loop() -> None:
    async def main() -> weakref.ref[MemoryMesh]:
        mesh = MemoryMesh.named("here")
        assert not mesh.members, "a mesh is shared with a loop that has ended"
        assert MemoryMesh.named("here") is mesh
        assert MemoryMesh.named("there") is not mesh
        await (await Node(mesh, "ana").start()).dial(await Node(mesh, "left behind").start())
        return weakref.ref(mesh)

    first, _ = asyncio.run(main()), asyncio.run(main())
    gc.collect()
    assert first() is None, "the mesh of a loop that has ended is kept"
    with pytest.raises(RuntimeError):
        MemoryMesh.named("here")
