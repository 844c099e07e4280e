"""From bulletins to figures. Pure: no process, no screen, no clock."""

from __future__ import annotations

import statistics
from collections import Counter

from msgspec import Struct

from thence.app.report import NodeReport
from thence.cli.demo.accounts import MOVED, Account, account, by_place
from thence.cli.demo.cascades import Cascade, percentile
from thence.cli.demo.curse import Curse, curse_in
from thence.cli.demo.periods import Periods
from thence.cli.demo.tally import Tally, limits_of_game, tally, tried

__all__ = [
    "Figures",
    "LimitUse",
    "Part",
    "Parts",
    "figures",
    "limit_use",
]


class LimitUse(Struct, frozen=True):
    """What was used of the limits of one event type or handler, and what they kept out."""

    place: str
    allowed: list[str]
    let_in: int
    """Events emitted, or runs of the handler."""
    kept_out: dict[str, int]
    """By reason. What advice stopped at the emitter counts here too."""


class Part(Struct, frozen=True):
    """One part of the game."""

    seconds: float
    moves_tried: int
    moves_left: int
    """Moves that left their player's node."""
    moves_replaced: int
    """Moves that gave way to a newer one before that."""
    cascades: int
    """Those that began in this part."""
    seconds_p50: float
    seconds_p99: float
    shed: dict[str, dict[str, int]]
    """By handler and reason."""
    not_sent: dict[str, dict[str, int]]
    """What was stopped at its source, by type and service, and reason."""
    limits: list[LimitUse]


class Parts(Struct, frozen=True):
    """The stampede beside the rest of the game."""

    times: int
    quiet: Part
    stampede: Part


class Figures(Struct, frozen=True):
    """What the last screen says."""

    seconds: float
    processes: int
    events: dict[str, int]
    """Emitted, by type."""
    account: Account
    cascades: int
    """Player actions that had consequences."""
    cascade_events_mean: float
    cascade_events_max: int
    seconds_p50: float
    seconds_p99: float
    """From a player's action to its last consequence."""
    bytes_per_event: float
    events_per_second: float
    limits: list[LimitUse]
    stampede: Parts | None
    curse: Curse | None = None
    """None if no clue is cursed."""


def figures(
    reports: list[NodeReport],
    cascades: list[Cascade],
    seconds: float,
    processes: int,
    periods: Periods | None = None,
    times: int = 1,
    *,
    cursed: bool = False,
) -> Figures:
    """Everything that the last screen says."""
    counts = tally(reports)
    events = Counter({c.place: n for c, n in counts.items() if c.what == "emitted"})
    sizes = [cascade.size for cascade in cascades]
    durations = [cascade.seconds for cascade in cascades]
    deliveries = sum(route.sent for report in reports for route in report.routes)
    return Figures(
        seconds=round(seconds, 2),
        processes=processes,
        events={event: number for event, number in events.most_common() if number},
        account=account(reports, None if periods is None else periods.walk.until),
        cascades=len(cascades),
        cascade_events_mean=round(statistics.fmean(sizes), 2) if sizes else 0.0,
        cascade_events_max=max(sizes, default=0),
        seconds_p50=percentile(durations, 0.50),
        seconds_p99=percentile(durations, 0.99),
        bytes_per_event=round(sum(r.bytes_written for r in reports) / deliveries, 1)
        if deliveries
        else 0.0,
        events_per_second=round(sum(events.values()) / seconds, 1) if seconds else 0.0,
        limits=_limits(reports, counts),
        stampede=_parts(reports, cascades, counts, periods, times),
        curse=curse_in(cascades) if cursed else None,
    )


def _parts(
    reports: list[NodeReport],
    cascades: list[Cascade],
    counts: Tally,
    periods: Periods | None,
    times: int,
) -> Parts | None:
    rush = periods.stampede if periods is not None else None
    if periods is None or rush is None or not rush.ended:
        return None

    def part(counts: Tally, began: list[Cascade], seconds: float) -> Part:
        durations = [cascade.seconds for cascade in began]
        moved = tried(counts, MOVED)
        held_back = by_place(counts, "held back").get(MOVED, {})
        return Part(
            seconds=round(seconds, 2),
            moves_tried=moved,
            moves_left=moved - sum(held_back.values()),
            moves_replaced=sum(held_back.values()),
            cascades=len(began),
            seconds_p50=percentile(durations, 0.50),
            seconds_p99=percentile(durations, 0.99),
            shed=by_place(counts, "shed"),
            not_sent=by_place(counts, "not sent"),
            limits=_limits(reports, counts),
        )

    in_rush = rush.counts
    within = [cascade for cascade in cascades if rush.began <= cascade.began < rush.ended]
    outside = [cascade for cascade in cascades if not rush.began <= cascade.began < rush.ended]
    rest = Counter({count: number - in_rush[count] for count, number in counts.items()})
    return Parts(
        times=times,
        quiet=part(rest, outside, periods.walk.seconds - rush.seconds),
        stampede=part(in_rush, within, rush.seconds),
    )


def _limits(reports: list[NodeReport], counts: Tally) -> list[LimitUse]:
    return [limit_use(place, allowed, counts) for place, allowed in limits_of_game(reports).items()]


def limit_use(place: str, allowed: tuple[str, ...], counts: Tally) -> LimitUse:
    """What was used of the limits of one place."""
    kept_out: Counter[str] = Counter()
    let_in = 0
    service = place.partition(".")[0]
    for count, number in counts.items():
        if count.place == place and count.what in ("emitted", "let in"):
            let_in += number
        elif (count.place == place and count.what != "cut") or (
            # Advice names the limit that it stands for.
            count.what == "not sent"
            and count.place.endswith(f" for {service}")
            and count.reason.startswith(tuple(f"limit {limit}," for limit in allowed))
        ):
            kept_out[count.reason] += number
    return LimitUse(place, list(allowed), let_in, {r: n for r, n in kept_out.most_common() if n})
