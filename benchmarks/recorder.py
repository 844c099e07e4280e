"""``recorder``: what the flight recorder costs, and what a question costs those who are asked.

The writer and the reader of ``flow``, three times: with the recorder off, with it as it is by default, and with it
while a third process asks every node about a whole cascade, four times a second. They take turns.
"""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.contestants.contract import Place
from benchmarks.flow import MOST_EVENTS, WARM_UP_EVENTS, _round
from benchmarks.launch import OPEN_TIMEOUT, READY_TIMEOUT, Launch, Options
from benchmarks.machine import usable_processors
from benchmarks.processes import Crew, Worker
from benchmarks.report import Benchmark, Target, figures_of
from benchmarks.statistics import percentile

__all__ = ["run"]

LAUNCHES = 5
ROUNDS = 5
QUICK_ROUNDS = 2
ROUND_SECONDS = 0.5
QUICK_ROUND_SECONDS = 0.1

OFF = "recorder off"
ON = "recorder on"
ASKED = "recorder on, asked 4 times a second"


def run(options: Options) -> Benchmark:
    """Measure events a second."""
    launches = options.number_of_launches(LAUNCHES)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    seconds = QUICK_ROUND_SECONDS if options.quick else ROUND_SECONDS
    benchmark = Benchmark(
        name="recorder",
        title="Events a second between two processes, and the flight recorder",
        settings={"launches": launches, "rounds": rounds, "seconds a round (about)": seconds},
    )
    rates: dict[str, list[float]] = {OFF: [], ON: [], ASKED: []}
    for number in range(launches):
        options.say(f"recorder, launch {number + 1} of {launches}")
        for name, samples in _launch(benchmark, rounds, seconds).items():
            rates[name].append(percentile(samples, 0.5))
    benchmark.figures = figures_of("handled", "events/s", rates, bases=(OFF, ON))
    benchmark.targets = [
        Target(
            text="flow with the recorder against without",
            bound=0.95,
            sense="at least",
            measured=benchmark.find(ON, "handled", "", OFF),
        ),
        Target(
            text="flow while nodes are asked against while they are not",
            bound=0.95,
            sense="at least",
            measured=benchmark.find(ASKED, "handled", "", ON),
        ),
    ]
    return benchmark


def _launch(benchmark: Benchmark, rounds: int, seconds: float) -> dict[str, list[float]]:
    processors = usable_processors()
    first, second = (processors[0], processors[1]) if len(processors) > 1 else (None, None)
    rates: dict[str, list[float]] = {}
    running = Launch(benchmark, "")
    with (
        running.trying("thence"),
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Crew() as crew,
    ):
        pairs: dict[str, tuple[Worker, Worker]] = {}
        askers: dict[str, Worker] = {}
        for name in (OFF, ON, ASKED):
            place = Place(
                directory=os.path.join(directory, str(len(pairs))),
                token=f"bench.{uuid.uuid4().hex[:12]}",
            )
            with _recorder("0" if name == OFF else None):
                pairs[name] = (
                    crew.start("thence.flow:Reader", place, processor=second),
                    crew.start("thence.flow:Writer", place, processor=first),
                )
                if name == ASKED:
                    askers[name] = crew.start("thence.recorder:Inquirer", place)
            for worker in (*pairs[name], *([askers[name]] if name in askers else [])):
                worker.result(READY_TIMEOUT)
                worker.call("open", timeout=OPEN_TIMEOUT)
        events = 0
        for count in WARM_UP_EVENTS:
            for receiver, sender in pairs.values():
                rate, _ = _round(receiver, sender, count)
                events = min(max(int(rate * seconds), 1_000), MOST_EVENTS)
        rates = {name: [] for name in pairs}
        for _ in range(rounds):
            for name, (receiver, sender) in pairs.items():
                if name in askers:
                    askers[name].begin("ask", seconds=seconds)
                rate, lost = _round(receiver, sender, events)
                if name in askers and not askers[name].result(OPEN_TIMEOUT):
                    benchmark.note("a round in which no question was answered")
                if lost:
                    benchmark.note(f"{name}: lost {lost} of {events} events in a round")
                else:
                    rates[name].append(rate)
        for worker in (*askers.values(), *(worker for pair in pairs.values() for worker in pair)):
            worker.call("close", timeout=OPEN_TIMEOUT)
    return {name: samples for name, samples in rates.items() if samples}


@contextmanager
def _recorder(size: str | None) -> Iterator[None]:
    """What is started meanwhile has that setting."""
    before = os.environ.get("THENCE_RECORDER")
    if size is not None:
        os.environ["THENCE_RECORDER"] = size
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("THENCE_RECORDER", None)
        else:
            os.environ["THENCE_RECORDER"] = before
