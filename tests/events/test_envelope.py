"""What travels around an event: no more than there is to tell, and it is understood on the other side."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from thence import Event
from thence.events.envelope import (
    DEFAULT,
    Arrival,
    Extras,
    Told,
    all_extras_for,
    due_of,
    envelope_for,
    event_id_of,
    extras_for,
    full_lineage_of,
    lineage_of,
)
from thence.events.lineage import Lineage, Path
from thence.identifiers import EventId

A, B, C = ("0" * 19 + digit for digit in "abc")


class Found(Event):
    clue: int


class Numbers:
    """Both ends of a link: numbers on the one side, names on the other, ten seconds behind."""

    node, label, read_at, sent_at, behind = C, "c", 0.0, 100.0, -10.0

    def __init__(self) -> None:
        self.told = Told([], [])
        self.names, self.paths = self.told.names, self.told.paths
        self.path_numbers: dict[Path, int] = {}

    def number_of(self, node: str) -> int:
        if node not in self.names:
            self.names.append(node)
        return self.names.index(node)

    def numbers_of(self, cause: str, root: str) -> tuple[int, int]:
        return self.number_of(cause), self.number_of(root)

    def number_of_path(self, path: Path) -> int:
        self.paths.append(path)
        self.path_numbers[path] = len(self.paths)
        return len(self.paths)

    def moment(self, milliseconds: int) -> float:
        return milliseconds / 1000 + self.behind


SHORT, LONG = Path.through(["s.a"]), Path.through(["s.a", "s.b", "s.c"])

LINEAGES = {
    "a consequence of a root": Lineage(SHORT, A, 7, A, 7, 50.0, DEFAULT.depth),
    "a consequence of a consequence": Lineage(LONG, B, 8, A, 7, 50.0, DEFAULT.depth),
    "with the same node twice": Lineage(LONG, A, 8, A, 7, 50.0, DEFAULT.depth),
    "a consequence in a small budget": Lineage(SHORT, A, 7, A, 7, 50.0, 3),
    "one further down in a small budget": Lineage(LONG, B, 8, A, 7, 50.0, 3),
    "a root with a budget of its own": Lineage(None, "", 0, "", 0, 50.0, 3),
}


def sent_over(extras: tuple[int, ...], credits: int = 5) -> Arrival:
    arrival = envelope_for(Found, 4, "subscription")
    data = msgspec.msgpack.encode((4, 9, (3,), credits, extras))
    received = msgspec.msgpack.decode(data, type=arrival)
    assert received.subscription == "subscription"
    return received


@pytest.mark.parametrize("name", LINEAGES)
def test_a_lineage_is_the_same_on_the_other_side_by_its_clock(name: str) -> None:
    lineage, numbers = LINEAGES[name], Numbers()
    forms = [all_extras_for(lineage, numbers, tracked=False, sent=0)]
    if lineage.path is not None and lineage.max_depth == DEFAULT.depth:
        forms.append(extras_for(lineage, numbers))
    for form in forms:
        arrival = sent_over(form)
        arrival.source = numbers
        received = full_lineage_of(arrival)
        assert received == Lineage(
            lineage.path,
            lineage.cause_node,
            lineage.cause_sequence,
            lineage.root_node,
            lineage.root_sequence,
            40.0,
            lineage.max_depth,
        )
        assert full_lineage_of(arrival) is received
        assert lineage_of(arrival) == (None if lineage.path is None else received)
        assert due_of(arrival) == 40.0
        assert event_id_of(arrival) == EventId(C, 9)


def test_a_root_s_id_is_left_out_where_it_is_its_consequence_s_cause() -> None:
    numbers = Numbers()
    assert extras_for(LINEAGES["a consequence of a root"], numbers) == (1, 0, 7, 50_000)
    assert numbers.names == [A]
    assert extras_for(LINEAGES["a consequence of a consequence"], numbers)[4:] == (0, 0, 7)


def test_a_root_with_nothing_special_has_no_lineage_and_the_default_time() -> None:
    for extras in ((), (0, 0, 0, 0, 1, -1, 0, DEFAULT.depth)):
        arrival = sent_over(extras)
        arrival.source = Numbers()
        assert full_lineage_of(arrival) is None
        assert lineage_of(arrival) is None
        assert due_of(arrival) == 100.0 + DEFAULT.seconds


@pytest.mark.parametrize("lineage", [None, *LINEAGES.values()], ids=["none", *LINEAGES])
@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("sent", [0, 123_456])
def test_whether_it_is_tracked_and_when_it_was_sent_comes_over(
    lineage: Lineage | None, tracked: bool, sent: int
) -> None:
    arrival = sent_over(all_extras_for(lineage, Numbers(), tracked, sent), credits=77)
    assert arrival.extras is not None
    assert (bool(arrival.extras.tracked), arrival.extras.sent) == (tracked, sent)
    assert arrival.credits == 77
    assert (arrival.sequence, arrival.body) == (9, Found(3))


def test_what_an_envelope_leaves_out_are_the_defaults() -> None:
    arrival = envelope_for(Found, 4, None)
    received = msgspec.msgpack.decode(msgspec.msgpack.encode((4, 9, (3,))), type=arrival)
    assert (received.credits, received.extras) == (0, None)
    assert sent_over(()).extras == Extras()


@pytest.mark.parametrize(
    "field", ["lineage", "source", "since", "members", "due", "record", "noted", "left"]
)
def test_what_a_receiver_notes_on_an_envelope_can_not_be_sent(field: str) -> None:
    arrival = envelope_for(Found, 4, None)
    position = Arrival.__struct_fields__.index(field)
    form: list[Any] = [4, 9, (3,), 0, None, *[None] * 8]
    msgspec.msgpack.decode(msgspec.msgpack.encode(form), type=arrival)
    form[position + 1] = "smuggled"
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(form), type=arrival)
