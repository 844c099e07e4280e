"""What the demo shows: a live table, and the last screen."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from thence.app.report import HandlerReport, NodeReport
from thence.cli.demo.accounts import MOVED, Account, total
from thence.cli.demo.cascades import Cascade, percentile
from thence.cli.demo.curse import Calm, Curse, curse_in
from thence.cli.demo.figures import Figures, LimitUse, Parts, limit_use
from thence.cli.demo.tally import Tally, is_cut, limits_of_game, tally, tried
from thence.cli.demo.trees import tree

__all__ = ["LiveTable", "last_screen"]

REFRESH = 0.5
"""Seconds between refreshes."""
RATES_OVER = 1.5
"""Seconds: bulletins come four times a second, so that less would flicker."""
PROGRESS_EVERY = 3.0
SPAN = "from a move or question to its last consequence"
"""From when it left the player's node."""
CHECK = "thence check treasure_hunt.charms:charms treasure_hunt.curses:curses"
AT_SOURCE = ", stopped at its source"
LIMIT_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("limits", "left"),
    ("used", "right"),
    ("allowed", "left"),
    ("kept out", "left"),
)


class LiveTable:
    """Two tables that are drawn anew twice a second; without a terminal, a line now and then."""

    def __init__(self, seconds: float, *, quiet: bool) -> None:
        self._console = Console(stderr=True)
        self._live: Live | None = None
        if self._console.is_terminal and not quiet:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._seconds = seconds
        self._past: deque[tuple[float, Tally]] = deque()
        self._shown = 0.0
        self._said = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)

    @property
    def due(self) -> bool:
        """Whether it is time to show something new."""
        return time.monotonic() - self._shown >= REFRESH

    def say(self, text: str) -> None:
        """A line of progress."""
        if self._live is not None:
            self._live.update(Text(text), refresh=True)
        else:
            self._console.print(text, highlight=False)

    def show(
        self,
        reports: list[NodeReport],
        cascades: list[Cascade],
        elapsed: float,
        *,
        rushing: bool,
        cursed: bool,
    ) -> None:
        """Show where the game is."""
        self._shown = now = time.monotonic()
        counts = tally(reports)
        self._past.append((now, counts))
        while len(self._past) > 2 and self._past[1][0] <= now - RATES_OVER:
            self._past.popleft()
        then, before = self._past[0]
        pause = max(now - then, REFRESH)
        lately: Tally = Counter({c: n - before[c] for c, n in counts.items()})
        curse = curse_in(cascades) if cursed else None
        if self._live is not None:
            where = f"treasure hunt · {min(elapsed, self._seconds):.0f} of {self._seconds:g} s"
            title = f"{where} · STAMPEDE" if rushing else where
            shown = Group(
                _services(title, reports, lately, pause),
                Text(),
                _limits(reports, lately, pause),
                Text(),
                Text(_cascades(cascades)),
                *(map(Text, _curse_so_far(curse)) if curse is not None else ()),
            )
            self._live.update(shown, refresh=True)
        elif now - self._said > PROGRESS_EVERY:
            self._said = now
            emitted = sum(n for count, n in counts.items() if count.what == "emitted")
            line = f"{elapsed:4.0f} s of {self._seconds:g} · {emitted:,} events"
            if rushing:
                kept_out = sum(
                    n for c, n in lately.items() if c.what in ("held back", "not sent", "shed")
                )
                moves = tried(lately, MOVED)
                line += (
                    f" · stampede: {_rate(moves, pause)} moves, {_rate(kept_out, pause)} kept out"
                )
            else:
                line += f" · {len(cascades):,} cascades"
            if curse is not None and curse.cut:
                line += f" · curse: {_cost(curse)}"
            self.say(line)


def _services(title: str, reports: list[NodeReport], lately: Tally, pause: float) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    for name in ("service", "replicas"):
        table.add_column(name)
    for name in ("handled", "a second", "failed", "shed", "cut", "waiting"):
        table.add_column(name, justify="right")
    for service in sorted({service for report in reports for service in report.services}):
        handlers = [h for report in reports for h in report.handlers if h.service == service]
        recent = sum(
            number
            for count, number in lately.items()
            if count.what == "let in" and count.place.startswith(f"{service}.")
        )
        table.add_row(
            service,
            str(sum(service in report.services for report in reports)),
            f"{sum(handler.handled for handler in handlers):,}",
            _rate(recent, pause),
            str(sum(handler.failed for handler in handlers)),
            *(f"{_refused(handlers, cut=cut):,}" for cut in (False, True)),
            str(sum(handler.waiting + handler.in_flight for handler in handlers)),
        )
    return table


