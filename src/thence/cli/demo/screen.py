"""What the demo shows: a live table, and the last screen."""

from __future__ import annotations

import time
from collections import Counter
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from thence.app.report import NodeReport
from thence.cli.demo.figures import Cascade, Figures, percentile

__all__ = ["LiveTable", "last_screen"]

REFRESH = 0.5
"""Seconds between refreshes."""
PROGRESS_EVERY = 3.0


class LiveTable:
    """A table that is drawn anew twice a second; without a terminal, a line now and then."""

    def __init__(self, seconds: float, *, quiet: bool) -> None:
        self._console = Console(stderr=True)
        self._live: Live | None = None
        if self._console.is_terminal and not quiet:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._seconds = seconds
        self._before: Counter[tuple[str, str]] = Counter()
        self._shown = 0.0
        self._said = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)

    def say(self, text: str) -> None:
        """A line of progress."""
        if self._live is not None:
            self._live.update(Text(text), refresh=True)
        else:
            self._console.print(text, highlight=False)

    def show(self, reports: list[NodeReport], cascades: list[Cascade], elapsed: float) -> None:
        """Show where the game is, if it is time to."""
        now = time.monotonic()
        if now - self._shown < REFRESH:
            return
        pause, self._shown = now - self._shown, now
        if self._live is not None:
            self._live.update(self._table(reports, cascades, elapsed, pause), refresh=True)
        elif now - self._said > PROGRESS_EVERY:
            self._said = now
            emitted = sum(e.emitted for r in reports for e in r.emitted)
            self.say(
                f"{elapsed:4.0f} s of {self._seconds:g} · {emitted:,} events · {len(cascades):,} cascades"
            )

    def _table(
        self, reports: list[NodeReport], cascades: list[Cascade], elapsed: float, pause: float
    ) -> Group:
        table = Table(
            title=f"treasure hunt · {elapsed:.0f} of {self._seconds:g} s", title_justify="left"
        )
        for name in ("service", "replicas"):
            table.add_column(name)
        for name in ("handled", "a second", "failed", "shed", "waiting"):
            table.add_column(name, justify="right")
        services = sorted({service for report in reports for service in report.services})
        now: Counter[tuple[str, str]] = Counter()
        for service in services:
            handlers = [h for report in reports for h in report.handlers if h.service == service]
            for handler in handlers:
                now[service, "handled"] += handler.handled
            rate = max(
                0.0, (now[service, "handled"] - self._before[service, "handled"]) / max(pause, 1e-6)
            )
            table.add_row(
                service,
                str(sum(service in report.services for report in reports)),
                f"{now[service, 'handled']:,}",
                f"{rate:,.0f}/s" if self._before else "",
                str(sum(handler.failed for handler in handlers)),
                str(sum(sum(handler.shed.values()) for handler in handlers)),
                str(sum(handler.waiting + handler.in_flight for handler in handlers)),
            )
        self._before = now
        recent = [cascade.seconds * 1000 for cascade in cascades[-200:]]
        line = (
            f"{len(cascades):,} cascades · from a move to its last consequence: "
            f"p50 {percentile(recent, 0.5):.1f} ms, p99 {percentile(recent, 0.99):.1f} ms"
        )
        return Group(table, Text(line))


def last_screen(figures: Figures, cascade: Cascade | None) -> str:
    """The figures, and the largest cascade as a tree."""
    account = figures.account
    sign = "=" if account.balanced else "≠"
    balance = (
        f"{account.sent:,} deliveries {sign} {account.handled:,} handled + {account.failed:,} failed"
        f" + {account.shed:,} shed + {account.lost:,} lost"
    )
    cascades = (
        f"{figures.cascades:,} of the moves had consequences: {figures.cascade_events_mean:g} events"
        f" each, at most {figures.cascade_events_max}"
    )
    times = (
        f"from a player's move to its last consequence: p50 {figures.seconds_p50 * 1000:.1f} ms,"
        f" p99 {figures.seconds_p99 * 1000:.1f} ms"
    )
    lines = [
        f"{figures.processes} service processes and no broker, for {figures.seconds:g} s",
        "",
        *(f"  {event:<18}{number:>10,}" for event, number in figures.events.items()),
        "",
        balance,
        cascades,
        times,
        f"{figures.bytes_per_event:g} bytes a delivery on the wire, everything included",
        f"{figures.events_per_second:,.0f} events a second",
    ]
    if cascade is not None:
        lines += ["", "the largest cascade:", *_tree(cascade)]
    return "\n".join(lines)


def _tree(cascade: Cascade) -> list[str]:
    lines = [cascade.event]

    def grow(cause: str, indent: str) -> None:
        below = sorted((e for e in cascade.endings if e.cause_id == cause), key=lambda e: e.at)
        for position, ending in enumerate(below):
            last = position == len(below) - 1
            mark = "✗" if ending.failed else "✓"
            after = (ending.at - cascade.began) * 1000
            branch = "└─▶" if last else "├─▶"
            lines.append(
                f"{indent}{branch} {ending.event}  {ending.service}  +{after:.1f} ms {mark}"
            )
            if ending.event_id not in {e.event_id for e in below[:position]}:
                grow(ending.event_id, indent + ("    " if last else "│   "))

    grow(cascade.root_id, "")
    return lines
