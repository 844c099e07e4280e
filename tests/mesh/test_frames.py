"""The frame reader, given any bytes at all in any pieces."""

from __future__ import annotations

import math
import struct
from types import SimpleNamespace
from typing import Any

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
    message_frame,
    stamped,
)
from thence.mesh.link import Link
from thence.testing import run

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
    body = piece[HEADER:]
    assert batch == body[STAMP:]
    return [(EVENTS, body)]


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
    body = struct.pack(">d", 1.2345) + b"\xdd\0\0\0\x02\x01\x02"
    assert read(FrameReader(), bytes(frame.take(1.2345))) == [(EVENTS, body)]
    assert stamped(body) == (1.2345, b"\xdd\0\0\0\x02\x01\x02")
    assert frame.count == 0


@pytest.mark.parametrize("size", range(STAMP + 1))
def test_a_frame_of_events_without_any_is_refused(size: int) -> None:
    with pytest.raises(BadFrame) as refused:
        stamped(bytes(size))
    assert refused.value.reason == "garbage"


@pytest.mark.parametrize("running", [0.0, 1234.5, 1e9])
@pytest.mark.parametrize("passed", [0.0, 0.04, 0.2, 31.0, 86_400.0])
@pytest.mark.parametrize("behind", [0.0, 5000.25, -700.125])
def test_a_link_knows_when_a_frame_was_sent_however_long_its_peer_has_been_running(
    running: float, passed: float, behind: float
) -> None:
    async def main() -> None:
        now = running + behind + passed
        owner: Any = SimpleNamespace(
            cork=None, departures=None, received=lambda *_: None, now=lambda: now
        )
        link = Link(owner, dialled=False)
        link.behind = behind
        frame = EventsFrame()
        frame.count = 1
        link._receive(*stamped(bytes(frame.take(running))[HEADER:]))
        assert link.stale == (passed > 0.1)
        assert link.sent_at == pytest.approx(now - (passed if link.stale else 0.0), abs=0.002)

    run(main())


def test_a_frame_stamped_a_little_ahead_of_its_reader_was_sent_just_now() -> None:
    async def main() -> None:
        owner: Any = SimpleNamespace(
            cork=None, departures=None, received=lambda *_: None, now=lambda: 99.9
        )
        link = Link(owner, dialled=False)
        link.behind = 0.0
        link._receive(*stamped(bytes(EventsFrame().take(100.0))[HEADER:]))
        assert not link.stale
        assert link.sent_at == 99.9

    run(main())


@pytest.mark.parametrize("stamp", [float("nan"), float("inf"), -float("inf"), -1e300])
def test_a_frame_said_to_be_sent_at_no_moment_at_all_was_sent_at_one(stamp: float) -> None:
    async def main() -> None:
        owner: Any = SimpleNamespace(
            cork=None, departures=None, received=lambda *_: None, now=lambda: 100.0
        )
        link = Link(owner, dialled=False)
        link.behind = 0.0
        link._receive(*stamped(bytes(EventsFrame().take(stamp))[HEADER:]))
        assert math.isfinite(link.sent_at)

    run(main())


def test_a_message_is_framed_as_such() -> None:
    assert read(FrameReader(), message_frame(b"body")) == [(MESSAGE, b"body")]
