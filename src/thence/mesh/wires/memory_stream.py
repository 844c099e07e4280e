"""The two ends of a stream within one event loop.

An end keeps what its protocol writes and hands it to the other end's protocol at the next tick of
the loop, all that was written meanwhile in one piece. Nothing is copied when there was one write
only. Closing, resets, half-closed streams and flow control follow what asyncio's socket transports
do, so that a protocol can't tell the difference.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Iterable
from typing import cast

from thence.mesh.memory import Listener, MemoryMesh

__all__ = ["MemoryTransport", "open_stream"]

HIGH_WATER = 64 * 1024
"""asyncio's default limit of undelivered bytes from which on a protocol is told to pause."""

KERNEL_BYTES = 64 * 1024
"""What a kernel keeps for a closed socket: that much may be undelivered when a closing end is
done."""


def open_stream(
    mesh: MemoryMesh, node: str, protocol: asyncio.Protocol, listener: Listener, address: str
) -> None:
    """Connect ``protocol`` at ``node`` to a new protocol of ``listener``."""
    near = MemoryTransport(mesh, node, f"memory:{node}", address)
    far = MemoryTransport(mesh, listener.node, address, f"memory:{node}")
    near.join(far)
    far.join(near)
    far.accept(listener)
    near.begin(protocol)


