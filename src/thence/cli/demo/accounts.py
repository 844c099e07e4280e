"""The account of a game: nothing that was tried is without an end, and each end has a reason. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from thence.app.report import HandlerReport, NodeReport
from thence.cli.demo.tally import CONNECTION_LOST, Tally, is_cut, listeners, tally, tried

__all__ = ["CLAIMS", "MOVED", "Account", "Claims", "account", "by_place", "total"]

MOVED = "player_moved"
CLAIMS = ("treasure_claimed", "claim_decided")
"""What may never be shed."""


class Claims(Struct, frozen=True):
    """The events that must not be shed, and the deliveries of them."""

    claimed: int = 0
    decided: int = 0
    due: int = 0
    """Deliveries: each event to every handler of its type."""
    handled: int = 0
    shed: int = 0
    not_sent: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every claim was decided, and every delivery handled."""
        return self.claimed == self.decided and self.due == self.handled


class Account(Struct, frozen=True):
    """Every event from the attempt to emit it, and every delivery, from its emitter to its receiver.

    Deliveries are counted by the emitter, their ends by the receiver.
    """

    sent: int
    handled: int
    failed: int
    shed: int
    lost: int
    tried: int = 0
    """Events that were to be emitted: the moves by the map, others by their emitters."""
    emitted: int = 0
    held_back: dict[str, dict[str, int]] = {}
    """Events that their type's limit kept from being emitted, by type and reason."""
    due: int = 0
    """Deliveries of what was emitted: each event to every handler of its type."""
    not_sent: dict[str, dict[str, int]] = {}
    """Deliveries that ended at the emitter, by type and service, and reason."""
    shed_at: dict[str, dict[str, int]] = {}
    """Deliveries that were shed, by handler and reason."""
    cut_off: dict[str, dict[str, int]] = {}
    """Deliveries that their cascade's budget kept from being sent, by type and service, and reason."""
    cut: int = 0
    """Deliveries that were sent, and not handled for the sake of their cascade."""
    cut_at: dict[str, dict[str, int]] = {}
    """The same by handler and reason."""
    claims: Claims = Claims()
    failed_at: dict[str, int] = {}
    """Deliveries on which a handler failed, by handler."""

    @property
    def balanced(self) -> bool:
        """Whether every event is accounted for."""
        return (
            self.tried == self.emitted + total(self.held_back)
            and self.due == self.sent + total(self.not_sent) + total(self.cut_off)
            and self.sent == self.handled + self.failed + self.shed + self.cut + self.lost
            and self.shed == total(self.shed_at)
            and self.cut == total(self.cut_at)
        )


def account(reports: Iterable[NodeReport], moves: int | None = None) -> Account:
    """Add up all nodes' counters. Two services of one event are two deliveries, and so are two handlers.

    :param moves: how many there were to be, if that is known.
    """
    reports = list(reports)
    counts = tally(reports)
    handlers = listeners(reports)
    times = Counter((event, service) for event, by in handlers.items() for service, _ in by)
    emitted = {count.place: n for count, n in counts.items() if count.what == "emitted"}
    every = [handler for report in reports for handler in report.handlers]
    return Account(
        sent=sum(
            route.sent * times[route.event, route.service]
            for report in reports
            for route in report.routes
        ),
        handled=sum(handler.handled for handler in every),
        failed=sum(handler.failed for handler in every),
        shed=_refused(every, cut=False),
        lost=sum(
            number * times[event, service]
            for report in reports
            for event, service, reason, number in report.lost
            if service and reason == CONNECTION_LOST
        ),
        tried=sum(
            tried(counts, event) if moves is None or event != MOVED else moves for event in emitted
        ),
        emitted=sum(emitted.values()),
        held_back=by_place(counts, "held back"),
        due=sum(number * len(handlers.get(event, ())) for event, number in emitted.items()),
        not_sent=_not_sent(reports, times, cut=False),
        shed_at=by_place(counts, "shed"),
        cut_off=_not_sent(reports, times, cut=True),
        cut=_refused(every, cut=True),
        cut_at=by_place(counts, "cut"),
        claims=_claims(reports, handlers, emitted),
        failed_at=_failed_at(every),
    )


def by_place(counts: Tally, what: str) -> dict[str, dict[str, int]]:
    """What is counted under a heading, by place and reason."""
    found: dict[str, dict[str, int]] = {}
    for count, number in sorted(counts.items()):
        if count.what == what and number > 0:
            found.setdefault(count.place, {})[count.reason] = number
    return found


def _failed_at(handlers: Iterable[HandlerReport]) -> dict[str, int]:
    failed: Counter[str] = Counter()
    for handler in handlers:
        failed[f"{handler.service}.{handler.handler}"] += handler.failed
    return {place: number for place, number in sorted(failed.items()) if number}


def _refused(handlers: Iterable[HandlerReport], *, cut: bool) -> int:
    return sum(
        number
        for handler in handlers
        for reason, number in handler.shed.items()
        if is_cut(reason) == cut
    )


def _not_sent(
    reports: list[NodeReport], times: Counter[tuple[str, str]], *, cut: bool
) -> dict[str, dict[str, int]]:
    """As deliveries: where two handlers of a service would have got an event, it counts twice."""
    found: dict[str, dict[str, int]] = {}
    for report in reports:
        for event, service, reason, number in report.lost:
            if service and reason != CONNECTION_LOST and is_cut(reason) == cut:
                reasons = found.setdefault(f"{event} for {service}", {})
                reasons[reason] = reasons.get(reason, 0) + number * times[event, service]
    return found


def _claims(
    reports: list[NodeReport],
    handlers: dict[str, set[tuple[str, str]]],
    emitted: dict[str, int],
) -> Claims:
    # Whatever handles claims handles nothing else, so that its counters are theirs.
    own = [h for report in reports for h in report.handlers if set(h.events) & set(CLAIMS)]
    claimed, decided = (emitted.get(event, 0) for event in CLAIMS)
    return Claims(
        claimed=claimed,
        decided=decided,
        due=sum(emitted.get(event, 0) * len(handlers.get(event, ())) for event in CLAIMS),
        handled=sum(handler.handled for handler in own),
        shed=sum(sum(handler.shed.values()) for handler in own),
        not_sent=sum(
            number for report in reports for event, _, _, number in report.lost if event in CLAIMS
        ),
    )


def total(by: dict[str, dict[str, int]]) -> int:
    """The sum over all places and reasons."""
    return sum(sum(reasons.values()) for reasons in by.values())
