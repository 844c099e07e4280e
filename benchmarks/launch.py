"""Launches of many contestants side by side, and what becomes of those that can't take part.

Every launch is fresh processes, because address randomisation makes about one launch in five
slow for its whole life: within a launch the contestants take turns (drift hits all alike), and a
figure is the median over launches.
"""

import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from benchmarks.brokers import Brokers, running_brokers
from benchmarks.contestants.contract import Place
from benchmarks.machine import usable_processors
from benchmarks.processes import ContestantFailed, ContestantMissing, Crew, Worker
from benchmarks.report import Absence, Benchmark

__all__ = ["Launch", "Options", "Pair", "launch", "solo"]

Result = TypeVar("Result")

READY_TIMEOUT = 30.0
OPEN_TIMEOUT = 20.0
NO_BROKERS = Brokers(nats_url="", redis_url="", notes=())


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a run goes. Quick runs show that everything works; their figures mean little."""

    quick: bool = False
    launches: int | None = None
    say: Callable[[str], None] = print

    def number_of_launches(self, usual: int) -> int:
        """Return how many launches to make where ``usual`` is the benchmark's own choice."""
        if self.launches is not None:
            return self.launches
        return 1 if self.quick else usual


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """The two halves of a contestant, as MODULE:CLASS under ``benchmarks.contestants``.

    ``answering`` opens first, so that ``driving`` finds it there.
    """

    answering: str
    driving: str


class Launch:
    """The contestants of one launch that are still in the race."""

    def __init__(self, benchmark: Benchmark, variant: str) -> None:
        self.pairs: dict[str, tuple[Worker, Worker]] = {}
        self._benchmark = benchmark
        self._variant = variant

    @contextmanager
    def trying(self, contestant: str) -> Iterator[None]:
        """Drop a contestant that turns out missing or failed in this block, and say why."""
        try:
            yield
        except (ContestantMissing, ContestantFailed) as error:
            self.pairs.pop(contestant, None)
            absence = Absence(contestant=contestant, reason=str(error), variant=self._variant)
            self._benchmark.absent(absence, failed=isinstance(error, ContestantFailed))


@contextmanager
def launch(
    benchmark: Benchmark,
    contestants: Mapping[str, Pair],
    *,
    variant: str = "",
    answering_processor: int | None = None,
    driving_processor: int | None = None,
    broker_processor: int | None = None,
    brokers: bool = True,
    loop: str = "uvloop",
) -> Iterator[Launch]:
    """Start servers and both halves of every contestant; end them all on leaving."""
    running = Launch(benchmark, variant)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        ExitStack() as stack,
        Crew() as crew,
    ):
        servers = NO_BROKERS
        if brokers:
            servers = stack.enter_context(running_brokers(Path(directory), broker_processor))
        for note in servers.notes:
            benchmark.note(note)
        for name, pair in contestants.items():
            own = Path(directory) / f"{len(running.pairs)}"
            own.mkdir()
            place = Place(
                directory=str(own),
                token=f"bench.{uuid.uuid4().hex[:12]}",
                nats_url=servers.nats_url,
                redis_url=servers.redis_url,
            )
            running.pairs[name] = (
                crew.start(pair.answering, place, processor=answering_processor, loop=loop),
                crew.start(pair.driving, place, processor=driving_processor, loop=loop),
            )
        for name, workers in list(running.pairs.items()):
            with running.trying(name):
                for worker in workers:
                    worker.result(READY_TIMEOUT)
                for worker in workers:
                    worker.call("open", timeout=OPEN_TIMEOUT)
        yield running
        for name, workers in list(running.pairs.items()):
            with running.trying(name):
                for worker in reversed(workers):
                    worker.call("close", timeout=OPEN_TIMEOUT)


def solo(
    benchmark: Benchmark,
    contestant: str,
    target: str,
    measure: Callable[[Worker], Result],
    *,
    loop: str = "uvloop",
) -> Result | None:
    """Run ``measure`` on the one process of a contestant that needs no other.

    ``None`` when the contestant turned out missing or failed, which is recorded.
    """
    processors = usable_processors()
    running = Launch(benchmark, "")
    with (
        running.trying(contestant),
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Crew() as crew,
    ):
        place = Place(directory=directory, token=f"bench.{uuid.uuid4().hex[:12]}")
        processor = processors[-1] if processors else None
        worker = crew.start(target, place, processor=processor, loop=loop)
        worker.result(READY_TIMEOUT)
        result = measure(worker)
        worker.call("close", timeout=OPEN_TIMEOUT)
        return result
    return None
