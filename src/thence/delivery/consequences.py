"""What handlers emit: it belongs to their cascades, and never waits for anybody.

Handlers that waited for each other's services would wait for ever. What finds no room is counted and told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from thence.budget import Budget
from thence.cascade.credits import CUT, divide, part
from thence.cascade.loops import Paths
from thence.cascade.settlement import Branch
from thence.delivery.hosted import HostedHandler
from thence.delivery.outlets import Outlet
from thence.delivery.receipts import Receipt
from thence.delivery.sending import Sender, heeded
from thence.delivery.targets import Route
from thence.delivery.throttle import Throttle
from thence.errors import RateLimited, ThenceError, UndeclaredEvent
from thence.events import Event, spec_of
from thence.events.envelope import DEFAULT, Arrival, due_of, full_lineage_of
from thence.events.lineage import Lineage
from thence.facts.ring import SENT

__all__ = ["ConsequenceEmits", "undeclared"]

DEFAULT_DEPTH, DEFAULT_SECONDS = DEFAULT.depth, DEFAULT.seconds


class ConsequenceEmits:
    """The emits of one node's handlers."""

    def __init__(self, sender: Sender, throttle: Throttle, paths: Paths) -> None:
        self._sender = sender
        self._throttle = throttle
        self._paths = paths
        self._routes = sender.routes
        self._cork = sender.cork
        self._note = sender.note

    async def emit_joined(
        self, event: Event, handler: HostedHandler, arrival: Arrival, budget: Budget | None = None
    ) -> Receipt:
        """Emit an event out of the running handler of ``arrival``, at once, as a part of its cascade.

        It may cause half of what the handler may, if it can cause anything.

        :raises UndeclaredEvent: the handler does not declare its type.
        """
        if event.__class__ not in handler.declared:
            raise undeclared(event, handler)
        sender = self._sender
        route, payload, body = sender.sealed(event)
        if arrival.due is None:
            # A task that outlives the run would reckon from what its source has sent since, again and again.
            arrival.due = due_of(arrival)
        lineage = self._lineage_below(handler, arrival, budget)
        chosen = sender.choose(route, body)
        left = self.credits_of(handler, arrival)
        credits = _part_for([outlet for _, outlet in chosen], left, budget)
        branch = _branch_of(handler, arrival)
        emission = sender.emission(route, payload, body, lineage, credits, branch)
        receipt = self._throttle.keeps(emission) if route.gate is not None else None
        is_kept = receipt is not None
        if receipt is None:
            sender.send(emission, chosen)
            receipt = sender.finish(emission)
            self._cork.release()
        if is_kept or emission.deliveries:
            _leave(handler, arrival, left - credits)
        return heeded(route, receipt)

    def emit_consequences(
        self, handler: HostedHandler, arrival: Arrival, result: Any, context: Any
    ) -> None:
        """Emit what a successful run returned, and what it gave its context: all, or nothing.

        :raises UndeclaredEvent: one of the types is not declared.
        :raises InvalidEvent: one of the events is not valid.
        :raises PayloadTooLarge: one of them is too large.
        """
        if result.__class__ in handler.declared and (context is None or not context.emitted):
            # By far the most frequent case: one event.
            route = self._routes.get(result.__class__) or self._sender.table.route(
                spec_of(result.__class__)
            )
            payload, body = route.seal(result)
            lineage = self._lineage_below(handler, arrival)
            if arrival.left is None and handler.budget is None and not arrival.subscription.several:
                credits = arrival.credits
                arrival.credits = 0
            else:
                credits = self.credits_of(handler, arrival)
                _leave(handler, arrival, 0)
            outlet, sender = route.single, self._sender
            if (
                outlet is not None
                and arrival.record is None
                and outlet.room > 0
                and credits >= outlet.starts
                and sender.observer is None
                and (path := lineage.path) is not None
                and path.depth <= lineage.max_depth
            ):
                # The lines of _put for one outlet.
                sender.sequence = sequence = sender.sequence + 1
                outlet.room -= 1
                credits = credits - outlet.starts if outlet.spreads else 0
                outlet.send(sequence, payload, body, lineage, credits)
                route.emitted += 1
                self._note((SENT, sequence, route.name, len(payload), route.services, lineage))
            else:
                branch = _branch_of(handler, arrival)
                if not self._put(route, payload, body, lineage, credits, branch):
                    self._send(route, payload, body, lineage, credits, branch)
        else:
            sealed = self._sealed_all(handler, result, context)
            if sealed:
                self._emit_all(handler, arrival, sealed)
        if self._cork.alone:
            self._cork.flush()

    def _emit_all(
        self, handler: HostedHandler, arrival: Arrival, sealed: list[tuple[Route, bytes, Event]]
    ) -> None:
        lineage = self._lineage_below(handler, arrival)
        needs: list[tuple[int, bool]] = []
        ends: list[int] = []
        for route, _, body in sealed:
            needs += route.needs or [
                (outlet.starts, outlet.spreads) for _, outlet in self._sender.choose(route, body)
            ]
            ends.append(len(needs))
        shares = divide(self.credits_of(handler, arrival), needs)
        _leave(handler, arrival, 0)
        began, branch = 0, _branch_of(handler, arrival)
        for (route, payload, body), end in zip(sealed, ends, strict=True):
            credits = 0
            for index in range(began, end):
                if shares[index] != CUT:
                    credits += needs[index][0] + shares[index]
            began = end
            if not self._put(route, payload, body, lineage, credits, branch):
                self._send(route, payload, body, lineage, credits, branch)

    def _send(
        self,
        route: Route,
        payload: bytes,
        body: Event,
        lineage: Lineage,
        credits: int,
        branch: Branch | None,
    ) -> None:
        sender = self._sender
        emission = sender.emission(route, payload, body, lineage, credits, branch)
        # Beyond the limit of its type it is counted; the handler has done nothing wrong.
        with contextlib.suppress(RateLimited):
            if route.gate is None or self._throttle.keeps(emission) is None:
                sender.send(emission, sender.choose(route, body))
                sender.finish(emission)

    def _put(
        self,
        route: Route,
        payload: bytes,
        body: Event,
        lineage: Lineage,
        credits: int,
        branch: Branch | None,
    ) -> bool:
        """Send, if there is no choice to make, room everywhere, and enough of the budget: whether that was so."""
        path = lineage.path
        if path is None or path.depth > lineage.max_depth:
            return False
        sender = self._sender
        outlet = route.single
        if outlet is not None:
            credits -= outlet.starts
            if outlet.room <= 0 or credits < 0:
                return False
            sender.sequence = sequence = sender.sequence + 1
            outlet.room -= 1
            if branch is not None:
                branch.open += 1
                outlet.children[sequence] = branch
            credits = credits if outlet.spreads else 0
            outlet.send(sequence, payload, body, lineage, credits, branch is not None)
        else:
            outlets = route.outlets
            if outlets is None:
                return False
            for outlet in outlets:
                if outlet.room <= 0:
                    return False
            shares = divide(credits, route.needs)
            if CUT in shares:
                return False
            sender.sequence = sequence = sender.sequence + 1
            for outlet, share in zip(outlets, shares, strict=True):
                outlet.room -= 1
                if branch is not None:
                    branch.open += 1
                    outlet.children[sequence] = branch
                outlet.send(sequence, payload, body, lineage, share, branch is not None)
            if not outlets:
                route.unheard += 1
        route.emitted += 1
        self._note((SENT, sequence, route.name, len(payload), route.services, lineage))
        if sender.observer is not None:
            sender.note_emitted(route, sequence, lineage, len(payload), len(route.targets))
        return True

    def credits_of(self, handler: HostedHandler, arrival: Arrival) -> int:
        """How many handler starts a run of that handler may cause, apart from those that it has paid for."""
        left: dict[HostedHandler, int] | None = arrival.left
        if left is not None and handler in left:
            return left[handler]
        credits, subscription = arrival.credits, arrival.subscription
        if subscription.several:
            spreading = subscription.spreading
            if handler not in spreading:
                return 0
            credits = part(credits, spreading.index(handler), len(spreading))
        budget = handler.budget
        return credits if budget is None else min(credits, budget.events)

    def _lineage_below(
        self, handler: HostedHandler, arrival: Arrival, budget: Budget | None = None
    ) -> Lineage:
        """The lineage of a consequence of the event that arrived."""
        source, sequence = arrival.source, arrival.sequence
        node = root_node = source.node
        if arrival.extras is None and budget is None and handler.budget is None:
            deadline = arrival.due or source.sent_at + DEFAULT_SECONDS
            return Lineage(handler.path, node, sequence, node, sequence, deadline, DEFAULT_DEPTH)
        root_sequence, path = sequence, handler.path
        above = None if arrival.extras is None else full_lineage_of(arrival)
        if above is None:
            max_depth = DEFAULT_DEPTH
            deadline = arrival.due or source.sent_at + DEFAULT_SECONDS
        else:
            deadline, max_depth = above.deadline, above.max_depth
            if above.path is not None:
                path = self._paths.below(above.path, handler.place)
                root_node, root_sequence = above.root_node, above.root_sequence
        if budget is not None or handler.budget is not None:
            for one in filter(None, (handler.budget, budget)):
                deadline = min(deadline, self._sender.now() + one.seconds)
                max_depth = min(max_depth, path.depth - 1 + one.depth)
        return Lineage(path, node, sequence, root_node, root_sequence, deadline, max_depth)

    def _sealed_all(
        self, handler: HostedHandler, result: Any, context: Any
    ) -> list[tuple[Route, bytes, Event]]:
        events: tuple[Event, ...] = () if context is None else tuple(context.emitted)
        if isinstance(result, Event):
            events = (*events, result)
        elif result is not None:
            events = (*events, *_events_of(result, handler))
        for event in events:
            if event.__class__ not in handler.declared:
                raise undeclared(event, handler)
        return [self._sender.sealed(event) for event in events]


