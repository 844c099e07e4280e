"""Writing to a connection at once, as far as the system takes it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

__all__ = ["eager_write"]

NO_SIGNAL: int = getattr(socket, "MSG_NOSIGNAL", 0)

LOOK_AGAIN = 0.001
"""Seconds between looks at a transport that has more than its connection takes."""

Write = Callable[[bytes | bytearray], None]


def eager_write(transport: asyncio.Transport) -> tuple[Write, Callable[[], None]]:
    """What writes to the connection, and what to call when that has ended.

    A transport of uvloop writes at the end of the tick, which for an event that comes alone is a tenth of its whole
    way. So its socket is written to through a descriptor of its own; what the system does not take goes through
    the transport, in order. Other transports write at once anyway, and those that encrypt have to be asked.
    """
    connection = transport.get_extra_info("socket")
    encrypts = transport.get_extra_info("sslcontext") is not None
    if connection is None or encrypts or not type(transport).__module__.startswith("uvloop"):
        return transport.write, lambda: None
    writer = _EagerWriter(transport, os.dup(connection.fileno()))
    return writer.write, writer.close


class _EagerWriter:
    __slots__ = ("_loop", "_send", "_socket", "_transport", "_waits")

    def __init__(self, transport: asyncio.Transport, descriptor: int) -> None:
        self._transport = transport
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._send = self._socket.send
        self._loop = asyncio.get_running_loop()
        self._waits = False
        """Whether the transport may have something that it has not written yet."""

    def write(self, data: bytes | bytearray) -> None:
        if not self._waits:
            try:
                sent = self._send(data, NO_SIGNAL)
            except OSError:
                # It takes nothing now, or has ended, which the transport will find out too.
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        if not self._transport.is_closing():
            self._transport.write(data)
            if not self._waits:
                self._waits = True
                # What it was given in this tick it counts in the next.
                self._loop.call_soon(self._look_again)

    def _look_again(self) -> None:
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size():
            self._loop.call_later(LOOK_AGAIN, self._look_again)
        else:
            self._waits = False

    def close(self) -> None:
        self._socket.close()
