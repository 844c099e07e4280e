from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from enum import Enum
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from thence.routing.replicas import BLOCKS, block_of, owners

nodes = st.sets(st.text("0123456789abcdef", min_size=20, max_size=20), min_size=1, max_size=8)
names = st.text(min_size=1, max_size=20)


class Colour(Enum):
    RED = "red"


@given(names, nodes)
def test_everybody_agrees_on_the_owner_whatever_the_order_they_learnt_it_in(service, known):
    assert owners(service, sorted(known)) == owners(service, reversed(sorted(known)))
    assert len(owners(service, known)) == BLOCKS
    assert set(owners(service, known)) <= known


@given(names, nodes, st.text("0123456789abcdef", min_size=20, max_size=20))
def test_a_replica_that_joins_only_takes_blocks_for_itself(service, known, newcomer):
    before = owners(service, known)
    after = owners(service, known | {newcomer})
    assert all(new in {old, newcomer} for old, new in zip(before, after, strict=True))


@given(names, nodes)
def test_a_replica_that_leaves_gives_up_only_its_own_blocks(service, known):
    leaver = min(known)
    before = owners(service, known)
    after = owners(service, known - {leaver})
    if not after:
        assert known == {leaver}
        return
    assert all(new == old or old == leaver for old, new in zip(before, after, strict=True))


def test_replicas_share_the_blocks_about_evenly():
    shares = Counter(owners("scores", [f"{number:020x}" for number in range(4)]))
    assert all(40 <= share <= 90 for share in shares.values()), shares


def test_keys_spread_over_the_blocks():
    used = {block_of(f"player-{number}") for number in range(5000)}
    assert len(used) == BLOCKS


def test_two_services_do_not_put_all_their_keys_on_the_same_replica():
    replicas = [f"{number:020x}" for number in range(2)]
    assert owners("scores", replicas) != owners("ranks", replicas)


def test_a_key_has_the_same_block_in_every_process():
    keys = [
        "ana",
        17,
        -1,
        True,
        b"\x00",
        UUID(int=5),
        Colour.RED,
        None,
        datetime(2026, 1, 1, tzinfo=UTC),
    ]
    program = (
        "from datetime import *; from uuid import UUID; from thence.routing.replicas import block_of\n"
        "keys = ['ana', 17, -1, True, b'\\x00', UUID(int=5), 'red', None, datetime(2026, 1, 1, tzinfo=UTC)]\n"
        "print([block_of(key) for key in keys])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == str([block_of(key) for key in keys])
