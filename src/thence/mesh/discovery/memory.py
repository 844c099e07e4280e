"""Discovery within one event loop: the registry is a dictionary, and a death is always certain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from thence.mesh.discovery.contract import Descriptor
from thence.mesh.memory import MemoryMesh

__all__ = ["MemoryBlockLocks", "MemoryDiscovery"]


class MemoryBlockLocks:
    """One node's locks on one service's blocks.

    Implements :class:`thence.mesh.discovery.contract.BlockLocks`.
    """

    def __init__(self, mesh: MemoryMesh, service: str, node: str) -> None:
        self._gone = mesh.gone
        self._holders = mesh.locks.setdefault(service, {})
        self._node = node

    def acquire(self, blocks: Iterable[int]) -> set[int]:
        """Take those of ``blocks`` that are free; return those this node now holds."""
        if self._node in self._gone:
            return set()
        holders, node = self._holders, self._node
        return {block for block in blocks if holders.setdefault(block, node) == node}

    def release(self, blocks: Iterable[int]) -> None:
        """Give back those of ``blocks`` that this node holds."""
        holders = self._holders
        for block in blocks:
            if holders.get(block) == self._node:
                del holders[block]


class MemoryDiscovery:
    """One node's view of a :class:`MemoryMesh`.

    Implements :class:`thence.mesh.discovery.contract.Discovery`.
    """

    def __init__(self, mesh: MemoryMesh, node: str) -> None:
        self._mesh = mesh
        self._node = node
        self._locks: dict[str, MemoryBlockLocks] = {}
        self._peers: tuple[Descriptor, ...] = ()
        self._version = -1

    def default_address(self, node: str) -> str:
        """Where a node listens when its user named no address."""
        return f"memory:{node}"

    async def open(self, changed: Callable[[], None]) -> None:
        """Start watching."""
        self._mesh.watch(self._node, changed)

    async def announce(self, descriptor: Descriptor) -> None:
        """Become visible."""
        self._mesh.enter(descriptor)

    async def withdraw(self) -> None:
        """Stop being visible, but stay alive."""
        self._mesh.hide(self._node)

    def peers(self) -> Sequence[Descriptor]:
        """Everybody visible, apart from this node."""
        mesh = self._mesh
        if self._version != mesh.version:
            self._version = mesh.version
            self._peers = tuple(
                member.descriptor
                for node, member in mesh.members.items()
                if member.visible and node != self._node
            )
        return self._peers

    def is_dead(self, node: str) -> bool:
        """Whether that node is gone."""
        return node not in self._mesh.members

    def block_locks(self, service: str) -> MemoryBlockLocks:
        """The locks on that service's blocks."""
        if service not in self._locks:
            self._locks[service] = MemoryBlockLocks(self._mesh, service, self._node)
        return self._locks[service]

    async def close(self) -> None:
        """Free all locks and count as dead."""
        self._mesh.leave(self._node)
