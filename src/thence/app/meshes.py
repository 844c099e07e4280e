"""The one place where a mesh's name becomes its discovery and its wires."""

from __future__ import annotations

from collections.abc import Callable

from thence.errors import ConfigurationError
from thence.mesh.discovery.contract import Discovery
from thence.mesh.wires.contract import Wire

__all__ = ["open_mesh"]


def open_mesh(mesh: str, node: str) -> tuple[Discovery, Callable[[str], Wire]]:
    """The discovery of ``mesh`` for that node, and a function from an address to the wire that reaches it.

    :raises ConfigurationError: there is no such kind of mesh.
    """
    kind, _, rest = mesh.partition(":")
    if kind == "memory" and rest:
        from thence.mesh.discovery.memory import MemoryDiscovery
        from thence.mesh.memory import MemoryMesh
        from thence.mesh.wires.memory import MemoryWire

        shared = MemoryMesh.named(rest)
        memory_wire = MemoryWire(shared, node)
        return MemoryDiscovery(shared, node), lambda _: memory_wire
    if kind == "local" and (rest or mesh == "local"):
        from thence.mesh.discovery.local import LocalDiscovery
        from thence.mesh.wires.socket import SocketWire

        socket_wire = SocketWire()
        return LocalDiscovery(rest or None, node), lambda _: socket_wire
    raise ConfigurationError(
        f'mesh={mesh!r}: use "local" (this machine), "local:PATH" (a mesh of its own in that directory) or '
        '"memory:NAME" (within one process, for tests)'
    )
