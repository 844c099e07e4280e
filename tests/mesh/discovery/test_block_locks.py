"""Locks on blocks in files: how few calls they take, and that files neither pile up nor vanish."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from thence.mesh.discovery.block_locks import FileBlockLocks, remove_unused
from thence.mesh.discovery.byte_ranges import ByteRanges, OpenFileRanges, ProcessRanges, open_ranges
from thence.routing.replicas import BLOCKS


def files_in(directory: str | os.PathLike[str]) -> list[str]:
    return os.listdir(directory)


EVERYTHING = range(BLOCKS)

Open = Callable[..., ByteRanges]


@pytest.fixture(params=[open_ranges, ProcessRanges])
def opener(request: pytest.FixtureRequest) -> Open:
    opened: Open = request.param
    return opened


@pytest.fixture
def make(tmp_path: Path, opener: Open) -> Iterator[Callable[[], FileBlockLocks]]:
    made: list[FileBlockLocks] = []

    def make() -> FileBlockLocks:
        made.append(FileBlockLocks(tmp_path, "scores", opener))
        return made[-1]

    yield make
    for locks in made:
        locks.close()


class Counting(OpenFileRanges):
    calls = 0

    def _set(self, kind: int, start: int, length: int) -> None:
        Counting.calls += 1
        super()._set(kind, start, length)


@pytest.mark.skipif(open_ranges is ProcessRanges, reason="no open file locks here")
def test_neighbours_are_taken_and_given_back_with_one_call(tmp_path: Path) -> None:
    locks = FileBlockLocks(tmp_path, "scores", Counting)
    locks.acquire([0])
    locks.release([0])
    for blocks in (EVERYTHING, range(10, 20), [5], [9, 8, 7]):
        Counting.calls = 0
        assert locks.acquire(blocks) == set(blocks)
        assert Counting.calls == 1
        assert locks.acquire(blocks) == set(blocks)
        assert Counting.calls == 1, "what is held is not asked for again"
        locks.release(blocks)
        assert Counting.calls == 2
    locks.acquire(EVERYTHING[::2])
    Counting.calls = 0
    locks.release(EVERYTHING)
    assert Counting.calls == 1, "everything is given back with one call, whatever it is"
    locks.close()


def test_a_release_spares_what_lies_between(make: Callable[[], FileBlockLocks]) -> None:
    one, other = make(), make()
    chance = random.Random(1)
    for _ in range(200):
        held = set(chance.sample(EVERYTHING, 40))
        given = set(chance.sample(EVERYTHING, 100))
        assert one.acquire(held) == held
        one.release(given)
        assert other.acquire(EVERYTHING) == set(EVERYTHING) - (held - given)
        other.release(EVERYTHING)
        one.release(EVERYTHING)


@pytest.mark.parametrize("block", [-1, BLOCKS])
def test_there_are_no_other_blocks(make: Callable[[], FileBlockLocks], block: int) -> None:
    with pytest.raises(ValueError, match="from 0 to 255"):
        make().acquire([1, block])


def test_a_file_in_use_is_not_removed(
    tmp_path: Path, make: Callable[[], FileBlockLocks], opener: Open
) -> None:
    locks = make()
    path = tmp_path / "scores.blocks"
    locks.acquire([1])
    locks.release([1])
    assert not remove_unused(path, opener)
    assert path.exists()
    locks.close()
    assert remove_unused(path, opener)
    assert not path.exists()
    assert not remove_unused(path, opener)


def test_a_file_about_to_be_removed_is_not_used(
    tmp_path: Path, make: Callable[[], FileBlockLocks], opener: Open
) -> None:
    path = tmp_path / "scores.blocks"
    removing = opener(path, create=True)
    assert removing.lock(BLOCKS, 1)
    locks = make()
    assert locks.acquire(EVERYTHING) == set(), "nothing is free for the moment"
    path.unlink()
    removing.close()
    assert locks.acquire(EVERYTHING) == set(EVERYTHING)
    assert path.exists()


def test_nobody_uses_a_file_that_was_removed_meanwhile(tmp_path: Path, opener: Open) -> None:
    path = tmp_path / "scores.blocks"
    stale = opener(path, create=True)
    path.unlink()
    assert not stale.is_current
    stale.close()
    path.touch()
    fresh = opener(path, create=False)
    assert fresh.is_current
    fresh.close()


def test_lock_files_are_their_owners_only(
    tmp_path: Path, make: Callable[[], FileBlockLocks]
) -> None:
    make().acquire([1])
    assert (tmp_path / "scores.blocks").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("service", ["../escape", "a/b", "", ".", "x" * 500, "\0", "ÄÖÜ" * 100])
def test_any_name_of_a_service_makes_a_file_in_the_directory(tmp_path: Path, service: str) -> None:
    locks = FileBlockLocks(tmp_path, service)
    assert locks.acquire([1]) == {1}
    (name,) = files_in(tmp_path)
    assert name.endswith(".blocks")
    locks.close()
