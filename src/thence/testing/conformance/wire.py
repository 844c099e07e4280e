"""What a wire promises, whatever carries its bytes."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Self, cast

from msgspec import Struct

from thence.errors import ConfigurationError
from thence.mesh.wires.contract import Wire
from thence.testing.conformance.waiting import eventually

__all__ = ["Recorder", "WireConformance", "Wires"]

MANY = 10 * 1024 * 1024
"""Bytes: far more than any buffer on the way."""


class Wires(Struct, frozen=True):
    """How to make what is tested."""

    make: Callable[[], Wire]
    """A new node's wire; all of them can reach each other."""
    address: Callable[[], str]
    """An address to listen at, another one each time."""


class Recorder(asyncio.Protocol):
    """A protocol that remembers what happened to it, and objects to what must not happen."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.pauses = 0
        self.resumes = 0
        self.losses: list[Exception | None] = []
        self.wrong: list[str] = []
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None

    @property
    def transport(self) -> asyncio.Transport:
        """The stream's transport."""
        assert self._transport is not None, "connection_made was not called"
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The first call, made once."""
        self._expect(self._transport is None, "connection_made twice")
        self._transport = cast(asyncio.Transport, transport)
        self.ready.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Bytes, between the first call and the last."""
        self._expect(self._transport is not None, "data before connection_made")
        self._expect(not self.losses, "data after connection_lost")
        self._expect(type(data) is bytes and len(data) > 0, "data that is not bytes, or empty")
        self.received += data

    def pause_writing(self) -> None:
        """Too much is waiting to be written."""
        self._expect(self.pauses == self.resumes, "pause_writing while paused")
        self.pauses += 1

    def resume_writing(self) -> None:
        """There is room again."""
        self._expect(self.pauses == self.resumes + 1, "resume_writing while not paused")
        self.resumes += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """The last call, made once."""
        self._expect(self._transport is not None, "connection_lost before connection_made")
        self._expect(not self.losses, "connection_lost twice")
        self.losses.append(exc)
        if not self.lost.done():
            self.lost.set_result(None)

    def _expect(self, right: bool, otherwise: str) -> None:
        if not right:
            self.wrong.append(otherwise)


class Stream:
    """Both ends of an open stream, and whoever listens."""

    def __init__(self, near: Recorder, far: Recorder) -> None:
        self.near = near
        self.far = far

    async def ended(self) -> None:
        """Wait until both ends have ended, and check that each has once."""
        await asyncio.wait_for(asyncio.gather(self.near.lost, self.far.lost), 10)
        for end in (self.near, self.far):
            # What must not follow would follow at once.
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(end.losses) == 1, "connection_lost must be called exactly once"
            assert not end.wrong, end.wrong


