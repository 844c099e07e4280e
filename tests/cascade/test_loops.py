"""Which loop a cascade is in, and how often it has been round."""

from __future__ import annotations

import pytest

from thence.cascade import loops
from thence.cascade.loops import Paths, loop_in
from thence.events.lineage import Path


def path_of(letters: str) -> Path:
    return Path.through([f"s.{letter}" for letter in letters])


@pytest.mark.parametrize(
    ("letters", "visits"), [("a", 1), ("ab", 1), ("aba", 2), ("abab", 2), ("aaaa", 4), ("abcb", 2)]
)
def test_a_path_knows_how_often_it_has_been_at_its_last_handler(letters: str, visits: int) -> None:
    path = path_of(letters)
    assert path.visits == visits
    assert path.depth == len(letters)
    assert path.handlers == tuple(f"s.{letter}" for letter in letters)


@pytest.mark.parametrize(
    ("letters", "loop"),
    [
        ("aba", "s.a → s.b → s.a"),
        ("aa", "s.a → s.a"),
        ("xaba", "s.a → s.b → s.a"),
        # The last round alone.
        ("abababa", "s.a → s.b → s.a"),
        ("abcacba", "s.a → s.c → s.b → s.a"),
    ],
)
def test_a_loop_is_told_from_where_it_was_left_to_where_it_is_again(
    letters: str, loop: str
) -> None:
    assert loop_in(path_of(letters)) == loop


def test_equal_paths_are_one_object_as_long_as_they_are_remembered() -> None:
    paths = Paths()
    first = paths.below(paths.below(None, "s.a"), "s.b")
    assert paths.below(paths.below(None, "s.a"), "s.b") is first
    assert paths.below(None, "s.b") is not first
    assert paths.below(first, "s.b") is not first


def test_no_more_paths_are_remembered_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loops, "MAX_PATHS", 10)
    paths = Paths()
    before = paths.below(None, "s.0")
    for number in range(100):
        path = paths.below(before, f"s.{number}")
        assert len(paths._known) <= 10
        assert path.handlers == ("s.0", f"s.{number}")
        assert path.visits == (2 if number == 0 else 1)


def test_long_paths_are_remembered_in_smaller_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "MAX_HANDLERS", 100)
    paths = Paths()
    path: Path | None = None
    for number in range(50):
        path = paths.below(path, f"s.{number}")
        assert sum(known.depth for known in paths._known.values()) <= 100
    assert path is not None
    assert path.handlers == tuple(f"s.{number}" for number in range(50))


def test_the_longest_path_is_made_and_forgotten_without_trouble() -> None:
    path: Path | None = None
    for number in range(1000):
        path = Path(path, f"s.{number % 7}")
    assert path is not None
    assert path.visits == 143
    assert len(loop_in(path).split(" → ")) == 8
    del path
