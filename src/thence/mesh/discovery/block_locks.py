"""Locks on a service's blocks of keys: one file for the service, one byte for each block.

Neighbouring blocks are taken with one call to the kernel, so a replica that comes first takes
everything at once. One more byte, locked shared by everybody who has the file open, says whether
the file is in use: whoever can lock that one alone may remove the file.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from thence.mesh.discovery.byte_ranges import ByteRanges, open_ranges
from thence.routing.replicas import BLOCKS

__all__ = ["BLOCK_FILES", "FileBlockLocks", "remove_unused"]

logger = logging.getLogger("thence.mesh")

BLOCK_FILES = ".blocks"
"""What the names of the lock files end with."""

IN_USE = BLOCKS
"""The byte that everybody who has the file open locks."""

NAME_LENGTH = 120

Opener = Callable[..., ByteRanges]

_unsafe = re.compile(r"[^a-z0-9_-]")


class FileBlockLocks:
    """One node's locks on one service's blocks.

    Implements :class:`thence.mesh.discovery.contract.BlockLocks`.
    """

    def __init__(self, directory: Path, service: str, opener: Opener = open_ranges) -> None:
        self._path = directory / (_file_name(service) + BLOCK_FILES)
        self._service = service
        self._opener = opener
        self._ranges: ByteRanges | None = None
        self._held: set[int] = set()
        self._closed = False

    def acquire(self, blocks: Iterable[int]) -> set[int]:
        """Take those of ``blocks`` that are free; return those this node now holds.

        :raises ValueError: there is no such block.
        """
        wanted = set(blocks)
        if wanted and not (min(wanted) >= 0 and max(wanted) < BLOCKS):
            raise ValueError(f"blocks are numbered from 0 to {BLOCKS - 1}")
        missing = wanted - self._held
        if missing:
            ranges = self._open()
            if ranges is not None:
                for start, length in _runs(sorted(missing)):
                    self._take(ranges, start, length)
        return wanted & self._held

    def release(self, blocks: Iterable[int]) -> None:
        """Give back those of ``blocks`` that this node holds."""
        given = self._held.intersection(blocks)
        if not given or self._ranges is None:
            return
        self._held -= given
        if not self._held:
            self._ranges.unlock(0, BLOCKS)
            return
        # Unlocking what was never locked does no harm, so only what is still held parts the ranges.
        start = end = -1
        for block in sorted(given | self._held):
            if block in self._held:
                if start >= 0:
                    self._ranges.unlock(start, end - start)
                start = -1
            else:
                start = block if start < 0 else start
                end = block + 1
        if start >= 0:
            self._ranges.unlock(start, end - start)

    def renew(self) -> None:
        """Take everything again if somebody has removed the file.

        Newcomers would use another one, and hold the same blocks.
        """
        if self._ranges is None or self._ranges.is_current:
            return
        held, self._held = self._held, set()
        self._ranges.close()
        self._ranges = None
        lost = held - self.acquire(held)
        logger.error(
            "the locks of service %s were removed from %s while in use, and taken again%s; leave the files "
            "of a running mesh alone",
            self._service,
            self._path,
            f" but for {len(lost)} that another replica has: restart this node" if lost else "",
        )

    def touch(self) -> None:
        """Look used to programs that remove old files from temporary directories."""
        if self._ranges is not None:
            self._ranges.touch()

    def close(self) -> None:
        """Give back everything, and take nothing any more."""
        self._closed = True
        self._held.clear()
        if self._ranges is not None:
            self._ranges.close()
            self._ranges = None

    def _open(self) -> ByteRanges | None:
        """The open file; None while somebody is about to remove it.

        That is a matter of microseconds, unless they are stopped just then.
        """
        if self._ranges is None and not self._closed:
            for _ in range(3):
                ranges = self._opener(self._path, create=True)
                if ranges.lock(IN_USE, 1, shared=True) and ranges.is_current:
                    self._ranges = ranges
                    break
                ranges.close()
        return self._ranges

    def _take(self, ranges: ByteRanges, start: int, length: int) -> None:
        if ranges.lock(start, length):
            self._held.update(range(start, start + length))
        elif length > 1:
            half = length // 2
            self._take(ranges, start, half)
            self._take(ranges, start + half, length - half)


def remove_unused(path: Path, opener: Opener = open_ranges) -> bool:
    """Remove a lock file that nobody has open; whether it was removed."""
    try:
        ranges = opener(path, create=False)
    except FileNotFoundError:
        return False
    try:
        # Who takes this lock and still finds the file is the only one who may remove it: a newcomer
        # takes the lock first, and then makes sure that the file is there.
        if ranges.lock(IN_USE, 1) and ranges.is_current:
            path.unlink(missing_ok=True)
            return True
        return False
    finally:
        ranges.close()


def _runs(blocks: list[int]) -> Iterator[tuple[int, int]]:
    """Neighbours as start and length."""
    start = previous = blocks[0]
    for block in blocks[1:]:
        if block != previous + 1:
            yield start, previous + 1 - start
            start = block
        previous = block
    yield start, previous + 1 - start


def _file_name(service: str) -> str:
    """A file name for any service, another one for each.

    Also where upper and lower case are the same.
    """
    name = _unsafe.sub(
        lambda unsafe: "".join(f"%{byte:02x}" for byte in unsafe[0].encode()), service
    )
    if len(name) > NAME_LENGTH:
        name = name[: NAME_LENGTH - 33] + "%" + sha256(service.encode()).hexdigest()[:32]
    return name
