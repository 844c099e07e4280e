"""How processes end: what is in flight is finished, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.processes import Folder, eventually

FOUND = '{"hunt": "h1", "player": "ana", "clue": 3}'

SLOW = """
import asyncio
from scores import ClueFound, ScoreChanged
from thence import Service

slow = Service("slow")

@slow.on(ClueFound)
async def award(found: ClueFound) -> ScoreChanged:
    open("begun", "w").close()
    await asyncio.sleep(1)
    return ScoreChanged(player=found.player, points=10)
"""

STUBBORN = """
import asyncio, time
from scores import ClueFound
from thence import Service

threaded, deaf, blocking = Service("threaded"), Service("deaf"), Service("blocking")

def begin() -> None:
    open("begun", "w").close()

@threaded.on(ClueFound)
def in_a_thread(found: ClueFound) -> None:
    begin()
    time.sleep(120)

@deaf.on(ClueFound)
async def deaf_to_cancellation(found: ClueFound) -> None:
    begin()
    while True:
        try:
            await asyncio.sleep(120)
        except asyncio.CancelledError:
            pass

@blocking.on(ClueFound)
async def on_the_loop(found: ClueFound) -> None:
    begin()
    time.sleep(120)
"""


def test_what_is_in_flight_at_sigterm_is_finished_and_its_consequences_leave(
    folder: Folder,
) -> None:
    (folder.path / "slow.py").write_text(SLOW)
    folder.host("ranks:ranks")
    slow = folder.host("slow:slow")
    assert folder.run("emit", "scores:ClueFound", FOUND).returncode == 0
    eventually((folder.path / "begun").exists)
    slow.terminate()
    assert slow.wait(15) == 0
    eventually(folder.ledger)
    assert folder.ledger()[0][0] == "ana"


@pytest.mark.parametrize("service", ["threaded", "deaf", "blocking"])
def test_a_handler_that_never_ends_does_not_keep_its_process(folder: Folder, service: str) -> None:
    (folder.path / "stubborn.py").write_text(STUBBORN)
    hosting = folder.host(f"stubborn:{service}")
    assert folder.run("emit", "scores:ClueFound", FOUND).returncode == 0
    eventually((folder.path / "begun").exists)
    began = time.monotonic()
    hosting.terminate()
    hosting.wait(30)
    assert time.monotonic() - began < 15, "the handler would have taken two minutes"
    assert "Traceback" not in folder.log(hosting)


def test_ctrl_c_on_a_terminal_ends_supervisor_and_replicas_with_130(folder: Folder) -> None:
    hosting = folder.start("run", "scores:scores", "--replicas", "2", own_session=True)
    eventually(lambda: folder.log(hosting).count(" is ready") == 2)
    # A terminal sends SIGINT to the whole process group.
    os.killpg(hosting.pid, signal.SIGINT)
    assert hosting.wait(15) == 130
    assert "Traceback" not in folder.log(hosting)
    with pytest.raises(ProcessLookupError):
        os.killpg(hosting.pid, 0)
    assert not [name for name in os.listdir(folder.path / "mesh") if name.endswith(".node")]


def test_a_service_that_crashes_at_every_start_is_started_again_with_growing_pauses(
    folder: Folder,
) -> None:
    (folder.path / "broken.py").write_text("import os\nos._exit(7)\n")
    hosting = folder.start("run", "broken:broken")
    eventually(lambda: folder.log(hosting).count("starting it again") >= 3)
    assert "exit code 7" in folder.log(hosting)
    hosting.terminate()
    assert hosting.wait(15) == 0


@pytest.fixture
def own() -> Iterator[Path]:
    """A folder for temporary files, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks processes up in /proc")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_leaves_no_process_and_no_file(
    folder: Folder, own: Path, stop: signal.Signals
) -> None:
    folder.environment["TMPDIR"] = str(own)

    def players() -> list[str]:
        return [pid for pid in os.listdir("/proc") if pid.isdigit() and str(own) in _environ(pid)]

    demo = folder.start("demo", "--seconds", "60", "--players", "5")
    eventually(lambda: "cascades" in folder.log(demo), within=40)
    assert len(players()) > 8
    demo.send_signal(stop)
    assert demo.wait(20) == 130
    assert "Traceback" not in folder.log(demo)
    eventually(lambda: players() == [])
    assert list(own.iterdir()) == []


def _environ(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def test_a_temporary_folder_that_is_too_long_for_sockets_is_named_once(
    folder: Folder, own: Path
) -> None:
    long = own / ("x" * 100)
    long.mkdir()
    folder.environment["TMPDIR"] = str(long)
    said = folder.run("demo", "--seconds", "1")
    assert said.returncode == 2
    assert "shorter TMPDIR" in said.stderr
    assert said.stderr.count("too long") == 1
    assert "Traceback" not in said.stderr
    assert list(long.iterdir()) == []


def test_an_interrupted_emit_ends_with_130_and_no_traceback(folder: Folder) -> None:
    folder.host("scores:scores")
    folder.host("ranks:ranks")
    emitting = subprocess.Popen(
        [sys.executable, "-m", "thence.cli", "emit", "scores:ClueFound", "-"],
        cwd=folder.path,
        env=folder.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert emitting.stdin is not None
    emitting.stdin.write(f"{FOUND}\n" * 3)
    emitting.stdin.flush()
    eventually(lambda: len(folder.ledger()) == 3)
    emitting.send_signal(signal.SIGINT)
    _, said = emitting.communicate(timeout=20)
    assert emitting.returncode == 130
    assert "Traceback" not in said
