"""Names for runs of nodes and for events, cheap to make and unique without asking anybody.

An event's identifier is the run of the node that emitted it and a sequence number there: a counter costs
a tenth of a random identifier, and both halves travel as small integers. The printable form is made when
somebody looks: 32 hexadecimal digits that sort by the node's start, then by the order of emission.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import NamedTuple

__all__ = ["EventId", "new_node_id"]


def new_node_id(now: datetime | None = None) -> str:
    """A new run's identifier: 20 hexadecimal digits, 48 bits of Unix milliseconds and 32 random ones."""
    began = now or datetime.now(UTC)
    return f"{int(began.timestamp() * 1000):012x}{os.urandom(4).hex()}"


class EventId(NamedTuple):
    """Which event: the run of the node that emitted it, and its number there, counted from 1."""

    node: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.node}{self.sequence:012x}"

    @classmethod
    def parse(cls, text: str) -> EventId:
        """The inverse of ``str``.

        :raises ValueError: ``text`` is not 32 hexadecimal digits.
        """
        if len(text) != 32:
            raise ValueError(
                f"an event id has 32 hexadecimal digits, this has {len(text)}: {text!r}"
            )
        int(text, 16)
        return cls(text[:20], int(text[20:], 16))
