"""``flow``: how many events a second one process can have handled in another.

The sender is pinned to one processor, the receiver to another; servers run where the system puts
them. A round sends a fixed number of events and ends when the receiver's handler has run for the
last: what is counted is handled, not written. A round that lost an event gives no rate.
"""

from benchmarks.contestants import roster
from benchmarks.launch import Options, launch
from benchmarks.machine import usable_processors
from benchmarks.processes import Worker
from benchmarks.report import Absence, Benchmark, Target, figures_of
from benchmarks.statistics import percentile

__all__ = ["run"]

LAUNCHES = 5
ROUNDS = 5
QUICK_ROUNDS = 2
ROUND_SECONDS = 0.5
QUICK_ROUND_SECONDS = 0.1
WARM_UP_EVENTS = (1_000, 5_000)
MOST_EVENTS = 400_000
ROUND_TIMEOUT = 60.0


def run(options: Options) -> Benchmark:
    """Measure events a second."""
    launches = options.number_of_launches(LAUNCHES)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    seconds = QUICK_ROUND_SECONDS if options.quick else ROUND_SECONDS
    benchmark = Benchmark(
        name="flow",
        title="One-way events a second between two processes",
        settings={"launches": launches, "rounds": rounds, "seconds a round (about)": seconds},
    )
    rates: dict[str, list[float]] = {name: [] for name in roster.FLOW}
    for number in range(launches):
        options.say(f"flow, launch {number + 1} of {launches}")
        for name, samples in _launch(benchmark, rounds, seconds).items():
            rates[name].append(percentile(samples, 0.5))
    bases = ("nats-py", "faststream")
    benchmark.figures = figures_of("handled", "events/s", rates, bases=bases)
    targets: list[tuple[str, str, str, float]] = [
        ("Thence, events a second", "thence", "", 600_000),
        ("Thence with handlers that suspend, events a second", "thence suspending", "", 150_000),
        ("Thence against nats-py, untyped", "thence", "nats-py", 2.5),
        ("Thence against FastStream over NATS", "thence", "faststream", 35),
    ]
    benchmark.targets = [
        Target(
            text=text,
            bound=bound,
            sense="at least",
            measured=benchmark.find(contestant, "handled", "", against),
        )
        for text, contestant, against, bound in targets
    ]
    return benchmark


def _launch(benchmark: Benchmark, rounds: int, seconds: float) -> dict[str, list[float]]:
    processors = usable_processors()
    if len(processors) < 2:
        benchmark.note("fewer than two processors to pin to: sender and receiver share")
    rates: dict[str, list[float]] = {}
    events: dict[str, int] = {}
    with launch(
        benchmark,
        roster.FLOW,
        answering_processor=processors[1] if len(processors) > 1 else None,
        driving_processor=processors[0] if len(processors) > 1 else None,
    ) as running:
        for name, (receiver, sender) in list(running.pairs.items()):
            with running.trying(name):
                for count in WARM_UP_EVENTS:
                    rate, _ = _round(receiver, sender, count)
                events[name] = min(max(int(rate * seconds), 1_000), MOST_EVENTS)
                rates[name] = []
        for _ in range(rounds):
            for name, (receiver, sender) in list(running.pairs.items()):
                with running.trying(name):
                    rate, lost = _round(receiver, sender, events[name])
                    if lost:
                        benchmark.note(f"{name} lost {lost} of {events[name]} events in a round")
                    else:
                        rates[name].append(rate)
    for name in running.pairs:
        if not rates[name]:
            reason = "every round lost events"
            benchmark.absent(Absence(contestant=name, reason=reason), failed=True)
    return {name: rates[name] for name in running.pairs if rates[name]}


def _round(receiver: Worker, sender: Worker, count: int) -> tuple[float, int]:
    """Return the rate of a round and how many of its events were lost (or came twice)."""
    receiver.call("expect", count=count)
    receiver.begin("handled")
    sender.begin("send", count=count)
    sent = sender.result(ROUND_TIMEOUT)
    handled = receiver.result(ROUND_TIMEOUT)
    rate = handled["handled"] * 1e9 / (handled["ended"] - sent["began"])
    return rate, count - handled["handled"] or -handled["surplus"]
