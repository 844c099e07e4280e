"""``noise``: how much is logged of the same game, the usual way and as ``thence run`` does.

The treasure hunt of ``thence demo --fault`` is played twice, each service a process that logs into a file of its
own: once a line for each event emitted and each handler run (``usual_logs.py``), once under ``thence run``. A
quarter of the players have a name on which one handler fails. Both logs must account for each failure that the
nodes have counted, by handler: with a line of its own, or in the number that a summary of repeats tells.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.launch import Launch, Options
from benchmarks.processes import ROOT, ContestantFailed, child_environment, stop
from benchmarks.report import Benchmark, Target, figures_of
from thence import Node
from thence.app.report import NodeReport
from thence.cli.demo.accounts import MOVED
from thence.cli.demo.game import FAULT, SERVICES
from thence.cli.demo.tally import tally, tried

__all__ = ["Logged", "run", "told_by_thence", "told_usually"]

SECONDS = 60
QUICK_SECONDS = 5
PLAYERS = 40
FAILING = 0.25
"""The share of players with a name that one handler fails on."""
READY_WITHIN = 30.0
REST_WITHIN = 30.0
"""Seconds after the game in which everything must have ended."""
LOOK_EVERY = 0.5
END_WITHIN = 10.0

USUAL = "a line per event and handler"
THENCE = "thence run"
COMMANDS = {
    USUAL: ("-m", "benchmarks.usual_logs"),
    THENCE: ("-m", "thence.cli", "run", "--logs", "json"),
}


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """What a game has left in the logs."""

    lines: int
    size: int
    """Bytes."""
    failures: dict[str, int]
    """That the logs account for, by handler."""


def run(options: Options) -> Benchmark:
    """Play the game with each way to log."""
    launches = options.number_of_launches(1)
    seconds = QUICK_SECONDS if options.quick else SECONDS
    benchmark = Benchmark(
        name="noise",
        title=f"What is logged of {seconds} s of the treasure hunt",
        settings={
            "launches": launches,
            "seconds": seconds,
            "players": PLAYERS,
            "players that one handler fails on": FAILING,
            "processes": len(SERVICES) + len(FAULT) + 1,
        },
    )
    lines: dict[str, list[float]] = {way: [] for way in COMMANDS}
    sizes: dict[str, list[float]] = {way: [] for way in COMMANDS}
    for number in range(launches):
        for way in COMMANDS:
            options.say(f"noise, {way}, launch {number + 1} of {launches}")
            with Launch(benchmark, "").trying(way):
                logged = _logged(way, seconds)
                lines[way].append(logged.lines)
                sizes[way].append(logged.size)
                told = ", ".join(f"{n:,} of {place}" for place, n in logged.failures.items())
                benchmark.note(f"{way}: all failures are in the logs: {told}")
    benchmark.figures += figures_of("lines", "", lines, bases=(THENCE,))
    benchmark.figures += figures_of("bytes", "", sizes, bases=(THENCE,))
    benchmark.targets = [
        Target(
            text=f"{what} that are logged the usual way, against Thence",
            bound=100,
            sense="at least",
            measured=benchmark.find(USUAL, what, "", THENCE),
        )
        for what in ("lines", "bytes")
    ]
    return benchmark


def told_usually(lines: list[bytes]) -> Logged:
    """What is in logs with a line for each."""
    documents = [msgspec.json.decode(line) for line in lines]
    failures = Counter(one["handler"] for one in documents if one["message"] == "failed")
    return _all_told(lines, failures)


def told_by_thence(lines: list[bytes]) -> Logged:
    """What is in Thence's logs: a record stands for itself, a summary for the repeats that it tells of."""
    failures: Counter[str] = Counter()
    for line in lines:
        record = msgspec.json.decode(line)
        if record["logger"] == "thence.handling" and record.get("error_type"):
            place = f"{record['service']}.{record['handler']}"
            failures[place] += record.get("repeats", 1)
    return _all_told(lines, failures)


def _all_told(lines: list[bytes], failures: Counter[str]) -> Logged:
    size = sum(len(line) + 1 for line in lines)
    return Logged(lines=len(lines), size=size, failures=dict(sorted(failures.items())))


