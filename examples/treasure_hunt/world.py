"""The map that the game is played on: where the clues lie, and how far it is to them.

Every process gets the same map, from the file that ``TREASURE_HUNT_WORLD`` names, or a small one of its own.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

__all__ = [
    "Clue",
    "Move",
    "Place",
    "Stampede",
    "World",
    "curse",
    "distance",
    "invent",
    "passes",
    "place_at",
    "plant_fault",
    "read",
]

Place: TypeAlias = tuple[float, float]
"""Latitude and longitude, in degrees."""

EARTH_RADIUS = 6_371_000.0
"""Metres."""

PAUSE = 3
"""Steps for which an invented player looks around at each clue."""


class Clue(msgspec.Struct, frozen=True):
    """A clue lies at one place and belongs to one hunt."""

    hunt: str
    number: int
    latitude: float
    longitude: float
    cursed: bool = False

    @property
    def place(self) -> Place:
        """Where it lies."""
        return self.latitude, self.longitude


class Stampede(msgspec.Struct, frozen=True):
    """A time in which every phone tells where it is far more often."""

    begins: float
    """Seconds after the first move."""
    seconds: float
    times: int = 50
    """So many moves in place of one, along the same way."""


class Move(NamedTuple):
    """One move of one player."""

    due: float
    """Seconds after the first move."""
    player: int
    number: int
    """How many moves this player has made before."""
    place: Place


class World(msgspec.Struct, frozen=True):
    """The whole map, and who walks on it."""

    clues: tuple[Clue, ...]
    walks: tuple[tuple[Place, ...], ...]
    """For each player, the places on the way, as latitude and longitude."""
    reach: float = 10.0
    """How near the way must come to a clue, in metres."""
    moves_per_second: float = 10.0
    """How often each player's phone tells where it is."""
    stampede: Stampede | None = None
    signed_out: tuple[int, ...] = ()
    """Players whose phone does not know who carries it."""

    def name_of(self, player: int) -> str:
        """Whom a phone says its moves are of: its player, or itself if nobody is signed in on it."""
        return f"phone-{player}" if player in self.signed_out else f"player-{player}"

    def moves(self) -> Iterator[Move]:
        """Every player's moves in the order in which they are due, spread evenly over time."""
        number = 0
        for step, places in enumerate(zip(*self.walks, strict=True)):
            ahead = [walk[min(step + 1, len(walk) - 1)] for walk in self.walks]
            times = self._times(step)
            for part in range(times):
                for player, (here, there) in enumerate(zip(places, ahead, strict=True)):
                    place = here if part == 0 else place_at((here, there), part / times)
                    late = (part + player / len(places)) / times
                    yield Move((step + late) / self.moves_per_second, player, number, place)
                number += 1

    def moves_due(self, before: float = math.inf) -> int:
        """How many moves there are in that many seconds, up to a whole step."""
        steps = len(self.walks[0]) if self.walks else 0
        each = sum(
            self._times(step) for step in range(steps) if step / self.moves_per_second < before
        )
        return each * len(self.walks)

    def _times(self, step: int) -> int:
        rush = self.stampede
        since = step / self.moves_per_second - (rush.begins if rush else 0.0)
        return rush.times if rush is not None and 0 <= since < rush.seconds else 1

    @property
    def cursed(self) -> bool:
        """Whether a curse lies on a clue."""
        return any(clue.cursed for clue in self.clues)

    def clues_of(self, hunt: str) -> frozenset[int]:
        """The numbers of a hunt's clues."""
        return frozenset(clue.number for clue in self.clues if clue.hunt == hunt)


def distance(place: Place, other: Place) -> float:
    """Metres between two places on the globe (haversine formula)."""
    latitude, other_latitude = math.radians(place[0]), math.radians(other[0])
    half_north = (other_latitude - latitude) / 2
    half_east = math.radians(other[1] - place[1]) / 2
    square = (
        math.sin(half_north) ** 2
        + math.cos(latitude) * math.cos(other_latitude) * math.sin(half_east) ** 2
    )
    return 2 * EARTH_RADIUS * math.asin(math.sqrt(square))


def passes(before: Place, after: Place, place: Place, reach: float) -> bool:
    """Whether the straight way from one place to the next comes within ``reach`` metres of ``place``.

    The globe is taken as flat, which is right for the few hundred metres between two positions.
    """
    narrow = math.cos(math.radians(place[0]))
    metres = math.radians(1) * EARTH_RADIUS
    ax, ay = (before[1] - place[1]) * narrow * metres, (before[0] - place[0]) * metres
    dx, dy = (after[1] - before[1]) * narrow * metres, (after[0] - before[0]) * metres
    length = dx * dx + dy * dy
    share = 0.0 if length == 0 else min(1.0, max(0.0, -(ax * dx + ay * dy) / length))
    return math.hypot(ax + share * dx, ay + share * dy) <= reach


