"""The demo's processes: started, listened to, and ended, whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec

from thence.app.node import Node
from thence.app.report import NodeReport
from thence.cli.children import send_signal
from thence.cli.demo.accounts import MOVED
from thence.cli.demo.cascades import Cascades
from thence.cli.demo.facts import decode
from thence.cli.demo.periods import Periods
from thence.cli.demo.places import examples
from thence.cli.demo.tally import tally, tried
from thence.cli.exits import CommandError, Exit

__all__ = ["CURSE", "FAULT", "SERVICES", "Game"]

SERVICES = (
    "notifications", "notifications", "badges", "ranks", "scores", "scores", "treasures", "hunts",
    "hints", "clues", "clues", "clues",
)  # fmt: skip
"""In the order of starting; who emits into the others comes after them, the players last."""
CURSE = ("charms", "curses")
"""The services that feed each other. They are started if a curse lies on a clue."""
FAULT = ("leagues",)
"""The service that fails on some players. It is started if a fault is planted."""
START_WITHIN = 20.0
QUIET_WITHIN = 15.0
END_WITHIN = 6.0


class Player(msgspec.Struct):
    """One process."""

    service: str
    process: asyncio.subprocess.Process
    report: NodeReport | None = None
    at: float = 0.0
    """When the report was written."""

    @property
    def is_killed(self) -> bool:
        """Whether it was ended by SIGKILL."""
        return self.process.returncode == -signal.SIGKILL


class Game:
    """All processes of one game, on a mesh of their own unless told otherwise. An async context manager."""

    def __init__(self, world: Any, mesh: str | None) -> None:
        self._world = world
        self._folder = tempfile.TemporaryDirectory(prefix="thence-demo-")
        self._members: list[Player] = []
        self._services = (
            *(FAULT if world.signed_out else ()),
            *(CURSE if world.cursed else ()),
            *SERVICES,
        )
        self._readers: list[asyncio.Task[None]] = []
        self._ending = False
        self.mesh = f"local:{Path(self._folder.name) / 'mesh'}" if mesh is None else mesh
        self.cascades = Cascades()
        self.began = 0.0
        rush = world.stampede
        self.periods = Periods(
            world.moves_due(),
            None
            if rush is None
            else (world.moves_due(rush.begins), world.moves_due(rush.begins + rush.seconds)),
        )

    @property
    def reports(self) -> list[NodeReport]:
        """The last report of each process."""
        return [member.report for member in self._members if member.report is not None]

    @property
    def killed(self) -> list[str]:
        """The services of processes that somebody else has killed; the game goes on without them."""
        return [member.service for member in self._members if member.is_killed]

    @property
    def processes(self) -> int:
        """Service processes running."""
        return len(self._members)

    async def start(self) -> None:
        """Start every service, and the players when all others are ready."""
        folder = Path(self._folder.name)
        (folder / "world.json").write_bytes(msgspec.json.encode(self._world))
        if self.mesh.startswith("memory:"):
            raise CommandError(
                f'--mesh {self.mesh}: processes meet on "local" or "local:PATH"', Exit.USAGE
            )
        # What is wrong with it is better said once here than by each process.
        async with Node(mesh=self.mesh):
            pass
        environment = {
            **os.environ,
            "THENCE_MESH": self.mesh,
            "TREASURE_HUNT_WORLD": str(folder / "world.json"),
            "PYTHONPATH": os.pathsep.join(
                [str(examples()), os.environ.get("PYTHONPATH", "")]
            ).rstrip(os.pathsep),
        }
        for name in ("THENCE_NAME", "THENCE_LISTEN"):
            environment.pop(name, None)
        await asyncio.gather(*(self._spawn(service, environment) for service in self._services))
        await self._until(
            lambda: all(self._is_ready(member) for member in self._members),
            START_WITHIN,
            "to start",
        )
        await self._spawn("players", environment)
        self.began = time.monotonic()

    async def play(self, show: Callable[[], None], every: float) -> None:
        """Let the players walk to the end, and every consequence end too."""
        # The game is over when every process has told twice of an end and nothing has happened in between:
        # one round of bulletins may have missed what was on its way.
        before: object = None
        since = time.monotonic()
        while True:
            await asyncio.sleep(every)
            self._check()
            show()
            counts = tally(self.reports)
            alive = [member for member in self._members if not member.is_killed]
            busy = any(
                member.report.held or any(route.outstanding for route in member.report.routes)
                for member in alive
                if member.report is not None
            )
            walking = tried(counts, MOVED) < self.periods.walk.until
            now = time.monotonic()
            if counts != before:
                before, since = counts, now
            elif not busy and not walking and all(member.at > since for member in alive):
                return
            if now > since + QUIET_WITHIN:
                raise CommandError(
                    f"the game did not come to rest within {QUIET_WITHIN:g} s after its end: use fewer --players"
                )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._ending = True
        for member in self._members:
            send_signal(member.process, signal.SIGTERM)
        ends = [asyncio.ensure_future(member.process.wait()) for member in self._members]
        if ends:
            _ended, late = await asyncio.wait(ends, timeout=END_WITHIN)
            for member in self._members:
                send_signal(member.process, signal.SIGKILL)
            if late:
                await asyncio.wait(late)
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._folder.cleanup()

    async def _spawn(self, service: str, environment: dict[str, str]) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "thence.cli.demo.worker", f"treasure_hunt.{service}:{service}",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env=environment, start_new_session=True, limit=64 * 1024 * 1024,
        )  # fmt: skip
        member = Player(service, process)
        self._members.append(member)
        self._readers.append(asyncio.create_task(self._listen(member)))

    async def _listen(self, member: Player) -> None:
        assert member.process.stdout is not None
        async for line in member.process.stdout:
            bulletin = decode(line)
            member.report, member.at = bulletin.report, bulletin.at
            self.cascades.add(bulletin)
            if member.service == "players":
                moves = tried(tally([bulletin.report]), MOVED)
                self.periods.note(bulletin.at, moves, lambda: tally(self.reports))

    def _is_ready(self, member: Player) -> bool:
        self._check()
        report = member.report
        return report is not None and report.ready and len(report.peers) >= len(self._services) - 1

    def _check(self) -> None:
        for member in self._members:
            code = member.process.returncode
            # Without the others the game goes on.
            needed = member.service == "players" or not self.began
            if code is not None and not self._ending and (needed or not member.is_killed):
                raise CommandError(
                    f"the process of {member.service} ended with exit code {code}; what it said stands above",
                    Exit.FAILED,
                )

    async def _until(self, condition: Callable[[], bool], within: float, what: str) -> None:
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                raise CommandError(
                    f"the services took longer than {within:g} s {what}: is the machine busy?"
                )
            await asyncio.sleep(0.02)
