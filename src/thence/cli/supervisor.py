"""Keeping a number of replicas running: a crashed one is started again, with backoff."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from thence.cli.children import send_signal
from thence.cli.exits import Exit
from thence.delivery.about import EACH

__all__ = ["REPLICA", "Supervisor", "python_module", "tell"]

logger = logging.getLogger("thence.run")

FIRST_PAUSE, LAST_PAUSE = 0.1, 10.0
HEALTHY_AFTER = 10.0
"""Seconds of life after which a crash counts as the first again."""
KILL_AFTER = 5.0
REPLICA = "{replica}"
"""Stands in a command for the number of the replica, from 1 on."""
LOOK_EVERY = 0.5


class Supervisor:
    """Starts ``count`` processes of one command, and keeps them running until told to stop."""

    def __init__(self, command: Sequence[str], count: int, *, as_json: bool) -> None:
        self._command = list(command)
        self._count = count
        self._as_json = as_json
        self._stopping = asyncio.Event()
        self._processes: set[asyncio.subprocess.Process] = set()
        self._reload = False
        self._changes = 0
        """How often files have changed."""
        self._changed = asyncio.Event()
        """Set, and replaced by a new one, when a file has changed."""
        self.code = Exit.DONE

    async def run(self, *, reload: bool) -> int:
        """Until a signal, or until a replica says that it can't be started at all; the exit code.

        ``reload``: start all replicas anew when a file changes, also those that could not be started.
        """
        self._reload = reload
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop, Exit.DONE)
        loop.add_signal_handler(signal.SIGINT, self._stop, Exit.INTERRUPTED)
        keepers = [asyncio.create_task(self._keep(number)) for number in range(self._count)]
        watcher = asyncio.create_task(self._watch()) if reload else None
        await asyncio.gather(*keepers)
        if watcher is not None:
            watcher.cancel()
        return self.code

    def _stop(self, code: Exit) -> None:
        self.code = self.code or code
        self._stopping.set()
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            send_signal(process, number)

    async def _keep(self, number: int) -> None:
        pause = FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began, changes = loop.time(), self._changes
            process = await asyncio.create_subprocess_exec(
                *(part.replace(REPLICA, str(number + 1)) for part in self._command),
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            self._processes.add(process)
            if changes != self._changes:
                send_signal(process, signal.SIGTERM)
            code = await self._until_end(process)
            self._processes.discard(process)
            if self._as_json:
                tell("ended", pid=process.pid, code=code)
            if self._stopping.is_set():
                if code not in (0, -signal.SIGTERM):
                    self.code = self.code or Exit.FAILED
                return
            if changes != self._changes:
                continue
            if code in (Exit.USAGE, Exit.NOT_FOUND):
                if not self._reload:
                    self._stop(Exit(code))
                    return
                logger.error(
                    "replica %d can't be started: waiting for a file to change",
                    number + 1,
                    extra=EACH,
                )
                await self._first_of(self._stopping, self._changed)
                continue
            if loop.time() - began > HEALTHY_AFTER:
                pause = FIRST_PAUSE
            wait = pause * (0.5 + random.random())
            logger.error(
                "replica %d (process %d) ended with %s; starting it again in %.1f s",
                number + 1, process.pid, _describe(code), wait, extra=EACH,
            )  # fmt: skip
            await self._first_of(self._stopping, self._changed, within=wait)
            pause = min(pause * 2, LAST_PAUSE)

    async def _until_end(self, process: asyncio.subprocess.Process) -> int:
        end = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({end, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not end.done():
            send_signal(process, signal.SIGTERM)
            try:
                await asyncio.wait_for(asyncio.shield(end), KILL_AFTER)
            except TimeoutError:
                logger.error(
                    "process %d did not end within %g s: killed",
                    process.pid, KILL_AFTER, extra=EACH,
                )  # fmt: skip
                send_signal(process, signal.SIGKILL)
        return await end

    async def _first_of(self, *events: asyncio.Event, within: float | None = None) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _watch(self) -> None:
        """Restart all replicas when a Python file in the current folder has changed."""
        before = dict(_stamps())
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = dict(_stamps())
            changed = sorted(
                path for path in before.keys() | now.keys() if before.get(path) != now.get(path)
            )
            if changed:
                logger.info("%s changed: restarting", Path(changed[0]).name, extra=EACH)
                before = now
                self._changes += 1
                self._signal(signal.SIGTERM)
                self._changed.set()
                self._changed = asyncio.Event()


def _stamps() -> Iterator[tuple[str, int]]:
    for folder, folders, files in os.walk(Path.cwd()):
        folders[:] = [
            name for name in folders if not name.startswith((".", "__pycache__", "node_modules"))
        ]
        for name in files:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                try:
                    yield path, os.stat(path).st_mtime_ns
                except FileNotFoundError:
                    continue


def _describe(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name


def tell(what: str, **fields: object) -> None:
    """A line of ``thence run --json``."""
    print(json.dumps({"schema": "thence.run/1", "what": what, **fields}), flush=True)


def python_module(module: str) -> list[str]:
    """The command that runs a module with this very interpreter."""
    return [sys.executable, "-m", module]
