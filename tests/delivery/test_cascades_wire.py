"""What a cascade costs on the wire, what stands for what there, and what a peer may say that lies."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from tests.delivery.cascading import followed, new_mesh, running, tapped_wire
from tests.mesh.test_hostile_peers import Hostile, events, message

from thence import Budget, Context, Event, Node, Service, SettleTimeout
from thence.app.meshes import open_mesh
from thence.cascade.settlement import Failure, Step, Tally
from thence.events import spec_of
from thence.events.lineage import Path
from thence.identifiers import new_node_id
from thence.mesh import link as links
from thence.mesh.frames import EVENTS, MAX_FRAME, FrameReader, stamped
from thence.mesh.link import Link
from thence.mesh.messages import (
    PROTOCOL,
    Hello,
    Moved,
    Names,
    Paths,
    Ready,
    Settled,
    Subscribed,
    Track,
    decode_message,
)
from thence.testing import MemoryMesh, run

DAY = 86_400.0
MOST = 48
"""Bytes by which the envelope of a consequence may be longer than that of a root event."""


class Begun(Event):
    """A root event."""

    word: str = "word"


class Claim(Event):
    """Says itself what its envelope says."""

    root: str
    cause: str
    path: tuple[str, ...]


class Fading(Event, ttl="1h"):
    root: str
    cause: str
    path: tuple[str, ...]


class KeyedClaim(Event, key="who"):
    root: str
    cause: str
    path: tuple[str, ...]
    who: str = ""


def claim(ctx: Context, event: Any, place: str, kind: type[Event] = Claim, **fields: Any) -> Event:
    path = (*getattr(event, "path", ()), place)
    return kind(root=ctx.root_id, cause=ctx.event_id, path=path, **fields)  # type: ignore[call-arg]


def check(ctx: Context, event: Any) -> None:
    assert ctx.root_id == event.root
    assert ctx.cause_id == event.cause
    assert ctx.depth == len(event.path)


class Lineages:
    """An observer that holds the path of every event against what the handlers say."""

    def __init__(self, *nodes: Node) -> None:
        self.paths: dict[str, tuple[str, ...]] = {}
        self.errors: list[BaseException] = []
        for node in nodes:
            node.observe(self)  # type: ignore[arg-type]

    def handled(self, event_id: Any, lineage: Any, *_: Any) -> None:
        self.paths[str(event_id)] = () if lineage is None else lineage.path.handlers

    def failed(self, event_id: Any, lineage: Any, event: str, s: str, h: str, error: Any) -> None:
        self.errors.append(error)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@contextmanager
def tapped_envelopes(patch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The envelope of every event that any link hears meanwhile."""
    heard: list[bytes] = []
    readers: dict[int, FrameReader] = {}
    plain = Link.data_received
    decode = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode

    def listen(link: Link, data: bytes) -> None:
        reader = readers.setdefault(id(link), FrameReader())
        for kind, body in reader.feed(bytes(data)):
            if kind == EVENTS:
                heard.extend(bytes(raw) for raw in decode(stamped(body)[1]))
        plain(link, data)

    with patch.context() as patched:
        patched.setattr(Link, "data_received", listen)
        yield heard


def over_a_root(envelope: bytes) -> int:
    """How many bytes longer an envelope is than that of a root event without anything special."""
    number, sequence, payload, *_ = msgspec.msgpack.decode(envelope)
    return len(envelope) - len(msgspec.msgpack.encode([number, sequence, payload]))


def chain(length: int, kind: type[Event] = Claim) -> list[Service]:
    """Services of which each emits to the next: ``hop0`` handles the root."""
    kinds = [Begun]
    for number in range(length):
        made: Any = type(
            f"{kind.__name__}{number}",
            (kind,),
            {},
            **({"ttl": "1h"} if kind is Fading else {}),
            name=f"{kind.__name__.lower()}_{number}",
        )
        kinds.append(made)
    services = [Service(f"hop{number}") for number in range(length + 1)]

    def host(number: int) -> None:
        below = kinds[number + 1 : number + 2]

        @services[number].on(kinds[number], emits=below, name="pass_on")
        async def pass_on(event: Any, ctx: Context) -> Any:
            if number:
                check(ctx, event)
            return [claim(ctx, event, f"hop{number}.pass_on", one) for one in below]

    for number in range(length + 1):
        host(number)
    return services