def _refused(handlers: Iterable[HandlerReport], *, cut: bool) -> int:
    """What was shed, or else what was cut."""
    return sum(
        number
        for handler in handlers
        for reason, number in handler.shed.items()
        if is_cut(reason) == cut
    )


def _limits(reports: list[NodeReport], lately: Tally, pause: float) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    for name, justify in LIMIT_COLUMNS:
        table.add_column(name, justify=justify)
    for place, allowed in limits_of_game(reports).items():
        use = limit_use(place, allowed, lately)
        kept_out = [
            f"{_rate(number, pause)} {_why(reason)}" for reason, number in use.kept_out.items()
        ]
        table.add_row(
            place, _rate(use.let_in, pause), ", ".join(allowed), "\n".join(kept_out) or "–"
        )
    return table


def _cascades(cascades: list[Cascade]) -> str:
    recent = [cascade.seconds for cascade in cascades[-200:]]
    return f"{len(cascades):,} cascades · {SPAN}: {_times(recent)}"


def _curse_so_far(curse: Curse) -> list[str]:
    if not curse.cascades:
        return ["", "a cursed clue lies there, not found yet"]
    return [
        "",
        f"cursed: {' → '.join(curse.loop)}",
        f"{_cost(curse)} · everything else {SPAN}: p50, p99",
        *(
            f"  {when}: {_ms(calm.seconds_p50)}, {_ms(calm.seconds_p99)}"
            for when, calm in (("before", curse.before), ("since", curse.since))
        ),
        *(f"  ✂ {number:,} {what}" for what, number in curse.cuts.items()),
    ]


def _cost(curse: Curse) -> str:
    return f"{_count(curse.cascades, 'cascade')} cut after {_count(curse.starts, 'handler start')}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _times(seconds: list[float]) -> str:
    return f"p50 {_ms(percentile(seconds, 0.5))}, p99 {_ms(percentile(seconds, 0.99))}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _rate(number: float, seconds: float) -> str:
    rate = max(0.0, number) / seconds if seconds else 0.0
    return f"{rate:,.0f}/s" if rate >= 10 or rate == 0 else f"{rate:.1f}/s"


def _why(reason: str) -> str:
    """A reason in short: the limit itself stands beside it."""
    if reason.endswith(AT_SOURCE):
        return "stopped at source"
    return "shed" if reason.startswith("limit ") else reason


def last_screen(figures: Figures, cascade: Cascade | None) -> str:
    """The figures, and the largest cascade as a tree."""
    each = f"{figures.cascade_events_mean:g} events each, at most {figures.cascade_events_max}"
    lines = [
        f"{figures.processes} service processes and no broker, for {figures.seconds:g} s",
        "",
        *(f"  {event:<18}{number:>10,}" for event, number in figures.events.items()),
        "",
        *_account(figures.account),
        "",
        f"{figures.cascades:,} of the moves and questions had consequences: {each}",
        f"{SPAN}: p50 {_ms(figures.seconds_p50)}, p99 {_ms(figures.seconds_p99)}",
        f"{figures.bytes_per_event:g} bytes a delivery on the wire, everything included",
        f"{figures.events_per_second:,.0f} events a second",
        "",
        *(_parts(figures.stampede) if figures.stampede else _game(figures)),
        *(_curse(figures.curse) if figures.curse else ()),
    ]
    if cascade is not None:
        which = "a cursed cascade" if cascade.cuts else "the largest cascade"
        lines += ["", f"{which}:", *tree(cascade)]
    return "\n".join(lines)


def _account(account: Account) -> list[str]:
    """What was tried, what was sent, and how that ended: three sums, each with the reasons for what is missing."""
    held_back, not_sent = total(account.held_back), total(account.not_sent)
    claims = account.claims
    emitted = f"{account.emitted:,} emitted + {held_back:,} held back by their limit"
    cut_off = total(account.cut_off)
    sent = f"{account.sent:,} sent + {not_sent:,} not sent + {cut_off:,} cut"
    ended = (
        f"{account.handled:,} handled + {account.failed:,} failed + {account.shed:,} shed"
        f" + {account.cut:,} cut + {account.lost:,} lost"
    )
    decided = f"{claims.handled:,} handled; {claims.shed:,} shed, {claims.not_sent:,} not sent"
    ends = account.handled + account.failed + account.shed + account.cut + account.lost
    return [
        f"{account.tried:,} events {_sign(account.tried, account.emitted + held_back)} {emitted}",
        *_reasons(account.held_back),
        f"{account.due:,} deliveries {_sign(account.due, account.sent + not_sent + cut_off)} {sent}",
        *_reasons(account.not_sent),
        *_reasons(account.cut_off),
        f"{account.sent:,} sent {_sign(account.sent, ends)} {ended}",
        *(f"    {number:>9,} {place}: failed" for place, number in account.failed_at.items()),
        *_reasons(account.shed_at),
        *_reasons(account.cut_at),
        f"{claims.claimed:,} claims {_sign(claims.claimed, claims.decided)} {claims.decided:,} decided",
        f"{claims.due:,} deliveries of them {_sign(claims.due, claims.handled)} {decided}",
    ]


