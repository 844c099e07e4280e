"""``hop``: how long one event takes to a handler in another process and an answer back.

Service A emits a Ping, B's handler returns a Pong, A's handler notes the end. One ping is under
way at a time. The contestants take turns in blocks of 300 pings. ``pinned`` puts all processes,
servers included, on one processor and is the figure to judge by: free ones measure how the
system wakes an idle processor, which has several modes.
"""

from benchmarks.contestants import roster
from benchmarks.launch import Options, launch
from benchmarks.machine import usable_processors
from benchmarks.report import Benchmark, Target, figures_of
from benchmarks.statistics import percentile

__all__ = ["run"]

LAUNCHES = 7
ROUNDS = 20
QUICK_ROUNDS = 3
PINGS = 300
MEETING_SECONDS = 10.0


def run(options: Options) -> Benchmark:
    """Measure round trips."""
    launches = options.number_of_launches(LAUNCHES)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    benchmark = Benchmark(
        name="hop",
        title="Typed round trip between two processes",
        settings={"launches": launches, "rounds": rounds, "pings a block": PINGS},
    )
    processors = usable_processors()
    variants: dict[str, int | None] = {"unpinned": None}
    if processors:
        variants = {"pinned": processors[0], **variants}
    else:
        benchmark.note("this system can't pin processes; only the unpinned figures were taken")
    for variant, processor in variants.items():
        halves: dict[str, list[float]] = {name: [] for name in roster.HOP}
        tails: dict[str, list[float]] = {name: [] for name in roster.HOP}
        for number in range(launches):
            options.say(f"hop, {variant}, launch {number + 1} of {launches}")
            for name, samples in _launch(benchmark, variant, processor, rounds).items():
                halves[name].append(percentile(samples, 0.5) / 1000)
                tails[name].append(percentile(samples, 0.99) / 1000)
        bases = ("raw echo", "nats-py")
        benchmark.figures += figures_of("p50", "µs", halves, bases=bases, variant=variant)
        benchmark.figures += figures_of("p99", "µs", tails, variant=variant)
    benchmark.targets = [
        Target(
            text="Thence's pinned round trip against the raw echo",
            bound=3.5,
            sense="at most",
            measured=benchmark.find("thence", "p50", "pinned", "raw echo"),
        ),
        Target(
            text="Thence's pinned round trip against nats-py's",
            bound=round(1 / 3.5, 3),
            sense="at most",
            measured=benchmark.find("thence", "p50", "pinned", "nats-py"),
        ),
    ]
    return benchmark


def _launch(
    benchmark: Benchmark, variant: str, processor: int | None, rounds: int
) -> dict[str, list[int]]:
    """Return each contestant's nanoseconds; none of one that broke on the way."""
    samples: dict[str, list[int]] = {}
    with launch(
        benchmark,
        roster.HOP,
        variant=variant,
        answering_processor=processor,
        driving_processor=processor,
        broker_processor=processor,
    ) as running:
        for name, (_, asking) in list(running.pairs.items()):
            with running.trying(name):
                asking.call("meet", seconds=MEETING_SECONDS)
                samples[name] = []
        for _ in range(rounds):
            for name, (_, asking) in list(running.pairs.items()):
                with running.trying(name):
                    samples[name] += asking.call("block", count=PINGS)
        return {name: samples[name] for name in running.pairs}
