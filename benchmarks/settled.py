"""``settled``: what it costs to know when a cascade has ended.

One event causes nine, each of these ten: 100 handler starts in three processes, one process for each level.
Half of the cascades are followed: from the emit until ``settled()`` has returned. Of the others nobody keeps
the receipt: from the emit until the last handler has ended. They take turns in blocks of 50. ``hop`` is the
round trip of the benchmark of that name, with every receipt kept and with none.
"""

import tempfile
import uuid

from benchmarks.contestants.contract import Place
from benchmarks.launch import OPEN_TIMEOUT, READY_TIMEOUT, Launch, Options, Pair, launch
from benchmarks.machine import usable_processors
from benchmarks.processes import ContestantFailed, Crew, Worker
from benchmarks.report import Benchmark, Target, figures_of
from benchmarks.statistics import percentile

__all__ = ["run"]

LAUNCHES = 7
ROUNDS = 10
QUICK_ROUNDS = 2
CASCADES = 50
PINGS = 300
MEETING_SECONDS = 10.0

THENCE = "thence"
LEVELS = ("thence.settled:Third", "thence.settled:Second", "thence.settled:First")
"""The last first, so that each finds the next."""

UNFOLLOWED = "not followed, until the last handler's end"
FOLLOWED = "followed, until the last handler's end"
SETTLED = "followed, until settled() returns"
HOPS = {
    "receipts dropped": Pair(answering="thence.settled:Answerer", driving="thence.settled:Asker"),
    "receipts kept": Pair(
        answering="thence.settled:Answerer", driving="thence.settled:KeepingAsker"
    ),
}


def run(options: Options) -> Benchmark:
    """Measure cascades with and without somebody who waits for their end."""
    launches = options.number_of_launches(LAUNCHES)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    benchmark = Benchmark(
        name="settled",
        title="A cascade of 100 events over three processes, and waiting for its end",
        settings={
            "launches": launches,
            "rounds": rounds,
            "cascades a block": CASCADES,
            "pings a block": PINGS,
        },
    )
    processors = usable_processors()
    variants: dict[str, int | None] = {"unpinned": None}
    if processors:
        variants = {"pinned": processors[0], **variants}
    else:
        benchmark.note("this system can't pin processes; only the unpinned figures were taken")
    for variant, processor in variants.items():
        halves: dict[str, list[float]] = {UNFOLLOWED: [], FOLLOWED: [], SETTLED: []}
        hops: dict[str, list[float]] = {name: [] for name in HOPS}
        for number in range(launches):
            options.say(f"settled, {variant}, launch {number + 1} of {launches}")
            for name, samples in _cascades(benchmark, variant, processor, rounds).items():
                halves[name].append(percentile(samples, 0.5) / 1000)
            for name, samples in _hops(benchmark, variant, processor, rounds).items():
                hops[name].append(percentile(samples, 0.5) / 1000)
        benchmark.figures += figures_of(
            "100 events, p50", "µs", halves, bases=(UNFOLLOWED,), variant=variant
        )
        benchmark.figures += figures_of(
            "hop, p50", "µs", hops, bases=("receipts dropped",), variant=variant
        )
    benchmark.targets = [
        Target(
            text=f"a settled cascade of 100 events against one that nobody follows, {variant}",
            bound=1.3,
            sense="at most",
            measured=benchmark.find(SETTLED, "100 events, p50", variant, UNFOLLOWED),
        )
        for variant in variants
    ]
    return benchmark


def _cascades(
    benchmark: Benchmark, variant: str, processor: int | None, rounds: int
) -> dict[str, list[int]]:
    """Return the nanoseconds of each kind in one launch; none if somebody broke."""
    samples: dict[str, list[int]] = {UNFOLLOWED: [], FOLLOWED: [], SETTLED: []}
    running = Launch(benchmark, variant)
    with (
        running.trying(THENCE),
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Crew() as crew,
    ):
        place = Place(directory=directory, token=f"bench.{uuid.uuid4().hex[:12]}")
        workers = [crew.start(target, place, processor=processor) for target in LEVELS]
        for worker in workers:
            worker.result(READY_TIMEOUT)
        for worker in workers:
            worker.call("open", timeout=OPEN_TIMEOUT)
        third, _, first = workers
        first.call("meet", seconds=MEETING_SECONDS)
        for round_ in range(rounds + 1):
            found = _round(third, first)
            if round_:  # the first is a warm-up
                for name, times in found.items():
                    samples[name] += times
        for worker in reversed(workers):
            worker.call("close", timeout=OPEN_TIMEOUT)
        return samples
    return {}


def _round(third: Worker, first: Worker) -> dict[str, list[int]]:
    third.call("take")
    began = {int(n): t for n, t in first.call("untracked", count=CASCADES).items()}
    times = {int(n): t for n, t in first.call("tracked", count=CASCADES).items()}
    ended = {int(n): t for n, t in third.call("take").items()}
    if not (began.keys() | times.keys()) <= ended.keys():
        raise ContestantFailed("a cascade did not come to its last handlers")
    return {
        UNFOLLOWED: [ended[number] - start for number, start in began.items()],
        FOLLOWED: [ended[number] - start for number, (start, _) in times.items()],
        SETTLED: [settled - start for start, settled in times.values()],
    }


def _hops(
    benchmark: Benchmark, variant: str, processor: int | None, rounds: int
) -> dict[str, list[int]]:
    samples: dict[str, list[int]] = {}
    with launch(
        benchmark,
        HOPS,
        variant=variant,
        answering_processor=processor,
        driving_processor=processor,
        brokers=False,
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
