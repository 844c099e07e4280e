"""What a node does besides, where cascades are exported as spans.

A root event may be emitted inside a span of somebody else, such as an HTTP request's. Then its cascade belongs to
that trace, and all its events tell so: :attr:`~thence.events.lineage.Lineage.trace` is the W3C ``traceparent`` of that
span in 25 bytes, 16 of the trace id, 8 of the span id and the flags. Otherwise nothing travels, as trace and span ids
are made from the ids of the events.

How long a cascade takes has to be known wherever it goes. Its root was emitted the default time before the cascade's
deadline, unless a budget says otherwise; only then that moment travels, too.

These classes stand in for those of a node that exports nothing, which has none of this to mind.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from thence.budget import Budget
from thence.delivery.consequences import ConsequenceEmits
from thence.delivery.hosted import HostedHandler
from thence.delivery.outlets import LinkOutlet
from thence.delivery.receipts import Receipt
from thence.delivery.roots import RootEmits
from thence.events import Event, spec_of
from thence.events.envelope import DEFAULT, Arrival, all_extras_for, full_lineage_of
from thence.events.lineage import Lineage
from thence.facts.ring import MOMENT

__all__ = ["TracingConsequences", "TracingOutlet", "TracingRoots"]

# Called so they cost half of what super() does.
_emit = RootEmits.emit
_lineage_below = ConsequenceEmits._lineage_below
_send = LinkOutlet.send
_encode_into = msgspec.msgpack.Encoder().encode_into


class TracingRoots(RootEmits):
    """Root events that may belong to somebody else's trace."""

    current_trace: Callable[[], bytes] = bytes
    """The span that the current code runs in, as 25 bytes; empty if there is none."""
    notes_each = False
    """Whether the recorder is told of each event by itself, and when it was emitted."""

    def emit(self, event: Event, budget: Budget | None = None) -> Any:
        """Emit an event that nothing caused. To be awaited, as there."""
        if self.notes_each:
            self._alike = None
            self._note((MOMENT, self._sender.now(), self._sender.sequence))
        trace = self.current_trace()
        if trace:
            return self._emit_traced(event, budget, trace)
        return _emit(self, event, budget)

    async def _emit_traced(self, event: Event, budget: Budget | None, trace: bytes) -> Receipt:
        sender = self._sender
        route = self._routes.get(event.__class__) or sender.table.route(spec_of(event.__class__))
        payload, body = route.seal(event)
        receipt = await self._emit_patiently(route, payload, body, budget, trace)
        await self._let_go(receipt, sys._getframe(1))
        return receipt

    def _lineage(self, budget: Budget, trace: bytes) -> Lineage | None:
        plain = super()._lineage(budget, trace)
        if not trace and (plain is None or budget.seconds == DEFAULT.seconds):
            return plain
        now = self._sender.now()
        return Lineage(None, "", 0, "", 0, now + budget.seconds, budget.depth, now, trace)


class TracingConsequences(ConsequenceEmits):
    """Consequences that tell which trace they belong to, and when their cascade began."""

    def _lineage_below(
        self, handler: HostedHandler, arrival: Arrival, budget: Budget | None = None
    ) -> Lineage:
        lineage = _lineage_below(self, handler, arrival, budget)
        above = None if arrival.extras is None else full_lineage_of(arrival)
        if above is not None and (above.began or above.trace):
            return replace(lineage, began=above.began, trace=above.trace)
        if budget is not None or handler.budget is not None:
            # Its deadline tells no more when its root was emitted.
            due = arrival.due if above is None else above.deadline
            began = arrival.source.sent_at if due is None else due - DEFAULT.seconds
            return replace(lineage, began=began)
        return lineage


class TracingOutlet(LinkOutlet):
    """Events to a peer that may belong to somebody else's trace."""

    __slots__ = ()

    def send(
        self,
        sequence: int,
        payload: bytes,
        body: Event,
        lineage: Lineage | None = None,
        credits: int = 0,
        tracked: bool = False,
        sent: int = 0,
    ) -> None:
        """Append the event to the frame."""
        if lineage is None or not (lineage.began or lineage.trace):
            _send(self, sequence, payload, body, lineage, credits, tracked, sent)
            return
        link = self.link
        if link.events.count and not link.events.count & 7:
            link.cut_frame()
        extras = all_extras_for(lineage, link, tracked, sent)
        events = link.events
        _encode_into((self.number, sequence, Raw(payload), credits, extras), events.buffer, -1)
        events.count = count = events.count + 1
        if count == 1 and not link.dirty:
            link.dirty = True
            link.cork.touch_by_event(link)