class WireConformance(ABC):
    """Subclass, and implement :meth:`wires`."""

    malformed: Sequence[str] = ("", "nonsense", "carrier-pigeon://somewhere")
    """Addresses that are no addresses."""

    @abstractmethod
    def wires(self) -> AbstractAsyncContextManager[Wires]:
        """Where nothing listens yet; cleaned up at the end."""

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run one test. Override to use another event loop."""
        asyncio.run(main)

    def stop_reading(self, end: Recorder) -> None:
        """Make one end take no more bytes."""
        end.transport.pause_reading()

    def go_on_reading(self, end: Recorder) -> None:
        """The opposite."""
        end.transport.resume_reading()

    # -- opening

    def test_a_dial_reaches_whoever_listens(self) -> None:
        """Bytes go both ways."""

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires) as opened:
                stream = await opened.stream()
                stream.near.transport.write(b"question")
                stream.far.transport.write(b"answer")
                await eventually(lambda: stream.far.received == b"question", what="the question")
                await eventually(lambda: stream.near.received == b"answer", what="the answer")

        self.run(main())

    def test_the_accepting_side_may_speak_first(self) -> None:
        """What is written in connection_made arrives."""

        class Speaker(Recorder):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                self.transport.write(b"welcome")

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires, Speaker) as opened:
                stream = await opened.stream(Speaker())
                await eventually(lambda: stream.near.received == b"welcome", what="the welcome")
                await eventually(lambda: stream.far.received == b"welcome", what="the welcome")

        self.run(main())

    def test_many_dial_at_once(self) -> None:
        """Each gets a stream of its own."""

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires) as opened:
                dialling = [Recorder() for _ in range(200)]
                wire = opened.wire()
                await asyncio.gather(*(wire.dial(opened.address, near) for near in dialling))
                await eventually(lambda: len(opened.accepted) == 200, what="200 streams")
                for number, near in enumerate(dialling):
                    near.transport.write(str(number).encode())
                await eventually(lambda: all(far.received for far in opened.accepted))
                numbers = sorted(int(far.received) for far in opened.accepted)
                assert numbers == list(range(200)), "bytes went to the wrong stream"
                for near in dialling:
                    near.transport.abort()

        self.run(main())

    def test_a_dial_to_nobody_raises_os_error(self) -> None:
        """An address where somebody has stopped listening."""

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires) as opened:
                await opened.listening.close()
                await _dial_fails(opened.wire(), opened.address)

        self.run(main())

    def test_an_address_in_use_is_refused_and_stays_with_its_owner(self) -> None:
        """The second one is told; dials go to the first."""

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires) as opened:
                late = opened.wire()
                await _listen_is_refused(late, opened.address)
                await late.close()
                stream = await opened.stream()
                assert stream.far.transport is not None

        self.run(main())

    def test_a_malformed_address_is_refused(self) -> None:
        """With a message that names it."""

        async def main() -> None:
            async with self.wires() as wires:
                wire = wires.make()
                for address in self.malformed:
                    await _listen_is_refused(wire, address)
                await wire.close()

        self.run(main())

    # -- carrying

    def test_ten_megabytes_both_ways_arrive_whole_and_in_order(self) -> None:
        """In pieces of all sizes, at the same time."""

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires) as opened:
                stream = await opened.stream()
                there, back = random.Random(1).randbytes(MANY), random.Random(2).randbytes(MANY)
                _write_in_pieces(stream.near, there)
                _write_in_pieces(stream.far, back)
                await eventually(lambda: len(stream.far.received) >= MANY, within=30)
                await eventually(lambda: len(stream.near.received) >= MANY, within=30)
                assert stream.far.received == there, "the bytes are not those that were written"
                assert stream.near.received == back, "the bytes are not those that were written"
                for end in (stream.near, stream.far):
                    assert not end.wrong, end.wrong
                    await eventually(lambda end=end: end.pauses == end.resumes)  # type: ignore[misc]
                    assert end.transport.get_write_buffer_size() == 0, "nothing waits any more"

        self.run(main())

    def test_any_kind_of_bytes_can_be_written(self) -> None:
        """Bytes, a bytearray, a memoryview; empty ones do nothing."""

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires) as opened:
                stream = await opened.stream()
                for piece in (b"one ", bytearray(b"two "), b"", memoryview(b"three")):
                    stream.near.transport.write(piece)
                    await asyncio.sleep(0)
                await eventually(lambda: stream.far.received == b"one two three", what="all three")
                assert not stream.far.wrong, stream.far.wrong

        self.run(main())

    def test_a_reader_that_does_not_read_pauses_the_writer(self) -> None:
        """And when it reads, the writer goes on, and nothing is missing."""

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires) as opened:
                stream = await opened.stream()
                near, far = stream.near, stream.far
                near.transport.set_write_buffer_limits(high=256 * 1024)
                self.stop_reading(far)
                written = 0
                while not near.pauses:
                    assert written < 100 * MANY, "pause_writing was never called"
                    near.transport.write(b"x" * 65536)
                    written += 65536
                    await asyncio.sleep(0)
                assert near.transport.get_write_buffer_size() > 256 * 1024
                assert not near.resumes
                self.go_on_reading(far)
                await eventually(lambda: near.resumes == 1, what="resume_writing")
                await eventually(lambda: len(far.received) == written, what="all that was written")
                assert not near.wrong, near.wrong

        self.run(main())

    def test_a_reader_that_does_not_read_holds_up_nobody_else(self) -> None:
        """Another stream between the same two nodes goes on."""

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires) as opened:
                stuck, free = await opened.stream(), await opened.stream()
                self.stop_reading(stuck.far)
                stuck.near.transport.write(bytes(MANY))
                free.near.transport.write(b"hello")
                await eventually(lambda: free.far.received == b"hello", what="the other stream")
                stuck.near.transport.abort()
                self.go_on_reading(stuck.far)
                await stuck.ended()

        self.run(main())

    # -- ending

    def test_close_delivers_what_was_written(self) -> None:
        """However much: the reader gets it all, then the end."""

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires) as opened:
                stream = await opened.stream()
                content = random.Random(3).randbytes(MANY)
                stream.near.transport.write(content)
                stream.near.transport.close()
                assert stream.near.transport.is_closing()
                await stream.ended()
                assert stream.far.received == content, "close() must deliver what was written"
                assert stream.near.losses == [None], "a proper end is not an error"
                assert stream.far.losses == [None], "a proper end is not an error"

        self.run(main())

    def test_both_ends_may_close_at_once(self) -> None:
        """Each of them ends once."""

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires) as opened:
                for _ in range(20):
                    stream = await opened.stream()
                    stream.near.transport.write(b"goodbye")
                    stream.near.transport.close()
                    stream.far.transport.close()
                    stream.far.transport.close()
                    await stream.ended()

        self.run(main())

    def test_abort_ends_both_sides_once(self) -> None:
        """At either end, with bytes still to be written, and together with close."""

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires) as opened:
                for round_ in range(8):
                    stream = await opened.stream()
                    end = (stream.near, stream.far)[round_ % 2]
                    end.transport.write(bytes(MANY))
                    if round_ % 4 > 1:
                        end.transport.close()
                    end.transport.abort()
                    if round_ > 3:
                        end.transport.abort()
                    assert end.transport.is_closing()
                    await stream.ended()

        self.run(main())

    def test_a_write_after_close_goes_nowhere(self) -> None:
        """And raises nothing: a protocol can't always know."""

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires) as opened:
                stream = await opened.stream()
                stream.near.transport.write(b"before")
                stream.near.transport.close()
                stream.near.transport.write(b"after")
                await stream.ended()
                assert stream.far.received == b"before"

        self.run(main())

    def test_closing_a_wire_leaves_its_streams_open(self) -> None:
        """It ends the listening only, and may be done twice."""

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires) as opened:
                stream = await opened.stream()
                await opened.listening.close()
                await opened.listening.close()
                await _dial_fails(opened.wire(), opened.address)
                stream.far.transport.write(b"still here")
                stream.near.transport.write(b"me too")
                await eventually(lambda: stream.near.received == b"still here")
                await eventually(lambda: stream.far.received == b"me too")

        self.run(main())

    def test_the_address_of_a_closed_wire_can_be_listened_at_again(self) -> None:
        """Nothing is left behind."""

        async def main() -> None:
            async with self.wires() as wires, _Opened(wires) as opened:
                await opened.listening.close()
                again = opened.wire()
                accepted: list[Recorder] = []

                def accept() -> Recorder:
                    accepted.append(Recorder())
                    return accepted[-1]

                assert await again.listen(opened.address, accept) == opened.address
                near = Recorder()
                await opened.wire().dial(opened.address, near)
                await eventually(lambda: accepted, what="a stream")
                near.transport.close()
                await near.lost
                await accepted[0].lost

        self.run(main())


