"""The installed wheel, outside the source tree. Run by ``make wheel-test``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import thence

THENCE = str(Path(sys.executable).parent / "thence")

SERVICE = """
from thence import Event, Service

class Found(Event):
    clue: int

class Told(Event):
    clue: int

finder, teller = Service("finder"), Service("teller")

@finder.on(Found)
async def find(found: Found) -> Told:
    return Told(clue=found.clue)

@teller.on(Told)
async def tell(told: Told) -> None:
    open("told", "a").write(f"{told.clue}\\n")
"""


def test_two_services_of_the_installed_wheel_hand_events_to_each_other(tmp_path):
    assert "site-packages" in thence.__file__
    assert (Path(thence.__file__).parent / "py.typed").exists()
    (tmp_path / "app.py").write_text(SERVICE)
    environment = {**os.environ, "THENCE_MESH": f"local:{tmp_path / 'mesh'}"}
    hosting = [
        subprocess.Popen([THENCE, "run", f"app:{name}"], cwd=tmp_path, env=environment)
        for name in ("finder", "teller")
    ]
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "told").exists():
            assert time.monotonic() < deadline
            subprocess.run(
                [THENCE, "emit", "app:Found", '{"clue": 7}'],
                cwd=tmp_path, env=environment, check=False, capture_output=True,
            )  # fmt: skip
    finally:
        for process in hosting:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(10) for process in hosting]
    assert codes == [0, 0]
    assert (tmp_path / "told").read_text().startswith("7\n")


def test_the_demo_of_the_installed_wheel_needs_no_source_tree(tmp_path):
    said = subprocess.run(
        [THENCE, "demo", "--seconds", "2", "--players", "5", "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["balanced"] is True