def _logged(way: str, seconds: int) -> Logged:
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        folder = Path(directory)
        moves = _lay_out(folder, seconds)
        reports = asyncio.run(_play(COMMANDS[way], folder, moves, seconds))
        texts = [path.read_bytes() for path in sorted(folder.glob("*.log"))]
    lines = [line for text in texts for line in text.splitlines()]
    logged = told_usually(lines) if way == USUAL else told_by_thence(lines)
    handlers = [handler for report in reports for handler in report.handlers]
    failed: Counter[str] = Counter()
    for handler in handlers:
        failed[f"{handler.service}.{handler.handler}"] += handler.failed
    if logged.failures != {place: n for place, n in sorted(failed.items()) if n}:
        raise ContestantFailed(
            f"the logs tell of failures {logged.failures}, the nodes of {dict(+failed)}"
        )
    if way == USUAL:
        due = sum(handler.handled + handler.failed for handler in handlers)
        due += sum(emitted.emitted for report in reports for emitted in report.emitted)
        if logged.lines != due:
            raise ContestantFailed(
                f"{logged.lines:,} lines for {due:,} events and handler runs that the nodes counted"
            )
    return logged


def _lay_out(folder: Path, seconds: int) -> int:
    """Write down the map; how many moves there will be."""
    examples = str(ROOT / "examples")
    if examples not in sys.path:
        sys.path.append(examples)
    from treasure_hunt.world import invent, plant_fault

    hunt_map = plant_fault(invent(PLAYERS, seconds), FAILING)
    (folder / "world.json").write_bytes(msgspec.json.encode(hunt_map))
    return hunt_map.moves_due()


async def _play(
    command: tuple[str, ...], folder: Path, moves: int, seconds: int
) -> list[NodeReport]:
    """One game, until nothing happens any more and all processes have ended; what they had counted by then."""
    mesh = f"local:{folder / 'mesh'}"
    environment = {
        **child_environment(),
        "THENCE_MESH": mesh,
        "TREASURE_HUNT_WORLD": str(folder / "world.json"),
        "PYTHONPATH": os.pathsep.join(
            filter(None, (str(ROOT), str(ROOT / "examples"), os.environ.get("PYTHONPATH")))
        ),
    }
    processes: list[subprocess.Popen[bytes]] = []

    def start(service: str) -> None:
        with (folder / f"{len(processes):02}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, *command, f"treasure_hunt.{service}:{service}"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    env=environment,
                )
            )

    try:
        async with Node(mesh=mesh, name="noise") as node:
            services = (*FAULT, *SERVICES)
            for service in services:
                start(service)
            await _until(
                node,
                processes,
                lambda reports: (
                    sum(report.ready for report in reports) == len(services)
                    and all(len(report.peers) >= len(services) for report in reports)
                ),
                READY_WITHIN,
            )
            start("players")
            before: object = None

            def at_rest(reports: list[NodeReport]) -> bool:
                nonlocal before
                counts = tally(reports)
                same, before = counts == before, counts
                return (
                    same
                    and tried(counts, MOVED) >= moves
                    and not any(
                        report.held or any(route.outstanding for route in report.routes)
                        for report in reports
                    )
                )

            return await _until(node, processes, at_rest, seconds + REST_WITHIN)
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(stop, processes, END_WITHIN)


async def _until(
    node: Node,
    processes: list[subprocess.Popen[bytes]],
    condition: Callable[[list[NodeReport]], Any],
    within: float,
) -> list[NodeReport]:
    """The reports of all processes, as soon as they are as wanted."""
    deadline = time.monotonic() + within
    while True:
        reports, silent = await node.ask_peers()
        if not silent and condition(reports):
            return reports
        ended = [process.returncode for process in processes if process.poll() is not None]
        if ended:
            raise ContestantFailed(f"a service ended with code {ended[0]}")
        if time.monotonic() > deadline:
            raise ContestantFailed(f"the game did not come so far within {within:g} s")
        await asyncio.sleep(LOOK_EVERY)
