"""Which cascades one node takes for anomalies, from facts as they stand in its rings."""

from __future__ import annotations

import asyncio

import pytest

from thence.delivery.reasons import (
    CASCADE_EXPIRED,
    CUT_BY_DEPTH,
    CUT_BY_EVENTS,
    EXPIRED,
    LOOP,
    NO_ROOM,
    REPLACED,
)
from thence.events.envelope import STALE, TRACKED, Extras, Told
from thence.events.lineage import Lineage, Path
from thence.facts.ring import RAN, REFUSED
from thence.identifiers import EventId
from thence.observability.opentelemetry.anomalies import anomalies
from thence.observability.opentelemetry.recollection import Facts

A, B = 20 * "a", 20 * "b"
TOLD = Told([A, B], [Path(None, "s.a")])
WHAT = ("event", "s.h")
AHEAD = 500.0
"""The other node's stopwatch, before this one's."""
EMITTED = 100.0
"""When the roots were, by this node's."""

THERE = int((EMITTED + AHEAD) * 1000)
CAUSED = Extras(1, 0, 7, THERE + 30_000)
NARROWED = Extras(1, 0, 7, THERE + 2_000, began=THERE)
HERE = Lineage(TOLD.paths[0], A, 7, A, 7, EMITTED + 30, 16)
HERE_NARROWED = Lineage(TOLD.paths[0], A, 7, A, 7, EMITTED + 2, 16, EMITTED)
ROOT = EventId(A, 7)
ONE = EventId(B, 9)


def found(*facts: tuple[object, ...], batches: tuple[tuple[object, ...], ...] = ()) -> object:
    return asyncio.run(anomalies(Facts(list(facts), [], list(batches)), 1.0, lambda _: -AHEAD))


@pytest.mark.parametrize(
    ("ancestry", "root"),
    [
        (CAUSED, ROOT),
        (NARROWED, ROOT),
        (HERE, ROOT),
        (HERE_NARROWED, ROOT),
        (None, ONE),
        (TRACKED, ONE),
        (STALE, ONE),
    ],
)
@pytest.mark.parametrize(("lasted", "is_slow"), [(0.9, False), (1.1, True)])
@pytest.mark.parametrize("together", [False, True])
def test_a_run_that_ended_too_long_after_its_root_was_emitted_makes_the_cascade_slow(
    ancestry: Extras | Lineage | None, root: EventId, lasted: float, is_slow: bool, together: bool
) -> None:
    # A consequence began late; a root event when it came.
    began = EMITTED if root == ONE else EMITTED + lasted - 0.1
    ended = EMITTED + lasted
    if together:
        ancestries = None if ancestry is None else (ancestry,)
        sent = began if isinstance(ancestry, Lineage) else began + AHEAD
        batch = (B, WHAT, sent, began, ended, (9,), None, ancestries, TOLD)
        told = found(batches=(batch,))
    else:
        told = found((RAN, B, 9, WHAT, began, ended, ancestry, TOLD, None, None, None))
    assert told == ({root: "slow"} if is_slow else {})


def test_of_a_batch_only_what_is_slow_is() -> None:
    early = Extras(1, 0, 6, THERE + 29_000)
    batch = (
        B, WHAT, EMITTED + AHEAD, EMITTED, EMITTED + 0.5, (9, 10, 11), None, (CAUSED, early, None), TOLD,
    )  # fmt: skip
    assert found(batches=(batch,)) == {EventId(A, 6): "slow"}


def test_the_time_that_an_event_waited_counts() -> None:
    waited = (RAN, B, 9, WHAT, 102.0, 102.1, None, TOLD, 100.0, None, None)
    assert found(waited) == {ONE: "slow"}


def test_a_failure_is_one_however_fast_it_came() -> None:
    failed = (RAN, B, 9, WHAT, None, 100.1, CAUSED, TOLD, None, "ValueError: no", None)
    assert found(failed) == {ROOT: "failed"}


@pytest.mark.parametrize(
    ("reason", "is_cut"),
    [
        (CUT_BY_DEPTH, True),
        (CUT_BY_EVENTS, True),
        (LOOP, True),
        (CASCADE_EXPIRED, True),
        (EXPIRED, False),
        (NO_ROOM, False),
        (REPLACED, False),
    ],
)
def test_what_the_budget_or_a_loop_cut_is_one_and_what_was_shed_is_none(
    reason: str, is_cut: bool
) -> None:
    refused = (REFUSED, B, 9, WHAT, 100.1, CAUSED, TOLD, reason, None)
    assert found(refused) == ({ROOT: "cut"} if is_cut else {})