@pytest.mark.parametrize("tracked", [False, True], ids=["untracked", "tracked"])
@pytest.mark.parametrize("kind", [Claim, Fading], ids=["plain", "with a ttl"])
@pytest.mark.parametrize("crowded", [False, True], ids=["few paths", "many paths"])
def test_a_consequence_takes_at_most_48_bytes_more_than_a_root_event(
    monkeypatch: pytest.MonkeyPatch, kind: type[Event], tracked: bool, crowded: bool
) -> None:
    async def main() -> None:
        mesh = new_mesh()
        nodes = [Node(service, mesh=mesh) for service in chain(16, kind)]
        emitter = Node(mesh=mesh)
        for node in nodes:
            Lineages(node)
        with tapped_envelopes(monkeypatch) as heard:
            async with running(*nodes, emitter):
                for node in (*nodes, emitter):
                    runtime = node._runtime
                    assert runtime is not None
                    runtime.emitter.sender.sequence = 4_000_000_000
                    for link in runtime.peers.links.values():
                        for number in range(300 if crowded else 0):
                            link.number_of_path(Path.through((f"some.handler{number}",)))
                            link.number_of(f"{number:020}")
                heard.clear()
                receipt = await emitter.emit(Begun(), budget=Budget(events=60_000, depth=20))
                if tracked:
                    report = await receipt.settled(20)
                    assert (report.events, report.failed) == (17, 0)
                else:
                    del receipt
                    await asyncio.sleep(1)
        assert len(heard) == 17
        most = [over_a_root(envelope) for envelope in heard]
        print(kind.__name__, tracked, crowded, most)
        assert max(most) <= MOST

    # A machine that has been up for two months: its milliseconds need nine bytes.
    run(main(), start=60 * DAY, limit=90 * DAY)


def test_ids_that_are_equal_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        mesh = new_mesh()
        nodes = [Node(service, mesh=mesh) for service in chain(3)]
        with tapped_envelopes(monkeypatch) as heard:
            async with running(*nodes):
                await nodes[1].emit(Begun())
                await asyncio.sleep(1)
        root, first, second, third = (msgspec.msgpack.decode(envelope) for envelope in heard)
        assert len(root) <= 4
        # Path, cause and deadline; the cause is the root.
        assert len(first[4]) == 4
        assert [len(second[4]), len(third[4])] == [7, 7]
        assert second[4][6] == third[4][6] == 1

    run(main())


def test_names_and_paths_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        mesh = new_mesh()
        nodes = [Node(service, mesh=mesh) for service in chain(4)]
        with tapped_wire(monkeypatch) as heard:
            async with running(*nodes):
                for _ in range(100):
                    await nodes[0].emit(Begun())
                await asyncio.sleep(1)
        paths = [message for message in heard if isinstance(message, Paths)]
        assert [path.number for path in paths] == [1] * 4
        assert [len(path.handlers) for path in paths] == [1, 2, 3, 4]
        names = [message for message in heard if isinstance(message, Names)]
        # The root's node, and where that is another one the cause's.
        assert sum(len(message.nodes) for message in names) == 1 + 1 + 2 + 2

    run(main())


class Web:
    """Roots of several nodes that reach one service over many paths, and everything claims what it is."""

    def __init__(self, *, replicas: int = 1, pause: float = 0.0, keyed: bool = False) -> None:
        self.mesh = new_mesh()
        self.kind: type[Event] = KeyedClaim if keyed else Claim
        self.pause = pause
        self.ends: list[Any] = []
        self.roots = [Node(mesh=self.mesh) for _ in range(5)]
        self.relay = Node(self.relaying(), mesh=self.mesh)
        self.nodes = [Node(self.ending(), mesh=self.mesh) for _ in range(replicas)]
        self.all = [*self.nodes, self.relay, *self.roots]
        self.lineages = Lineages(*self.all)

    def relaying(self) -> Service:
        relay = Service("relay")

        def host(number: int) -> None:
            @relay.on(Begun, name=f"h{number}", emits=[self.kind])
            async def pass_on(begun: Begun, ctx: Context) -> Any:
                fields = {"who": f"p{number}"} if self.kind is KeyedClaim else {}
                return claim(ctx, begun, f"relay.h{number}", self.kind, **fields)

        for number in range(12):
            host(number)
        return relay

    def ending(self) -> Service:
        end = Service("end")

        @end.on(self.kind, concurrency=1000)
        async def finish(event: Any, ctx: Context) -> None:
            await asyncio.sleep(self.pause)
            check(ctx, event)
            self.ends.append((ctx.event_id, event))

        return end

    def right(self) -> None:
        assert not self.lineages.errors, self.lineages.errors[0]
        for event_id, event in self.ends:
            assert self.lineages.paths[event_id] == event.path


