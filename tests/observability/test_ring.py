"""The rings: bounded whatever comes, and holding on to nothing but texts, numbers and ancestries."""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from uuid import UUID

import pytest

from thence import Event, Node, Service
from thence.events.envelope import Extras, Told
from thence.events.lineage import Lineage, Path
from thence.facts.ring import (
    ALIKE,
    FACT_BYTES,
    FAILURE_BYTES,
    MAX_KEY,
    PAYLOAD_BYTES,
    UNDIGESTED,
    Ring,
    bytes_of_batch,
    shortened,
)
from thence.testing import run

SIZE = 1_000_000


class Clue(Event):
    number: int = 0


class Score(Event, key="player"):
    player: str
    points: int = 0


class Kept(Event, record=True):
    text: str


class Fake:
    """An arrival that ended well, of a subscription whose type has a key."""

    noted = None
    lineage = None
    extras = None

    def __init__(self, sequence: int, key: object = None) -> None:
        self.sequence = sequence
        self.subscription = self
        self.what = "clue", "finders.find"
        self.key_in = None if key is None else lambda _: key


class Peer:
    is_local = False
    node = "0" * 20


def batch(*arrivals: Any) -> tuple[Any, ...]:
    return Peer(), Told(), 1.0, 2.0, 3.0, arrivals


def bytes_of_batches(ring: Ring) -> int:
    return sum(map(bytes_of_batch, ring.batches))


def note_batch(ring: Ring, noted: tuple[Any, ...]) -> None:
    """The lines of the dispatcher."""
    ring.undigested.append(noted)
    if len(ring.undigested) >= ring.digest_at or len(noted[5]) >= ring.digest_at:
        ring.digest()


def test_each_kind_of_fact_has_a_share_of_the_room_and_takes_no_other() -> None:
    ring = Ring(SIZE)
    ring.note_refused(("refused",))
    ring.keep_payload(0, b"kept")
    note_batch(ring, batch(Fake(1)))
    ring.digest()
    for number in range(100_000):
        ring.note((ALIKE, number, "clue", 3, ()))
    assert len(ring.facts) == SIZE // 2 // FACT_BYTES
    assert list(ring.refusals) == [("refused",)]
    assert ring.payloads == {0: b"kept"}
    assert len(ring.batches) == 1
    for number in range(100_000):
        ring.note_refused((number,))
    assert len(ring.refusals) == SIZE // 8 // FACT_BYTES
    for number in range(100_000):
        ring.note_failed((number,))
    assert len(ring.failures) == SIZE // 16 // FAILURE_BYTES
    assert ring.facts[-1][1] == 99_999


@pytest.mark.parametrize("size", [1, 10, 1000, 100_000])
def test_batches_of_any_size_stay_within_their_share(size: int) -> None:
    ring = Ring(SIZE)
    arrivals = [Fake(number) for number in range(size)]
    for number in range(max(3, 100_000 // size)):
        note_batch(ring, batch(*arrivals))
        if not number % 100:
            assert bytes_of_batches(ring) <= SIZE // 4
        assert len(ring.undigested) < UNDIGESTED
    assert ring.overwrote


def test_payloads_stay_within_their_share_and_the_latest_are_kept() -> None:
    ring = Ring(SIZE)
    for number in range(10_000):
        ring.keep_payload(number, bytes(number % 5000))
        kept = sum(len(payload) + PAYLOAD_BYTES for payload in ring.payloads.values())
        assert kept <= SIZE // 16
    assert 9_999 in ring.payloads
    ring.keep_payload(10_000, bytes(SIZE))
    assert ring.payloads == {}
    ring.keep_payload(10_001, b"again")
    assert ring.payloads == {10_001: b"again"}


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("ana", "ana"),
        ("x" * 70_000, "x" * MAX_KEY),
        (7, 7),
        (UUID(int=3), UUID(int=3)),
        (("x" * 70_000,), "('" + "x" * (MAX_KEY - 2)),
        (None, None),
    ],
)
def test_no_key_takes_more_than_a_fact_has_room_for(key: object, kept: object) -> None:
    ring = Ring(SIZE)
    note_batch(ring, batch(Fake(1, key if key is not None else ...), Fake(2)))
    ring.digest()
    assert shortened(key) == kept
    if key is not None:
        assert ring.batches[0][6][0] == kept


