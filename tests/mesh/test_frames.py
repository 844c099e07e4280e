"""The frame reader, given any bytes at all in any pieces."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thence.mesh.frames import (
    EVENTS,
    HEADER,
    MESSAGE,
    STAMP,
    BadFrame,
    EventsFrame,
    FrameReader,
    age,
    message_frame,
    stamped,
)

BOUND = 64

frames = st.lists(st.tuples(st.sampled_from([EVENTS, MESSAGE]), st.binary(max_size=BOUND)))
cuts = st.lists(st.integers(min_value=1, max_value=40))


def framed(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body), kind) + body


def pieces(stream: bytes, lengths: list[int]) -> list[bytes]:
    made = []
    for length in lengths:
        made.append(stream[:length])
        stream = stream[length:]
    return [*made, stream]


def read(reader: FrameReader, piece: bytes) -> list[tuple[int, bytes]]:
    """As a link reads: the short way first."""
    batch = reader.single_batch(piece)
    if batch is None:
        return reader.feed(piece)
    return [(EVENTS, reader.stamp.to_bytes(STAMP, "big") + batch)]


@given(frames, cuts)
def test_frames_come_out_as_they_went_in_whatever_pieces_they_arrive_in(
    sent: list[tuple[int, bytes]], lengths: list[int]
) -> None:
    reader = FrameReader(BOUND)
    stream = b"".join(framed(kind, body) for kind, body in sent)
    read_back = [frame for piece in pieces(stream, lengths) for frame in read(reader, piece)]
    assert read_back == sent
    assert not reader.incomplete


@given(st.lists(st.binary(max_size=200)))
def test_any_bytes_are_frames_or_refused_and_never_kept_beyond_one_frame(
    received: list[bytes],
) -> None:
    reader = FrameReader(BOUND)
    for piece in received:
        try:
            read_back = read(reader, piece)
        except BadFrame:
            return
        assert all(kind in (EVENTS, MESSAGE) and len(body) <= BOUND for kind, body in read_back)
        assert len(reader._kept) < HEADER + BOUND


@pytest.mark.parametrize("kind", [EVENTS, MESSAGE])
def test_a_frame_over_the_bound_is_refused_before_its_body_arrives(kind: int) -> None:
    with pytest.raises(BadFrame) as refused:
        read(FrameReader(BOUND), struct.pack(">IB", BOUND + 1, kind))
    assert refused.value.reason == "oversize"


def test_a_whole_frame_over_the_bound_is_refused_too() -> None:
    with pytest.raises(BadFrame) as refused:
        read(FrameReader(BOUND), framed(EVENTS, bytes(BOUND + 1)))
    assert refused.value.reason == "oversize"


@pytest.mark.parametrize("kind", sorted(set(range(256)) - {EVENTS, MESSAGE}))
def test_a_frame_of_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(BadFrame) as refused:
        read(FrameReader(BOUND), framed(kind, b"body"))
    assert refused.value.reason == "garbage"


def test_a_frame_of_events_is_an_array_of_what_was_appended() -> None:
    frame = EventsFrame()
    frame.buffer += b"\x01\x02"
    frame.count = 2
    body = b"\0\0\x04\xd2\xdd\0\0\0\x02\x01\x02"
    assert read(FrameReader(), bytes(frame.take(1.2345))) == [(EVENTS, body)]
    assert stamped(body) == (1234, b"\xdd\0\0\0\x02\x01\x02")
    assert frame.count == 0


@pytest.mark.parametrize("size", range(STAMP + 1))
def test_a_frame_of_events_without_any_is_refused(size: int) -> None:
    with pytest.raises(BadFrame) as refused:
        stamped(bytes(size))
    assert refused.value.reason == "garbage"


@given(st.floats(0, 1e9), st.floats(0, 1e6))
def test_the_age_of_a_stamp_is_what_has_passed_since_however_long_the_sender_has_been_running(
    made: float, passed: float
) -> None:
    stamp = int.from_bytes(EventsFrame().take(made)[HEADER : HEADER + STAMP], "big")
    assert age(stamp, made + passed) == pytest.approx(passed, abs=0.002)


def test_a_stamp_a_little_ahead_of_its_reader_is_no_age_at_all() -> None:
    stamp = int.from_bytes(EventsFrame().take(100.0)[HEADER : HEADER + STAMP], "big")
    assert age(stamp, 99.5) == 0.0


def test_a_message_is_framed_as_such() -> None:
    assert read(FrameReader(), message_frame(b"body")) == [(MESSAGE, b"body")]
