"""Measured processes answer, fail and end as the harness is told they do; nothing is timed."""

from pathlib import Path

import pytest
from benchmarks.contestants.contract import Place
from benchmarks.launch import Options, Pair, launch, solo
from benchmarks.processes import ContestantFailed, ContestantMissing, Crew, Worker
from benchmarks.report import Benchmark

UNREACHABLE = "nats://127.0.0.1:1"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(directory=str(tmp_path), token="test", nats_url=UNREACHABLE)


def make_benchmark() -> Benchmark:
    return Benchmark(name="test", title="A test")


def test_a_contestant_is_asked_and_answers(place: Place) -> None:
    with Crew() as crew:
        echo = crew.start("raw_echo:Echo", place, loop="asyncio")
        asker = crew.start("raw_echo:Asker", place, loop="asyncio")
        for worker in (echo, asker):
            assert worker.result() == "ready"
            worker.call("open")
        asker.call("meet", seconds=10)

        assert len(asker.call("block", count=5)) == 5


def test_leaving_the_crew_ends_its_processes(place: Place) -> None:
    with Crew() as crew:
        worker = crew.start("raw_echo:Echo", place, loop="asyncio")
        worker.result()

    assert worker.process.poll() is not None


def test_a_contestant_that_is_not_installed_is_missing(place: Place) -> None:
    with Crew() as crew:
        worker = crew.start("no_such_contestant:Pinger", place)

        with pytest.raises(ContestantMissing, match="no_such_contestant"):
            worker.result()


def test_a_peer_whose_server_cannot_be_reached_is_missing(place: Place) -> None:
    pytest.importorskip("nats")
    with Crew() as crew:
        worker = crew.start("nats_client:Asker", place, loop="asyncio")
        worker.result()

        with pytest.raises(ContestantMissing, match=f"no NATS server at {UNREACHABLE}"):
            worker.call("open")


def test_a_contestant_that_raises_has_failed(place: Place) -> None:
    with Crew() as crew:
        worker = crew.start("raw_echo:Asker", place, loop="asyncio")
        worker.result()

        with pytest.raises(ContestantFailed, match="FileNotFoundError"):
            worker.call("open")


def test_a_contestant_that_dies_has_failed(place: Place) -> None:
    with Crew() as crew:
        worker = crew.start("raw_echo:Echo", place, loop="asyncio")
        worker.result()
        worker.process.kill()

        with pytest.raises(ContestantFailed, match="ended with code -9"):
            worker.call("open")


def test_a_contestant_that_does_not_answer_has_failed(place: Place) -> None:
    with Crew() as crew:
        worker = crew.start("raw_echo:Echo", place, loop="asyncio")
        worker.result()

        with pytest.raises(ContestantFailed, match="did not answer within 0 s"):
            worker.result(timeout=0)


def test_a_launch_goes_on_without_those_who_cannot_take_part() -> None:
    benchmark = make_benchmark()
    contestants = {
        "present": Pair(answering="raw_echo:Echo", driving="raw_echo:Asker"),
        "absent": Pair(answering="no_such_contestant:Echo", driving="no_such_contestant:Asker"),
    }

    with launch(benchmark, contestants, brokers=False, loop="asyncio") as running:
        assert list(running.pairs) == ["present"]
        with running.trying("present"):
            raise ContestantFailed("it broke")
        assert not running.pairs

    assert [absence.contestant for absence in benchmark.missing] == ["absent"]
    assert [absence.reason for absence in benchmark.failed] == ["it broke"]


def test_a_contestant_alone_gives_its_result_or_is_recorded() -> None:
    def measure(worker: Worker) -> int:
        worker.call("open")
        return 42

    benchmark = make_benchmark()

    assert solo(benchmark, "echo", "raw_echo:Echo", measure, loop="asyncio") == 42
    assert solo(benchmark, "absent", "no_such_contestant:Echo", measure) is None
    assert [absence.contestant for absence in benchmark.missing] == ["absent"]


def test_a_quick_run_launches_once_unless_told_otherwise() -> None:
    assert Options().number_of_launches(7) == 7
    assert Options(quick=True).number_of_launches(7) == 1
    assert Options(quick=True, launches=3).number_of_launches(7) == 3
