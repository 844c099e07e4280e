"""Frames: how messages are told apart in a stream of bytes.

A frame is four bytes of length (big-endian, of the body alone), one byte that says what the body is, and
the body. Events travel as one MessagePack array a frame, so that a receiver decodes a whole batch in
one call; everything else is a message of :mod:`thence.mesh.messages`.
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
    "BadFrame",
    "EventsFrame",
    "FrameReader",
    "message_frame",
]

EVENTS = 1
MESSAGE = 2

HEADER = 5
MAX_FRAME = 8 * 1024 * 1024
"""Bytes that a frame's body may have. A type's byte budget stays well below it."""

_header = struct.Struct(">IB")
_read_header: Callable[..., tuple[int, int]] = _header.unpack_from
_events_header = struct.Struct(">IBBI")
_ARRAY32 = 0xDD


class BadFrame(ThenceError):
    """The bytes of a stream are no frames; ``reason`` is a short label for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{detail}; the connection is closed")
        self.reason = reason


class FrameReader:
    """Cuts a stream of bytes into frames, whatever pieces it arrives in."""

    __slots__ = ("_kept", "_needed", "max_frame")

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self.max_frame = max_frame
        self._kept = bytearray()
        self._needed: int = HEADER

    @property
    def incomplete(self) -> bool:
        """Whether a frame has begun and its end is still to come."""
        return bool(self._kept)

    def single_batch(self, data: bytes) -> bytes | None:
        """The body, when ``data`` is exactly one frame of events. Else None: it is still to be fed.

        By far the most frequent case, with the least that can be done for it.
        """
        if len(data) > HEADER and not self._kept:
            length, kind = _read_header(data)
            if kind == EVENTS and length == len(data) - HEADER <= self.max_frame:
                return data[HEADER:]
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


def message_frame(body: bytes) -> bytes:
    """One message, framed."""
    return _header.pack(len(body), MESSAGE) + body


class EventsFrame:
    """A frame of events that is being filled: encoders append envelopes to ``buffer``."""

    __slots__ = ("buffer", "count")

    def __init__(self) -> None:
        self.buffer = bytearray(_events_header.size)
        self.count = 0

    def take(self) -> bytearray:
        """The finished frame; what is appended from now on belongs to the next."""
        buffer = self.buffer
        _events_header.pack_into(buffer, 0, len(buffer) - HEADER, EVENTS, _ARRAY32, self.count)
        self.buffer = bytearray(_events_header.size)
        self.count = 0
        return buffer