def test_numbers_of_paths_start_anew_without_confusion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MAX_PATHS", 5)

    async def main() -> None:
        web = Web(pause=0.05)
        async with running(*web.all):
            for round_ in range(10):
                await web.roots[round_ % 5].emit(Begun())
                if round_ % 2:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(2)
            assert len(web.ends) == 120
            web.right()
            for node in web.all:
                assert node._runtime is not None
                for link in node._runtime.peers.links.values():
                    assert len(link.told.paths) <= 5

    run(main())


@pytest.mark.parametrize(("bound", "most"), [("MAX_PATH_CHARACTERS", 40), ("MAX_PATH_HANDLERS", 5)])
def test_numbers_of_paths_start_anew_when_they_are_too_long_together(
    monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(links, bound, most)

    async def main() -> None:
        web = Web()
        async with running(*web.all):
            for _ in range(5):
                await web.roots[0].emit(Begun())
            await asyncio.sleep(2)
            assert len(web.ends) == 60
            web.right()
            assert all(node.report().closures == {} for node in web.all)

    run(main())


def test_numbers_of_nodes_start_anew_without_confusion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MAX_NAMES", 3)

    async def main() -> None:
        mesh = new_mesh()
        wrong: list[str] = []
        first, second, third = chain(2)
        nodes = [Node(service, mesh=mesh) for service in (third, second, first)]
        lineages = Lineages(*nodes)
        roots = [Node(mesh=mesh) for _ in range(6)]
        async with running(*nodes, *roots):
            for number in range(60):
                await roots[number % 6].emit(Begun())
                if number % 3 == 0:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(2)
        assert not lineages.errors, (lineages.errors[0], len(lineages.errors), wrong)

    run(main())


@pytest.mark.parametrize(("bound", "most"), [("MAX_PATHS", 5), ("MAX_NAMES", 3)])
def test_what_is_given_back_keeps_its_lineage_though_numbers_have_started_anew(
    monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(links, bound, most)

    async def main() -> None:
        web = Web(pause=0.01, keyed=True)
        late = Node(web.ending(), mesh=web.mesh)
        late.observe(web.lineages)  # type: ignore[arg-type]
        with tapped_wire(monkeypatch) as heard:
            async with running(*web.all):
                MemoryMesh.named(web.mesh.removeprefix("memory:")).delay = 0.02
                starting = asyncio.create_task(late.start())
                for number in range(40):
                    await web.roots[number % 5].emit(Begun())
                    await asyncio.sleep(0.005)
                await starting
                await asyncio.sleep(20)
                assert any(isinstance(message, Moved) for message in heard)
                assert len(web.ends) + len(web.lineages.errors) == 12 * 40
                web.right()
                await late.close()

    run(main())


# -- peers that lie


class Told(Event):
    number: int = 0


class Stage:
    """An honest node that relays, an honest one behind it, and somebody hostile who is also a service."""

    def __init__(self) -> None:
        self.mesh = new_mesh()
        self.relayed = self.ended = 0
        self.service, behind = Service("relay"), Service("behind")

        @self.service.on(Begun, emits=[Claim])
        async def relay(begun: Begun, ctx: Context) -> Event:
            self.relayed += 1
            return claim(ctx, begun, "relay.relay")

        @behind.on(Claim)
        async def end(event: Claim) -> None:
            self.ended += 1

        @self.service.on(Told)
        async def hear(told: Told) -> None: ...

        self.behind = Node(behind, mesh=self.mesh, name="behind")
        self.target = Node(self.service, mesh=self.mesh, name="target")
        self.honest = Node(mesh=self.mesh, name="honest")
        self.nodes = [self.behind, self.target, self.honest]

    async def intruder(self) -> Hostile:
        address = self.target.report().address
        _, wire_for = open_mesh(self.mesh, new_node_id())
        hostile = Hostile()
        await wire_for(address).dial(address, hostile)
        wanted = Subscribed(7, "spy", spec_of(Told).schema, 1000, False)
        hello = Hello(
            PROTOCOL, new_node_id(), "hostile", "memory:nowhere", ("spy",), (wanted,), True, 1
        )
        hostile.transport.write(message(hello) + message(Ready()))
        async with asyncio.timeout(10):
            while len(self.target.report().peers) < 3:
                await asyncio.sleep(0.001)
        return hostile

    async def nobody_else_noticed(self) -> None:
        before = self.ended
        report = await (await self.honest.emit(Begun())).settled(5)
        assert (report.events, report.failed, report.complete) == (2, 0, True)
        assert self.ended == before + 1
        assert self.honest.report().closures == {}
        assert self.behind.report().closures == {}


def on_stage(play: Callable[[Stage, Hostile], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        stage = Stage()
        async with running(*stage.nodes):
            hostile = await stage.intruder()
            await play(stage, hostile)
            await stage.nobody_else_noticed()
            assert not followed(stage.honest, stage.behind)
            hostile.transport.abort()

    run(main())


def raw(*envelope: object) -> bytes:
    return events(list(envelope))


BAD = {
    "a path without handlers": message(Paths(1, ())),
    "a path of too many handlers": message(Paths(1, ("a.b",) * 1001)),
    "a path of too long names": message(Paths(1, ("a" * 501,))),
    "a path of names that are none": message(Paths(1, ("",))),
    "paths that are too long together": b"".join(
        message(Paths(number, ("a" * 500,) * 1000)) for number in range(1, 4)
    ),
    "more handlers than there is room for": b"".join(
        message(Paths(number, ("a",) * 1000)) for number in range(1, 67)
    ),
    "a path that skips a number": message(Paths(1, ("a.b",))) + message(Paths(3, ("a.b",))),
    "a path that repeats a number": message(Paths(1, ("a.b",))) + message(Paths(2, ("a.b",))) * 2,
    "a path of number 0": message(Paths(0, ("a.b",))),
    "a path of a negative number": message(Paths(-1, ("a.b",))),
    "more paths than there is room for": b"".join(
        message(Paths(number, ("a",))) for number in range(1, links.MAX_PATHS + 2)
    ),
    "a report under no number": message(Settled(((99, (1,), Tally()),))),
    "a report under a negative number": message(Settled(((-7, (1,), Tally()),))),
    "a report of too many failures": message(
        Settled(((7, (1,), Tally(failures=(Failure("failed", "e", "i", "h", "t"),) * 17)),))
    ),
    "a report of too long a path": message(
        Settled(((7, (1,), Tally(steps=(Step("e", "h", "n", 0.0, 0.0),) * 65)),))
    ),
    "a report of text": message(Settled(((7, (1,), Tally(events="many")),))),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BAD)
def test_a_peer_who_says_this_of_cascades_is_shown_the_door(name: str) -> None:
    async def play(stage: Stage, hostile: Hostile) -> None:
        hostile.transport.write(BAD[name])
        async with asyncio.timeout(5):
            await hostile.closed
        assert stage.target.report().closures == {"garbage": 1}

    on_stage(play)


HARMLESS = {
    "reports on events that were never sent": message(
        Settled(tuple((7, (number, number), Tally(events=3)) for number in range(1000)))
    ),
    "a report on a negative event": message(Settled(((7, (-1,), Tally()),))),
    "tracking of what never comes": b"".join(message(Track(0, n)) for n in range(25_000)),
    "tracking under no number": message(Track(999, 5)) + message(Track(-1, -5)),
    "an unknown path and an unknown node": raw(0, 1, ["x"], 50, [77, 88, 3, 5000, 99, 4]),
    "a negative path and negative nodes": raw(0, 1, ["x"], 50, [-7, -8, -3, 5000, -9, -4]),
    "negative credits": raw(0, 1, ["x"], -50),
    "a negative depth": raw(0, 1, ["x"], 50, [1, 0, 1, 0, -1, 0, -5]),
    "a tracked event twice": raw(0, 1, ["x"], 5, [0, 0, 0, 0, -1, 0, 16, 1]) * 2,
    "a deadline long ago": raw(0, 1, ["x"], 50, [0, 0, 0, -(2**60)]),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_peer_who_says_this_of_cascades_harms_nobody(name: str) -> None:
    async def play(stage: Stage, hostile: Hostile) -> None:
        hostile.transport.write(HARMLESS[name])
        await asyncio.sleep(2)
        assert stage.target.report().closures == {}
        runtime = stage.target._runtime
        assert runtime is not None
        assert all(len(link.to_track) <= 10_000 for link in runtime.peers.links.values())
        assert len(runtime.branches) == 0

    on_stage(play)


def test_a_deadline_beyond_all_numbers_harms_nobody() -> None:
    async def play(stage: Stage, hostile: Hostile) -> None:
        for number in range(1, 6):
            hostile.transport.write(raw(0, number, ["x"], 50, [0, 0, 0, 2**64 - 1]))
        await asyncio.sleep(2)
        routes = {
            (route.event, route.service): route.outstanding
            for route in stage.target.report().routes
        }
        assert routes.get(("claim", "behind"), 0) == 0
        handlers = {h.handler: h for h in stage.target.report().handlers}
        assert handlers["relay"].failed == 0

    on_stage(play)


def test_a_depth_beyond_all_bounds_harms_nobody() -> None:
    async def play(stage: Stage, hostile: Hostile) -> None:
        handlers = tuple(f"a.b{number}" for number in range(1000))
        hostile.transport.write(
            message(Names(0, ("0" * 20,)))
            + message(Paths(1, handlers))
            + raw(0, 1, ["x"], 50, [1, 0, 1, 5000, -1, 0, 10**6])
        )
        await asyncio.sleep(2)

    on_stage(play)


async def reported(stage: Stage, hostile: Hostile, tally: Tally) -> Any:
    """What the target's own receipt says after a hostile report; None if the link was closed for it."""
    receipt = await stage.target.emit(Told())
    await asyncio.sleep(0.1)
    runtime = stage.target._runtime
    assert runtime is not None
    hostile.transport.write(message(Settled(((7, (receipt.sequence,), tally),))))
    return await receipt.settled(5)


@pytest.mark.parametrize(
    "tally",
    [Tally(events=-5), Tally(lost=-1), Tally(failed=-1)],
    ids=lambda tally: str(tally)[5:40],
)
def test_a_tally_of_fewer_than_none_makes_no_report_wrong(tally: Tally) -> None:
    async def play(stage: Stage, hostile: Hostile) -> None:
        report = await reported(stage, hostile, tally)
        assert report.events in (1, 2)
        assert report.depth >= 0
        assert min(report.shed, report.cut, report.lost, report.failed) >= 0

    on_stage(play)


def test_a_report_is_believed_once() -> None:
    async def play(stage: Stage, hostile: Hostile) -> None:
        receipt = await stage.target.emit(Told())
        await asyncio.sleep(0.1)
        for _ in range(3):
            hostile.transport.write(message(Settled(((7, (receipt.sequence,), Tally(events=1)),))))
        report = await receipt.settled(5)
        assert (report.events, report.complete) == (2, True)

    on_stage(play)


def test_a_peer_that_never_reports_and_goes_is_a_lost_delivery() -> None:
    async def play(stage: Stage, hostile: Hostile) -> None:
        receipt = await stage.target.emit(Told())
        with pytest.raises(SettleTimeout) as caught:
            await receipt.settled(1)
        partial: Any = caught.value.report
        assert (partial.complete, partial.events) == (False, 1)
        hostile.transport.abort()
        report = await receipt.settled(20)
        assert (report.complete, report.lost, report.events) == (False, 1, 1)

    on_stage(play)


def test_a_report_of_endless_texts_is_not_passed_on_whole() -> None:
    async def play(stage: Stage, hostile: Hostile) -> None:
        endless = Failure("failed", "e" * 100_000, "i" * 100_000, "h" * 100_000, "t" * 100_000)
        step = Step("e" * 100_000, "h" * 100_000, "n", 0.0, 0.0)
        tally = Tally(events=1, failed=1, failures=(endless,) * 4, steps=(step,) * 4)
        report = await reported(stage, hostile, tally)
        assert len(msgspec.msgpack.encode(report)) < 100_000

    on_stage(play)


def reported_by_link(*tallies: Tally) -> list[Tally]:
    """What a peer hears of reports of one tick."""
    written: list[bytes] = []

    class Owner:
        now = staticmethod(lambda: 0.0)
        received = staticmethod(lambda *_: None)
        departures = None

        class cork:  # noqa: N801
            @staticmethod
            def touch(link: Link) -> None: ...

    async def main() -> None:
        link = Link(Owner(), dialled=True)  # type: ignore[arg-type]
        link._transport = object()  # type: ignore[assignment]
        link._write = lambda data: written.append(bytes(data))
        for number, tally in enumerate(tallies):
            link.settle(0, (number,), tally)
        link.flush()

    asyncio.run(main())
    reader, reports = FrameReader(), list[Any]()
    for data in written:
        for _, body in reader.feed(data):
            assert len(body) <= MAX_FRAME
            told = decode_message(body)
            assert isinstance(told, Settled)
            reports += told.reports
    assert [numbers for _, numbers, _ in reports] == [(n,) for n in range(len(tallies))]
    return [tally for *_, tally in reports]


def test_many_long_reports_of_one_tick_do_not_make_a_frame_that_is_refused() -> None:
    failure = Failure("failed", "event", "0" * 32, "service.handler", "x" * 500)
    long = Tally(events=16, failed=16, failures=(failure,) * 16)
    assert reported_by_link(*[long] * 1500) == [long] * 1500


def test_a_report_with_counts_beyond_all_numbers_says_that_nobody_knows_and_spoils_no_other() -> (
    None
):
    sums = [Tally(events=1), Tally(events=2**65), Tally(events=2**64 - 1)]
    assert reported_by_link(*sums) == [sums[0], Tally(lost=1), sums[2]]


def test_paths_that_a_peer_tells_take_no_more_than_their_share_of_time_and_memory() -> None:
    async def play(stage: Stage, hostile: Hostile) -> None:
        gc.collect()
        before = time.process_time()
        for number in range(1, 201):
            hostile.transport.write(message(Paths(number, ("",) * 1000)))
        await asyncio.sleep(1)
        runtime = stage.target._runtime
        assert runtime is not None
        held = sum(path.depth for link in runtime.peers.links.values() for path in link.told.paths)
        spent = time.process_time() - before
        print(f"{held:,} objects, {spent:.2f} s")
        # 200 messages of 1 kB.
        assert held < 20_000

    on_stage(play)


def test_a_report_on_a_loop_through_long_names_is_short_enough_to_be_heard() -> None:
    service = Service("s" * 64)
    kinds: list[Any] = [type(f"Lap{number}", (Event,), {}) for number in range(4)]

    def host(number: int) -> None:
        below = kinds[(number + 1) % 4]

        @service.on(kinds[number], name=f"{number}{'h' * 127}", emits=[below], max_loops=1)
        async def pass_on(lap: Any) -> Any:
            return below()

    for number in range(4):
        host(number)

    async def main() -> None:
        mesh = new_mesh()
        host, emitter = Node(service, mesh=mesh), Node(mesh=mesh)
        async with running(host, emitter):
            report = await (await emitter.emit(kinds[0]())).settled(5)
            (failure,) = report.failures
            assert (failure.kind, len(failure.error), report.complete) == ("loop", 500, True)
            assert emitter.report().closures == {}

    run(main())


class Loose(Event, name="strict"):
    number: int = 0


class Strict(Event):
    number: int = 0

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("not here")


def test_a_consequence_that_its_receiver_can_not_decode_does_not_keep_its_cascade_open() -> None:
    relay, strict = Service("relay"), Service("strict")

    @relay.on(Begun)
    async def pass_on(begun: Begun) -> list[Loose]:
        return [Loose(number) for number in (-1, 1)]

    @strict.on(Strict)
    async def one(event: Strict) -> None: ...

    @strict.on(Strict)
    async def two(event: Strict) -> None: ...

    async def main() -> None:
        mesh = new_mesh()
        nodes = [Node(strict, mesh=mesh), Node(relay, mesh=mesh), Node(mesh=mesh)]
        async with running(*nodes):
            report = await (await nodes[2].emit(Begun())).settled(5)
            assert (report.events, report.shed, report.complete) == (3, 2, True)
            assert nodes[0].report().invalid == {"relay": 1}
            assert not followed(*nodes)

    run(main())
