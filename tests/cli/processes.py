"""Real ``thence`` processes for tests: started in a folder of their own, always ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SCORES = """
from thence import Context, Event, Service

class ClueFound(Event, key="player"):
    hunt: str
    player: str
    clue: int

class ScoreChanged(Event, key="player"):
    player: str
    points: int

scores = Service("scores")

@scores.on(ClueFound)
async def award(found: ClueFound) -> ScoreChanged:
    if found.clue < 0:
        raise ValueError("no such clue")
    return ScoreChanged(player=found.player, points=10)
"""

RANKS = """
import os
from scores import ScoreChanged
from thence import Context, Service

ranks = Service("ranks")

@ranks.on(ScoreChanged)
async def rank(change: ScoreChanged, ctx: Context) -> None:
    with open("ledger", "a") as ledger:
        ledger.write(f"{change.player} {os.getpid()} {ctx.depth} {ctx.source}\\n")
"""


def eventually(condition: Callable[[], object], within: float = 20.0) -> None:
    """Wait until a condition holds, or fail."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


class Folder:
    """A folder with two services in it, a mesh of its own, and the processes started there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "scores.py").write_text(SCORES)
        (path / "ranks.py").write_text(RANKS)
        self.environment = {
            **os.environ,
            "THENCE_MESH": f"local:{path / 'mesh'}",
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, own_session: bool = False) -> subprocess.Popen[str]:
        with (self.path / f"log-{len(self.started)}").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "thence.cli", *arguments],
                cwd=self.path,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                text=True,
                start_new_session=own_session,
            )
        self.started.append(process)
        return process

    def log(self, process: subprocess.Popen[str]) -> str:
        return (self.path / f"log-{self.started.index(process)}").read_text()

    def run(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "thence.cli", *arguments],
            cwd=self.path,
            env=self.environment,
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )

    def ledger(self) -> list[list[str]]:
        path = self.path / "ledger"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def host(self, *arguments: str, replicas: int = 1) -> subprocess.Popen[str]:
        """Start services and wait until they are ready."""
        process = self.start("run", *arguments)
        eventually(lambda: self.log(process).count(" is ready") >= replicas)
        return process

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
