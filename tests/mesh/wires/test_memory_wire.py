"""The memory wire keeps what every wire promises."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from thence.identifiers import new_node_id
from thence.mesh.memory import MemoryMesh
from thence.mesh.wires.memory import MemoryWire
from thence.testing.conformance import WireConformance, Wires, eventually


class TestMemoryWire(WireConformance):
    malformed = (
        *WireConformance.malformed,
        "memory:",
        "memory",
        "unix:/tmp/x",
        "tcp://localhost:0",
    )
    delay = 0.0

    @asynccontextmanager
    async def wires(self) -> AsyncIterator[Wires]:
        mesh = MemoryMesh.named("wires")
        mesh.delay = self.delay
        numbers = itertools.count()
        yield Wires(
            make=lambda: MemoryWire(mesh, new_node_id()),
            address=lambda: f"memory:{next(numbers)}",
        )
        assert not mesh.listeners, "listeners are left over"
        await eventually(lambda: not mesh.streams, what="the end of all streams")


class TestMemoryWireOnUvloop(TestMemoryWire):
    def run(self, main: Coroutine[Any, Any, None]) -> None:
        uvloop.run(main)


class TestMemoryWireWithDelay(TestMemoryWire):
    delay = 0.002


class TestMemoryWireInDebugMode(TestMemoryWire):
    def run(self, main: Coroutine[Any, Any, None]) -> None:
        asyncio.run(main, debug=True)