def invent(players: int, seconds: float, *, hunts: int = 8, clues: int = 6, seed: int = 7) -> World:
    """A park with hunts in it, and players who wander from clue to clue."""
    chance = random.Random(seed)
    centre = (46.0511, 14.5051)

    def somewhere() -> Place:
        return (
            round(centre[0] + chance.uniform(-0.01, 0.01), 6),
            round(centre[1] + chance.uniform(-0.014, 0.014), 6),
        )

    places = tuple(
        Clue(f"hunt-{hunt}", number, *somewhere())
        for hunt in range(hunts)
        for number in range(clues)
    )
    moves_per_second = 10.0
    steps = max(clues, round(seconds * moves_per_second)) + 1
    walks: list[tuple[Place, ...]] = []
    for player in range(players):
        wanted = [clue.place for clue in places if clue.hunt == f"hunt-{player % hunts}"]
        chance.shuffle(wanted)
        walks.append(_walk(somewhere(), wanted, steps, chance))
    return World(places, tuple(walks), moves_per_second=moves_per_second)


def curse(hunt_map: World, after: float) -> World:
    """The same map with a curse on the clue that is found first after so many seconds.

    Nobody finds it before; if all are found by then, it is the one that is found last.
    """
    found = _first_finds(hunt_map)
    late = [clue for clue, at in found.items() if at >= after] or [*found][-1:]
    return msgspec.structs.replace(
        hunt_map,
        clues=tuple(
            msgspec.structs.replace(clue, cursed=True) if clue in late[:1] else clue
            for clue in hunt_map.clues
        ),
    )


def plant_fault(hunt_map: World, share: float = 0.1, *, seed: int = 7) -> World:
    """The same map with some players, at least one, whose phones tell a name that is no player's.

    Nothing comes of it before such a player finds a clue; ``leagues.py`` fails then.
    """
    players = len(hunt_map.walks)
    number = min(players, max(1, round(share * players)))
    chosen = random.Random(seed).sample(range(players), number)
    return msgspec.structs.replace(hunt_map, signed_out=tuple(sorted(chosen)))


def _first_finds(hunt_map: World) -> dict[Clue, float]:
    """When each clue is found for the first time, in seconds after the first move, in that order."""
    found: dict[Clue, float] = {}
    hidden = list(hunt_map.clues)
    before: tuple[Place, ...] = ()
    for step, places in enumerate(zip(*hunt_map.walks, strict=True)):
        for was, here in zip(before or places, places, strict=True):
            for clue in hidden:
                if clue not in found and passes(was, here, clue.place, hunt_map.reach):
                    found[clue] = step / hunt_map.moves_per_second
        hidden = [clue for clue in hidden if clue not in found]
        before = places
    return found


def _walk(
    start: Place, stations: Sequence[Place], steps: int, chance: random.Random
) -> tuple[Place, ...]:
    """``steps`` places from station to station in straight lines, with a pause at each.

    Each leg takes as long as chance has it, so that players don't find their clues all at once.
    """
    pause = min(PAUSE, (steps - 1) // len(stations) - 1)
    room = steps - 1 - len(stations) * pause
    cuts = sorted(chance.sample(range(1, room + 1), len(stations)))
    way = [start]
    for station, length in zip(stations, map(int.__sub__, cuts, [0, *cuts]), strict=False):
        here = way[-1]
        way += [place_at((here, station), step / length) for step in range(1, length + 1)]
        way += [station] * pause
    return (*way, *[way[-1]] * (steps - len(way)))


def place_at(way: Sequence[Place], share: float) -> Place:
    """The place after that share of a way, between two of its points where it falls there."""
    position = share * (len(way) - 1)
    leg = min(int(position), len(way) - 2)
    part = position - leg
    (north, east), (to_north, to_east) = way[leg], way[leg + 1]
    return round(north + (to_north - north) * part, 6), round(east + (to_east - east) * part, 6)


def read() -> World:
    """The map that this process was given."""
    path = os.environ.get("TREASURE_HUNT_WORLD")
    if path is None:
        return invent(players=20, seconds=30)
    return msgspec.json.decode(Path(path).read_bytes(), type=World)
