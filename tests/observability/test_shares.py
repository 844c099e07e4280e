"""Which events came from where, and how large they were, told from rings of facts."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from thence.events.lineage import Lineage, Path
from thence.facts.ring import ALIKE, FACT_BYTES, MOMENT, RAN, SENT, Ring
from thence.observability.shares import ROOT, Share, Shares, shares_in

ROOM = 4000 * FACT_BYTES


def below(place: str) -> Lineage:
    return Lineage(Path(None, place), "n", 1, "n", 1, 0.0, 16)


def looked_through(ring: Ring, first: int, last: int) -> Shares:
    return asyncio.run(shares_in(ring, first, last))


def test_events_noted_once_for_many_stand_for_those_that_follow() -> None:
    ring = Ring(ROOM)
    ring.note((ALIKE, 1, "moved", 20, ("s",)))
    ring.note((SENT, 5, "scored", 9, ("t",), below("s.a")))
    ring.note((SENT, 8, "asked", b"12345", (), None))
    found = looked_through(ring, 0, 10)
    assert found.sent == {
        (ROOT, "moved"): Share(8, 160),
        ("s.a", "scored"): Share(1, 9),
        (ROOT, "asked"): Share(1, 5),
    }
    assert found.covered == 1


def test_only_the_events_asked_for_count() -> None:
    ring = Ring(ROOM)
    ring.note((ALIKE, 1, "moved", 20, ()))
    ring.note((SENT, 50, "scored", 9, (), below("s.a")))
    ring.note((ALIKE, 60, "stood", 10, ()))
    assert looked_through(ring, 40, 55).sent == {
        (ROOT, "moved"): Share(14, 280),
        ("s.a", "scored"): Share(1, 9),
    }
    assert looked_through(ring, 100, 103).sent == {(ROOT, "stood"): Share(3, 30)}
    assert looked_through(ring, 55, 55).sent == {}


def test_an_event_that_left_after_later_ones_is_not_counted_twice() -> None:
    ring = Ring(ROOM)
    ring.note((ALIKE, 1, "moved", 20, ()))
    ring.note((SENT, 9, "scored", 9, (), below("s.a")))
    ring.note((SENT, 4, "asked", 5, (), None))
    found = looked_through(ring, 0, 9)
    assert sum(share.count for share in found.sent.values()) == 9
    assert found.sent[ROOT, "moved"] == Share(7, 140)


def test_it_says_how_much_has_been_overwritten() -> None:
    ring = Ring(8 * FACT_BYTES)
    for sequence in range(1, 101):
        ring.note((SENT, sequence, "scored", 9, (), below("s.a")))
    found = looked_through(ring, 90, 100)
    assert (found.covered, found.sent["s.a", "scored"].count) == (0.4, 4)
    assert looked_through(ring, 0, 100).covered == 0.04
    assert looked_through(ring, 98, 100).covered == 1


def test_rings_that_are_off_cover_nothing() -> None:
    found = looked_through(Ring(0), 0, 10)
    assert (found.covered, found.sent, found.forgot, found.since) == (0, {}, True, None)


def test_it_tells_from_when_on_nothing_was_overwritten() -> None:
    ring = Ring(8 * FACT_BYTES)
    ring.note((MOMENT, 1.0, 0))
    assert not looked_through(ring, 0, 0).forgot
    for second in range(2, 9):
        ring.note((MOMENT, float(second), 0))
    found = looked_through(ring, 0, 0)
    assert (found.forgot, found.since) == (True, 5.0)
    for sequence in range(1, 9):
        ring.note((SENT, sequence, "scored", 9, (), below("s.a")))
    found = looked_through(ring, 0, 0)
    assert (found.forgot, found.since) == (True, None), "nothing there has a time"


def test_who_failed_for_want_of_a_declaration_is_told_with_the_last_error() -> None:
    ring = Ring(ROOM)
    for error in ("UndeclaredEvent: one", "KeyError: no", "UndeclaredEvent: two", None):
        ring.note((RAN, "n", 1, ("asked", "s.a"), None, 1.0, None, None, None, error, None))
    found = looked_through(ring, 0, 0)
    assert found.undeclared == {"s.a": (2, "UndeclaredEvent: two")}
    assert found.ran == {("asked", "s.a")}


@given(st.lists(st.sampled_from(["a", "b", "s.x"]), max_size=60), st.integers(0, 70))
def test_every_event_is_counted_once_however_they_are_noted(kinds: list[str], first: int) -> None:
    ring, alike = Ring(ROOM), ""
    for sequence, kind in enumerate(kinds, 1):
        if kind == "s.x":
            ring.note((SENT, sequence, "scored", 9, (), below(kind)))
        elif kind != alike:
            ring.note((ALIKE, sequence, kind, 20, ()))
            alike = kind
    first = min(first, len(kinds))
    found = looked_through(ring, first, len(kinds))
    expected = Counter(
        (kind, "scored") if kind == "s.x" else (ROOT, kind) for kind in kinds[first:]
    )
    assert {pair: share.count for pair, share in found.sent.items()} == expected
