"""Frames: how messages are told apart in a stream of bytes.

A frame is four bytes of length (big-endian, of what follows the next byte), one byte that says what follows,
and that. Events travel as one MessagePack array a frame, so that a receiver decodes a whole batch in one call;
before it stands when the frame was sent: the sender's stopwatch in seconds, a big-endian double. Everything
else is a message of :mod:`thence.mesh.messages`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from thence.errors import ThenceError

__all__ = [
    "EVENTS",
    "HEADER",
    "MAX_FRAME",
    "MESSAGE",
    "STAMP",
    "BadFrame",
    "EventsFrame",
    "FrameReader",
    "message_frame",
    "stamped",
]

EVENTS = 1
MESSAGE = 2

HEADER = 5
STAMP = 8
SHORTEST = HEADER + STAMP
MAX_FRAME = 8 * 1024 * 1024
"""Bytes that a frame's body may have. A type's byte budget stays well below it."""

_header = struct.Struct(">IB")
_read_header: Callable[..., tuple[int, int]] = _header.unpack_from
_events_header = struct.Struct(">IBdBI")
_pack_events_header = _events_header.pack_into
_read_events_header: Callable[..., tuple[int, int, float]] = struct.Struct(">IBd").unpack_from
_read_stamp: Callable[..., tuple[float]] = struct.Struct(">d").unpack_from
_ARRAY32 = 0xDD
_EMPTY = bytes(_events_header.size)


class BadFrame(ThenceError):
    """The bytes of a stream are no frames; ``reason`` is a short label for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{detail}; the connection is closed")
        self.reason = reason


class FrameReader:
    """Cuts a stream of bytes into frames, whatever pieces it arrives in."""

    __slots__ = ("_kept", "_needed", "max_frame", "stamp")

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self.max_frame = max_frame
        self.stamp = 0.0
        """When the events were sent that :meth:`single_batch` has found."""
        self._kept = bytearray()
        self._needed: int = HEADER

    @property
    def incomplete(self) -> bool:
        """Whether a frame has begun and its end is still to come."""
        return bool(self._kept)

    def single_batch(self, data: bytes) -> bytes | None:
        """The events, when ``data`` is exactly one frame of them. Else None: it is still to be fed.

        By far the most frequent case, with the least that can be done for it.
        """
        if self._kept or len(data) <= SHORTEST:
            return None
        length, kind, self.stamp = _read_events_header(data)
        if kind == EVENTS and length == len(data) - HEADER <= self.max_frame:
            return data[SHORTEST:]
        return None

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that ``data`` completes: pairs of kind and body.

        :raises BadFrame: a frame is longer than allowed or of no known kind. The stream is lost then.
        """
        if self._kept:
            self._kept += data
            if len(self._kept) < self._needed:
                return []
            data = bytes(self._kept)
            self._kept.clear()
        size = len(data)
        frames: list[tuple[int, bytes]] = []
        position = 0
        while size - position >= HEADER:
            length, kind = _read_header(data, position)
            if kind != EVENTS and kind != MESSAGE:
                raise BadFrame("garbage", f"a frame of no known kind ({kind})")
            if length > self.max_frame:
                raise BadFrame(
                    "oversize", f"a frame of {length} bytes, {self.max_frame} are allowed"
                )
            end = position + HEADER + length
            if end > size:
                self._needed = int(end - position)
                break
            frames.append((kind, data[position + HEADER : end]))
            position = end
        else:
            self._needed = HEADER
        if position < size:
            self._kept += data[position:]
        return frames


def stamped(body: bytes) -> tuple[float, bytes]:
    """When a frame of events was sent, and the events in its body.

    :raises BadFrame: it is too short.
    """
    if len(body) <= STAMP:
        raise BadFrame("garbage", f"a frame of events of {len(body)} bytes")
    return _read_stamp(body)[0], body[STAMP:]


def message_frame(body: bytes) -> bytes:
    """One message, framed."""
    return _header.pack(len(body), MESSAGE) + body


class EventsFrame:
    """A frame of events that is being filled: encoders append envelopes to ``buffer``."""

    __slots__ = ("buffer", "count")

    def __init__(self) -> None:
        self.buffer = bytearray(_EMPTY)
        self.count = 0

    def take(self, now: float = 0.0) -> bytearray:
        """The finished frame, sent ``now``; what is appended from now on belongs to the next."""
        buffer = self.buffer
        _pack_events_header(buffer, 0, len(buffer) - HEADER, EVENTS, now, _ARRAY32, self.count)
        self.buffer = bytearray(_EMPTY)
        self.count = 0
        return buffer
