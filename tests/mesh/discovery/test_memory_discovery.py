"""Discovery in memory keeps what every discovery promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from thence.mesh.discovery.contract import Discovery
from thence.mesh.discovery.memory import MemoryDiscovery
from thence.mesh.memory import MemoryMesh
from thence.testing.conformance import DiscoveryConformance, Views


class TestMemoryDiscovery(DiscoveryConformance):
    within = 1.0

    @asynccontextmanager
    async def views(self) -> AsyncIterator[Views]:
        mesh = MemoryMesh.named("discovery")

        async def crash(node: str, _: Discovery) -> None:
            mesh.kill(node)

        yield Views(join=lambda node: MemoryDiscovery(mesh, node), crash=crash)
        assert not mesh.members, "members are left over"
        assert not any(mesh.locks.values()), "locks are left over"


class TestMemoryDiscoveryOnUvloop(TestMemoryDiscovery):
    def run(self, main: Coroutine[Any, Any, None]) -> None:
        uvloop.run(main)
