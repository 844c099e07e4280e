"""Which replica of a service handles which keys, decided alike by everybody without talking.

A key value falls into one of 256 blocks, and each block belongs to one replica by rendezvous hashing
(Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): every node computes a
weight for each replica and block, and the heaviest wins. A replica that joins takes blocks from each of the
others; one that leaves gives up its own; no other block moves. Blocks rather than single keys, because a
replica must also *lock* what it handles, and 256 locks are few enough to take at once.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable
from hashlib import shake_128
from typing import Any
from zlib import crc32

import msgspec

__all__ = ["BLOCKS", "block_of", "owners"]

BLOCKS = 256

_encode = msgspec.msgpack.Encoder().encode
_weights = struct.Struct(f"<{BLOCKS}Q")


def block_of(key: Any) -> int:
    """The block of a key value, the same in every process and on every machine."""
    return crc32(_encode(key)) & (BLOCKS - 1)


@functools.lru_cache(maxsize=4096)
def _weights_of(service: str, node: str) -> tuple[int, ...]:
    return _weights.unpack(shake_128(f"{service}\0{node}".encode()).digest(_weights.size))


def owners(service: str, nodes: Iterable[str]) -> list[str]:
    """For each block the node that owns it; an empty list when there is no node."""
    ranked = sorted(nodes)
    if not ranked:
        return []
    columns = zip(*(_weights_of(service, node) for node in ranked), strict=True)
    return [ranked[column.index(max(column))] for column in columns]
