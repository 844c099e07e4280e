"""Counts the bytes that Thence writes to a peer's socket, from outside: no counter of its own.

Both halves run on plain asyncio, whose transports send through ``socket.socket``; the sending
half wraps that method and adds up what the system accepted, on connected stream sockets alone.
All that a node writes to its peer counts: frames' headers, interned names, reports, heartbeats.
"""

import asyncio
import socket
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from typing import Any

import msgspec

from benchmarks.contestants.contract import Contestant, Receiver
from benchmarks.contestants.thence import samples
from thence import Context, Event, Node, Service

__all__ = ["Reader", "Writer"]

MEASURED_ENVELOPES = 50
SETTLE_SECONDS = 5.0
TICKS_BETWEEN = 5
QUEUE = 10_000
"""Room for a whole round: consequences find room or are refused, and none may be missing here."""


class Trigger(Event):
    """Handled beside the emitter, so that only what it causes crosses to the peer."""

    which: int


def cloud_event(event: Event, context: Context) -> bytes:
    """Return the event as compact CloudEvents 1.0 JSON, with the ids it travelled under."""
    key = samples.key_field(type(event))
    envelope = {
        "specversion": "1.0",
        "id": str(context.event_id),
        "source": f"/{context.source}",
        "type": samples.wire_name(type(event)),
        "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "subject": str(getattr(event, key)) if key else None,
        "correlationid": str(context.root_id),
        "causationid": str(context.cause_id) if context.cause_id else None,
        "data": {name: getattr(event, name) for name in samples.field_names(type(event))},
    }
    return msgspec.json.encode({name: value for name, value in envelope.items() if value})


class Reader(Receiver):
    """Handles every sampled event and measures it as CloudEvents JSON."""

    async def open(self) -> None:
        service = Service("reader")
        for event_type in samples.event_types():
            self._listen(service, event_type)
        self.lengths: list[int] = []
        self.node = Node(service, mesh=f"local:{self.place.directory}")
        await self.node.start()

    def _listen(self, service: Service, event_type: type[Event]) -> None:
        tally = self.tally

        async def handle(event: Any, context: Any) -> None:
            tally.count += 1
            if tally.count <= MEASURED_ENVELOPES:
                self.lengths.append(len(cloud_event(event, context)))
            if tally.count >= tally.expected:
                tally.finish()

        handle.__annotations__ = {"event": event_type, "context": Context, "return": None}
        handle.__name__ = f"handle_{samples.wire_name(event_type)}"
        service.on(event_type, queue=QUEUE)(handle)

    async def close(self) -> None:
        await self.node.close()

    async def json_bytes(self) -> float:
        """Return the mean length as CloudEvents JSON since the last call."""
        lengths, self.lengths = self.lengths, []
        return sum(lengths) / len(lengths)


class Writer(Contestant):
    """Emits each sampled event, as a root and as a consequence."""

    async def open(self) -> None:
        self.samples = [samples.sample(event_type) for event_type in samples.event_types()]
        self.counter = _SentBytes()
        service = Service("writer")

        async def cause(trigger: Any) -> Any:
            return self.samples[trigger.which]

        union = reduce(or_, samples.event_types())
        cause.__annotations__ = {"trigger": Trigger, "return": union}
        service.on(Trigger)(cause)
        self.node = Node(service, mesh=f"local:{self.place.directory}")
        await self.node.start()

    async def close(self) -> None:
        await self.node.close()
        self.counter.stop()

    async def names(self) -> list[str]:
        """Return the wire names of the sampled types, in the order of ``which``."""
        return [samples.wire_name(type(event)) for event in self.samples]

    async def start_count(self) -> None:
        """Forget what was written so far."""
        self.counter.total = 0

    async def written(self) -> int:
        """Return the bytes written since ``start_count``."""
        return self.counter.total

    async def emit(self, which: int, count: int, caused: bool, apart: bool) -> None:
        """Emit one type ``count`` times; ``apart``: each in a frame of its own."""
        event = Trigger(which=which) if caused else self.samples[which]
        for _ in range(count):
            await self.node.emit(event)
            if apart:
                for _ in range(TICKS_BETWEEN):
                    await asyncio.sleep(0)


class _SentBytes:
    """Adds up what leaves through stream sockets of this process."""

    def __init__(self) -> None:
        self.total = 0
        own = vars(socket.socket)
        self._originals = {name: own.get(name) for name in ("send", "sendmsg", "sendall")}
        for name in self._originals:
            setattr(socket.socket, name, self._counting(getattr(socket.socket, name)))

    def stop(self) -> None:
        """Put the methods back."""
        for name, original in self._originals.items():
            if original is None:
                delattr(socket.socket, name)
            else:
                setattr(socket.socket, name, original)

    def _counting(self, method: Any) -> Any:
        def send(sender: socket.socket, data: Any, *rest: Any) -> Any:
            sent = method(sender, data, *rest)
            if sender.type == socket.SOCK_STREAM and _has_address(sender):
                self.total += len(data) if sent is None else sent
            return sent

        return send


def _has_address(sender: socket.socket) -> bool:
    """Tell a connection to a peer from an event loop's own pair of unnamed sockets."""
    return bool(sender.getsockname() or sender.getpeername())