def _part_for(outlets: Sequence[Outlet], left: int, budget: Budget | None) -> int:
    """How many of the handler starts that are ``left`` go along with an event that a run emits before its end:
    those at its receivers, and half of what remains if these may emit something; none that would be of no use.
    """
    needs = [(outlet.starts, outlet.spreads) for outlet in outlets]
    starts = sum(one for one, _ in needs)
    spreads = any(outlet.spreads for outlet in outlets)
    credits = min(left, starts + (max(0, left - starts) // 2 if spreads else 0))
    if budget is not None:
        credits = min(credits, budget.events)
    shares = divide(credits, needs)
    return sum(one + share for (one, _), share in zip(needs, shares, strict=True) if share != CUT)


def _branch_of(handler: HostedHandler, arrival: Arrival) -> Branch | None:
    """What waits for the end of what a run emits, if the arrival is tracked."""
    record: Branch | None = arrival.record
    return None if record is None else record.branch_of(handler.place)


def _leave(handler: HostedHandler, arrival: Arrival, credits: int) -> None:
    """A run has paid for what it emits, and may cause so much more: also after its end, if a task of it is still
    at work.
    """
    if arrival.left is not None:
        arrival.left[handler] = credits
    elif credits or arrival.subscription.several:
        arrival.left = {handler: credits}
    else:
        arrival.credits = 0


def _events_of(result: Any, handler: HostedHandler) -> Iterable[Event]:
    if isinstance(result, str | bytes) or not hasattr(result, "__iter__"):
        raise UndeclaredEvent(
            f"handler {handler.name!r} of service {handler.service.name!r} returned "
            f"{type(result).__name__}: a handler returns an event, an iterable of events, or None"
        )
    events = tuple(event for event in result if event is not None)
    for event in events:
        if not isinstance(event, Event):
            raise UndeclaredEvent(
                f"handler {handler.name!r} of service {handler.service.name!r} returned an iterable "
                f"with {type(event).__name__} in it: it may hold events only"
            )
    return events


def undeclared(event: Event, handler: HostedHandler) -> ThenceError:
    """The error for an event that its handler does not declare."""
    name = type(event).__name__
    declared = ", ".join(sorted(one.__name__ for one in handler.declared)) or "no events"
    return UndeclaredEvent(
        f"handler {handler.name!r} of service {handler.service.name!r} emitted {name}, but declares {declared}: "
        f"name it in the return annotation (-> {name}) or in emits=[{name}]"
    )
