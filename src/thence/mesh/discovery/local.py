"""Discovery on one machine: a runtime directory is the registry, and locks tell who lives.

Nothing has to run for it, and nothing is left behind that the next node would not clean up. Changes
are noticed by looking at the directory's time of change, twice a second: a newcomer makes itself
known by knocking at everybody, so that time matters to nobody. The dead without a connection are
found by their locks; each node looks at its next few neighbours only, and at everybody when one of
them had died, so the work does not grow with the square of the mesh.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
import os
import time
from collections.abc import Callable, Sequence

from thence.mesh.discovery.block_locks import BLOCK_FILES, FileBlockLocks, remove_unused
from thence.mesh.discovery.contract import Descriptor
from thence.mesh.discovery.entries import (
    LEAVING,
    NEW,
    VISIBLE,
    Entry,
    Lock,
    is_node_id,
    probe,
    read,
)
from thence.mesh.discovery.runtime_directory import make_socket_path, runtime_directory

__all__ = ["LocalDiscovery"]

logger = logging.getLogger("thence.mesh")

LOOK = 0.5
"""Seconds between looks at the directory's time of change."""

PROBE = 2.0
"""Seconds between looks at the neighbours' locks."""

NEIGHBOURS = 8
"""How many neighbours each node looks at."""

TOUCH = 3600.0
"""Seconds between signs to programs that remove old files from temporary directories."""

COARSE = 2_000_000_000
"""Nanoseconds within which two changes of a directory may bear the same time, on any file
system."""


