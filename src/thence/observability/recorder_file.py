"""A memory-mapped file with the latest facts of a node, which outlives its process.

What is written into mapped memory is the file's at once, for whatever ends the process, though not for what ends the
machine. The room of the file is a ring of records, each with its length and a checksum, so that a reader finds its
way among those that were overwritten in part.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from thence.errors import ConfigurationError
from thence.observability.accounts import Account, Fact

__all__ = ["LEAST_BYTES", "RecorderFile", "former_account", "moment_of", "shifted"]

MAGIC = b"thence recorder 1\n"
HEADER = 4096
"""Bytes before the ring: magic, then the place after the latest record, then who writes it."""
_PLACE = struct.Struct("<Q")
_RECORD = struct.Struct("<2sII")
MARK = b"\xd7\x1e"
LEAST_BYTES = 64 * 1024


class _Writer(Struct, frozen=True):
    node: str
    name: str
    began: float
    """By the writer's stopwatch."""
    behind_date: float
    """Seconds to be added to moments of its stopwatch to have Unix time."""
    boot: str = ""
    """Which run of the machine, if that can be told: within it all stopwatches show the same."""


class _Record(Struct, array_like=True, frozen=True):
    fact: Fact


class RecorderFile:
    """The file of a running node. What another run has left there is kept beside it, as ``PATH.before``.

    :param size: bytes of the ring; all are reserved at once.
    :param now: the node's stopwatch.
    :raises ConfigurationError: the file can't be made there.
    """

    def __init__(self, path: str, size: int, node: str, name: str, now: float) -> None:
        self._size = max(size, LEAST_BYTES)
        self._encode = msgspec.msgpack.Encoder().encode
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            for place in (path, f"{path}.before"):
                if os.path.lexists(place) and not _may_be_replaced(place):
                    raise ConfigurationError(
                        f"{place} is there and no flight recorder's file: it is left alone, give another path"
                    )
            if _is_in_use(path):
                raise ConfigurationError(
                    f"the flight recorder's file {path} is that of a node which runs: give another path"
                )
            if os.path.exists(path):
                os.replace(path, f"{path}.before")
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            # Else a full disk would end the process, at some write into the map.
            os.posix_fallocate(self._descriptor, 0, HEADER + self._size)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._map = mmap.mmap(self._descriptor, HEADER + self._size)
        except OSError as error:
            raise ConfigurationError(
                f"the flight recorder's file {path} can't be made ({error.strerror}): give another path, or a smaller "
                "size with the setting recorder"
            ) from error
        writer = self._encode(_Writer(node, name, now, time.time() - now, _boot()))
        start = len(MAGIC) + _PLACE.size
        self._map[start : start + 4 + len(writer)] = struct.pack("<I", len(writer)) + writer
        self._place = 0
        self._map[: len(MAGIC)] = MAGIC

    def write(self, fact: Fact) -> None:
        """Keep a fact."""
        body = self._encode(_Record(fact))
        record = _RECORD.pack(MARK, len(body), zlib.crc32(body)) + body
        if len(record) > self._size:
            return
        if self._place + len(record) > self._size:
            # No record is cut in two: what is left at the end is overwritten.
            self._map[HEADER + self._place :] = bytes(self._size - self._place)
            self._place = 0
        at = HEADER + self._place
        self._map[at : at + len(record)] = record
        self._place += len(record)
        _PLACE.pack_into(self._map, len(MAGIC), self._place)

    def close(self) -> None:
        """Leave the file as it is."""
        self._map.close()
        os.close(self._descriptor)


def _may_be_replaced(path: str) -> bool:
    """Whether that is a recorder's file, or one of a run that ended before it had written anything."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        begin = file.read(len(MAGIC))
    return begin == MAGIC or not any(begin)


def _is_in_use(path: str) -> bool:
    """Whether the node whose file that is still runs."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def former_account(path: str, now: float) -> Account | None:
    """What a run that has ended left in its file, by the stopwatch that shows ``now``; None if there is nothing."""
    try:
        data = Path(path).read_bytes()
    except OSError:
        return None
    start = len(MAGIC) + _PLACE.size
    if not data.startswith(MAGIC) or len(data) < HEADER:
        return None
    try:
        (length,) = struct.unpack_from("<I", data, start)
        writer = msgspec.msgpack.decode(data[start + 4 : start + 4 + length], type=_Writer)
        (place,) = _PLACE.unpack_from(data, len(MAGIC))
    except (msgspec.MsgspecError, ValueError, struct.error):
        return None
    facts = tuple(_read(data[HEADER:], place))
    same_boot = writer.boot and writer.boot == _boot()
    shift = 0.0 if same_boot else writer.behind_date - (time.time() - now)
    return Account(
        writer.node,
        f"{writer.name} (former run)",
        now - shift,
        writer.began if _is_whole(data[HEADER:], place) else _earliest(facts, writer.began),
        writer.began,
        facts,
    )


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _is_whole(ring: bytes, place: int) -> bool:
    """Whether nothing was overwritten."""
    return not any(ring[place : place + 4096])


def _earliest(facts: tuple[Fact, ...], began: float) -> float:
    moments = [moment for fact in facts if (moment := moment_of(fact)) is not None]
    return min(moments, default=began)


def shifted(fact: Fact, seconds: float) -> Fact:
    """The same by another stopwatch, which shows so many seconds more."""
    changes = {
        name: moment + seconds
        for name in ("by", "since", "began", "ended", "at")
        if (moment := getattr(fact, name, None)) is not None
    }
    return replace(fact, **changes)


def moment_of(fact: Fact) -> float | None:
    """When something happened, if that is known."""
    for name in ("ended", "at", "by", "since"):
        moment: float | None = getattr(fact, name, None)
        if moment is not None:
            return moment
    return None


def _read(ring: bytes, place: int) -> Iterator[Fact]:
    """The records that are whole, the oldest first."""
    decode = msgspec.msgpack.Decoder(_Record).decode
    for part in (ring[place:], ring[:place]):
        at = 0
        while (at := part.find(MARK, at)) >= 0 and at + _RECORD.size <= len(part):
            _, length, checksum = _RECORD.unpack_from(part, at)
            body = part[at + _RECORD.size : at + _RECORD.size + length]
            if len(body) == length and zlib.crc32(body) == checksum:
                at += _RECORD.size + length
                try:
                    yield decode(body).fact
                except (msgspec.MsgspecError, ValueError):
                    continue
            else:
                at += 1
