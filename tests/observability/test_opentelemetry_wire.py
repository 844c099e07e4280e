"""What travels in an envelope for the sake of spans: nothing, but where it must."""

from __future__ import annotations

import msgspec
import pytest

from thence.events.envelope import DEFAULT, Extras, all_extras_for, full_lineage_of
from thence.events.lineage import Lineage, Path
from thence.identifiers import EventId
from thence.observability.opentelemetry.identifiers import (
    SpanId,
    process_span_id,
    send_span_id,
    trace_for,
)

A, B = 20 * "a", 20 * "b"
TRACE = SpanId(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, 1)


class Numbers:
    """Both sides of a link whose peer's stopwatch is ten seconds ahead."""

    behind = -10.0

    def __init__(self) -> None:
        self.told = self
        self.path_numbers: dict[Path, int] = {}
        self.names: list[str] = []
        self.paths: list[Path] = []

    def number_of(self, node: str) -> int:
        if node not in self.names:
            self.names.append(node)
        return self.names.index(node)

    def numbers_of(self, cause: str, root: str) -> tuple[int, int]:
        return self.number_of(cause), self.number_of(root)

    def number_of_path(self, path: Path) -> int:
        self.paths.append(path)
        return len(self.paths)

    def name_of(self, number: int) -> str:
        return self.names[number]

    def path_of(self, number: int) -> Path:
        return self.paths[number - 1]


class Received:
    lineage = None

    def __init__(self, form: tuple[object, ...], source: Numbers) -> None:
        self.source = source
        self.extras = msgspec.msgpack.decode(msgspec.msgpack.encode(form), type=Extras)


@pytest.mark.parametrize(
    "lineage",
    [
        Lineage(None, "", 0, "", 0, 50.0, DEFAULT.depth, 20.0, TRACE.encode()),
        Lineage(Path(None, "s.a"), A, 7, A, 7, 50.0, DEFAULT.depth, 20.0),
        Lineage(Path(None, "s.a"), A, 7, A, 7, 50.0, DEFAULT.depth, 0.0, TRACE.encode()),
        Lineage(Path.through(["s.a", "s.b"]), B, 8, A, 7, 50.0, 3, 20.0, TRACE.encode()),
    ],
)
@pytest.mark.parametrize("tracked", [False, True])
def test_somebody_else_s_trace_and_when_the_root_was_emitted_come_over(
    lineage: Lineage, tracked: bool
) -> None:
    numbers = Numbers()
    arrival = Received(all_extras_for(lineage, numbers, tracked, 0), numbers)
    received = full_lineage_of(arrival)
    assert received.trace == lineage.trace
    assert received.began == (lineage.began and lineage.began - 10)
    assert received.deadline == 40.0
    assert received.root == lineage.root
    assert bool(arrival.extras.tracked) == tracked


def test_where_there_is_no_such_trace_not_a_byte_more_travels() -> None:
    lineage = Lineage(Path.through(["s.a", "s.b"]), B, 8, A, 7, 50.0, 3)
    assert all_extras_for(lineage, Numbers(), False, 0) == (1, 0, 8, 50_000, 0, 1, 7, 3, 0)


@pytest.mark.parametrize("trace", [bytes(26), "text", 5])
def test_what_is_too_long_or_no_bytes_is_not_taken_for_a_trace(trace: object) -> None:
    form = (1, 0, 7, 50_000, 0, -1, 0, 16, 0, 0, trace)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(form), type=Extras)


@pytest.mark.parametrize("trace", [b"", b"abc", bytes(25), bytes(16) + b"12345678\x01"])
def test_what_is_no_trace_is_as_good_as_none(trace: bytes) -> None:
    root = EventId(A, 7)
    assert trace_for(root, trace) == trace_for(root)
    assert f"{trace_for(root).number:032x}" == str(root)


def test_a_trace_of_others_is_what_they_call_it() -> None:
    trace = trace_for(EventId(A, 7), TRACE.encode())
    assert (trace.number, trace.parent, trace.is_sampled) == (TRACE.trace, TRACE, True)
    assert not trace_for(EventId(A, 7), TRACE._replace(flags=0).encode()).is_sampled


def test_spans_have_the_same_ids_wherever_they_are_made_and_no_two_have_one() -> None:
    event, other = EventId(A, 7), EventId(A, 8)
    ids = [
        make(one, *rest)
        for one in (event, other)
        for make, rest in (
            (send_span_id, ()),
            (process_span_id, ("s.a", A)),
            (process_span_id, ("s.a", B)),
            (process_span_id, ("s.b", A)),
        )
    ]
    assert len(set(ids)) == len(ids)
    # Nodes of other versions of Thence make them so, too.
    assert send_span_id(event) == 0xAE701B528C5719D5
    assert process_span_id(event, "s.a", B) == 0x26545A17DAF2C5BB
