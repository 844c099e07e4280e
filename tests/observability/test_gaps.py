"""What nobody has told of is said to be missing, once, and what was told of stays."""

from __future__ import annotations

from thence.identifiers import EventId
from thence.observability.accounts import Account, Ancestry, Fact, Ran, Sent
from thence.observability.assembly import Heard, assemble

ROOT = EventId("a" * 20, 1)
FOUND = EventId("b" * 20, 1)
SCORED = EventId("c" * 20, 1)
BELOW_ROOT = Ancestry(ROOT, ROOT, ("clues.look",))
BELOW_FOUND = Ancestry(FOUND, ROOT, ("clues.look", "scores.award"))

EMITTER = (Sent(ROOT, "moved", ("clues",)),)
CLUES = (
    Ran(ROOT, "moved", "clues.look", 1.0, 1.1, key="ana"),
    Sent(FOUND, "found", ("scores",), BELOW_ROOT),
)
SCORES = (
    Ran(FOUND, "found", "scores.award", 1.3, 1.4, BELOW_ROOT, sent=1.2),
    Sent(SCORED, "scored", ("leagues",), BELOW_FOUND),
)
LEAGUES = (Ran(SCORED, "scored", "leagues.count", 1.6, 1.7, BELOW_FOUND, sent=1.5, error="bad"),)


def heard(*accounts: tuple[str, tuple[Fact, ...]]) -> list[Heard]:
    return [Heard(Account(letter * 20, letter, 9.0, 0.0, 0.0, facts)) for letter, facts in accounts]


def test_a_cascade_that_everybody_told_of_is_complete() -> None:
    trace = assemble(ROOT, heard(("a", EMITTER), ("b", CLUES), ("c", SCORES), ("d", LEAGUES)))
    assert trace.is_complete
    assert trace.root.key == "ana"


def test_a_node_on_the_way_that_is_gone_is_one_gap_and_the_way_goes_on() -> None:
    trace = assemble(ROOT, heard(("a", EMITTER), ("b", CLUES), ("d", LEAGUES)))
    assert trace.gaps == (f"nobody told what became of found {FOUND} at scores.award",)
    assert not trace.is_complete
    way = trace.way_to(SCORED)
    assert [one.event for one, _ in way] == ["moved", "found", "scored"]
    assert [h.place for _, h in way if h is not None] == ["clues.look", "scores.award"]


def test_a_node_at_the_end_that_is_gone_is_a_gap() -> None:
    trace = assemble(ROOT, heard(("a", EMITTER), ("b", CLUES), ("c", SCORES)))
    assert trace.gaps == (f"nobody told what became of scored {SCORED} at leagues",)


def test_an_event_has_left_when_its_first_batch_left() -> None:
    hints = (Ran(FOUND, "found", "hints.cross_off", 1.9, 2.0, BELOW_ROOT, sent=1.8),)
    for order in ("ce", "ec"):
        by_letter = {"c": SCORES, "e": hints}
        accounts = [("a", EMITTER), ("b", CLUES), *((one, by_letter[one]) for one in order)]
        found = assemble(ROOT, heard(*accounts)).find(FOUND)
        assert found is not None
        assert found.at is not None
        assert abs(found.at - 0.2) < 1e-9
