"""What is emitted leaves in as few writes as can be, without waiting when nothing else is going on."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.delivery.watching import eventually, lost

from thence import Event, Node, Service
from thence.delivery.outlets import LinkOutlet
from thence.events import spec_of
from thence.events.lineage import Lineage, Path
from thence.identifiers import EventId
from thence.mesh.cork import Cork
from thence.mesh.frames import EVENTS, FrameReader, stamped
from thence.mesh.link import FRAME_EVENTS, Link
from thence.mesh.messages import Names, Paths, Subscribed, decode_message
from thence.testing import MemoryMesh, run


class Pinged(Event):
    number: int
    text: str = ""


class Clock:
    """Real time by hand, for deciding whether an emit comes alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("thence.mesh.cork.time", SimpleNamespace(perf_counter=lambda: self.now))


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def frames(self) -> list[tuple[int, bytes]]:
        reader = FrameReader()
        return [frame for data in self.writes for frame in reader.feed(data)]

    def batches(self) -> list[list[int]]:
        """The sequence numbers of the events in each frame of events."""
        return [
            [envelope[1] for envelope in msgspec.msgpack.decode(stamped(body)[1])]
            for kind, body in self.frames()
            if kind == EVENTS
        ]


def outlet(number: int = 3, cork: Cork | None = None) -> tuple[LinkOutlet, Wire, Cork]:
    cork = cork or Cork(asyncio.get_running_loop())
    owner: Any = SimpleNamespace(
        cork=cork,
        received=lambda *_: None,
        departures=SimpleNamespace(undecided=()),
        connected=lambda _: None,
        owing=lambda _: None,
        now=asyncio.get_running_loop().time,
    )
    link, wire = Link(owner, dialled=False), Wire()
    link.connection_made(wire)
    link.node = "0" * 20
    link.established = True
    wanted = Subscribed(number, "scores", spec_of(Pinged).schema, 10_000, broadcast=False)
    return LinkOutlet(link, wanted), wire, cork


def send(one: LinkOutlet, sequence: int, text: str = "", lineage: Lineage | None = None) -> None:
    payload, body = spec_of(Pinged).seal(Pinged(number=sequence, text=text))
    one.room -= 1
    one.send(sequence, payload, body, lineage)
    one.link._cork.release()


def test_an_event_that_comes_alone_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        clock = Clock(monkeypatch)
        one, wire, _ = outlet()
        send(one, 1)
        assert wire.batches() == [[1]]
        clock.now += 1
        send(one, 2)
        assert wire.batches() == [[1], [2]]

    run(main())


def test_events_that_follow_closely_leave_together_at_the_end_of_the_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        Clock(monkeypatch)
        one, wire, _ = outlet()
        for sequence in range(1, 11):
            send(one, sequence)
        assert wire.batches() == [[1]]
        await asyncio.sleep(0)
        assert wire.batches() == [[1], list(range(2, 11))]
        await asyncio.sleep(0)
        assert len(wire.writes) == 2

    run(main())


def test_the_consequences_of_a_batch_leave_in_one_write_to_each_peer_when_it_has_ended() -> None:
    async def main() -> None:
        one, wire, cork = outlet()
        other, other_wire, _ = outlet(cork=cork)
        with cork:
            for sequence in range(1, 51):
                send(one if sequence % 2 else other, sequence)
                with cork:
                    pass
            assert wire.writes == other_wire.writes == []
        assert wire.batches() == [list(range(1, 51, 2))]
        assert other_wire.batches() == [list(range(2, 51, 2))]

    run(main())


@pytest.mark.parametrize("text", ["", "x" * 500])
def test_a_long_batch_is_cut_into_frames_that_a_peer_can_start_on(text: str) -> None:
    async def main() -> None:
        one, wire, cork = outlet()
        with cork:
            for sequence in range(1, 1001):
                send(one, sequence, text)
            assert len(wire.writes) > 2, "nothing has left while the batch goes on"
        batches = wire.batches()
        assert [sequence for batch in batches for sequence in batch] == list(range(1, 1001))
        assert all(len(batch) <= FRAME_EVENTS for batch in batches)
        assert all(len(body) < 32 * 1024 for _, body in wire.frames())

    run(main())


def test_a_node_and_a_path_are_named_to_a_peer_once_and_before_the_first_event_that_mentions_them() -> (
    None
):
    async def main() -> None:
        one, wire, cork = outlet()
        node = "0" * 19 + "7"
        event_id, path = EventId(node, 5), Path(None, "scores.award")
        with cork:
            send(one, 1)
            for sequence in (2, 3):
                send(one, sequence, lineage=Lineage(path, node, 5, node, 5, 30.0, 16))
        (_, paths), (kind, names), *rest = wire.frames()
        assert kind != EVENTS
        assert decode_message(paths) == Paths(1, ("scores.award",))
        assert decode_message(names) == Names(0, (node,))
        assert [kind for kind, _ in rest] == [EVENTS]
        assert wire.batches() == [[1, 2, 3]]
        assert str(event_id).startswith(node)

    run(main())


@pytest.mark.parametrize("under_way", [0, 1, 7])
def test_a_peer_that_dies_costs_each_event_under_way_to_it_one_count(under_way: int) -> None:
    async def main() -> None:
        service = Service("scores")
        got: list[int] = []

        @service.on(Pinged)
        async def note(pinged: Pinged) -> None:
            got.append(pinged.number)

        async with (
            Node(service, mesh="memory:pending", name="scores"),
            Node(mesh="memory:pending") as node,
        ):
            mesh = MemoryMesh.named("pending")
            for number in range(10):
                await node.emit(Pinged(number=number))
            await eventually(lambda: not any(r.outstanding for r in node.report().routes))
            mesh.stop("scores")
            for number in range(under_way):
                await node.emit(Pinged(number=10 + number))
            mesh.kill("scores")
            await eventually(lambda: not node.report().peers)
            assert sum(lost(node).values()) == under_way
            receipt = await node.emit(Pinged(number=99))
            assert (receipt.targets, sum(lost(node).values())) == ((), under_way)
        assert got == list(range(10))

    run(main())


@pytest.mark.parametrize("seed", range(20))
def test_a_peer_that_dies_in_the_midst_of_many_emits_leaves_no_event_uncounted(seed: int) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        service = Service("scores")
        handled: set[int] = set()
        mesh = MemoryMesh.named("midst")
        mesh.delay = 0.01

        @service.on(Pinged, queue=40)
        async def note(pinged: Pinged) -> None:
            if not mesh.is_killed("scores"):
                handled.add(pinged.number)

        scores = Node(service, mesh="memory:midst", name="scores")
        await scores.start()
        async with Node(mesh="memory:midst") as node:
            asyncio.get_running_loop().call_later(0.2 * chance.random(), mesh.kill, "scores")
            sent = 0
            for number in range(200):
                receipt = await node.emit(Pinged(number=number))
                sent += bool(receipt.targets)
                if chance.random() < 0.2:
                    await asyncio.sleep(0.01 * chance.random())
            await eventually(lambda: not node.report().peers)
            counts = lost(node)
            # What was handled, and not acknowledged any more, is counted too.
            assert len(handled) + counts["connection lost"] >= sent
            assert counts["connection lost"] <= 40
        await scores.close()

    run(main())
