"""``stopped``: what an emitter and a service notice of another service whose process stands still.

One process emits to two services in two processes by turns, each event when it is due. One of the services
is stopped by SIGSTOP for three seconds, which is longer than its queue lasts, and then goes on.
"""

import signal
import tempfile
import time
import uuid

import msgspec

from benchmarks.contestants.contract import Place
from benchmarks.launch import OPEN_TIMEOUT, READY_TIMEOUT, Launch, Options
from benchmarks.machine import usable_processors
from benchmarks.overload import Account, account_of, between, together
from benchmarks.processes import ContestantFailed, Crew, Worker
from benchmarks.report import Benchmark, Target, figures_of
from benchmarks.statistics import percentile

__all__ = ["run"]

LAUNCHES = 3
RATE = 500
BEFORE, AFTER = 1.0, 2.0
SECONDS = 3.0
QUICK_SECONDS = 2.5
GRACE = 10.0
RUN_TIMEOUT = 60.0

THENCE = "thence"
"""Both services and their emitter."""
STOPPED, OTHER = "stopped", "other"
SERVICES = {STOPPED: "thence.overload:Stoppable", OTHER: "thence.overload:Other"}
SENDER = "thence.overload:Twofold"


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen in one launch; times in milliseconds."""

    stall: float
    median: float
    slow: float
    backlog: float
    """From going on until the last event was begun that was due before that."""
    accounts: dict[str, Account]
    complaints: list[str]


def run(options: Options) -> Benchmark:
    """Measure what those who are not stopped notice."""
    launches = options.number_of_launches(LAUNCHES)
    stopped = QUICK_SECONDS if options.quick else SECONDS
    benchmark = Benchmark(
        name="stopped",
        title="A service whose process is stopped, and another one that isn't",
        settings={
            "launches": launches,
            "events a second to each": RATE,
            "seconds stopped": stopped,
        },
    )
    courses: list[Course] = []
    for number in range(launches):
        options.say(f"stopped, launch {number + 1} of {launches}")
        course = _launch(benchmark, stopped)
        if course is not None:
            courses.append(course)
    for quantity, unit, field in (
        ("longest emit to the other", "ms", "stall"),
        ("other p50", "ms", "median"),
        ("other p99", "ms", "slow"),
        ("backlog handled after", "ms", "backlog"),
    ):
        samples = [getattr(course, field) for course in courses]
        benchmark.figures += figures_of(quantity, unit, {THENCE: samples})
    unaccounted = [
        float(sum(abs(account.unaccounted) for account in course.accounts.values()))
        for course in courses
    ]
    benchmark.figures += figures_of("unaccounted", "events", {THENCE: unaccounted})
    for course in courses:
        for complaint in course.complaints:
            benchmark.note(complaint)
    for name in SERVICES:
        if courses:
            benchmark.note(f"{name}: {together([course.accounts[name] for course in courses])}")
    benchmark.targets = [
        Target(
            text="the longest emit to the other service meanwhile, ms",
            bound=50,
            sense="at most",
            measured=benchmark.find(THENCE, "longest emit to the other"),
        ),
        Target(
            text="p99 of the other service's latency meanwhile, ms",
            bound=10,
            sense="at most",
            measured=benchmark.find(THENCE, "other p99"),
        ),
        Target(
            text="events that are unaccounted for, or counted twice",
            bound=0,
            sense="at most",
            measured=max(unaccounted, default=None),
        ),
    ]
    return benchmark


def _launch(benchmark: Benchmark, stopped: float) -> Course | None:
    """Start the three processes, stop one of them for a while; ``None`` if somebody broke."""
    running = Launch(benchmark, "")
    processors = usable_processors()
    with (
        running.trying(THENCE),
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Crew() as crew,
    ):
        place = Place(directory=directory, token=f"bench.{uuid.uuid4().hex[:12]}")
        services = {
            name: crew.start(target, place, processor=processors[-1] if processors else None)
            for name, target in SERVICES.items()
        }
        sender = crew.start(SENDER, place, processor=processors[0] if processors else None)
        workers = [*services.values(), sender]
        for worker in workers:
            worker.result(READY_TIMEOUT)
        for worker in workers:
            worker.call("open", timeout=OPEN_TIMEOUT)
        course = _course(services, sender, stopped)
        for worker in reversed(workers):
            worker.call("close", timeout=OPEN_TIMEOUT)
        return course
    return None


def _course(services: dict[str, Worker], sender: Worker, seconds: float) -> Course:
    due = sender.call("start", rate=RATE, seconds=BEFORE + seconds + AFTER)
    time.sleep(max(0.0, due + BEFORE - time.monotonic()))
    began, ended = _stop(services[STOPPED], seconds)
    sender.call("finish", grace=GRACE, timeout=RUN_TIMEOUT)
    for worker in (sender, *services.values()):
        worker.call("settle", seconds=GRACE)
    runs = {name: service.call("take") for name, service in services.items()}
    accounts, complaints = {}, []
    for name, event in ((STOPPED, "ForStopped"), (OTHER, "ForOther")):
        accounts[name], found = account_of(
            services[name], sender, event, f"for_{name}", len(runs[name]), "handle"
        )
        complaints += [f"{name}: {complaint}" for complaint in found]
    emits = [
        returned - due
        for event, due, _, returned in sender.call("take_emits")
        if event == "ForOther" and began <= due < ended
    ]
    latencies = [1000 * latency for latency in between(runs[OTHER], began, ended)]
    if not emits or not latencies:
        raise ContestantFailed("nothing reached the service that was not stopped")
    backlog = [start for due, start, _ in runs[STOPPED] if due < ended]
    return Course(
        stall=1000 * max(emits),
        median=percentile(latencies, 0.5),
        slow=percentile(latencies, 0.99),
        backlog=1000 * (max(backlog, default=ended) - ended),
        accounts=accounts,
        complaints=complaints,
    )


def _stop(service: Worker, seconds: float) -> tuple[float, float]:
    """Stop a process for a while; return when that was."""
    began = time.monotonic()
    service.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        ended = time.monotonic()
        service.process.send_signal(signal.SIGCONT)
    return began, ended
