"""``overload``: what becomes of a service that is sent ten times what it can take.

Its handler runs 10 at once for 10 ms each. What the two processes can do at most (the peak) is measured
first, with a queue that never runs empty; then an emitter that never waits for anything sends 0.8 times
the peak, 10 times for five seconds, and 0.8 times again. Latency is from the moment at which an event was
due until its handler begins, so that waiting at the emitter counts as well.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from benchmarks.launch import Options, Pair, launch
from benchmarks.machine import usable_processors
from benchmarks.processes import ContestantFailed, Worker
from benchmarks.report import Benchmark, Figure, Target, figures_of
from benchmarks.statistics import percentile, ratios

__all__ = ["Account", "account_of", "between", "run", "settled_after", "together"]

Runs: TypeAlias = Sequence[tuple[float, float, float]]
"""Of each handled event: when it was due, when its handler began, when that ended; in seconds."""

LAUNCHES = 3
TRIAL_EVENTS = 2_500
QUICK_TRIAL_EVENTS = 1_200
CALM, SPIKE = 0.8, 10.0
SECONDS = (2.0, 5.0, 3.0)
QUICK_SECONDS = (0.5, 1.0, 1.5)
GRACE = 2.0
"""Seconds after the last event was due in which emits may still wait for room."""
RUN_TIMEOUT = 60.0
SETTLE = 40.0

QUEUE_TARGET = 0.020
"""As declared by the contestants."""
THENCE = "thence"
SENDER = "thence.overload:Flood"
VARIANTS = {
    THENCE: "Targeted",
    "thence, queue bound only": "Bounded",
    "thence, limit, drop": "Dropping",
    "thence, 1 ms of CPU": "Burning",
    "thence, sleep(0), 1 ms of CPU": "Yielding",
}
"""The first is measured in every launch, the others in the first one, to be seen beside it."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Where the events of a run have gone, by those who counted them."""

    emitted: int
    handled: int
    failed: int
    shed: dict[str, int]
    refused: dict[str, int]
    """Not sent, or lost on the way, by the emitter's report."""

    @property
    def unaccounted(self) -> int:
        """Events that nobody has counted; below zero if some were counted twice."""
        elsewhere = sum(self.shed.values()) + sum(self.refused.values())
        return self.emitted - self.handled - self.failed - elsewhere

    def __str__(self) -> str:
        parts = [f"{self.handled:,} handled"]
        parts += [f"{count:,} shed ({reason})" for reason, count in self.shed.items()]
        parts += [f"{count:,} not sent ({reason})" for reason, count in self.refused.items()]
        for count, what in (
            (self.failed, "failed"),
            (self.unaccounted, "unaccounted for"),
        ):
            if count:
                parts.append(f"{count:,} {what}")
        return f"{self.emitted:,} emitted: {', '.join(parts)}"


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What one variant did in one launch. Rates in events a second, times in milliseconds."""

    peak: float
    goodput: float
    median: float
    slow: float
    settled: float | None
    late: float
    account: Account
    complaints: list[str]


def run(options: Options) -> Benchmark:
    """Measure what comes through, and how late."""
    launches = options.number_of_launches(LAUNCHES)
    seconds = QUICK_SECONDS if options.quick else SECONDS
    trial = QUICK_TRIAL_EVENTS if options.quick else TRIAL_EVENTS
    benchmark = Benchmark(
        name="overload",
        title="A service under ten times what it can take",
        settings={
            "launches": launches,
            "seconds at 0.8, 10 and 0.8 times the peak": ", ".join(f"{one:g}" for one in seconds),
            "queue target, ms": QUEUE_TARGET * 1000,
        },
    )
    courses: dict[str, list[Course]] = {name: [] for name in VARIANTS}
    for number in range(launches):
        options.say(f"overload, launch {number + 1} of {launches}")
        for name, course in _launch(benchmark, options, number == 0, trial, seconds).items():
            courses[name].append(course)
    benchmark.figures = _figures(courses)
    for name, course in ((n, c) for n, several in courses.items() for c in several):
        for complaint in course.complaints:
            benchmark.note(f"{name}: {complaint}")
    for name, several in courses.items():
        if not several:
            continue
        late = max(course.late for course in several)
        benchmark.note(
            f"{name}: {together([course.account for course in several])}; 99 % of all emits were "
            f"begun within {late:.1f} ms of their time"
        )
        unsettled = sum(course.settled is None for course in several)
        if unsettled:
            benchmark.note(
                f"{name}: not settled when the last event was due, {seconds[2]:g} s after the spike "
                f"({unsettled} of {len(several)} launches)"
            )
    benchmark.targets = _targets(benchmark, courses, seconds[2])
    return benchmark


def _launch(
    benchmark: Benchmark, options: Options, first: bool, trial: int, seconds: Sequence[float]
) -> dict[str, Course]:
    processors = usable_processors()
    if len(processors) < 2:
        benchmark.note("fewer than two processors to pin to: emitter and service share")
    contestants = {
        name: Pair(answering=f"thence.overload:{receiver}", driving=SENDER)
        for name, receiver in VARIANTS.items()
        if first or name == THENCE
    }
    courses: dict[str, Course] = {}
    with launch(
        benchmark,
        contestants,
        answering_processor=processors[1] if len(processors) > 1 else None,
        driving_processor=processors[0] if len(processors) > 1 else None,
        brokers=False,
    ) as running:
        for name, (receiver, sender) in list(running.pairs.items()):
            options.say(f"  {name}")
            with running.trying(name):
                courses[name] = _course(receiver, sender, trial, seconds)
    return {name: course for name, course in courses.items() if name in running.pairs}


def _course(receiver: Worker, sender: Worker, trial: int, seconds: Sequence[float]) -> Course:
    peak = _peak(receiver, sender, trial)
    rates = (CALM * peak, SPIKE * peak, CALM * peak)
    phases = list(zip(rates, seconds, strict=True))
    edges = sender.call("flood", phases=phases, grace=GRACE, timeout=RUN_TIMEOUT)
    for worker in (sender, receiver):
        worker.call("settle", seconds=SETTLE, timeout=RUN_TIMEOUT)
    runs = [tuple(one) for one in receiver.call("take")]
    emits = sender.call("take_emits")
    account, complaints = account_of(receiver, sender, "Work", "work", len(runs), "work")
    _, began, ended, _ = edges
    latencies = [1000 * latency for latency in between(runs, began, ended)]
    if not latencies:
        raise ContestantFailed("nothing was handled in the spike")
    settled = settled_after(runs, ended, QUEUE_TARGET)
    through = sum(began <= end < ended for _, _, end in runs) / (ended - began)
    return Course(
        peak=peak,
        goodput=100 * through / peak,
        median=percentile(latencies, 0.5),
        slow=percentile(latencies, 0.99),
        settled=None if settled is None else 1000 * settled,
        late=percentile([1000 * (started - due) for _, due, started, _ in emits], 0.99),
        account=account,
        complaints=complaints,
    )


def _peak(receiver: Worker, sender: Worker, events: int) -> float:
    """Events a second with a queue that is never empty, its filling left out."""
    sender.call("saturate", count=events)
    for worker in (sender, receiver):
        worker.call("settle", seconds=SETTLE)
    ends = sorted(end for _, _, end in receiver.call("take"))
    if len(ends) < events:
        raise ContestantFailed(f"only {len(ends)} of {events} events of the trial were handled")
    first = len(ends) // 5
    return (len(ends) - 1 - first) / (ends[-1] - ends[first])


def between(runs: Runs, began: float, ended: float) -> list[float]:
    """Return the latencies, in seconds, of what was begun within that time."""
    return [start - due for due, start, _ in runs if began <= start < ended]


def settled_after(runs: Runs, ended: float, bound: float) -> float | None:
    """Return how long after ``ended`` the last event was begun that had waited for ``bound`` or longer.

    0.0 if there was none; ``None`` if it never got better, as that was the last event of all.
    """
    slow = max(
        (start for due, start, _ in runs if start >= ended and start - due >= bound), default=ended
    )
    if not any(start > slow for _, start, _ in runs):
        return None
    return slow - ended


def account_of(
    receiver: Worker, sender: Worker, event: str, name: str, runs: int, handler: str
) -> tuple[Account, list[str]]:
    """Return where the events of a class (called ``name`` on the wire) have gone, and what doesn't add up."""
    counted = receiver.call("counted", handler=handler)
    told = sender.call("told", event=event, name=name)
    account = Account(
        emitted=told["emitted"],
        handled=counted["handled"],
        failed=counted["failed"],
        shed=counted["shed"],
        refused=told["lost"],
    )
    refused = sum(told["refused"].values())
    complaints = [
        f"{what}: {one:,} and {other:,}"
        for what, one, other in (
            ("events handled, by the handler itself and by its report", runs, counted["handled"]),
            ("events sent, by receipts and by the report", told["accepted"], told["sent"]),
            ("events refused, by receipts and by the report", refused, sum(told["lost"].values())),
            ("events sent and not acknowledged at the end, should be none", told["outstanding"], 0),
        )
        if one != other
    ]
    return account, complaints