def _reasons(by: dict[str, dict[str, int]]) -> list[str]:
    return [
        f"    {number:>9,} {place}: {reason}"
        for place, reasons in by.items()
        for reason, number in reasons.items()
    ]


def _sign(one: int, other: int) -> str:
    return "=" if one == other else "≠"


def _game(figures: Figures) -> list[str]:
    """Limits, over the whole game."""
    rows = [("limits", "a second")]
    for use in figures.limits:
        rows.append((_of(use), _rate(use.let_in, figures.seconds)))
        rows += [
            (f"    {_why(reason)}", _rate(number, figures.seconds))
            for reason, number in use.kept_out.items()
        ]
    return _columns(rows)


def _parts(parts: Parts) -> list[str]:
    """The stampede beside the rest."""
    both = (parts.quiet, parts.stampede)
    rows: list[tuple[str, ...]] = [
        (f"stampede: {parts.times} times the moves", "quiet", "stampede"),
        ("seconds", *(f"{part.seconds:.1f}" for part in both)),
        ("moves tried", *(_rate(part.moves_tried, part.seconds) for part in both)),
        ("moves that left their player", *(_rate(part.moves_left, part.seconds) for part in both)),
        (
            "moves replaced by a newer one",
            *(_rate(part.moves_replaced, part.seconds) for part in both),
        ),
        ("cascades", *(f"{part.cascades:,}" for part in both)),
        (f"{SPAN}, p50", *(_ms(part.seconds_p50) for part in both)),
        (f"{SPAN}, p99", *(_ms(part.seconds_p99) for part in both)),
        ("", "", ""),
        ("limits", "quiet", "stampede"),
    ]
    for quiet, rush in zip(parts.quiet.limits, parts.stampede.limits, strict=True):
        pairs = ((quiet, parts.quiet.seconds), (rush, parts.stampede.seconds))
        rows.append((_of(quiet), *(_rate(use.let_in, seconds) for use, seconds in pairs)))
        rows += [
            (
                f"    {_why(reason)}",
                *(_rate(use.kept_out.get(reason, 0), seconds) for use, seconds in pairs),
            )
            for reason in {**rush.kept_out, **quiet.kept_out}
        ]
    return _columns(rows)


def _curse(curse: Curse) -> list[str]:
    """What the loop cost, and that nothing else has suffered from it."""
    if not curse.cascades:
        return ["", "nobody found the cursed clue: play longer, with --seconds 15"]

    def row(name: str, of: Callable[[Calm], str]) -> tuple[str, ...]:
        return (name, of(curse.before), of(curse.since))

    return [
        "",
        f"the curse: {' → '.join(curse.loop)}, for ever, if nobody cut it",
        *(f"    {number:>9,} cut at {what}" for what, number in curse.cuts.items()),
        f"    {curse.starts:>9,} handler starts that the loop cost, at most {curse.starts_max:,} a cascade",
        f"    {curse.cascades:>9,} cascades with the curse in them; the others, before the first of these and since:",
        *_columns(
            [
                ("", "before", "since"),
                row("cascades", lambda calm: f"{calm.cascades:,}"),
                row(f"{SPAN}, p50", lambda calm: _ms(calm.seconds_p50)),
                row(f"{SPAN}, p99", lambda calm: _ms(calm.seconds_p99)),
            ]
        ),
        f"{CHECK} finds it before anything runs (in the folder examples)",
    ]


def _of(use: LimitUse) -> str:
    return f"  {use.place} of {', '.join(use.allowed)}"


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    width = max(len(row[0]) for row in rows)
    return [
        (f"{row[0]:<{width}}" + "".join(f"{value:>12}" for value in row[1:])).rstrip()
        for row in rows
    ]
