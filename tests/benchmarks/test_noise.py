"""Failures are counted in the logs themselves, each once."""

import json

import pytest
from benchmarks.launch import Options
from benchmarks.noise import Logged, run, told_by_thence, told_usually


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def failure(**more: object) -> bytes:
    return line(
        logger="thence.handling", service="ranks", handler="rank", error_type="KeyError", **more
    )


def test_a_summary_stands_for_the_repeats_that_it_tells_of() -> None:
    lines = [
        failure(),
        line(logger="thence.run", message="draining"),
        failure(repeats=41, window=60),
        line(logger="thence.handling", service="ranks", handler="rank", message="breaker open"),
    ]
    assert told_by_thence(lines) == Logged(
        lines=4, size=sum(map(len, lines)) + 4, failures={"ranks.rank": 42}
    )


def test_of_the_usual_lines_those_of_failures_are_counted() -> None:
    lines = [
        line(message="emitted", id="1"),
        line(message="failed", handler="ranks.rank"),
        line(message="failed", handler="ranks.rank"),
        line(message="handled", handler="ranks.rank"),
    ]
    assert told_usually(lines).failures == {"ranks.rank": 2}


def test_both_ways_to_log_account_for_every_failure_of_a_real_game(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.noise.QUICK_SECONDS", 2)
    benchmark = run(Options(quick=True, say=lambda _: None))
    assert benchmark.failed == []
    assert len(benchmark.notes) == 2
    assert all("of leagues.count" in note for note in benchmark.notes)
