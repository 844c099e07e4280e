"""The map of the treasure hunt: distances, ways, and what is found on them."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treasure_hunt import world
from treasure_hunt.world import Clue, World, distance, invent, passes, place_at

LJUBLJANA = (46.0511, 14.5051)
A_DEGREE_NORTH = math.radians(1) * world.EARTH_RADIUS


def north_of(metres: float) -> tuple[float, float]:
    return LJUBLJANA[0] + metres / A_DEGREE_NORTH, LJUBLJANA[1]


def test_a_distance_is_in_metres_and_the_same_in_both_directions() -> None:
    maribor = (46.5547, 15.6459)
    assert distance(LJUBLJANA, maribor) == pytest.approx(103_600, rel=0.01)
    assert distance(LJUBLJANA, maribor) == distance(maribor, LJUBLJANA)
    assert distance(LJUBLJANA, LJUBLJANA) == 0


def test_a_way_passes_a_place_that_lies_beside_its_middle() -> None:
    west, east = (LJUBLJANA[0], LJUBLJANA[1] - 0.01), (LJUBLJANA[0], LJUBLJANA[1] + 0.01)
    assert passes(west, east, north_of(9), reach=10)
    assert not passes(west, east, north_of(11), reach=10)


def test_a_way_does_not_pass_a_place_beyond_its_end() -> None:
    assert passes(LJUBLJANA, north_of(100), north_of(109), reach=10)
    assert not passes(LJUBLJANA, north_of(100), north_of(111), reach=10)


def test_a_player_who_stands_still_passes_what_is_in_reach() -> None:
    assert passes(LJUBLJANA, LJUBLJANA, north_of(9), reach=10)
    assert not passes(LJUBLJANA, LJUBLJANA, north_of(11), reach=10)


metres = st.floats(-300, 300)


@given(metres, metres, metres, metres)
def test_passing_agrees_with_the_distance_to_the_nearest_point_of_the_way(
    from_north: float, to_north: float, to_east: float, place_north: float
) -> None:
    narrow = A_DEGREE_NORTH * math.cos(math.radians(LJUBLJANA[0]))
    before = north_of(from_north)
    after = (north_of(to_north)[0], LJUBLJANA[1] + to_east / narrow)
    place = north_of(place_north)
    nearest = min(
        distance(
            (
                before[0] + (after[0] - before[0]) * step / 2000,
                before[1] + (after[1] - before[1]) * step / 2000,
            ),
            place,
        )
        for step in range(2001)
    )
    assert passes(before, after, place, nearest + 0.5)
    assert not passes(before, after, place, max(0.0, nearest - 0.5)) or nearest < 0.5


def test_a_way_begins_and_ends_at_its_ends_and_runs_evenly_between() -> None:
    way = [(0.0, 0.0), (1.0, 0.0), (1.0, 2.0)]
    assert [place_at(way, share) for share in (0, 0.25, 0.5, 0.75, 1)] == [
        (0.0, 0.0),
        (0.5, 0.0),
        (1.0, 0.0),
        (1.0, 1.0),
        (1.0, 2.0),
    ]


def test_every_invented_player_finds_every_clue_of_one_hunt() -> None:
    park = invent(players=12, seconds=3)
    for number, walk in enumerate(park.walks):
        found = {
            clue.number
            for before, after in pairwise(walk)
            for clue in park.clues
            if clue.hunt == f"hunt-{number % 8}" and passes(before, after, clue.place, park.reach)
        }
        assert found == park.clues_of(f"hunt-{number % 8}")


def test_an_invented_park_is_the_same_each_time() -> None:
    assert invent(players=3, seconds=2) == invent(players=3, seconds=2)
    assert invent(players=3, seconds=2) != invent(players=3, seconds=2, seed=8)


def test_all_processes_read_the_map_that_they_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_map = World(clues=(Clue("river", 0, 46.0, 14.5),), walks=(((46.0, 14.5),),), reach=3.0)
    (tmp_path / "map.json").write_bytes(msgspec.json.encode(given_map))
    monkeypatch.setenv("TREASURE_HUNT_WORLD", str(tmp_path / "map.json"))
    assert world.read() == given_map
