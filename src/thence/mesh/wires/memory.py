"""Streams within one event loop, which behave as sockets do and break when a test says so."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

from thence.errors import ConfigurationError
from thence.mesh.memory import Listener, MemoryMesh
from thence.mesh.wires.memory_stream import open_stream

__all__ = ["MemoryWire"]


class MemoryWire:
    """One node's streams in a :class:`MemoryMesh`.

    Implements :class:`thence.mesh.wires.contract.Wire`.
    """

    def __init__(self, mesh: MemoryMesh, node: str) -> None:
        self._mesh = mesh
        self._node = node
        self._listening: dict[str, Listener] = {}

    async def listen(self, address: str, accept: Callable[[], asyncio.Protocol]) -> str:
        """Accept streams at ``memory:NAME``.

        :raises ConfigurationError: the address is malformed or in use.
        """
        kind, _, name = address.partition(":")
        if kind != "memory" or not name:
            raise ConfigurationError(
                f'listen={address!r}: a node of a memory mesh listens at "memory:NAME"; leave listen out '
                "to get a free name"
            )
        if address in self._mesh.listeners:
            raise ConfigurationError(
                f"listen={address!r}: another node of memory:{self._mesh.name} listens there; "
                "leave listen out to get a free name"
            )
        listener = Listener(self._node, accept)
        self._mesh.listeners[address] = self._listening[address] = listener
        return address

    async def dial(self, address: str, protocol: asyncio.Protocol) -> None:
        """Open a stream to whoever listens at ``address``.

        :raises OSError: nobody accepts it now.
        """
        mesh = self._mesh
        await asyncio.sleep(2 * mesh.delay)
        listener = mesh.listeners.get(address)
        if listener is None or mesh.is_killed(self._node):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused", address)
        if mesh.is_parted(self._node, listener.node):
            raise OSError(errno.EHOSTUNREACH, "No route to host: the mesh is partitioned", address)
        open_stream(mesh, self._node, protocol, listener, address)

    async def close(self) -> None:
        """Stop listening."""
        for address, listener in self._listening.items():
            if self._mesh.listeners.get(address) is listener:
                del self._mesh.listeners[address]
        self._listening.clear()
