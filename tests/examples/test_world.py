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
from treasure_hunt.world import Clue, Stampede, World, distance, invent, passes, place_at

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


def test_invented_players_do_not_find_their_clues_all_at_once_and_look_around_at_each() -> None:
    park = invent(players=20, seconds=20)
    places = {clue.place for clue in park.clues}
    arrivals: list[int] = []
    for walk in park.walks:
        on_clues = [step for step, place in enumerate(walk) if place in places]
        assert len(on_clues) >= 6 * (world.PAUSE + 1)
        arrivals.append(on_clues[0])
    assert len(set(arrivals)) > 10


@pytest.mark.parametrize("seconds", [1, 2, 3.7])
def test_a_short_invented_game_has_as_many_steps_as_it_has_time(seconds: float) -> None:
    park = invent(players=3, seconds=seconds)
    assert {len(walk) for walk in park.walks} == {round(seconds * 10) + 1}


def test_moves_are_due_evenly_player_after_player() -> None:
    park = invent(players=4, seconds=1)
    moves = list(park.moves())
    assert [move.due for move in moves] == pytest.approx([n * 0.025 for n in range(len(moves))])
    assert [move.player for move in moves[:5]] == [0, 1, 2, 3, 0]
    assert len(moves) == park.moves_due() == 44
    assert tuple(move.place for move in moves if move.player == 2) == park.walks[2]


def test_a_stampede_has_50_times_the_moves_on_the_same_way_in_the_same_time() -> None:
    calm = invent(players=2, seconds=4)
    wild = msgspec.structs.replace(calm, stampede=Stampede(begins=1, seconds=2))
    before, during = wild.moves_due(1), wild.moves_due(3) - wild.moves_due(1)
    assert (before, during) == (20, 20 * 50 * 2)
    moves = list(wild.moves())
    assert len(moves) == wild.moves_due() == calm.moves_due() + 49 * 40
    assert all(earlier.due <= later.due for earlier, later in pairwise(moves))
    assert moves[-1].due == list(calm.moves())[-1].due
    assert [move.number for move in moves if move.player == 1] == list(range(len(moves) // 2))
    for player, walk in enumerate(calm.walks):
        assert set(walk) <= {move.place for move in moves if move.player == player}


def test_a_curse_lies_on_the_clue_that_is_found_first_after_its_time() -> None:
    walk = tuple((46.0 + metres / A_DEGREE_NORTH, 14.5) for metres in range(0, 500, 5))
    clues = tuple(
        Clue("river", number, 46.0 + metres / A_DEGREE_NORTH, 14.5)
        for number, metres in enumerate((400, 100, 200))
    )
    calm = World(clues, (walk, walk[:1] * len(walk)), reach=1.0)
    assert not calm.cursed

    def cursed(after: float) -> list[int]:
        laid = world.curse(calm, after)
        assert laid.cursed
        return [clue.number for clue in laid.clues if clue.cursed]

    # Ten moves a second, five metres each.
    assert cursed(0) == [1]
    assert cursed(2.0) == [1]
    assert cursed(2.1) == cursed(4.0) == [2]
    assert cursed(4.1) == [0]
    assert cursed(60) == [0], "the last one, when all are found by then"


def test_a_map_on_which_nobody_finds_anything_bears_no_curse() -> None:
    far = World((Clue("river", 0, 0.0, 0.0),), (((46.0, 14.5),),))
    assert world.curse(far, 0) == far


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


def test_a_planted_fault_is_some_phones_that_tell_no_players_name_the_same_each_time() -> None:
    park = invent(players=20, seconds=2)
    planted = world.plant_fault(park)
    assert planted == world.plant_fault(park)
    assert len(planted.signed_out) == 2
    names = [planted.name_of(player) for player in range(20)]
    assert len(set(names)) == 20
    assert [name for name in names if name.startswith("phone-")] == [
        f"phone-{player}" for player in planted.signed_out
    ]
    assert [park.name_of(player) for player in (0, 19)] == ["player-0", "player-19"]


def test_a_fault_needs_one_player_and_no_more_than_there_are() -> None:
    assert len(world.plant_fault(invent(players=1, seconds=2)).signed_out) == 1
    assert len(world.plant_fault(invent(players=2, seconds=2), 1.0).signed_out) == 2
