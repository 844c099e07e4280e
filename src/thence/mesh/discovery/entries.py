"""Nodes as files in the runtime directory, each locked by its node for as long as it lives.

A process that ends, however it ends, gives up its locks at that moment and at no other: the lock
says what a connection, a process id or a clock can only guess. A file becomes visible when it is
renamed, written and locked already; so whoever sees a file with a free lock sees a dead node, and
removes it.

A file's name goes from ``NODE.new`` to ``NODE.node`` to ``NODE.leaving``, never back. Whoever looks
for a node in that order can't miss it.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import re
from io import FileIO
from pathlib import Path

import msgspec

from thence.errors import ConfigurationError
from thence.mesh.discovery.contract import Descriptor
from thence.mesh.discovery.process_files import open_for_this_process
from thence.mesh.discovery.runtime_directory import ANOTHER, socket_path

__all__ = ["LEAVING", "NEW", "VISIBLE", "Entry", "Lock", "is_node_id", "probe", "read"]

NEW, VISIBLE, LEAVING = ".new", ".node", ".leaving"

DESCRIPTOR_BYTES = 1 << 20
"""The longest descriptor that is read."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Descriptor).decode
_node_id = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Lock(enum.Enum):
    """What a look at a node's file found."""

    HELD = "held"
    """The node lives."""
    FREE = "free"
    """The node had died; its file was there, and is removed now."""
    MISSING = "missing"
    """There is no such file."""


def is_node_id(node: str) -> bool:
    """Whether ``node`` can be part of a file's name. It may come from a stranger."""
    return _node_id.fullmatch(node) is not None


def read(path: Path) -> Descriptor | None:
    """The descriptor in a visible file; None when it makes no sense.

    :raises OSError: it can't be read, or is not there any more.
    """
    with open_for_this_process(path, os.O_RDONLY) as file:
        content = file.read(DESCRIPTOR_BYTES)
    try:
        descriptor = _decode(content or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return descriptor if descriptor.node == path.stem else None


def probe(path: Path) -> Lock:
    """Whether the node of that file lives. A dead one's file and socket are removed.

    :raises OSError: it can't be told, for example because this process has too many files open.
    """
    while True:
        try:
            file = open_for_this_process(path, os.O_RDONLY)
        except FileNotFoundError:
            return Lock.MISSING
        with file:
            try:
                # Shared, so that of two who look at a dead node neither takes the other for its life.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return Lock.HELD
            if not os.fstat(file.fileno()).st_nlink:
                continue  # Removed meanwhile; its node may have made another one.
            socket_path(path.parent, path.stem).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            return Lock.FREE


class Entry:
    """The file of the node that runs here."""

    def __init__(self, directory: Path, descriptor: Descriptor) -> None:
        """Make the node visible.

        :raises ConfigurationError: the directory can't be written to.
        """
        self._directory = directory
        self._descriptor = descriptor
        self._suffix = VISIBLE
        try:
            self._file = self._write()
        except OSError as error:
            raise ConfigurationError(
                f"can't announce {descriptor.name} in {directory}: {error.strerror}; make room there or "
                f"{ANOTHER}"
            ) from error

    def hide(self) -> None:
        """Stay alive, but not visible."""
        if self._suffix == VISIBLE:
            self._suffix = LEAVING
            with contextlib.suppress(FileNotFoundError):  # Then renew() brings it back.
                self._path(VISIBLE).rename(self._path(LEAVING))

    @property
    def is_lost(self) -> bool:
        """Whether somebody has removed the file."""
        try:
            return not os.path.samestat(
                self._path(self._suffix).stat(), os.fstat(self._file.fileno())
            )
        except FileNotFoundError:
            return True

    def renew(self) -> None:
        """Write and lock the file anew.

        :raises OSError: it can't be written.
        """
        lost, self._file = self._file, self._write()
        lost.close()

    def touch(self) -> None:
        """Look used to programs that remove old files from temporary directories."""
        os.utime(self._file.fileno())

    def remove(self) -> None:
        """Count as dead."""
        if not self._file.closed:
            self._path(self._suffix).unlink(missing_ok=True)
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._file.close()

    def _write(self) -> FileIO:
        while (file := self._try_to_write()) is None:
            pass
        return file

    def _try_to_write(self) -> FileIO | None:
        """None when somebody who looks for the dead came between the making and the locking."""
        new = self._path(NEW)
        file = open_for_this_process(new, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = _encode(self._descriptor)
            while content:
                content = content[file.write(content) or 0 :]
            new.rename(self._path(self._suffix))
        except (BlockingIOError, FileNotFoundError):
            new.unlink(missing_ok=True)
            file.close()
            return None
        except BaseException:
            new.unlink(missing_ok=True)
            file.close()
            raise
        return file

    def _path(self, suffix: str) -> Path:
        return self._directory / (self._descriptor.node + suffix)
