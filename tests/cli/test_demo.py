from __future__ import annotations

import json
from pathlib import Path

from tests.cli.processes import Folder, eventually

GPX = """<?xml version="1.0"?>
<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>
{points}
</trkseg></trk></gpx>"""


def test_the_demo_accounts_for_every_event_over_more_than_eight_processes(folder: Folder) -> None:
    said = folder.run("demo", "--seconds", "3", "--players", "10", "--json")
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    assert document["schema"] == "thence.demo/1"
    assert document["processes"] > 8
    assert document["balanced"] is True
    assert document["account"]["handled"] > 100
    assert document["account"]["failed"] == document["account"]["lost"] == 0
    assert document["events"]["claim_decided"] > 0
    assert document["cascades"] > 10


def test_the_demo_replays_recordings_and_finds_clues_on_them(
    folder: Folder, tmp_path: Path
) -> None:
    points = "\n".join(
        f'<trkpt lat="{46 + step / 1000}" lon="{14 + step / 1500}"></trkpt>' for step in range(30)
    )
    (tmp_path / "tracks").mkdir()
    (tmp_path / "tracks" / "walk.gpx").write_text(GPX.format(points=points))
    said = folder.run("demo", "--seconds", "2", "--tracks", str(tmp_path / "tracks"), "--json")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["events"]["clue_found"] == 6


def test_a_demo_may_be_looked_at_from_another_terminal(folder: Folder) -> None:
    mesh = folder.environment["THENCE_MESH"]
    folder.start("demo", "--seconds", "60", "--players", "5", "--mesh", mesh)

    def services() -> set[str]:
        said = folder.run("map", "--seconds", "0.1", "--json")
        nodes = json.loads(said.stdout)["nodes"] if said.stdout else []
        return {service for node in nodes for service in node["services"]}

    eventually(lambda: len(services()) == 8, within=40)


def test_a_broken_recording_is_named(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "walk.gpx").write_text("<gpx")
    said = folder.run("demo", "--tracks", str(tmp_path))
    assert said.returncode == 1
    assert "walk.gpx" in said.stderr
    assert "Traceback" not in said.stderr
