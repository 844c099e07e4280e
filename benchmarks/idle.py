"""``idle``: what a node that does nothing costs, in memory and in time until it is ready.

From before the process is started until it says that it is ready, byte code cached (the first
start of each is not counted), the contestants in turn. Memory is read from outside while they
wait: RSS counts shared pages in full, PSS in shares, USS only what is its own.
"""

import re
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.brokers import Brokers, running_brokers
from benchmarks.launch import Options
from benchmarks.processes import (
    ROOT,
    ContestantFailed,
    ContestantMissing,
    child_environment,
    stop,
)
from benchmarks.report import Absence, Benchmark, Target, figures_of

__all__ = ["run"]

PROGRAMS = {
    "python": "bare_python",
    "uvloop": "bare_uvloop",
    "thence": "thence_node",
    "nats-py": "nats_client",
    "faststream": "faststream_nats",
}
UNREACHABLE = re.compile(
    r"(ModuleNotFound|Import|ConnectionRefused)Error|nats\.errors\.|no NATS server"
)
STARTS = 10
QUICK_STARTS = 2
READY_TIMEOUT = 20.0


class Idle(msgspec.Struct, frozen=True):
    """One start: milliseconds and megabytes; no memory where the system doesn't tell."""

    ready: float
    memory: dict[str, float]


def run(options: Options) -> Benchmark:
    """Measure starts."""
    starts = QUICK_STARTS if options.quick else STARTS
    benchmark = Benchmark(
        name="idle",
        title="An empty node: memory, and time to ready",
        settings={"starts": starts},
    )
    found: dict[str, list[Idle]] = {name: [] for name in PROGRAMS}
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        running_brokers(Path(directory)) as brokers,
    ):
        for number in range(1 + starts):
            options.say(f"idle, start {number} of {starts}")
            for name in list(found):
                try:
                    idle = _start(PROGRAMS[name], Path(directory) / f"{name}-{number}", brokers)
                except (ContestantMissing, ContestantFailed) as error:
                    failed = isinstance(error, ContestantFailed)
                    benchmark.absent(Absence(contestant=name, reason=str(error)), failed=failed)
                    del found[name]
                else:
                    found[name] += [idle] if number else []
    ready = {name: [idle.ready for idle in idles] for name, idles in found.items()}
    benchmark.figures = figures_of("ready", "ms", ready)
    for kind in ("RSS", "PSS", "USS"):
        memory = {
            name: [idle.memory[kind] for idle in idles if idle.memory]
            for name, idles in found.items()
        }
        benchmark.figures += figures_of(kind, "MB", memory)
    if not any(idle.memory for idles in found.values() for idle in idles):
        benchmark.note("this system has no /proc/PID/smaps_rollup: memory was not measured")
    benchmark.targets = [
        Target(
            text="an empty node's memory, RSS in MB",
            bound=35,
            sense="at most",
            measured=benchmark.find("thence", "RSS"),
        ),
        Target(
            text="an empty node ready, ms",
            bound=200,
            sense="at most",
            measured=benchmark.find("thence", "ready"),
        ),
    ]
    return benchmark


def _start(program: str, directory: Path, brokers: Brokers) -> Idle:
    directory.mkdir()
    command = [sys.executable, "-m", f"benchmarks.contestants.idle.{program}", str(directory)]
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, brokers.nats_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env=child_environment(),
            bufsize=0,
            process_group=0,
        )
        try:
            assert process.stdout is not None
            readable, _, _ = select.select([process.stdout], [], [], READY_TIMEOUT)
            if not readable:
                raise ContestantFailed(f"not ready within {READY_TIMEOUT:g} s")
            said = process.stdout.readline()
            ready = time.perf_counter() - began
            if said != b"ready\n":
                raise _absence(process, errors.fileno())
            return Idle(ready * 1000, _memory(process.pid))
        finally:
            stop([process])


def _absence(process: subprocess.Popen[bytes], errors: int) -> Exception:
    code = process.wait()
    lines = Path(f"/dev/fd/{errors}").read_text(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else f"ended with code {code}"
    if UNREACHABLE.match(reason):
        return ContestantMissing(reason)
    return ContestantFailed(reason)


def _memory(process: int) -> dict[str, float]:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return {}
    sizes = re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)
    kilobytes = {name: int(size) for name, size in sizes}
    return {
        "RSS": kilobytes["Rss"] / 1024,
        "PSS": kilobytes["Pss"] / 1024,
        "USS": (kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]) / 1024,
    }