def test_a_ring_without_room_keeps_nothing() -> None:
    ring = Ring(0)
    assert not ring.is_on
    ring.note((ALIKE, 1, "clue", 3, ()))
    ring.note_refused((1,))
    ring.keep_payload(1, b"")
    for number in range(1000):
        note_batch(ring, batch(Fake(number)))
        assert len(ring.undigested) < UNDIGESTED
    ring.digest()
    assert not any((ring.facts, ring.refusals, ring.batches, ring.payloads, ring.undigested))


def test_a_ring_that_was_cleared_is_as_good_as_new() -> None:
    ring = Ring(SIZE)
    for _ in range(3):
        for number in range(1000):
            ring.keep_payload(number, bytes(1000))
            note_batch(ring, batch(*[Fake(number)] * 100))
        assert ring.payloads
        assert bytes_of_batches(ring) > SIZE // 8
        ring.clear()
        assert not any((ring.facts, ring.refusals, ring.batches, ring.payloads))


def held(value: object, seen: set[int]) -> set[type]:
    """The types of all that is kept alive by it."""
    if id(value) in seen:
        return set()
    seen.add(id(value))
    kinds = {type(value)}
    if isinstance(value, tuple | list):
        parts: list[Any] = list(value)
    elif isinstance(value, Lineage | Extras | Told):
        parts = [getattr(value, field) for field in value.__struct_fields__]
    elif isinstance(value, Path):
        parts = [value.above, value.handler]
    else:
        parts = []
    return kinds.union(*(held(part, seen) for part in parts))


def test_facts_hold_on_to_no_event_no_connection_and_no_node() -> None:
    service = Service("finders")

    @service.on(Clue)
    async def find(clue: Clue) -> Score:
        if clue.number % 3 == 1:
            await asyncio.sleep(0)
        if clue.number % 3 == 2:
            raise KeyError("cave")
        return Score(player=f"p{clue.number}")

    @service.on(Score)
    async def note(score: Score) -> Kept:
        return Kept(score.player)

    async def main() -> None:
        mesh = "memory:rings"
        async with Node(service, mesh=mesh) as one, Node(mesh=mesh) as two:
            for number in range(100):
                await two.emit(Clue(number))
            await asyncio.sleep(3)
            for node in (one, two):
                assert node._runtime is not None
                ring = node._runtime.ring
                assert ring.undigested == []
                kinds = held([*ring.facts, *ring.failures, *ring.refusals, *ring.batches], set())
                assert kinds <= {
                    list, tuple, str, bytes, int, float, type(None), Lineage, Extras, Told, Path
                }  # fmt: skip
            assert one._runtime is not None
            assert len(one._runtime.ring.batches) > 0
            assert len(one._runtime.ring.facts) > 100

    run(main())


def test_the_memory_that_is_set_holds_for_events_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By what the facts refer to, each counted once."""
    size = 300_000
    monkeypatch.setenv("THENCE_RECORDER", str(size))
    service = Service("finders")

    @service.on(Clue)
    async def find(clue: Clue) -> Score | Kept:
        if clue.number < 1000 and clue.number % 100 == 1:
            await asyncio.sleep(0)
        if clue.number % 100 == 2:
            raise KeyError("cave" * 1000)
        return Score(player="x" * 5000) if clue.number % 2 else Kept("y" * 5000)

    @service.on(Score)
    async def note(score: Score) -> None: ...

    def weight(value: object, seen: set[int]) -> int:
        if id(value) in seen or value is None:
            return 0
        seen.add(id(value))
        parts: list[Any] = []
        if isinstance(value, tuple | list):
            parts = list(value)
        elif isinstance(value, Lineage | Extras | Told):
            parts = [getattr(value, field) for field in value.__struct_fields__]
        return sys.getsizeof(value) + sum(weight(part, seen) for part in parts)

    async def main() -> None:
        mesh = "memory:rings"
        async with Node(service, mesh=mesh) as one, Node(mesh=mesh) as two:
            for number in range(6000):
                await two.emit(Clue(number))
                if not number % 1000:
                    await asyncio.sleep(0.1)
            await asyncio.sleep(3)
            assert one._runtime is not None
            ring = one._runtime.ring
            assert len(ring.facts) == ring.facts.maxlen
            assert ring.overwrote
            seen: set[int] = set()
            kept = [
                *ring.facts,
                *ring.failures,
                *ring.refusals,
                *ring.batches,
                *ring.payloads.values(),
            ]
            assert weight(kept, seen) <= size

    run(main())
