"""Starts, asks and stops measured processes.

The harness itself is plain blocking code: while a block is measured it sleeps in ``select`` and
takes nothing from the processors. Nothing here waits for a fixed time; every wait has a bound.
"""

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from benchmarks.contestants.contract import Place

__all__ = ["ContestantFailed", "ContestantMissing", "Crew", "Worker", "child_environment", "stop"]

ROOT = Path(__file__).parent.parent
CALL_TIMEOUT = 60.0
STOP_TIMEOUT = 3.0


class ContestantMissing(Exception):
    """The contestant can't take part here: not installed, or its server can't be reached."""


class ContestantFailed(Exception):
    """The contestant took part and broke: it raised, died or did not answer in time."""


def child_environment() -> dict[str, str]:
    """Return the environment of measured processes: byte code is cached, as for users."""
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def stop(processes: Iterable[subprocess.Popen[bytes]], timeout: float = STOP_TIMEOUT) -> None:
    """End processes: ask by closing their input, then SIGTERM, then SIGKILL; all at once."""
    running = list(processes)
    for process in running:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        else:
            process.terminate()
    deadline = time.monotonic() + timeout
    for insist in (subprocess.Popen.terminate, subprocess.Popen.kill):
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                insist(process)
        deadline = time.monotonic() + 1.0
    for process in running:
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


class Worker:
    """One measured process, asked one thing at a time."""

    def __init__(
        self,
        contestant: str,
        place: Place,
        *,
        processor: int | None = None,
        loop: str = "uvloop",
    ) -> None:
        target = f"benchmarks.contestants.{contestant}"
        command = [sys.executable, "-m", "benchmarks.worker", target]
        command += ["--place", msgspec.json.encode(place).decode(), "--loop", loop]
        if processor is not None:
            command += ["--processor", str(processor)]
        self.contestant = contestant
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - the epitaph is read from it
        self._pending = b""
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            cwd=ROOT,
            env=child_environment(),
            bufsize=0,
        )

    def begin(self, call: str, **arguments: Any) -> None:
        """Send a request; ``result`` fetches its answer."""
        request = msgspec.json.encode({"call": call, "arguments": arguments})
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(request + b"\n")
        except BrokenPipeError:
            raise ContestantFailed(self._epitaph()) from None

    def result(self, timeout: float = CALL_TIMEOUT) -> Any:
        """Wait for the answer to the last request (or for the first ``ready``).

        :raises ContestantMissing: the contestant can't take part.
        :raises ContestantFailed: it raised, died, or did not answer within ``timeout`` seconds.
        """
        answer = msgspec.json.decode(self._line(timeout))
        if "error" not in answer:
            return answer["result"]
        if answer["missing"]:
            raise ContestantMissing(answer["error"])
        raise ContestantFailed(answer["error"])

    def call(self, call: str, *, timeout: float = CALL_TIMEOUT, **arguments: Any) -> Any:
        """Send a request and wait for its answer."""
        self.begin(call, **arguments)
        return self.result(timeout)

    def _line(self, timeout: float) -> bytes:
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self.process.stdout], [], [], max(left, 0))
            if not readable:
                raise ContestantFailed(f"{self.contestant} did not answer within {timeout:g} s")
            piece = os.read(self.process.stdout.fileno(), 1 << 20)
            if not piece:
                raise ContestantFailed(self._epitaph())
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _epitaph(self) -> str:
        code = self.process.wait(timeout=STOP_TIMEOUT)
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        last = f": {lines[-1]}" if lines else ""
        return f"{self.contestant} ended with code {code}{last}"


class Crew:
    """The workers of one launch; leaving the context ends them all, whatever happened."""

    def __init__(self) -> None:
        self._workers: list[Worker] = []

    def start(
        self,
        contestant: str,
        place: Place,
        *,
        processor: int | None = None,
        loop: str = "uvloop",
    ) -> Worker:
        """Start a worker; its first ``result`` says that it is ready."""
        worker = Worker(contestant, place, processor=processor, loop=loop)
        self._workers.append(worker)
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stop(worker.process for worker in self._workers)
        for worker in self._workers:
            worker.errors.close()
