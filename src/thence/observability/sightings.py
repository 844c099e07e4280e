"""What a node has seen its handlers do, whatever they declare: for the drift between the two."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from thence.observability.shares import ROOT, Shares

__all__ = ["Sightings", "decode_sightings", "sightings_of"]

MOST = 2000


class Sightings(Struct, frozen=True):
    """One node's answer. A field may be appended with a default."""

    node: str
    name: str
    age: float
    """Seconds since it started."""
    seconds: float
    """How far back its rings tell."""
    emits: tuple[tuple[str, str], ...] = ()
    """Handler and event: what came from where."""
    handles: tuple[tuple[str, str], ...] = ()
    """Handler and event: what ended where, well or not."""
    undeclared: tuple[tuple[str, int, str], ...] = ()
    """Handler, how often it failed because it emitted what it does not declare, and the last error's text."""
    left_out: int = 0
    """Rows of any kind beyond the greatest number of them."""

    def encode(self) -> bytes:
        """For the wire."""
        return msgspec.msgpack.encode(self)


decode_sightings = msgspec.msgpack.Decoder[Sightings](Sightings).decode


def sightings_of(node: str, name: str, age: float, now: float, shares: Shares) -> Sightings:
    """One node's answer from all that its rings hold."""
    emits = sorted(pair for pair in shares.sent if pair[0] != ROOT)
    handles = sorted((place, event) for event, place in shares.ran)
    undeclared = sorted((place, *told) for place, told in shares.undeclared.items())
    seconds = age
    if shares.forgot:
        seconds = 0.0 if shares.since is None else min(age, now - shares.since)
    return Sightings(
        node,
        name,
        age,
        seconds,
        tuple(emits[:MOST]),
        tuple(handles[:MOST]),
        tuple(undeclared[:MOST]),
        sum(max(0, len(rows) - MOST) for rows in (emits, handles, undeclared)),
    )