class _Opened:
    """Somebody who listens, and everybody who dials; all ended at the end."""

    def __init__(self, wires: Wires, accepting: Callable[[], Recorder] = Recorder) -> None:
        self.accepted: list[Recorder] = []
        self._accepting = accepting
        self._wires = wires
        self._made: list[Wire] = []
        self._dialled: list[Recorder] = []

    async def __aenter__(self) -> Self:
        self.listening = self.wire()
        self.address = await self.listening.listen(self._wires.address(), self._accept)
        return self

    async def __aexit__(self, *_: object) -> None:
        for end in (*self._dialled, *self.accepted):
            if not end.losses:
                end.transport.abort()
        for end in (*self._dialled, *self.accepted):
            await asyncio.wait_for(end.lost, 10)
        for wire in self._made:
            await wire.close()

    def wire(self) -> Wire:
        """Another node's wire."""
        self._made.append(self._wires.make())
        return self._made[-1]

    async def stream(self, near: Recorder | None = None) -> Stream:
        """A new stream, both ends of which are ready."""
        near = near or Recorder()
        before = len(self.accepted)
        await self.wire().dial(self.address, near)
        self._dialled.append(near)
        await eventually(lambda: len(self.accepted) > before, what="a stream accepted")
        far = self.accepted[before]
        await asyncio.wait_for(asyncio.gather(near.ready, far.ready), 10)
        return Stream(near, far)

    def _accept(self) -> Recorder:
        self.accepted.append(self._accepting())
        return self.accepted[-1]


def _write_in_pieces(end: Recorder, content: bytes) -> None:
    sizes = random.Random(4)
    at = 0
    while at < len(content):
        size = sizes.choice((1, 100, 5_000, 70_000, 400_000))
        end.transport.write(content[at : at + size])
        at += size


async def _listen_is_refused(wire: Wire, address: str) -> None:
    message = ""
    try:
        await wire.listen(address, Recorder)
    except ConfigurationError as error:
        message = str(error)
    assert message, f"{address!r} must be refused"
    assert address in message, "the message must name the address"


async def _dial_fails(wire: Wire, address: str) -> None:
    near = Recorder()
    try:
        await wire.dial(address, near)
    except OSError:
        assert not near.ready.done(), "connection_made was called, yet the dial failed"
    else:
        raise AssertionError("a dial to nobody must raise OSError")
