"""Who is there, where they listen, and whether a death is certain.

Discovery never carries an event; that is a wire's work. The two are apart so that one machine can use
a runtime directory and many machines a network protocol, with the same sockets in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgspec import Struct

__all__ = ["BlockLocks", "Descriptor", "Discovery"]


class Descriptor(Struct, frozen=True):
    """What a node lets everybody see who looks for peers."""

    node: str
    """Identifier of this run of the node, 20 hexadecimal digits: a restart is another node."""
    name: str
    """What people call it, for example ``scores-1``. Not unique."""
    address: str
    """Where it listens: ``unix:/path``, ``tcp://host:port`` or ``memory:name``."""
    services: tuple[str, ...] = ()
    pid: int = 0


class BlockLocks(Protocol):
    """Exclusive locks on one service's blocks of keys, held by at most one node of the mesh each.
    Blocks are numbered from 0 to ``thence.routing.replicas.BLOCKS`` - 1.

    They are what makes "one at a time per key" strict while replicas come and go. A lock ends with its
    holder: the death of a process frees all that it held, at once and certainly.
    """

    def acquire(self, blocks: Iterable[int]) -> set[int]:
        """Take those of ``blocks`` that are free, without waiting; return those this node now holds."""
        ...

    def release(self, blocks: Iterable[int]) -> None:
        """Give ``blocks`` back. Blocks that are not held are passed over."""
        ...


class Discovery(Protocol):
    """One node's view of its mesh."""

    def default_address(self, node: str) -> str:
        """Where a node listens in this mesh when its user named no address."""
        ...

    async def open(self, changed: Callable[[], None]) -> None:
        """Start watching. ``changed`` is called on the loop, without arguments and perhaps needlessly,
        when :meth:`peers` may have a new answer.
        """
        ...

    async def announce(self, descriptor: Descriptor) -> None:
        """Become visible. The node listens already; from now on, and until its process ends or
        :meth:`close`, it counts as alive. Every node announced later will find it.
        """
        ...

    async def withdraw(self) -> None:
        """Stop being visible to newcomers, but stay alive: the first step of a drain."""
        ...

    def peers(self) -> Sequence[Descriptor]:
        """Everybody visible and not certainly dead, apart from this node. Entries of the dead are
        removed by whoever meets them.
        """
        ...

    def is_dead(self, node: str) -> bool:
        """Whether that node is *certainly* gone. A stopped, slow or unreachable one is not."""
        ...

    def block_locks(self, service: str) -> BlockLocks:
        """The locks on that service's blocks, as seen by this node."""
        ...

    async def close(self) -> None:
        """Free all locks and count as dead from now on. Idempotent."""
        ...
