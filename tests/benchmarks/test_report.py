"""The report tells what was measured, what was not, and nothing else."""

from io import StringIO
from typing import Literal

import msgspec
import pytest
from benchmarks.__main__ import exit_code
from benchmarks.machine import Machine, describe_machine, library_versions
from benchmarks.report import SCHEMA, Absence, Benchmark, Report, Target, figures_of
from benchmarks.table import print_report
from rich.console import Console

MACHINE = Machine(system="Linux 6", processor="Some CPU", processors=2, memory_megabytes=1024)


def report_of(benchmark: Benchmark, *, quick: bool = False) -> Report:
    return Report(
        started="2026-05-17T14:03:21+00:00",
        seconds=12.5,
        quick=quick,
        machine=MACHINE,
        versions={"python": "CPython 3.11"},
        benchmarks=[benchmark],
    )


def printed(report: Report) -> str:
    text = StringIO()
    print_report(report, Console(file=text, width=160))
    return text.getvalue()


def hop() -> Benchmark:
    launches = {"raw echo": [10.0, 12.0, 11.0], "thence": [30.0, 24.0, 33.0]}
    figures = figures_of("p50", "µs", launches, bases=("raw echo",), variant="pinned")
    return Benchmark(name="hop", title="Round trip", figures=figures)


def test_a_ratio_is_the_median_of_the_launches_ratios() -> None:
    assert hop().find("thence", "p50", "pinned") == 30
    assert hop().find("thence", "p50", "pinned", "raw echo") == 3


def test_a_base_that_missed_a_launch_gives_no_ratio() -> None:
    figures = figures_of("p50", "µs", {"base": [1.0], "other": [2.0, 3.0]}, bases=("base",))

    assert [figure.against for figure in figures] == ["", ""]


def test_a_contestant_without_samples_gets_no_figure() -> None:
    assert figures_of("p50", "µs", {"absent": []}, bases=("absent",)) == []


def test_the_json_report_names_its_schema_and_keeps_every_sample() -> None:
    report = msgspec.json.decode(msgspec.json.encode(report_of(hop())))

    assert report["schema"] == SCHEMA
    assert report["machine"]["processor"] == "Some CPU"
    assert report["versions"] == {"python": "CPython 3.11"}
    first = report["benchmarks"][0]["figures"][0]
    assert first["contestant"] == "raw echo"
    assert first["summary"] == {
        "median": 11.0,
        "minimum": 10.0,
        "maximum": 12.0,
        "samples": [10.0, 12.0, 11.0],
    }


def test_the_json_report_can_be_read_back() -> None:
    report = report_of(hop())

    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


@pytest.mark.parametrize(
    ("sense", "measured", "met"),
    [
        ("at most", 3.5, True),
        ("at most", 3.6, False),
        ("at least", 3.5, True),
        ("at least", 3.4, False),
        ("at least", None, None),
    ],
)
def test_a_promise_is_kept_not_kept_or_not_measured(
    sense: Literal["at most", "at least"], measured: float | None, met: bool | None
) -> None:
    assert Target(text="a figure", bound=3.5, sense=sense, measured=measured).met is met


def test_the_tables_show_figures_absences_and_remarks() -> None:
    benchmark = hop()
    benchmark.absent(Absence(contestant="redis", reason="no server [1]"), failed=False)
    benchmark.absent(Absence(contestant="nats-py", reason="it died"), failed=True)
    benchmark.note("a remark")

    text = printed(report_of(benchmark, quick=True))

    assert "30.0 (24.0 to 33.0)" in text
    assert "missing  redis: no server [1]" in text
    assert "failed  nats-py: it died" in text
    assert "a remark" in text
    assert "the figures mean little" in text


def test_a_benchmark_without_figures_says_so() -> None:
    assert "Round trip: no figures" in printed(report_of(Benchmark(name="hop", title="Round trip")))


def test_an_absence_and_a_remark_are_told_once_however_many_launches_bring_them() -> None:
    benchmark = hop()
    for _ in range(5):
        benchmark.absent(Absence(contestant="redis", reason="no server"), failed=False)
        benchmark.note("a remark")

    assert len(benchmark.missing) == 1
    assert benchmark.notes == ["a remark"]


def test_a_missing_peer_is_no_fault_but_a_broken_one_and_a_missing_thence_are() -> None:
    missing_peer, broken_peer, missing_thence = hop(), hop(), hop()
    missing_peer.absent(Absence(contestant="nats-py", reason="no server"), failed=False)
    broken_peer.absent(Absence(contestant="nats-py", reason="it died"), failed=True)
    missing_thence.absent(Absence(contestant="thence keyed", reason="no module"), failed=False)

    assert exit_code(report_of(missing_peer)) == 0
    assert exit_code(report_of(broken_peer)) == 1
    assert exit_code(report_of(missing_thence)) == 1


def test_the_machine_and_the_versions_are_told() -> None:
    assert describe_machine().processors >= 1
    assert library_versions()["msgspec"] == msgspec.__version__
