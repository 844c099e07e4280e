"""What the end of a demo draws: each consequence under the handler that caused it, and identifiers where there is room."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from thence.cli.demo.cascades import Cascade
from thence.cli.demo.facts import Cut, Ending
from thence.cli.demo.trees import tree
from thence.cli.trace_drawings import way_back
from thence.identifiers import EventId
from thence.observability.accounts import Account, Ancestry, Ran, Sent
from thence.observability.assembly import Heard, assemble


def test_a_consequence_stands_under_the_handler_that_caused_it_and_not_under_the_one_that_ended_first() -> (
    None
):
    endings = (
        Ending("1", "r", "r", 1, "scored", "leagues", "count", 0.001, failed=True, by="x.y"),
        Ending("1", "r", "r", 1, "scored", "ranks", "rank", 0.002, by="x.y"),
        Ending("2", "1", "r", 2, "moved_up", "phones", "tell", 0.003, by="ranks.rank"),
    )
    cut = Cut("3", "1", "r", "moved_up", "phones", "", "too many", 0.004, by="ranks.rank")
    assert tree(Cascade("r", "moved", 0.0, endings, (cut,))) == [
        "moved",
        "├─▶ scored  leagues  +1.0 ms ✗",
        "└─▶ scored  ranks  +2.0 ms ✓",
        "    ├─▶ moved_up  phones  +3.0 ms ✓",
        "    └─✂ moved_up  phones  cut: too many",
    ]


@pytest.mark.parametrize(("width", "is_split"), [(80, True), (160, False)])
def test_the_way_back_has_identifiers_below_where_there_is_no_room(
    width: int, is_split: bool
) -> None:
    root, scored = EventId("a" * 20, 1), EventId("b" * 20, 1)
    below = Ancestry(root, root, ("clues.look_around",))
    facts = (
        Ran(root, "player_moved", "clues.look_around", 1.0, 1.1, key="phone-3"),
        Ran(scored, "scored", "leagues.count", 1.2, 1.3, below, error="ValueError: phone-3"),
    )
    trace = assemble(root, [Heard(Account("c" * 20, "clues-12345", 9.0, 0.0, 0.0, facts))])
    lines = [line.plain for line in way_back(trace, trace.way_to(scored), width)]
    chain = [line for line in lines if "clues.look_around" in line]
    assert len(chain) == 1
    assert (f"{root}  root" in chain[0]) == (not is_split)
    assert any(f"{root}  root" in line for line in lines)
    assert any("(phone-3) came from" in line for line in lines)
    assert max(map(cell_len, lines[:-1])) <= width


@pytest.mark.parametrize(
    ("began", "ended", "most"),
    [
        (1.2, 1.9, "leagues.count@n took most: 700 ms for scored"),
        (1.8, 1.9, "most passed between scored and leagues.count@n, which began 700 ms later"),
    ],
)
def test_why_tells_what_took_most_of_the_time_where_nothing_went_wrong(
    began: float, ended: float, most: str
) -> None:
    root, scored = EventId("a" * 20, 1), EventId("b" * 20, 1)
    below = Ancestry(root, root, ("clues.look_around",))
    facts = (
        Ran(root, "player_moved", "clues.look_around", 1.0, 1.1),
        Sent(scored, "scored", ("leagues",), below),
        Ran(scored, "scored", "leagues.count", began, ended, below, sent=1.1),
    )
    trace = assemble(root, [Heard(Account("b" * 20, "n", 9.0, 0.0, 0.0, facts))])
    assert way_back(trace, trace.way_to(scored))[-1].plain.endswith(most)