class LocalDiscovery:
    """One node's view of the mesh in a runtime directory.

    Implements :class:`thence.mesh.discovery.contract.Discovery`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        node: str,
        *,
        look: float = LOOK,
        probe: float = PROBE,
    ) -> None:
        """A view for ``node`` of the mesh at ``path``, or of this user's default one.

        :raises ConfigurationError: the directory can't be made, or somebody else could write to it.
        """
        if not is_node_id(node):
            raise ValueError(
                f"a node id has 1 to 64 letters, digits, hyphens or underscores: {node!r}"
            )
        self.directory = runtime_directory(path)
        self._node = node
        self._look_period = look
        self._probe_period = probe
        self._entry: Entry | None = None
        self._locks: dict[str, FileBlockLocks] = {}
        self._closed = False
        self._changed: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._probe_due = 0.0
        self._touch_due = 0.0
        self._in_trouble = False
        self._known: dict[str, Descriptor | None] = {}
        """By file name; None where the content makes no sense."""
        self._peers: tuple[Descriptor, ...] = ()
        self._told: tuple[Descriptor, ...] = ()
        self._changed_at = -1
        self._is_settled = False
        """Whether a further change would certainly bear another time than ``_changed_at``."""

    def default_address(self, node: str) -> str:
        """Where a node listens when its user named no address.

        :raises ConfigurationError: the directory's path is too long for a Unix socket.
        """
        return f"unix:{make_socket_path(self.directory, node)}"

    # -- this node

    async def open(self, changed: Callable[[], None]) -> None:
        """Start watching."""
        loop = asyncio.get_running_loop()
        self._changed = changed
        self._told = tuple(self.peers())
        self._probe_due = loop.time() + self._probe_period
        self._touch_due = loop.time() + TOUCH
        self._timer = loop.call_later(self._look_period, self._look)

    async def announce(self, descriptor: Descriptor) -> None:
        """Become visible, and count as alive until this process ends or :meth:`close`.

        :raises ConfigurationError: the directory can't be written to.
        """
        if descriptor.node != self._node:
            raise ValueError(
                f"this is the discovery of node {self._node}, not of {descriptor.node}"
            )
        self._entry = Entry(self.directory, descriptor)

    async def withdraw(self) -> None:
        """Stop being visible, but stay alive."""
        if self._entry is not None:
            self._entry.hide()

    def block_locks(self, service: str) -> FileBlockLocks:
        """The locks on that service's blocks."""
        locks = self._locks.get(service)
        if locks is None:
            locks = self._locks[service] = FileBlockLocks(self.directory, service)
            if self._closed:
                locks.close()
        return locks

    async def close(self) -> None:
        """Free all locks, count as dead from now on, and remove what nobody needs any more."""
        if self._closed:
            return
        self._closed = True
        self._changed = None
        if self._timer is not None:
            self._timer.cancel()
        for locks in self._locks.values():
            locks.close()
        if self._entry is not None:
            self._entry.remove()
        try:
            self._probe(self._others())
            for name in self._names(BLOCK_FILES):
                remove_unused(self.directory / name)
        except OSError as error:
            logger.debug("could not clean up %s: %s", self.directory, error)

    # -- the others

    def peers(self) -> Sequence[Descriptor]:
        """Everybody visible and not known to be dead, apart from this node, the oldest first.

        Free of system calls but one while nothing changes.
        """
        try:
            changed_at = self.directory.stat().st_mtime_ns
            if changed_at != self._changed_at or not self._is_settled:
                # The time first: what happens from here on is found by the next look.
                self._is_settled = abs(time.time_ns() - changed_at) > COARSE
                self._changed_at = changed_at
                self._read_directory()
        except FileNotFoundError:
            self._changed_at = -1
            self._known.clear()
            self._peers = ()
        return self._peers

    def is_dead(self, node: str) -> bool:
        """Whether that node is certainly gone: its lock is free, or it has removed its file."""
        if not is_node_id(node):
            return True
        try:
            for suffix in (NEW, VISIBLE, LEAVING):
                if probe(self.directory / (node + suffix)) is Lock.HELD:
                    return False
        except OSError as error:
            logger.warning("can't tell whether node %s lives: %s", node, error)
            return False
        # Without the directory nothing is certain.
        return self.directory.is_dir()

    def _read_directory(self) -> None:
        own = self._node + VISIBLE
        names = {name for name in self._names(VISIBLE) if name != own}
        if names == self._known.keys():
            return
        for name in self._known.keys() - names:
            del self._known[name]
        for name in names - self._known.keys():
            path = self.directory / name
            try:
                descriptor = read(path)
                if probe(path) is not Lock.HELD:
                    continue
            except FileNotFoundError:
                continue
            if descriptor is None:
                logger.warning(
                    "%s is not a node's descriptor, and its writer lives: is another version of Thence in "
                    "this mesh?",
                    path,
                )
            self._known[name] = descriptor
        self._peers = tuple(
            descriptor for _, descriptor in sorted(self._known.items()) if descriptor is not None
        )

    # -- the clock

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            now = loop.time()
            if now >= self._probe_due:
                self._probe_due = now + self._probe_period
                self._renew()
                self._probe_neighbours()
            if now >= self._touch_due:
                self._touch_due = now + TOUCH
                self._touch()
            peers = tuple(self.peers())
            self._in_trouble = False
        except OSError as error:
            if not self._in_trouble:
                self._in_trouble = True
                logger.warning("can't watch %s: %s; trying on", self.directory, error)
            peers = self._told
        self._timer = loop.call_later(self._look_period, self._look)
        if peers != self._told:
            self._told = peers
            if self._changed is not None:
                self._changed()

    def _probe_neighbours(self) -> None:
        others = self._others()
        here = bisect.bisect(others, self._node)
        ring = others[here:] + others[:here]
        if self._probe(ring[:NEIGHBOURS]):
            self._probe(ring[NEIGHBOURS:])

    def _others(self) -> list[str]:
        return sorted(
            name for name in self._names(NEW, VISIBLE, LEAVING) if not name.startswith(self._node)
        )

    def _names(self, *endings: str) -> list[str]:
        with os.scandir(self.directory) as found:
            return [entry.name for entry in found if entry.name.endswith(endings)]

    def _probe(self, names: list[str]) -> int:
        """Remove those who have died; return how many."""
        return sum(probe(self.directory / name) is Lock.FREE for name in names)

    def _renew(self) -> None:
        if self._entry is not None and self._entry.is_lost:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._entry.renew()
            logger.warning(
                "somebody removed this node's file from %s, so others took it for dead; it is there again. "
                "Leave the files of a running mesh alone, and restart this node if it stays apart",
                self.directory,
            )
        for locks in self._locks.values():
            locks.renew()

    def _touch(self) -> None:
        if self._entry is not None:
            self._entry.touch()
        for locks in self._locks.values():
            locks.touch()
