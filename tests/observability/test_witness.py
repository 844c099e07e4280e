"""What a node tells of what it has seen: all of it, nothing private, and how far back it remembers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest
from tests.delivery.cascading import running

from thence import Batch, Budget, Event, Node, RateLimited, Service
from thence.identifiers import EventId
from thence.observability.accounts import (
    Account,
    Fact,
    Found,
    Pending,
    Question,
    Ran,
    Refused,
    Sent,
    decode_account,
)
from thence.observability.assembly import Trace, assemble
from thence.testing import run

_meshes = count()


class Clue(Event):
    number: int = 0


class Other(Event):
    number: int = 0


class Score(Event, key="player"):
    player: str
    points: int = 0


class Secret(Event, key="card", private=("card",)):
    card: str
    points: int = 0


class Shown(Event, record=True, private=("pin",)):
    player: str
    pin: str = ""


class Limited(Event, limit="1/min"):
    number: int = 0


class Newest(Event, key="who", limit="1/s burst 1", overflow="latest"):
    who: str
    number: int = 0


def on_one_node(
    service: Service | None, play: Callable[[Node], Awaitable[None]], **node: Any
) -> None:
    async def main() -> None:
        services = () if service is None else (service,)
        async with Node(
            *services, mesh=f"memory:witness-{next(_meshes)}", name="one", **node
        ) as one:
            await play(one)

    run(main())


async def account(node: Node, **question: Any) -> Account:
    assert node._runtime is not None
    return await node._runtime.witness.account(Question(**question))


async def facts(node: Node, event_id: str) -> tuple[Fact, ...]:
    return (await account(node, root=EventId.parse(event_id))).facts


async def trace(node: Node, event_id: str) -> Trace:
    root = EventId.parse(event_id)
    answers = await node.ask_about(Question(root=root))
    return assemble(root, answers.heard, answers.silent, answers.strange)


async def found(node: Node, **question: Any) -> tuple[Found, ...]:
    return (await account(node, **question)).found


def test_of_root_events_that_were_noted_once_for_many_each_is_told() -> None:
    """Also of those that nobody wants, and at once."""

    async def play(node: Node) -> None:
        events = [
            (await node.emit(Clue(number)), "clue", ()) if number % 7 else
            (await node.emit(Other(number)), "other", ())
            for number in range(600)
        ]  # fmt: skip
        assert node._runtime is not None
        assert len(node._runtime.ring.facts) < 400
        for receipt, event, services in events:
            (sent,) = await facts(node, receipt.event_id)
            assert isinstance(sent, Sent)
            assert (str(sent.event_id), sent.event, sent.services) == (
                receipt.event_id,
                event,
                services,
            )
            assert sent.by is not None
            assert (await trace(node, receipt.event_id)).is_complete
        (one,) = await found(node, prefix=events[300][0].event_id)
        assert one.event == "clue"
        assert await facts(node, str(EventId(receipt.sending.node, 601))) == ()

    on_one_node(None, play)


def test_an_event_that_was_refused_is_not_taken_for_one_of_those_that_left_before_and_after() -> (
    None
):
    async def play(node: Node) -> None:
        for _ in range(2):
            await node.emit(Clue())
        last = await node.emit(Limited())
        await node.emit(Clue())
        with pytest.raises(RateLimited):
            await node.emit(Limited())
        await node.emit(Clue())
        refused = EventId(last.sending.node, EventId.parse(last.event_id).sequence + 2)
        (fact,) = await facts(node, str(refused))
        assert isinstance(fact, Refused)
        assert (fact.event, fact.kind) == ("limited", "shed")
        assert "limit" in fact.reason
        told = await trace(node, str(refused))
        assert told.is_complete
        assert [(h.place, h.outcome) for h in told.root.handlings] == [("", "shed")]

    on_one_node(None, play)


def test_every_way_in_which_a_handler_ends_is_told_with_its_times_and_consequences() -> None:
    service = Service("all")

    @service.on(Clue, name="at_once")
    async def at_once(clue: Clue) -> Score:
        return Score(player="ana")

    @service.on(Clue, name="slowly")
    async def slowly(clue: Clue) -> list[Score]:
        await asyncio.sleep(0.5)
        return [Score(player="bob"), Score(player="eve")]

    @service.on(Clue, name="failing")
    async def failing(clue: Clue) -> None:
        raise KeyError("cave")

    @service.on(Score, name="counting")
    async def counting(score: Score) -> None:
        if score.player == "eve":
            await asyncio.sleep(2)

    async def play(node: Node) -> None:
        receipt = await node.emit(Clue())
        await asyncio.sleep(1)
        told = await trace(node, receipt.event_id)
        assert told.is_complete
        ends = {
            (one.event, h.place): (h.outcome, h.reason, len(h.consequences))
            for one in told.root.walk()
            for h in one.handlings
        }
        assert ends == {
            ("clue", "all.at_once"): ("handled", "", 1),
            ("clue", "all.slowly"): ("handled", "", 2),
            ("clue", "all.failing"): ("failed", "KeyError: 'cave'", 0),
            ("score", "all.counting"): ("pending", "", 0),
        }
        outcomes = sorted(
            h.outcome for one in told.root.walk() if one.event == "score" for h in one.handlings
        )
        assert outcomes == ["handled", "handled", "pending"]
        (slow,) = [h for h in told.root.handlings if h.place == "all.slowly"]
        assert slow.ended == pytest.approx(0.5, abs=0.01)
        assert [below.at for below in slow.consequences] == [pytest.approx(0.5, abs=0.01)] * 2

    on_one_node(service, play)


def test_what_a_handler_emits_through_its_node_belongs_to_its_event_and_left_before_its_end() -> (
    None
):
    service = Service("emitting")
    home: list[Node] = []

    @service.on(Clue, emits=[Score])
    async def emit(clue: Clue) -> None:
        await home[0].emit(Score(player="ana"))
        await asyncio.sleep(1)

    async def play(node: Node) -> None:
        home.append(node)
        receipt = await node.emit(Clue())
        await asyncio.sleep(2)
        told = await trace(node, receipt.event_id)
        (handling,) = told.root.handlings
        (score,) = handling.consequences
        assert (score.event, score.handlings) == ("score", [])
        assert score.at is not None
        assert handling.ended is not None
        assert score.at < handling.ended
        assert told.is_complete

    on_one_node(service, play)


def test_what_is_shed_cut_replaced_or_too_old_is_told_with_its_reason() -> None:
    service = Service("strict")

    @service.on(Clue, limit="1/min", overflow="drop", name="limited")
    async def limited(clue: Clue) -> None: ...

    @service.on(Other, name="looping")
    async def looping(other: Other) -> Other:
        return Other()

    async def play(node: Node) -> None:
        await node.emit(Clue())
        receipt = await node.emit(Clue())
        loop = await node.emit(Other())
        newest = [await node.emit(Newest(who="ana", number=number)) for number in range(3)]
        short = await node.emit(Other(), budget=Budget(events=1))
        await asyncio.sleep(2)
        (shed,) = (await trace(node, receipt.event_id)).root.handlings
        assert (shed.place, shed.outcome) == ("strict.limited", "shed")
        assert shed.reason.startswith("limit 1/min")
        (cut,) = (await trace(node, loop.event_id)).wrongs()
        assert (cut[1].place, cut[1].outcome, cut[1].reason) == ("strict.looping", "cut", "loop")
        (cut,) = (await trace(node, short.event_id)).wrongs()
        assert (cut[1].outcome, cut[1].reason) == ("cut", "cascade budget: events")
        (replaced,) = (await trace(node, newest[1].event_id)).root.handlings
        assert (replaced.outcome, replaced.reason) == ("merged", "replaced by a newer one")
        for one in (receipt, loop, short, *newest):
            assert (await trace(node, one.event_id)).is_complete

    on_one_node(service, play)


def test_each_event_of_a_batch_is_told() -> None:
    service = Service("batching")

    @service.on(Clue, batch=Batch(size=3, within="50ms"))
    async def take(clues: list[Clue]) -> None:
        await asyncio.sleep(0.1)

    async def play(node: Node) -> None:
        receipts = [await node.emit(Clue(number)) for number in range(5)]
        await asyncio.sleep(1)
        for receipt in receipts:
            told = await trace(node, receipt.event_id)
            assert [h.outcome for h in told.root.handlings] == ["handled"]
            assert told.is_complete

    on_one_node(service, play)


def test_each_replica_of_a_broadcast_is_told() -> None:
    def replica() -> Service:
        service = Service("caches")

        @service.on(Clue, broadcast=True)
        async def forget(clue: Clue) -> None: ...

        return service

    async def main() -> None:
        mesh = f"memory:witness-{next(_meshes)}"
        emitter = Node(mesh=mesh, name="emitter")
        nodes = [Node(replica(), mesh=mesh, name=f"r{number}") for number in range(3)]
        async with running(*nodes, emitter):
            receipt = await emitter.emit(Clue())
            await asyncio.sleep(0.5)
            told = await trace(emitter, receipt.event_id)
            assert [h.node for h in told.root.handlings] == ["r0", "r1", "r2"]
            assert told.is_complete
            await nodes[1].close()
            told = await trace(emitter, receipt.event_id)
            assert sorted(h.outcome for h in told.root.handlings) == [
                "handled",
                "handled",
                "unknown",
            ]
            assert not told.is_complete

    run(main())


def test_private_keys_and_values_are_never_told() -> None:
    service = Service("banks")

    @service.on(Secret, name="pay")
    async def pay(secret: Secret) -> None:
        raise ValueError(f"no such card: {secret.card}")

    @service.on(Shown, name="show")
    async def show(shown: Shown) -> None:
        raise ValueError(f"wrong: {shown.pin}")

    async def play(node: Node) -> None:
        receipts = [
            await node.emit(Secret(card="4111-1111")),
            await node.emit(Shown(player="ana", pin="secret-1234")),
        ]
        await asyncio.sleep(1)
        told = b"".join(
            [(await account(node, root=EventId.parse(r.event_id))).encode() for r in receipts]
        )
        told += (await account(node, failed=True)).encode()
        assert b"4111" not in told
        assert b"1234" not in told
        assert told.count("ValueError: no such card: •••".encode()) == 1
        assert await found(node, key=("card", "4111-1111")) == ()

    on_one_node(service, play)


def test_an_error_of_a_batch_hides_what_is_private_of_all_its_events() -> None:
    service = Service("banks")

    @service.on(Secret, batch=Batch(size=2, within="50ms"))
    async def pay(secrets: list[Secret]) -> None:
        raise ValueError(f"no such cards: {[one.card for one in secrets]}")

    async def play(node: Node) -> None:
        receipts = [await node.emit(Secret(card=f"4111-000{number}")) for number in range(2)]
        await asyncio.sleep(1)
        for receipt in receipts:
            told = await facts(node, receipt.event_id)
            (error,) = [fact.error for fact in told if isinstance(fact, Ran)]
            assert error == "ValueError: no such cards: ['•••', '•••']"

    on_one_node(service, play)


def test_payloads_are_told_for_types_that_ask_for_it_without_their_private_fields() -> None:
    """Also of an event that nobody wants, and of a consequence."""
    service = Service("showing")

    @service.on(Clue)
    async def show(clue: Clue) -> Shown:
        return Shown(player="bob", pin="1234")

    async def play(node: Node) -> None:
        root = await node.emit(Shown(player="ana", pin="1234"))
        clue = await node.emit(Clue())
        await asyncio.sleep(0.1)
        assert (await trace(node, root.event_id)).root.payload == '{"player":"ana"}'
        told = (await trace(node, clue.event_id)).root
        assert told.payload == ""
        (shown,) = told.consequences()
        assert shown.payload == '{"player":"bob"}'
        assert shown.size is not None

    on_one_node(service, play)


def test_the_last_of_a_type_of_a_key_and_that_failed_are_found_however_much_came_after() -> None:
    service = Service("busy")

    @service.on(Score)
    async def count_points(score: Score) -> None:
        if score.points < 0:
            raise ValueError("negative")

    async def play(node: Node) -> None:
        failing = await node.emit(Score(player="ana", points=-1))
        first = await node.emit(Score(player="x" * 1000, points=1))
        for number in range(3000):
            await node.emit(Score(player=f"p{number % 10}", points=1))
        last = await node.emit(Score(player="zoe", points=1))
        await asyncio.sleep(1)
        (failed,) = await found(node, failed=True)
        assert (str(failed.event_id), failed.failed, failed.key) == (failing.event_id, True, "ana")
        assert await found(node, failed=True, event="clue") == ()
        assert str((await found(node, event="score"))[-1].event_id) == last.event_id
        (long,) = await found(node, key=("player", "x" * 1000))
        assert str(long.event_id) == first.event_id
        assert len(await found(node, key=("player", "p3"))) == 20
        assert await found(node, key=("points", "1")) == ()
        assert await found(node) == ()

    on_one_node(service, play)


def test_a_recorder_that_is_off_remembers_nothing_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THENCE_RECORDER", "0")
    service = Service("off")

    @service.on(Shown)
    async def handle(shown: Shown) -> None: ...

    async def play(node: Node) -> None:
        receipt = await node.emit(Shown(player="ana"))
        await asyncio.sleep(3)
        told = await account(node, root=EventId.parse(receipt.event_id))
        assert told.facts == ()
        assert told.since == told.clock
        assert (await trace(node, receipt.event_id)).forgotten == ("one",)
        assert node._runtime is not None
        ring = node._runtime.ring
        assert not any((ring.facts, ring.refusals, ring.batches, ring.payloads))

    on_one_node(service, play)


@pytest.mark.parametrize("kind", ["facts", "failures", "refusals", "batches"])
def test_what_was_overwritten_is_known_to_be_forgotten(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THENCE_RECORDER", "32kB")
    service = Service("small")

    @service.on(Clue)
    async def handle(clue: Clue) -> None:
        if clue.number == 2:
            raise KeyError("cave")
        if clue.number:
            await asyncio.sleep(0.001)

    async def play(node: Node) -> None:
        first = await node.emit(Clue())
        await asyncio.sleep(2)
        assert (await trace(node, first.event_id)).is_complete
        for _ in range(300):
            if kind == "refusals":
                try:
                    await node.emit(Limited())
                except RateLimited:
                    continue
            else:
                await node.emit(Clue({"batches": 0, "facts": 1, "failures": 2}[kind]))
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        told = await trace(node, first.event_id)
        assert told.forgotten == ("one",)
        assert not told.is_complete

    on_one_node(service, play)


def test_older_than_the_age_that_is_set_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THENCE_RECORDER_AGE", "10s")
    service = Service("ageing")

    @service.on(Clue)
    async def handle(clue: Clue) -> None: ...

    async def play(node: Node) -> None:
        receipt = await node.emit(Clue())
        await asyncio.sleep(5)
        assert (await trace(node, receipt.event_id)).is_complete
        await asyncio.sleep(10)
        told = await trace(node, receipt.event_id)
        assert told.forgotten == ("one",)
        assert (await account(node, event="clue")).clock - 10 == pytest.approx(
            (await account(node, event="clue")).since
        )

    on_one_node(service, play)


def test_what_is_under_way_while_a_node_looks_is_told_as_it_was_when_it_was_asked() -> None:
    """It looks in steps; an event that ends meanwhile is neither lost nor told twice."""
    service = Service("busy")
    go = asyncio.Event()

    @service.on(Clue)
    async def wait(clue: Clue) -> None:
        if clue.number < 0:
            await go.wait()
        elif clue.number % 2:
            await asyncio.sleep(0)

    async def play(node: Node) -> None:
        receipt = await node.emit(Clue(-1))
        await asyncio.sleep(0)
        for number in range(3000):
            await node.emit(Clue(number))
        asking = asyncio.create_task(facts(node, receipt.event_id))
        await asyncio.sleep(0)
        go.set()
        ends = [fact for fact in await asking if not isinstance(fact, Sent)]
        assert [type(fact) for fact in ends] == [Pending]
        ends = [fact for fact in await facts(node, receipt.event_id) if not isinstance(fact, Sent)]
        assert [type(fact) for fact in ends] == [Ran]

    on_one_node(service, play)


def test_what_is_too_large_to_be_told_at_once_is_cut_short_and_the_connection_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THENCE_RECORDER", "400MB")
    service = Service("large")

    class Large(Event, record=True):
        text: str

    @service.on(Clue)
    async def spread(clue: Clue) -> list[Large]:
        return [Large("ab" * 30_000) for _ in range(200)]

    async def main() -> None:
        mesh = f"memory:witness-{next(_meshes)}"
        one, two = Node(service, mesh=mesh, name="one"), Node(mesh=mesh, name="two")
        async with running(one, two):
            receipt = await two.emit(Clue())
            await asyncio.sleep(1)
            told = await trace(two, receipt.event_id)
            assert told.gaps[0] == "the cascade is larger than one would tell at once"
            assert told.answered == ("one", "two")
            assert one.report().closures == {}

    run(main())


def test_an_account_stays_as_it_is_over_the_wire_and_moments_that_are_none_are_refused() -> None:
    ran = Ran(EventId("0" * 20, 1), "e", "s.x", 1.0, 2.0)
    whole = Account("0" * 20, "n", 3.0, 0.0, 0.0, (ran,), places={"e": (("s.x",),)})
    assert decode_account(whole.encode()) == whole
    for wrong in (float("nan"), float("inf"), 1e300):
        for bad in (
            Account("0" * 20, "n", wrong, 0.0, 0.0),
            Account("0" * 20, "n", 3.0, 0.0, 0.0, (Ran(*ran.event_id and (ran.event_id, "e", "s.x", 1.0, wrong)),)),
            Account("0" * 20, "n", 3.0, 0.0, 0.0, (Pending(ran.event_id, "e", "s.x", wrong),)),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="no stopwatch"):
                decode_account(bad.encode())


def test_a_question_that_makes_no_sense_is_not_known_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        mesh = f"memory:witness-{next(_meshes)}"
        one, two = Node(mesh=mesh, name="one"), Node(mesh=mesh, name="two")
        async with running(one, two):
            runtime = two._runtime
            assert runtime is not None
            answers, silent = await runtime.ask_everybody(
                "account", b"\x93nonsense", timeout=1, decode=decode_account
            )
            assert (answers, silent) == ([], ["one"])

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.records == []


def test_however_much_a_peer_asks_a_node_answers_a_few_at_once_and_others_are_answered_too() -> (
    None
):
    async def main() -> None:
        mesh = f"memory:witness-{next(_meshes)}"
        one, two, three = (Node(mesh=mesh, name=name) for name in ("one", "two", "three"))
        async with running(one, two, three):
            for _ in range(5000):
                await one.emit(Clue())
            asked, asking = one._runtime, two._runtime
            assert asked is not None
            assert asking is not None
            link = asking.peers.links[one.report().node]
            argument = b"\x81\xa6prefix\xa10"
            questions = [
                asyncio.ensure_future(asking.peers.ask(link, "account", argument, timeout=60))
                for _ in range(5000)
            ]
            most = 0
            while not any(question.done() for question in questions):
                await asyncio.sleep(0)
                most = max(most, len(asked.peers._answering))
            answers = await three.ask_about(Question(prefix="0"), timeout=5)
            assert answers.silent == answers.strange == []
            told = await asyncio.gather(*questions, return_exceptions=True)
            assert 1 <= sum(isinstance(one, bytes) for one in told) <= most <= 4

    run(main())


def test_asking_leaves_no_trace_of_itself() -> None:
    """A context for those who ask: no fact, no event, no key."""

    async def play(node: Node) -> None:
        await node.emit(Clue())
        assert node._runtime is not None
        ring = node._runtime.ring
        await account(node, event="clue")
        before = list(ring.facts)
        for _ in range(50):
            await account(node, event="clue")
        assert list(ring.facts) == before

    on_one_node(None, play)
