"""The noise of a mesh, put together from what its nodes tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thence.observability.noise import (
    EMITTED,
    FAILED,
    HANDLED,
    LOOPED,
    MOST,
    SHED,
    UNSENT,
    EventNoise,
    HandlerPlace,
    LoopNoise,
    NodeNoise,
    decode_noise,
    node_noise,
    together,
)
from thence.observability.recent import Key, Span
from thence.observability.shares import ROOT, Share


def told(
    counts: dict[Key, int],
    before: dict[Key, int] | None = None,
    sent: dict[tuple[str, str], Share] | None = None,
    *handlers: HandlerPlace,
    name: str = "one",
    services: tuple[str, ...] = ("s",),
    seconds: float = 10.0,
    seconds_before: float = 10.0,
    covered: float = 1.0,
    mode: str = "enforce",
) -> NodeNoise:
    window = Span(0.0, seconds, 0, 0, counts)
    return decode_noise(
        node_noise(
            name,
            name,
            services,
            window,
            Span(0.0, seconds_before, 0, 0, before or {}),
            sent or {},
            covered,
            handlers,
            mode,
        ).encode()
    )


def test_rates_and_growth_are_of_all_replicas_together() -> None:
    event = (EMITTED, "moved")
    nodes = [
        told({event: 100}, {event: 50}, name="one"),
        told({event: 300}, {event: 50}, name="two"),
        told({event: 20}, {}, name="web", services=()),
    ]
    noise = together(10, nodes, [])
    assert [(one.event, one.source, one.rate, one.rate_before) for one in noise.talkers] == [
        ("moved", "s", 40, 10),
        ("moved", "web", 2, 0),
    ]
    assert [one.source for one in noise.growing] == ["s", "web"]


def test_a_node_without_a_window_before_is_compared_with_nothing() -> None:
    event = (EMITTED, "moved")
    young = told({event: 100}, {}, seconds=4.0, seconds_before=0.0)
    (talker,) = together(10, [young], []).talkers
    assert (talker.rate, talker.rate_before, talker.growth) == (25, None, 0)
    older = told({event: 100}, {event: 100}, name="two")
    (talker,) = together(10, [young, older], []).talkers
    assert (talker.rate, talker.rate_before) == (35, 10), "it was not there, so it emitted nothing"


def test_bytes_are_the_exact_count_times_the_mean_of_those_remembered() -> None:
    counts: dict[Key, int] = {(EMITTED, "moved"): 1000, (EMITTED, "asked"): 10}
    sent = {(ROOT, "moved"): Share(10, 300), ("s.a", "moved"): Share(10, 100)}
    noise = together(10, [told(counts, {}, sent, covered=0.02)], [])
    assert {one.event: one.bytes_rate for one in noise.talkers} == {"moved": 2000, "asked": None}
    assert [one.event for one in noise.by_bytes] == ["moved"]
    assert not noise.is_exact


def test_amplification_is_what_a_handler_emits_for_each_event_that_it_ended_with() -> None:
    counts: dict[Key, int] = {
        (EMITTED, "scored"): 400,
        (HANDLED, "s.a"): 90,
        (FAILED, "s.a"): 10,
        (HANDLED, "s.b"): 100,
    }
    sent = {("s.a", "scored"): Share(30, 30), (ROOT, "scored"): Share(10, 10)}
    places = [
        HandlerPlace("s.a", ("asked",), frozenset({"scored"})),
        HandlerPlace("s.b", ("asked",), frozenset({"never"})),
        HandlerPlace("s.c", ("asked",), frozenset({"scored"})),
    ]
    noise = together(10, [told(counts, {}, sent, *places)], [])
    first, second = noise.handlers
    assert (first.place, first.amplification, first.failed_rate) == ("s.a", 3, 1)
    assert (second.place, second.amplification) == ("s.b", 0)
    assert [one.place for one in noise.by_amplification] == ["s.a"]


def test_where_nothing_is_remembered_amplification_is_not_known() -> None:
    counts: dict[Key, int] = {(EMITTED, "scored"): 400, (HANDLED, "s.a"): 100}
    place = HandlerPlace("s.a", ("asked",), frozenset({"scored"}))
    knows = told(counts, {}, {("s.a", "scored"): Share(1, 1)}, place)
    for nodes in ([told(counts, {}, {}, place, covered=0)], [knows, told(counts, {}, {}, place)]):
        noise = together(10, nodes, [])
        (amplifier,) = noise.handlers
        assert amplifier.amplification is None
        assert noise.by_amplification == []


def test_what_is_shed_is_told_by_place_and_reason() -> None:
    counts: dict[Key, int] = {
        (SHED, "s.a", "queue full"): 20,
        (SHED, "s.a", "loop"): 1,
        (UNSENT, "moved", "", "replaced by a newer one"): 30,
        (UNSENT, "moved", "t", "no room"): 40,
    }
    noise = together(10, [told(counts), told(counts, name="two")], [])
    assert [(one.place, one.reason, one.kind, one.count, one.rate) for one in noise.shed] == [
        ("moved for t", "no room", "shed", 80, 8),
        ("moved", "replaced by a newer one", "merged", 60, 6),
        ("s.a", "queue full", "shed", 40, 4),
        ("s.a", "loop", "cut", 2, 0.2),
    ]


def test_loops_are_told_with_their_way_and_whether_they_were_cut() -> None:
    counts: dict[Key, int] = {(LOOPED, "s.a → t.b → s.a"): 5}
    nodes = [told(counts), told(counts, name="two", mode="warn")]
    (loop,) = together(10, nodes, ["three"]).loops
    assert (loop.loop, loop.count, loop.cut, loop.rate) == ("s.a → t.b → s.a", 10, 5, 1)


def test_a_loop_is_one_from_whichever_of_its_handlers_on_it_is_told() -> None:
    loops = ("s.a → t.b → u.c → s.a", "t.b → u.c → s.a → t.b", "s.a → u.c → t.b → s.a", "s.a → s.a")
    counts: dict[Key, int] = {(LOOPED, loop): 2 for loop in loops}
    noise = together(10, [told(counts)], [])
    assert {one.loop: one.count for one in noise.loops} == {loops[0]: 4, loops[2]: 2, loops[3]: 2}


def test_an_answer_is_bounded_and_says_what_it_left_out() -> None:
    counts: dict[Key, int] = {(EMITTED, f"e{n}"): n + 1 for n in range(MOST + 30)}
    answer = told(counts)
    assert (len(answer.emitted), answer.left_out) == (MOST, 30)
    assert min(one.count for one in answer.emitted) == 31


@given(
    st.lists(
        st.tuples(
            st.floats(1, 60),
            st.floats(0, 60),
            st.lists(
                st.tuples(st.sampled_from("abc"), st.integers(0, 999), st.integers(0, 999)),
                unique_by=lambda row: row[0],
            ),
        ),
        max_size=5,
    )
)
def test_the_sums_agree(nodes: list[tuple[float, float, list[tuple[str, int, int]]]]) -> None:
    answers = [
        NodeNoise(
            str(index), str(index), ("s",) if index % 2 else (), seconds, before, 1.0,
            tuple(EventNoise(event, count, earlier, count * 3.0) for event, count, earlier in rows),
            loops=(LoopNoise("s.a → s.a", len(rows), "enforce"),),
        )
        for index, (seconds, before, rows) in enumerate(nodes)
    ]  # fmt: skip
    noise = together(60, answers, [])
    rows = [(one, event) for one in answers for event in one.emitted]
    assert sum(one.count for one in noise.talkers) == sum(event.count for _, event in rows)
    rate = sum(event.count / one.seconds for one, event in rows)
    assert sum(one.rate for one in noise.talkers) == pytest.approx(rate)
    assert sum(one.bytes_rate or 0.0 for one in noise.talkers) == pytest.approx(3 * rate)
    assert [one.rate for one in noise.talkers] == sorted(
        (one.rate for one in noise.talkers), reverse=True
    )
    assert sum(one.count for one in noise.loops) == sum(len(one.emitted) for one in answers)
