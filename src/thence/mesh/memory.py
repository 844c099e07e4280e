"""A whole mesh inside one event loop, whose accidents can be caused on purpose.

What a process, a kernel and a network do to a node (a kill, a stop, a partition, a slow line)
decides whether a distributed program is right, and none of it can be waited for in a test. Here
each is one call. Nodes join with ``mesh="memory:NAME"``; a test takes hold of the same mesh with
:meth:`MemoryMesh.named`.

This module knows who is there and who may talk to whom. :mod:`thence.mesh.discovery.memory` and
:mod:`thence.mesh.wires.memory` are a node's two views of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import ClassVar, Protocol
from weakref import WeakKeyDictionary

from msgspec import Struct

from thence.mesh.discovery.contract import Descriptor

__all__ = ["Listener", "Member", "MemoryMesh", "StreamEnd"]


class StreamEnd(Protocol):
    """One end of an open stream, as the mesh sees it."""

    node: str

    def refresh(self) -> None:
        """Who may talk to whom has changed."""
        ...

    def break_off(self) -> None:
        """End at once, as the streams of a process that is killed."""
        ...


class Listener(Struct, frozen=True):
    """Where a node accepts streams."""

    node: str
    accept: Callable[[], asyncio.Protocol]


class Member(Struct):
    """A node that has announced itself and has not died."""

    descriptor: Descriptor
    visible: bool = True


class MemoryMesh:
    """Nodes of one event loop that find and reach each other, with faults on request.

    A node is given by its id or, where only one living node has it, by its name.
    """

    _by_loop: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, MemoryMesh]]] = (
        WeakKeyDictionary()
    )

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.members: dict[str, Member] = {}
        self.listeners: dict[str, Listener] = {}
        self.streams: set[StreamEnd] = set()
        self.locks: dict[str, dict[int, str]] = {}
        """By service and block, the node that holds the lock."""
        self.gone: set[str] = set()
        """Nodes that were killed or have closed; ids are never used twice."""
        self.version = 0
        """Counts the changes of who is visible."""
        self._delay = 0.0
        self._killed: set[str] = set()
        self._stopped: set[str] = set()
        self._groups: dict[str, int] = {}
        self._watchers: dict[str, Callable[[], None]] = {}
        self._telling = False

    @classmethod
    def named(cls, name: str) -> MemoryMesh:
        """The mesh of that name in the running event loop, made when there is none.

        Another loop's mesh of the same name is another mesh: tests can't meet by accident.

        :raises RuntimeError: no event loop is running.
        """
        loop = asyncio.get_running_loop()
        # What nodes leave behind refers to their loop, which would keep the entry of an ended loop alive.
        for ended in [known for known in cls._by_loop if known.is_closed()]:
            del cls._by_loop[ended]
        meshes = cls._by_loop.setdefault(loop, {})
        if name not in meshes:
            meshes[name] = cls(name)
        return meshes[name]

    def __repr__(self) -> str:
        return f"<MemoryMesh memory:{self.name} with {len(self.members)} nodes>"

    # -- faults

    @property
    def delay(self) -> float:
        """Seconds that bytes are under way, in one direction. A dial takes twice as long."""
        return self._delay

    @delay.setter
    def delay(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"a delay is 0 seconds or more, not {seconds}")
        self._delay = seconds

    def kill(self, node: str) -> None:
        """End a node as ``kill -9`` does.

        Its streams break, and what was not delivered is lost; its locks are free; it is certainly dead. Its objects
        are still there, but reach nobody any more.
        """
        node = self._resolve(node)
        self._killed.add(node)
        self._stopped.discard(node)
        for address in [at for at, listener in self.listeners.items() if listener.node == node]:
            del self.listeners[address]
        for end in [end for end in self.streams if end.node == node]:
            end.break_off()
        self.leave(node)
        self._refresh()

    def partition(self, *groups: Iterable[str]) -> None:
        """Let nodes reach only those of their own group; nodes in no group form one more.

        Between groups streams deliver nothing, not even their end, and dials fail; what was written is delivered
        after :meth:`heal`. Nobody is dead, and locks and visibility are not affected: what fails is the network, not
        the registry. A second partition replaces the first.
        """
        numbered: dict[str, int] = {}
        for number, group in enumerate(groups, start=1):
            if isinstance(group, str):
                raise TypeError(f"a group is a set or list of nodes: write [{group!r}]")
            for node in map(self._resolve, group):
                if numbered.setdefault(node, number) != number:
                    raise ValueError(
                        f"{node} is in two groups; a node belongs to one side of a partition"
                    )
        self._groups = numbered
        self._refresh()

    def heal(self) -> None:
        """End the partition."""
        self._groups = {}
        self._refresh()

    def stop(self, node: str) -> None:
        """Freeze a node's streams as SIGSTOP does: bytes to it and from it wait.

        It keeps its locks and is not dead; dials to it succeed, as a kernel accepts for a process.
        """
        self._stopped.add(self._resolve(node))
        self._refresh()

    def resume(self, node: str) -> None:
        """Let a stopped node go on, as SIGCONT does."""
        self._stopped.discard(self._resolve(node))
        self._refresh()

    def is_killed(self, node: str) -> bool:
        """Whether :meth:`kill` has ended that node."""
        return node in self._killed

    def is_stopped(self, node: str) -> bool:
        """Whether that node is stopped now."""
        return node in self._stopped

    def is_parted(self, one: str, other: str) -> bool:
        """Whether a partition keeps these two nodes from each other."""
        return self._groups.get(one) != self._groups.get(other)

    # -- the registry: what a node's discovery does

    def enter(self, descriptor: Descriptor) -> None:
        """Make a node visible."""
        if descriptor.node in self.gone:
            raise RuntimeError(
                f"{descriptor.name} was killed or closed: a new run needs a new node id"
            )
        self.members[descriptor.node] = Member(descriptor)
        self._changed()

    def hide(self, node: str) -> None:
        """Make a node invisible; it stays alive."""
        member = self.members.get(node)
        if member is not None:
            member.visible = False
            self._changed()

    def leave(self, node: str) -> None:
        """Make a node dead, and free its locks."""
        self.gone.add(node)
        self._watchers.pop(node, None)
        for holders in self.locks.values():
            for block in [block for block, holder in holders.items() if holder == node]:
                del holders[block]
        if self.members.pop(node, None) is not None:
            self._changed()

    def watch(self, node: str, changed: Callable[[], None]) -> None:
        """Call ``changed`` after changes of who is visible, once per tick of the loop."""
        self._watchers[node] = changed

    def _changed(self) -> None:
        self.version += 1
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        for changed in list(self._watchers.values()):
            changed()

    def _refresh(self) -> None:
        for end in list(self.streams):
            end.refresh()

    def _resolve(self, node: str) -> str:
        if (
            node in self.members
            or node in self.gone
            or any(end.node == node for end in self.streams)
        ):
            return node
        if any(listener.node == node for listener in self.listeners.values()):
            return node
        names = [
            member.descriptor.node
            for member in self.members.values()
            if member.descriptor.name == node
        ]
        if len(names) == 1:
            return names[0]
        there = ", ".join(
            f"{m.descriptor.name} ({m.descriptor.node})" for m in self.members.values()
        )
        wrong = f"{len(names)} nodes are called" if names else "no node is called"
        raise ValueError(
            f"{wrong} {node!r} in memory:{self.name}; use an id of: {there or 'nobody is there'}"
        )
