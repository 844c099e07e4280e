"""``limits``: what one check of a limit costs, and how many events it lets into one second.

Every limiter allows 100 events a second. A check is timed in blocks of 100: as many as may come at
once, then as many that are refused. What is let in is counted on a clock that stands still until
it is set, so that the worst second is found by trying, not by waiting.
"""

import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from benchmarks.contestants.contract import Place
from benchmarks.launch import READY_TIMEOUT, Launch, Options
from benchmarks.machine import usable_processors
from benchmarks.processes import Crew
from benchmarks.report import Benchmark, Figure, Target, figures_of
from benchmarks.statistics import percentile, summarise

__all__ = ["run"]

LAUNCHES = 5
ROUNDS = 5
QUICK_ROUNDS = 2
BLOCKS = 30
SECONDS = 30
QUICK_SECONDS = 10
WINDOWS_TIMEOUT = 300.0

COST = "cost"
WINDOW = "worst second"
THENCE = "thence"
OTHERS = ("limits", "throttled-py", "pyrate-limiter")
CHECKERS = {
    THENCE: "thence_gate:Plain",
    "thence per key": "thence_gate:PerKey",
    "limits, fixed window": "limits_memory:FixedWindow",
    "limits, sliding window counter": "limits_memory:SlidingWindowCounter",
    "limits, moving window": "limits_memory:MovingWindow",
    "throttled-py, GCRA": "throttled_memory:Gcra",
    "throttled-py, token bucket": "throttled_memory:TokenBucket",
    "throttled-py, leaking bucket": "throttled_memory:LeakingBucket",
    "throttled-py, fixed window": "throttled_memory:FixedWindow",
    "throttled-py, sliding window": "throttled_memory:SlidingWindow",
    "pyrate-limiter, log": "pyrate_memory:Log",
    "pyrate-limiter, fixed window": "pyrate_memory:Windowed",
    "pyrate-limiter, GCRA": "pyrate_memory:Cells",
}
BURSTS: dict[str, tuple[int | None, ...]] = {
    THENCE: (1, None, 100),
    "throttled-py, GCRA": (1, 10, None),
    "pyrate-limiter, GCRA": (1, 10, None),
}
"""Bursts whose worst second is counted; ``None`` is the library's own choice, and all there is for others."""


def run(options: Options) -> Benchmark:
    """Measure the cost of a check and count what is let in."""
    launches = options.number_of_launches(LAUNCHES)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    seconds = QUICK_SECONDS if options.quick else SECONDS
    benchmark = Benchmark(
        name="limits",
        title="Checks of a limit of 100 a second",
        settings={
            "launches": launches,
            "rounds": rounds,
            "blocks of 100 a round": BLOCKS,
            "seconds of random arrivals": seconds,
        },
    )
    admitted: dict[str, list[float]] = {name: [] for name in CHECKERS}
    refused: dict[str, list[float]] = {name: [] for name in CHECKERS}
    windows: list[Figure] = []
    for number in range(launches):
        options.say(f"limits, launch {number + 1} of {launches}")
        with _launch(benchmark) as running:
            for name, samples in _costs(running, rounds).items():
                admitted[name].append(percentile(samples["admitted"], 0.5))
                refused[name].append(percentile(samples["refused"], 0.5))
            if not windows:
                options.say("limits, worst seconds")
                windows = _windows(running, seconds)
    for quantity, costs in (("admitted", admitted), ("refused", refused)):
        benchmark.figures += figures_of(quantity, "ns", costs, bases=(THENCE,), variant=COST)
    benchmark.figures += windows
    benchmark.targets = [*_cost_targets(benchmark), *_window_targets(benchmark)]
    return benchmark


@contextmanager
def _launch(benchmark: Benchmark) -> Iterator[Launch]:
    """Start a process for each limiter, all on one processor, and end them on leaving."""
    running = Launch(benchmark, "")
    processors = usable_processors()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, Crew() as crew:
        place = Place(directory=directory, token=f"bench.{uuid.uuid4().hex[:12]}")
        for name, target in CHECKERS.items():
            worker = crew.start(
                f"limits.{target}", place, processor=processors[-1] if processors else None
            )
            running.pairs[name] = (worker, worker)
        for name, (worker, _) in list(running.pairs.items()):
            with running.trying(name):
                worker.result(READY_TIMEOUT)
                worker.call("open")
        yield running


def _costs(running: Launch, rounds: int) -> Mapping[str, Mapping[str, list[float]]]:
    """Return each limiter's nanoseconds; none of one that broke on the way. They take turns."""
    samples: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds + 1):
        for name, (worker, _) in list(running.pairs.items()):
            with running.trying(name):
                costs = worker.call("costs", blocks=BLOCKS)
                if number == 0:
                    samples[name] = {"admitted": [], "refused": []}
                    continue
                for path, spent in costs.items():
                    samples[name][path] += spent
    return {name: samples[name] for name in running.pairs}


def _windows(running: Launch, seconds: int) -> list[Figure]:
    figures = []
    for name, (worker, _) in list(running.pairs.items()):
        if name == "thence per key":
            continue  # the same cells
        for burst in BURSTS.get(name, (None,)):
            with running.trying(name):
                found = worker.call(
                    "windows", burst=burst, seconds=seconds, timeout=WINDOWS_TIMEOUT
                )
                for quantity, unit, value in (
                    ("adversary", "events", found["adversarial"]),
                    ("random", "events", found["chance"]),
                    ("let in of 120/s", "1/s", found["steady"]),
                ):
                    figures.append(
                        Figure(
                            contestant=_with_burst(name, burst),
                            quantity=quantity,
                            unit=unit,
                            summary=summarise([value]),
                            variant=WINDOW,
                        )
                    )
    return figures


def _with_burst(name: str, burst: int | None) -> str:
    if name not in BURSTS:
        return name
    return f"{name}, default burst" if burst is None else f"{name}, burst {burst}"


def _cost_targets(benchmark: Benchmark) -> Iterator[Target]:
    for path in ("admitted", "refused"):
        yield Target(
            text=f"a check of Thence, {path}, ns",
            bound=250,
            sense="at most",
            measured=benchmark.find(THENCE, path, COST),
        )
    for other in OTHERS:
        for path in ("admitted", "refused"):
            ratios = [
                benchmark.find(name, path, COST, THENCE)
                for name in CHECKERS
                if name.startswith(f"{other},")
            ]
            yield Target(
                text=f"the cheapest check of {other}, {path}, against Thence's",
                bound=5,
                sense="at least",
                measured=min((ratio for ratio in ratios if ratio is not None), default=None),
            )


def _window_targets(benchmark: Benchmark) -> Iterator[Target]:
    """A second holds at most the rate and the burst."""
    for burst, allowed in ((1, 1), (None, 10)):
        found = [
            benchmark.find(_with_burst(THENCE, burst), arrivals, WINDOW)
            for arrivals in ("adversary", "random")
        ]
        yield Target(
            text=f"events in Thence's fullest second, 100/s burst {allowed}",
            bound=100 + allowed,
            sense="at most",
            measured=max((most for most in found if most is not None), default=None),
        )
