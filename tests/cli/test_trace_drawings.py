"""A drawn cascade fits the terminal, however long the names and deep the tree; and its size is bounded."""

from __future__ import annotations

import random

import pytest
from rich.cells import cell_len
from tests.observability.worlds import accounts_of, make_world

from thence.cli.trace_drawings import MOST_LINES, completeness, plain, tree, waterfall, way_back
from thence.identifiers import EventId
from thence.observability.assembly import Handling, Occurrence, Trace, assemble

NODE = "0" * 20


def chain(length: int, name: str) -> Trace:
    """A chain of events with long names, each with a handler."""
    root = below = Occurrence(EventId(NODE, 1), name, "node", 0.0, 12, is_known=True)
    for number in range(2, length + 2):
        handling = Handling(f"{name}s.{name}_handler", f"node-{name}", "handled", "", 0.1, 0.2, 1.3)
        below.handlings = [handling]
        below = Occurrence(EventId(NODE, number), name, "node", 0.0, 12, is_known=True)
        handling.consequences = [below]
    return Trace(root, ("node",))


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize(
    "name", ["clue", "somebody_found_the_clue_behind_the_waterfall", "谜题" * 20]
)
def test_no_line_of_a_tree_or_a_timeline_is_wider_than_the_terminal(width: int, name: str) -> None:
    trace = chain(12, name)
    for draw in (tree, waterfall):
        _, *lines = draw(trace, trace.root, width)
        assert max(cell_len(line.plain) for line in lines) <= width
        assert len(lines) >= 12


def test_what_is_too_long_to_be_drawn_is_counted() -> None:
    trace = chain(3 * MOST_LINES, "clue")
    lines = tree(trace, trace.root, 80)
    assert len(lines) < MOST_LINES + 5
    assert any("and more" in line.plain for line in lines)
    assert len(waterfall(trace, trace.root, 80)) < MOST_LINES + 5


def test_any_cascade_at_all_can_be_drawn_whatever_of_it_is_missing() -> None:
    for seed in range(150):
        chance = random.Random(seed)
        world = make_world(chance)
        facts = [one for one in world.all_facts() if chance.random() < 0.6]
        trace = assemble(world.root, accounts_of(world, facts), ["silent"])
        for one in trace.root.walk():
            for lines in (
                tree(trace, one, 80),
                waterfall(trace, one, 80),
                way_back(trace, trace.way_to(one.event_id)),
            ):
                assert lines
                assert all(plain(line).plain.isprintable() for line in lines)
        assert "silent unreachable" in completeness(trace, "1 min").plain


def test_an_event_that_nobody_wants_is_told_from_one_of_which_nobody_told_where_it_went() -> None:
    unheard = Occurrence(EventId(NODE, 1), "clue", "node", 0.0, 12, is_known=True)
    untold = Occurrence(EventId(NODE, 1), "clue", "node", 0.0, None, is_known=True)
    assert "nobody wants it" in tree(Trace(unheard), unheard, 80)[1].plain
    assert "nobody told where it went" in tree(Trace(untold), untold, 80)[1].plain