def together(accounts: Sequence[Account]) -> Account:
    """Add up several launches' accounts."""
    shed: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for account in accounts:
        shed.update(account.shed)
        refused.update(account.refused)
    return Account(
        emitted=sum(account.emitted for account in accounts),
        handled=sum(account.handled for account in accounts),
        failed=sum(account.failed for account in accounts),
        shed=dict(shed),
        refused=dict(refused),
    )


def _figures(courses: dict[str, list[Course]]) -> list[Figure]:
    figures = []
    for quantity, unit, field in (
        ("peak", "events/s", "peak"),
        ("goodput", "% of peak", "goodput"),
        ("p50", "ms", "median"),
        ("p99", "ms", "slow"),
        ("settled", "ms", "settled"),
    ):
        samples = {
            name: [value for course in several if (value := getattr(course, field)) is not None]
            for name, several in courses.items()
        }
        figures += figures_of(quantity, unit, samples)
        if quantity == "p99":
            figures += [
                Figure(
                    contestant=name,
                    quantity=quantity,
                    unit="×",
                    summary=ratios(values, [QUEUE_TARGET * 1000] * len(values)),
                    against="queue target",
                )
                for name, values in samples.items()
                if values
            ]
    unaccounted = {
        name: [float(course.account.unaccounted) for course in several]
        for name, several in courses.items()
    }
    return figures + figures_of("unaccounted", "events", unaccounted)


def _targets(
    benchmark: Benchmark, courses: dict[str, list[Course]], seconds: float
) -> list[Target]:
    settled = benchmark.find(THENCE, "settled")
    if any(course.settled is None for course in courses[THENCE]):
        settled = 1000 * seconds  # as long as anybody looked
    unaccounted = [
        abs(course.account.unaccounted) for several in courses.values() for course in several
    ]
    return [
        Target(
            text="goodput in the spike, % of peak",
            bound=95,
            sense="at least",
            measured=benchmark.find(THENCE, "goodput"),
        ),
        Target(
            text="p99 of what is handled in the spike, of the queue target",
            bound=2,
            sense="at most",
            measured=benchmark.find(THENCE, "p99", "", "queue target"),
        ),
        Target(
            text="settled after the spike, ms",
            bound=500,
            sense="at most",
            measured=settled,
        ),
        Target(
            text="events of any variant that are unaccounted for, or counted twice",
            bound=0,
            sense="at most",
            measured=max(unaccounted, default=None),
        ),
    ]
