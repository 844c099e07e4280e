"""``local``: emit to handler in one process, events a second."""

from benchmarks.launch import Options, solo
from benchmarks.processes import Worker
from benchmarks.report import Benchmark, Target, figures_of
from benchmarks.statistics import percentile

__all__ = ["run"]

LAUNCHES = 5
ROUNDS = 7
EVENTS = 200_000
QUICK_EVENTS = 20_000


def run(options: Options) -> Benchmark:
    """Measure events a second within one process."""
    launches = options.number_of_launches(LAUNCHES)
    events = QUICK_EVENTS if options.quick else EVENTS
    benchmark = Benchmark(
        name="local",
        title="Emit to handler in one process, events a second",
        settings={"launches": launches, "rounds": ROUNDS, "events a round": events},
    )

    def measure(worker: Worker) -> float:
        worker.call("open")
        worker.call("round", count=events // 10)
        return percentile([events / worker.call("round", count=events) for _ in range(ROUNDS)], 0.5)

    rates: list[float] = []
    for number in range(launches):
        options.say(f"local, launch {number + 1} of {launches}")
        rate = solo(benchmark, "thence", "thence.local:Local", measure)
        if rate is not None:
            rates.append(rate)
    benchmark.figures = figures_of("handled", "events/s", {"thence": rates})
    benchmark.targets = [
        Target(
            text="Thence in one process, events a second",
            bound=500_000,
            sense="at least",
            measured=benchmark.find("thence", "handled"),
        )
    ]
    return benchmark
