"""What tests of cascades share: nodes that start and end together, who is still waited for, what is on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count

import pytest

from thence import Node
from thence.mesh.frames import MESSAGE, FrameReader
from thence.mesh.link import Link
from thence.mesh.messages import Message, decode_message

_meshes = count()


def new_mesh() -> str:
    """A mesh that nobody else is in."""
    return f"memory:cascade-{next(_meshes)}"


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    """Start nodes one after the other, so that each knows those before it, and close them in the end."""
    try:
        for node in nodes:
            await node.start()
        await meet(*nodes)
        yield
    finally:
        for node in reversed(nodes):
            await node.close()


async def meet(*nodes: Node) -> None:
    """Wait until every node can send to every other, which it can't in the moment of a start."""
    async with asyncio.timeout(60):
        while not all(len(node.report().peers) >= len(nodes) - 1 for node in nodes):
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.001)


def followed(*nodes: Node) -> int:
    """How much these nodes wait for on behalf of tracked cascades: 0 as soon as all have ended."""
    waiting = 0
    for node in nodes:
        runtime = node._runtime
        assert runtime is not None
        waiting += len(runtime.branches)
        waiting += sum(
            len(outlet.children)
            for target in runtime.table.targets()
            for outlet in target.outlets.values()
        )
        waiting += sum(len(link.to_track) for link in runtime.peers.links.values())
    return waiting


@contextmanager
def tapped_wire(patch: pytest.MonkeyPatch) -> Iterator[list[Message]]:
    """Every message that any link hears meanwhile."""
    heard: list[Message] = []
    readers: dict[int, FrameReader] = {}
    plain = Link.data_received

    def listen(link: Link, data: bytes) -> None:
        reader = readers.setdefault(id(link), FrameReader())
        for kind, body in reader.feed(bytes(data)):
            if kind == MESSAGE:
                with suppress(Exception):
                    heard.append(decode_message(body))
        plain(link, data)

    with patch.context() as patched:
        patched.setattr(Link, "data_received", listen)
        yield heard