class MemoryTransport(asyncio.Transport):
    """One end of a stream; it carries what its own protocol writes to the other end."""

    def __init__(self, mesh: MemoryMesh, node: str, address: str, peer_address: str) -> None:
        super().__init__({"sockname": address, "peername": peer_address})
        self.node = node
        self._mesh = mesh
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.Protocol | None = None
        self._peer = self
        self._listener: Listener | None = None
        # What was written: first here, with a delay then under way, at last arrived but perhaps held.
        self._written: list[bytes | bytearray | memoryview] = []
        self._under_way: deque[tuple[float, list[bytes | bytearray | memoryview]]] = deque()
        self._arrived: list[bytes | bytearray | memoryview] = []
        self._size = 0
        self._high = HIGH_WATER
        self._low = HIGH_WATER // 4
        self._writing_paused = False
        self._reading_paused = False
        self._ticking = False
        self._held = True
        """Whether the other end takes nothing now."""
        self._closing = False
        self._lost = False
        self._ending: Exception | None = None
        """What the other end is told when this one has ended: an error, or None for a proper
        end."""
        self._end_departed = False
        self._end_arrived = False
        self._end_told = False
        self._landing: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        state = "lost" if self._lost else "closing" if self._closing else "open"
        here, there = self.get_extra_info("sockname"), self.get_extra_info("peername")
        return f"<MemoryTransport {here} to {there}, {state}>"

    # -- opening

    def join(self, peer: MemoryTransport) -> None:
        """Tell this end which the other one is."""
        self._peer = peer
        self._mesh.streams.add(self)

    def accept(self, listener: Listener) -> None:
        """Be the end of a node that listens: its protocol is made when the node runs."""
        self._listener = listener
        self._loop.call_soon(self._accept)

    def begin(self, protocol: asyncio.Protocol) -> None:
        """Belong to ``protocol`` from now on."""
        self._protocol = protocol
        try:
            protocol.connection_made(self)
        except BaseException:
            self._end(ConnectionResetError(errno.ECONNRESET, "connection_made failed"))
            raise
        self._peer.refresh()

    def _accept(self) -> None:
        listener = self._listener
        if listener is None or self._mesh.is_stopped(self.node):
            return
        self._listener = None
        if not self._closing:
            self.begin(listener.accept())

    # -- what the mesh does

    def refresh(self) -> None:
        """Find out anew whether bytes may flow from here."""
        if self._listener is not None and not self._mesh.is_stopped(self.node):
            self._loop.call_soon(self._accept)
        peer, mesh = self._peer, self._mesh
        self._held = (
            (peer._protocol is None and not peer._closing)
            or (peer._reading_paused and not peer._closing)
            or mesh.is_stopped(self.node)
            or mesh.is_stopped(peer.node)
            or mesh.is_parted(self.node, peer.node)
        )
        if not self._held:
            self._schedule()

    def break_off(self) -> None:
        """End as the streams of a process that is killed; what was closed before is the kernel's."""
        if not self._lost:
            self._end(ConnectionResetError(errno.ECONNRESET, "the node was killed"))

    # -- writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hand ``data`` to the other end's protocol at the next tick; it is kept, not copied."""
        if self._closing or not data:
            return
        self._written.append(data)
        self._size += len(data)
        if not self._ticking:
            self._ticking = True
            self._loop.call_soon(self._tick)
        if self._size > self._high and not self._writing_paused:
            self._pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write several pieces as one."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """A stream is closed as a whole."""
        return False

    def get_write_buffer_size(self) -> int:
        """Bytes written and not yet delivered."""
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low and the high limit, in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Pause the protocol above ``high`` undelivered bytes, resume it at ``low`` (a quarter)."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low at least 0")
        self._high, self._low = high, low
        if self._size > high and not self._writing_paused:
            self._pause_writing()

    def _schedule(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self._ticking = False
        if self._mesh.delay or self._under_way:
            self._depart()
        else:
            if self._arrived:
                self._arrived += self._written
            else:
                self._arrived = self._written
            self._written = []
            self._end_arrived = self._closing
        if not self._held:
            self._deliver()

    def _depart(self) -> None:
        """Send what was written on its way, never past what left before it."""
        if not self._written and (self._end_departed or not self._closing):
            return
        self._end_departed = self._closing
        due = self._loop.time() + self._mesh.delay
        if self._under_way:
            due = max(due, self._under_way[-1][0])
        else:
            # One timer for all: several timers of one instant fire in any order.
            self._landing = self._loop.call_at(due, self._land)
        self._under_way.append((due, self._written))
        self._written = []

    def _land(self) -> None:
        now = max(self._under_way[0][0], self._loop.time())
        while self._under_way and self._under_way[0][0] <= now:
            self._arrived += self._under_way.popleft()[1]
        if self._under_way:
            self._landing = self._loop.call_at(self._under_way[0][0], self._land)
        else:
            self._landing = None
            self._end_arrived = self._end_departed
        if not self._held:
            self._deliver()

    def _deliver(self) -> None:
        """Hand over what has arrived, and the end when that was all."""
        arrived = self._arrived
        if arrived:
            self._arrived = []
            data = b"".join(arrived)
            self._size -= len(data)
            self._peer._receive(data)
            if self._writing_paused and self._size <= self._low:
                self._resume_writing()
        if self._closing:
            if self._end_arrived and not (self._end_told or self._held):
                self._end_told = True
                self._peer._receive_end(self._ending)
                self._retire()
            self._lose_when_flushed()

    def _pause_writing(self) -> None:
        self._writing_paused = True
        if self._protocol is not None:
            self._guard(self._protocol.pause_writing)

    def _resume_writing(self) -> None:
        self._writing_paused = False
        if self._protocol is not None and not self._lost:
            self._guard(self._protocol.resume_writing)

    # -- reading

    def is_reading(self) -> bool:
        """Whether the protocol gets data."""
        return not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        """Give the protocol no more data."""
        if not self._closing:
            self._reading_paused = True
            self._peer._held = True

    def resume_reading(self) -> None:
        """Give the protocol data again."""
        if self._reading_paused:
            self._reading_paused = False
            self._peer.refresh()

    def _receive(self, data: bytes) -> None:
        if self._closing or self._protocol is None:
            if self._end_told and not self._peer._closing:
                self._peer._end(BrokenPipeError(errno.EPIPE, "the other end is gone"))
            return
        try:
            self._protocol.data_received(data)
        except Exception as error:
            self._report(error, "protocol.data_received() failed")
            self._end(error)

    def _receive_end(self, error: Exception | None) -> None:
        if error is not None:
            if not self._lost:
                self._end(error)
        elif not self._closing and self._protocol is not None:
            try:
                keep_open = self._protocol.eof_received()
            except Exception as failure:
                self._report(failure, "protocol.eof_received() failed")
                self._end(failure)
            else:
                if not keep_open:
                    self.close()

    # -- ending

    def is_closing(self) -> bool:
        """Whether this end is closing or has ended."""
        return self._closing

    def close(self) -> None:
        """Take no more data, deliver what was written, then end both sides."""
        if self._closing:
            return
        self._closing = True
        self._peer.refresh()
        self._schedule()
        self._lose_when_flushed()

    def abort(self) -> None:
        """End both sides at once; what was not delivered is lost."""
        if not self._lost:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        """End with ``error``, without delivering anything."""
        self._closing = True
        self._ending = ConnectionResetError(errno.ECONNRESET, "the other end broke off")
        self._written, self._arrived, self._size = [], [], 0
        self._under_way.clear()
        self._end_departed = self._end_arrived = False
        if self._landing is not None:
            self._landing.cancel()
            self._landing = None
        self._peer.refresh()
        self._schedule()
        self._loop.call_soon(self._lose, error)

    def _lose_when_flushed(self) -> None:
        if self._size <= KERNEL_BYTES and not self._lost:
            self._loop.call_soon(self._lose, None)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        protocol = self._protocol
        if protocol is not None:
            self._guard(lambda: protocol.connection_lost(error))
        self._retire()

    def _retire(self) -> None:
        if self._lost and self._end_told:
            self._mesh.streams.discard(self)

    def _guard(self, tell: Callable[[], object]) -> None:
        try:
            tell()
        except Exception as error:
            self._report(error, "a protocol failed")

    def _report(self, error: Exception, message: str) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that this end belongs to."""
        return cast(asyncio.BaseProtocol, self._protocol)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Belong to another protocol from now on."""
        self._protocol = cast(asyncio.Protocol, protocol)
