"""Locks on ranges of a file's bytes, which two nodes of one process don't share.

A process's ordinary record locks belong to the process as a whole: two nodes in it would both hold
the same lock, and closing any of its files on the same path would drop them all. Linux has locks
that belong to the open file instead (``F_OFD_SETLK``, since 3.15). Elsewhere the ordinary ones are
used, one open file for the whole process, with a table beside it that keeps the nodes of one
process apart.
"""

from __future__ import annotations

import fcntl
import os
import struct
from abc import ABC, abstractmethod
from collections import Counter
from io import FileIO
from pathlib import Path
from typing import ClassVar

from thence.mesh.discovery.process_files import open_for_this_process

__all__ = ["ByteRanges", "OpenFileRanges", "ProcessRanges", "open_ranges"]

_SET_LOCK: int | None = getattr(fcntl, "F_OFD_SETLK", None)

# Linux's struct flock: type, whence, start, length, process id, which must be 0.
_flock = struct.Struct("@hhqqi0q")


class ByteRanges(ABC):
    """One holder's locks in one file."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self._file = file

    @property
    def is_current(self) -> bool:
        """Whether the file is still the one that others find at its path."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def touch(self) -> None:
        """Look used to programs that remove old files from temporary directories."""
        os.utime(self._file.fileno())

    @abstractmethod
    def lock(self, start: int, length: int, *, shared: bool = False) -> bool:
        """Take all of a range, or nothing and return False. Never waits."""

    @abstractmethod
    def unlock(self, start: int, length: int) -> None:
        """Give back what is held of a range."""

    @abstractmethod
    def close(self) -> None:
        """Give back everything. Idempotent."""


class OpenFileRanges(ByteRanges):
    """Locks that belong to the open file."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Open the file at ``path``.

        :raises FileNotFoundError: it is not there, and is not to be made.
        """
        super().__init__(path, _open(path, create=create))

    def lock(self, start: int, length: int, *, shared: bool = False) -> bool:
        """Take all of a range, or nothing and return False."""
        try:
            self._set(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, start, length)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def unlock(self, start: int, length: int) -> None:
        """Give back what is held of a range."""
        self._set(fcntl.F_UNLCK, start, length)

    def close(self) -> None:
        """Give back everything."""
        if not self._file.closed:
            self._set(fcntl.F_UNLCK, 0, 0)
            self._file.close()

    def _set(self, kind: int, start: int, length: int) -> None:
        assert _SET_LOCK is not None
        request = _flock.pack(kind, os.SEEK_SET, start, length, 0)
        fcntl.fcntl(self._file.fileno(), _SET_LOCK, request)


class _Table:
    """What the holders of one process share: the open file, and who of them holds what."""

    def __init__(self, file: FileIO, process: int) -> None:
        self.file = file
        self.process = process
        self.users = 0
        self.alone: dict[int, ProcessRanges] = {}
        self.together: Counter[int] = Counter()


class ProcessRanges(ByteRanges):
    """Locks that belong to the process, kept apart by a table for its nodes."""

    _tables: ClassVar[dict[Path, _Table]] = {}

    def __init__(self, path: Path, *, create: bool) -> None:
        """Open the file at ``path``, or share what this process has open there.

        :raises FileNotFoundError: it is not there, and is not to be made.
        """
        table = self._tables.get(path)
        if table is None or table.process != os.getpid():
            table = self._tables[path] = _Table(_open(path, create=create), os.getpid())
        super().__init__(path, table.file)
        table.users += 1
        self._table = table
        self._together: set[int] = set()
        self._closed = False

    def lock(self, start: int, length: int, *, shared: bool = False) -> bool:
        """Take all of a range, or nothing and return False."""
        table, blocks = self._table, range(start, start + length)
        for byte in blocks:
            others = table.together[byte] - (byte in self._together)
            if table.alone.get(byte, self) is not self or (others and not shared):
                return False
        try:
            how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.lockf(self._file, how | fcntl.LOCK_NB, length, start)
        except (BlockingIOError, PermissionError):
            return False
        for byte in blocks:
            self._forget(byte)
            if shared:
                self._together.add(byte)
                table.together[byte] += 1
            else:
                table.alone[byte] = self
        return True

    def unlock(self, start: int, length: int) -> None:
        """Give back what is held of a range."""
        for byte in range(start, start + length):
            if self._forget(byte) and not self._table.together[byte]:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)

    def close(self) -> None:
        """Give back everything; the last holder of the process closes the file."""
        if self._closed:
            return
        self._closed = True
        table = self._table
        alone = [byte for byte, holder in table.alone.items() if holder is self]
        for byte in (*alone, *self._together):
            self.unlock(byte, 1)
        table.users -= 1
        if not table.users:
            if self._tables.get(self.path) is table:
                del self._tables[self.path]
            table.file.close()

    def _forget(self, byte: int) -> bool:
        """Strike a byte from the table; whether this holder had it."""
        if self._table.alone.get(byte) is self:
            del self._table.alone[byte]
            return True
        if byte in self._together:
            self._together.discard(byte)
            self._table.together[byte] -= 1
            return True
        return False


def _open(path: Path, *, create: bool) -> FileIO:
    return open_for_this_process(path, os.O_RDWR | (os.O_CREAT if create else 0))


def open_ranges(path: Path, *, create: bool) -> ByteRanges:
    """The best kind of locks that this system has.

    :raises FileNotFoundError: the file is not there, and is not to be made.
    """
    kind = ProcessRanges if _SET_LOCK is None else OpenFileRanges
    return kind(path, create=create)
