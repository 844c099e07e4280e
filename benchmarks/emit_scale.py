"""``emit-scale``: what one emit costs when 10 services are known, and when 1,000 are.

Both meshes live in one process and take turns, so that the ratio sees neither drift nor layout.
"""

from benchmarks.launch import Options, solo
from benchmarks.processes import Worker
from benchmarks.report import Benchmark, Target, figures_of
from benchmarks.statistics import percentile

__all__ = ["run"]

LAUNCHES = 5
ROUNDS = 400
QUICK_ROUNDS = 40
EMITS = 100
FEW = 10
MANY = 1_000
START_TIMEOUT = 120.0


def run(options: Options) -> Benchmark:
    """Measure the cost of an emit beside few and many known services."""
    launches = options.number_of_launches(LAUNCHES)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    benchmark = Benchmark(
        name="emit-scale",
        title="Cost of one emit, by the number of known services",
        settings={"launches": launches, "rounds": rounds, "emits a block": EMITS},
    )

    def measure(worker: Worker) -> list[list[float]]:
        worker.call("start_meshes", known=[FEW, MANY], timeout=START_TIMEOUT)
        worker.call("rounds", rounds=rounds // 10, emits=EMITS)
        return worker.call("rounds", rounds=rounds, emits=EMITS)  # type: ignore[no-any-return]

    few, many = f"{FEW} services", f"{MANY:,} services"
    costs: dict[str, list[float]] = {few: [], many: []}
    for number in range(launches):
        options.say(f"emit-scale, launch {number + 1} of {launches}")
        samples = solo(benchmark, "thence", "thence.scale:Scale", measure)
        if samples is not None:
            for name, spent in zip(costs, samples, strict=True):
                costs[name].append(percentile(spent, 0.5))
    benchmark.figures = figures_of("emit", "ns", costs, bases=(few,))
    benchmark.targets = [
        Target(
            text=f"an emit beside {many} against one beside {few}",
            bound=1.1,
            sense="at most",
            measured=benchmark.find(many, "emit", "", few),
        )
    ]
    return benchmark
