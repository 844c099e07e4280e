"""``python -m benchmarks [NAME...] [--json FILE] [--quick]``."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks import (
    emit_scale,
    flow,
    hop,
    idle,
    limits,
    local,
    noise,
    overload,
    recorder,
    settled,
    size,
    stopped_peer,
)
from benchmarks.launch import Options
from benchmarks.machine import describe_machine, library_versions
from benchmarks.report import Benchmark, Report
from benchmarks.table import print_report

__all__ = ["main"]

BENCHMARKS: dict[str, Callable[[Options], Benchmark]] = {
    "hop": hop.run,
    "flow": flow.run,
    "local": local.run,
    "emit-scale": emit_scale.run,
    "size": size.run,
    "limits": limits.run,
    "overload": overload.run,
    "stopped": stopped_peer.run,
    "settled": settled.run,
    "recorder": recorder.run,
    "noise": noise.run,
    "idle": idle.run,
}
SUBJECT = "thence"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks and tell their figures.

    Returns 0 also when peers are missing; 1 when a contestant broke, or when Thence itself could
    not take part; 130 when interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report here too")
    parser.add_argument("--quick", action="store_true", help="a smoke run of about a minute")
    parser.add_argument("--launches", type=int, help="fresh processes per benchmark")
    chosen = parser.parse_args(arguments)
    names = chosen.names or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    signal.signal(signal.SIGTERM, _interrupt)
    options = Options(quick=chosen.quick, launches=chosen.launches, say=_say)
    try:
        report = _run(names, options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if chosen.json is not None:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    print_report(report, _console())
    return exit_code(report)


def exit_code(report: Report) -> int:
    """A missing peer is no fault of this run; a broken contestant or a missing Thence is."""
    broken = any(benchmark.failed for benchmark in report.benchmarks)
    unmeasured = any(
        absence.contestant.startswith(SUBJECT)
        for benchmark in report.benchmarks
        for absence in benchmark.missing
    )
    return 1 if broken or unmeasured else 0


def _run(names: Sequence[str], options: Options) -> Report:
    started = datetime.now(UTC)
    began = time.monotonic()
    benchmarks = [BENCHMARKS[name](options) for name in names]
    return Report(
        started=started.isoformat(timespec="seconds"),
        seconds=time.monotonic() - began,
        quick=options.quick,
        machine=describe_machine(),
        versions=library_versions(),
        benchmarks=benchmarks,
    )


def _console() -> Console:
    """Wide enough for whole tables when the output is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=160)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
