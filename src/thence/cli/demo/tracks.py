"""Real walks: GPX recordings become the players' ways, and clues are laid beside them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from thence.cli.demo.places import examples
from thence.cli.exits import CommandError, Exit

__all__ = ["world_of"]

CLUES_A_WALK = 6
BESIDE = 0.00005
"""Degrees that a clue lies beside the way: a few metres."""


def world_of(folder: Path, seconds: float) -> Any:
    """A map with the recordings of ``folder`` as walks, each compressed into ``seconds``.

    :raises CommandError: there is no folder, nothing in it to replay, or nothing to read it with.
    """
    sys.path.insert(0, str(examples()))
    from treasure_hunt.world import Clue, Place, World, place_at

    recordings = _recordings(folder)
    moves_per_second = 20.0
    steps = max(2, int(seconds * moves_per_second))
    clues: list[Clue] = []
    walks: list[tuple[Place, ...]] = []
    for name, points in recordings:
        for number in range(CLUES_A_WALK):
            latitude, longitude = points[(number + 1) * len(points) // (CLUES_A_WALK + 1)]
            clues.append(Clue(name, number, latitude + BESIDE, longitude))
        walks.append(tuple(place_at(points, step / (steps - 1)) for step in range(steps)))
    return World(tuple(clues), tuple(walks), moves_per_second=moves_per_second)


def _recordings(folder: Path) -> list[tuple[str, list[tuple[float, float]]]]:
    try:
        import gpxpy
        import gpxpy.gpx
    except ImportError as error:
        raise CommandError("--tracks needs gpxpy: pip install 'thence[demo]'") from error
    if not folder.is_dir():
        raise CommandError(f"--tracks {folder}: there is no such folder", Exit.NOT_FOUND)
    recordings: list[tuple[str, list[tuple[float, float]]]] = []
    for path in sorted(folder.glob("*.gpx")):
        try:
            gpx = gpxpy.parse(path.read_text(encoding="utf-8"))
        except (gpxpy.gpx.GPXException, UnicodeDecodeError) as error:
            raise CommandError(
                f"{path}: not a GPX recording ({error}); remove it or mend it"
            ) from error
        points = [
            (point.latitude, point.longitude)
            for track in gpx.tracks
            for s in track.segments
            for point in s.points
        ]
        points += [
            (point.latitude, point.longitude) for route in gpx.routes for point in route.points
        ]
        if len(points) > 1:
            recordings.append((path.stem, points))
    if not recordings:
        raise CommandError(
            f"--tracks {folder}: no .gpx file in it has a track; record one with a phone, or name another folder",
            Exit.NOT_FOUND,
        )
    return recordings
