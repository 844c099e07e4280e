"""What ``thence emit --settle`` tells of a cascade: to people, to programs, and by its exit code. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import asdict

from thence.cascade.settlement import Failure
from thence.cli.exits import Exit
from thence.delivery.receipts import CascadeReport

__all__ = ["document", "lines", "outcome"]

WORDS = {"failed": "failed", "loop": "cut", "lost": "unknown"}


def lines(report: CascadeReport, *, settled: bool) -> list[str]:
    """The report for people."""
    how, known = ("settled in", "") if settled else ("not settled after", " and ended so far")
    started = f"{_count(report.events, 'handler')} started{known}"
    told = [f"{how} {_ms(report.seconds)}: {started}, {_count(report.depth, 'hop')} deep"]
    counts = {
        "failed": report.failed,
        "shed": report.shed,
        "cut": report.cut,
        "expired": report.expired,
        "handled together with a newer one": report.merged,
        "unknown": report.lost,
    }
    if any(counts.values()):
        told.append(" · ".join(f"{number:,} {what}" for what, number in counts.items() if number))
    told += [f"  {WORDS[one.kind]}: {_failure(one)}" for one in report.failures]
    if report.critical_path:
        told += ["the way that took longest:", *_critical_path(report)]
    return told


def document(report: CascadeReport, *, settled: bool) -> dict[str, Any]:
    """The report for programs."""
    fields = asdict(report)
    del fields["event_id"]
    for several in ("failures", "critical_path"):
        fields[several] = [asdict(one) for one in fields[several]]
    return {"settled": settled, **fields}


def outcome(report: CascadeReport) -> tuple[Exit, str]:
    """The exit code for a cascade that has settled, and what to say if it is not 0."""
    loops = sum(failure.kind == "loop" for failure in report.failures)
    if report.failed:
        return Exit.FAILED, f"{_count(report.failed, 'handler')} failed: their logs tell more"
    if loops:
        return Exit.FAILED, (
            "the cascade came back to a handler and was cut there: break the loop, or allow it with max_loops=; "
            "'thence check' finds loops before they run"
        )
    if not report.complete:
        where = sorted({one.handler for one in report.failures if one.kind == "lost"} - {""})
        return Exit.PARTIAL, (
            f"nobody can tell what became of {_count(report.lost, 'event')} at {', '.join(where) or 'some service'}, "
            "nor of what they caused: see who is there with 'thence map'"
        )
    return Exit.DONE, ""


def _failure(failure: Failure) -> str:
    where = f"{failure.handler} on {failure.event}" if failure.event else failure.handler
    event = f" (event {failure.event_id})" if failure.event_id else ""
    return f"{where}: {failure.error}{event}" if where else failure.error


def _critical_path(report: CascadeReport) -> list[str]:
    rows = [
        (
            step.handler,
            step.event,
            f"waited {_ms(step.waited)}",
            f"ran {_ms(step.ran)}",
            f"at {step.node}",
        )
        for step in report.critical_path
    ]
    return _columns(rows, right=(2, 3))


def _columns(rows: Sequence[Sequence[str]], *, right: Sequence[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _ms(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 10 else f"{seconds * 1000:.1f} ms"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
