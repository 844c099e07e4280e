"""Any bytes at all may arrive on a connection: it is closed and counted, and nobody else notices."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from thence import Event, Node, Service
from thence.app.meshes import open_mesh
from thence.identifiers import new_node_id
from thence.mesh.frames import EVENTS, MAX_FRAME, STAMP, message_frame
from thence.mesh.messages import (
    PROTOCOL,
    Ended,
    Fenced,
    Hello,
    Moved,
    Names,
    Ping,
    Refuse,
    encode_message,
)
from thence.testing import run
from thence.testing.conformance import eventually


class Found(Event):
    player: str
    clue: int
    pin: str = ""


class Paid(Event, private=("card",)):
    card: str
    kind: str = "card"

    def __post_init__(self) -> None:
        if self.kind == "refused":
            raise ValueError(f"no such card: {self.card}")


class Hostile(asyncio.Protocol):
    """Somebody who is connected and says what they like."""

    def __init__(self) -> None:
        self.received = b""
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)


class Scene:
    """A node that hosts a service, an honest emitter, and somebody hostile."""

    def __init__(self, mesh: str) -> None:
        self.mesh = mesh
        self.service = Service("scores")
        self.handled: list[Event] = []

        @self.service.on(Found)
        async def award(found: Found) -> None:
            self.handled.append(found)

        @self.service.on(Paid)
        async def book(paid: Paid) -> None:
            self.handled.append(paid)

    async def __aenter__(self) -> Scene:
        self.node = Node(self.service, mesh=self.mesh, name="target")
        self.honest = Node(mesh=self.mesh, name="honest")
        await self.node.start()
        await self.honest.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.honest.close()
        await self.node.close()

    async def connect(self) -> Hostile:
        address = self.node.report().address
        _, wire_for = open_mesh(self.mesh, new_node_id())
        hostile = Hostile()
        await wire_for(address).dial(address, hostile)
        return hostile

    async def connect_politely(self) -> Hostile:
        hostile = await self.connect()
        hostile.transport.write(hello())
        await eventually(lambda: len(self.node.report().peers) == 2)
        return hostile

    async def closed_for(self, hostile: Hostile, reason: str) -> None:
        await eventually(hostile.closed.done, within=60, what="the end of the connection")
        assert self.node.report().closures == {reason: 1}

    async def nobody_else_noticed(self) -> None:
        before = len(self.handled)
        receipt = await self.honest.emit(Found("ana", 3))
        assert receipt.targets == ("scores",)
        await eventually(lambda: len(self.handled) == before + 1)
        assert self.honest.report().closures == {}


def message(told: Any) -> bytes:
    return message_frame(encode_message(told))


def hello(
    protocol: int = PROTOCOL,
    node: str | None = None,
    service: str = "",
    clock: float = 0.0,
    name: str = "hostile",
) -> bytes:
    node = new_node_id() if node is None else node
    services = (service,) if service else ()
    told = Hello(protocol, node, name, "memory:nowhere", services, (), True, 1, clock)
    return message(told)


def frame(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body), kind) + body


def events(*envelopes: object) -> bytes:
    """Sent when the virtual clock was set going."""
    return frame(EVENTS, bytes(STAMP) + msgspec.msgpack.encode(list(envelopes)))


mesh_number = iter(range(10**6))


def on_virtual_time(play: Callable[[Scene], Any]) -> None:
    async def main() -> None:
        async with Scene(f"memory:hostile-{next(mesh_number)}") as scene:
            await play(scene)
            await scene.nobody_else_noticed()

    run(main())


STRANGERS = {
    "garbage": (b"GET / HTTP/1.1\r\n\r\n", "garbage"),
    "zeros": (bytes(100), "garbage"),
    "an unknown kind": (frame(9, b"body"), "garbage"),
    "an oversized message": (struct.pack(">IB", MAX_FRAME + 1, 2), "oversize"),
    "oversized events": (struct.pack(">IB", MAX_FRAME + 1, EVENTS), "oversize"),
    "an empty message": (frame(2, b""), "garbage"),
    "no message": (frame(2, b"\xc1"), "garbage"),
    "a nested bomb": (frame(2, b"\x91" * 100_000), "garbage"),
    "an array that claims 4 GB": (frame(2, b"\xdd\xff\xff\xff\xff"), "garbage"),
    "a text that is none": (frame(2, b"\x92\x01\xa1\xb0"), "garbage"),
    "an unknown message": (frame(2, msgspec.msgpack.encode([99, 1])), "garbage"),
    "another version": (hello(PROTOCOL + 1), "protocol"),
    "events before a Hello": (events([0, 1, ["ana", 3]]), "garbage"),
    "a message before a Hello": (message(Ping()), "garbage"),
    "a refusal of what was not dialled": (message(Refuse("no")), "garbage"),
    "a node without an id": (hello(node=""), "garbage"),
    "a node id without end": (hello(node="0" * 1000), "garbage"),
    "a name without end": (hello(name="n" * 5000), "garbage"),
    "a service's name without end": (hello(service="s" * 1000), "garbage"),
    "a stopwatch that never began": (hello(clock=-math.inf), "garbage"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_who_says_this_is_shown_the_door(name: str) -> None:
    said, reason = STRANGERS[name]

    async def play(scene: Scene) -> None:
        hostile = await scene.connect()
        hostile.transport.write(said)
        await scene.closed_for(hostile, reason)

    on_virtual_time(play)


GUESTS = {
    "a second Hello": hello(),
    "a late refusal": message(Refuse("no")),
    "a stopwatch that shows no number": message(Ping(math.nan)),
    "a stopwatch that shows the end of time": message(Ping(math.inf)),
    "an acknowledgement of nothing": message(Ended((0, 1))),
    "an acknowledgement of fewer than none": message(Ended((0, -1))),
    "an acknowledgement that is no pair": message(Ended((0,))),
    "names that don't follow each other": message(Names(5, ("a",))),
    "a name without end": message(Names(0, ("a" * 1000,))),
    "more names than there is room for": message(Names(0, ("a",) * 5000)),
    "events given back of an unknown service": message(Moved("nobody", "x", ())),
    "an event given back that was never sent": message(
        Moved("scores", "x", (msgspec.Raw(msgspec.msgpack.encode([0, 1, b"", 0, 0, 0, -1, 0])),))
    ),
    "a text that is none": frame(2, b"\x92\x01\xa1\xb0"),
    "events that are none": frame(EVENTS, b"\xc1"),
    "events that end early": frame(EVENTS, b"\xdd\0\0\0\x05\x01"),
    "events that claim 4 GB": frame(EVENTS, b"\xdd\xff\xff\xff\xff"),
    "events as a nested bomb": frame(EVENTS, b"\x91" * 100_000),
}


@pytest.mark.parametrize("name", GUESTS)
def test_a_peer_who_says_this_is_shown_the_door(name: str) -> None:
    async def play(scene: Scene) -> None:
        hostile = await scene.connect_politely()
        hostile.transport.write(GUESTS[name])
        await scene.closed_for(hostile, "garbage")

    on_virtual_time(play)


def test_a_fence_that_nobody_asked_for_changes_nothing() -> None:
    async def play(scene: Scene) -> None:
        hostile = await scene.connect_politely()
        hostile.transport.write(message(Fenced(7)))
        await asyncio.sleep(1)
        assert scene.node.report().closures == {}
        hostile.transport.abort()

    on_virtual_time(play)


def test_half_a_frame_and_then_silence_is_not_waited_for() -> None:
    async def play(scene: Scene) -> None:
        hostile = await scene.connect_politely()
        hostile.transport.write(events([0, 1, ["ana", 3, ""]])[:-3])
        await scene.closed_for(hostile, "half frame")
        assert not scene.handled

    on_virtual_time(play)


def test_whoever_does_not_introduce_themselves_is_not_waited_for() -> None:
    async def play(scene: Scene) -> None:
        await scene.closed_for(await scene.connect(), "no hello")

    on_virtual_time(play)


def test_a_peer_that_falls_silent_is_given_up() -> None:
    async def play(scene: Scene) -> None:
        await scene.closed_for(await scene.connect_politely(), "silent")

    on_virtual_time(play)


def test_a_peer_that_only_beats_is_kept() -> None:
    async def play(scene: Scene) -> None:
        hostile = await scene.connect_politely()
        for _ in range(60):
            await asyncio.sleep(1)
            hostile.transport.write(message(Ping()))
        assert scene.node.report().closures == {}
        hostile.transport.abort()

    on_virtual_time(play)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param([0, 2, ["ana", "three", ""]], id="wrong type"),
        pytest.param([0, 2, ["ana"]], id="field missing"),
        pytest.param([0, 2, [msgspec.Raw(b"\xa1\xb0"), 3, ""]], id="a text that is none"),
        pytest.param([0, 2], id="no body"),
        pytest.param([77, 2, ["ana", 3, ""]], id="no such subscription"),
        pytest.param("nonsense", id="no envelope"),
        pytest.param([], id="empty"),
        pytest.param([0, 2, ["ana", 3, ""], "many"], id="credits are no number"),
    ],
)
def test_one_invalid_event_takes_no_others_of_its_frame_with_it(bad: object) -> None:
    async def play(scene: Scene) -> None:
        hostile = await scene.connect_politely()
        hostile.transport.write(events([0, 1, ["ana", 1, ""]], bad, [0, 3, ["ana", 3, ""]]))
        await eventually(lambda: len(scene.handled) == 2)
        assert scene.handled == [Found("ana", 1), Found("ana", 3)]
        report = scene.node.report()
        assert report.invalid == {"hostile": 1}
        assert report.closures == {}
        hostile.transport.abort()

    on_virtual_time(play)


def test_an_event_that_can_not_be_decoded_shows_no_private_value(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def play(scene: Scene) -> None:
        hostile = await scene.connect_politely()
        hostile.transport.write(events([1, 1, ["4111-1111", "refused"]]))
        await eventually(lambda: scene.node.report().invalid)
        hostile.transport.abort()

    with caplog.at_level(logging.DEBUG):
        on_virtual_time(play)
    assert "an event 'paid'" in caplog.text
    assert "4111" not in caplog.text


def test_noise_on_real_sockets_disturbs_nobody(tmp_path: Path) -> None:
    chance = random.Random(20)

    async def main() -> None:
        async with Scene(f"local:{tmp_path}") as scene:
            for polite in (False, True) * 15:
                hostile = await scene.connect()
                if polite:
                    hostile.transport.write(hello())
                for _ in range(3):
                    noise = chance.randbytes(chance.choice((1, 10, 1000, 100_000)))
                    kind = chance.choice((EVENTS, 2))
                    hostile.transport.write(chance.choice((noise, frame(kind, noise))))
                hostile.transport.write(b"\xff" * 8)
                await eventually(hostile.closed.done)
            await eventually(lambda: sum(scene.node.report().closures.values()) == 30)
            assert set(scene.node.report().closures) <= {"garbage", "oversize"}
            await scene.nobody_else_noticed()

    asyncio.run(main())
