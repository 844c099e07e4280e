"""Root events: what nothing but the outside has caused. Their emits wait for room."""

from __future__ import annotations

import asyncio
import math
import sys
from types import FrameType

from msgspec.structs import replace

from thence.budget import Budget
from thence.delivery.outlets import EMIT_PATIENCE, Verdict
from thence.delivery.patience import PatientEmit
from thence.delivery.reasons import CANCELLED
from thence.delivery.receipts import Receipt, Refusal
from thence.delivery.sending import Choice, Emission, Sender, heeded
from thence.delivery.targets import Route
from thence.delivery.throttle import Throttle
from thence.delivery.tracking import discards_result
from thence.events import Event, spec_of
from thence.events.envelope import DEFAULT
from thence.events.lineage import Lineage
from thence.facts.ring import ALIKE
from thence.identifiers import EventId

__all__ = ["RootEmits"]

BURST = 256
"""Events emitted after which a root emit lets the loop go round."""


class RootEmits:
    """The emits of one node outside of its handlers."""

    def __init__(self, sender: Sender, throttle: Throttle) -> None:
        self._sender = sender
        self._throttle = throttle
        self._routes = sender.routes
        self._cork = sender.cork
        self._note, self._notes_each = sender.note, sender.notes_each
        self._tracker = sender.tracker
        self._undecided = sender.tracker.undecided
        self._alike: Route | None = None
        """What was emitted last, as long as there is no need to note it again."""
        self._count = 0
        """Events emitted, as of the last time that something else was attended to."""
        self._pause_at = BURST
        self._sample_at = self._tracker.until_sample()
        self._unattended = self._stride = int(min(self._pause_at, self._sample_at))
        """How many events remain until the next time, and did so after the last."""

    async def emit(self, event: Event, budget: Budget | None = None) -> Receipt:
        """Emit an event that nothing caused. Waits while a receiver has no room."""
        sender = self._sender
        route = self._routes.get(event.__class__) or sender.table.route(spec_of(event.__class__))
        payload, body = route.seal(event)
        outlet = route.root_outlet
        if budget is None and outlet is not None and outlet.room > 0 and sender.observer is None:
            # The lines of _put for one outlet.
            sender.sequence = sequence = sender.sequence + 1
            outlet.room -= 1
            outlet.send_root(sequence, payload, body)
            route.emitted += 1
            if route is not self._alike:
                self._note_sent(route, payload)
            receipt = Receipt(sequence, route.sending)
        elif budget is None and self._put(route, payload, body):
            receipt = Receipt(sender.sequence, route.sending)
        else:
            receipt = await self._emit_patiently(route, payload, body, budget)
            await self._let_go(receipt, sys._getframe(1))
            return receipt
        self._unattended = unattended = self._unattended - 1
        if unattended and not self._cork.alone:
            self._undecided.append(receipt)
        elif unattended:
            # It leaves before whoever awaits this has got the receipt.
            tracker, frame = self._tracker, sys._getframe(1)
            if (
                frame.f_lasti != tracker.discarding_at
                or frame.f_code is not tracker.discarding
                or tracker.undecided
            ):
                tracker.decide_for(frame, receipt)
            self._cork.flush()
        else:
            if not self._cork.alone:
                self._undecided.append(receipt)
            await self._attend(receipt, sys._getframe(1))
        return receipt

    async def _let_go(self, receipt: Receipt, emitting: FrameType) -> None:
        """The same for an event that took longer."""
        self._unattended -= 1
        if not self._unattended:
            await self._attend(receipt, emitting)
        elif self._cork.alone:
            self._tracker.decide_for(emitting, receipt)
            self._cork.flush()

    async def _attend(self, receipt: Receipt, emitting: FrameType) -> None:
        """Follow the event as a sample, or let the loop go round, if it is time for that.

        ``emitting`` is the frame that emits it, and has not got the receipt.
        """
        self._count += self._stride
        self._alike = None
        if self._count >= self._sample_at:
            self._sample_at = self._count + self._tracker.until_sample()
            self._tracker.sample(receipt)
        pauses = self._count >= self._pause_at
        if pauses:
            self._pause_at = self._count + BURST
        self._unattended = self._stride = int(min(self._pause_at, self._sample_at) - self._count)
        if pauses or self._cork.alone:
            self._tracker.decide_for(emitting, receipt)
            self._cork.release()
        if pauses:
            # A loop of emits that never has to wait would keep everything else from running.
            await asyncio.sleep(0)
            # Those of events that nobody wants leave with no others.
            self._tracker.decide()

    def _put(self, route: Route, payload: bytes, body: Event) -> bool:
        """Send, if there is no choice to make and room everywhere: whether that was so."""
        sender = self._sender
        outlet = route.root_outlet
        if outlet is not None:
            if outlet.room <= 0:
                return False
            sender.sequence = sequence = sender.sequence + 1
            outlet.room -= 1
            outlet.send_root(sequence, payload, body)
        else:
            outlets, cork = route.root_outlets, self._cork
            if outlets is None:
                return False
            if cork.overdue:
                cork.flush()
            for outlet in outlets:
                if outlet.room <= 0:
                    return False
            sender.sequence = sequence = sender.sequence + 1
            cork.whole = True
            try:
                for outlet in outlets:
                    outlet.room -= 1
                    outlet.send_root(sequence, payload, body)
            finally:
                cork.whole = False
            if not outlets:
                route.unheard += 1
                sender.note_moment()
        route.emitted += 1
        if route is not self._alike:
            self._note_sent(route, payload)
        if sender.observer is not None:
            sender.note_emitted(route, sequence, None, len(payload), len(route.targets))
        return True

    def _note_sent(self, route: Route, payload: bytes) -> None:
        """Remember an event; it stands for those alike that follow at once."""
        self._alike = None if self._notes_each else route
        self._note((ALIKE, self._sender.sequence, route.name, len(payload), route.services))

    def _lineage(self, budget: Budget, trace: bytes) -> Lineage | None:
        """What there is to tell of a root event; None if that is nothing."""
        if (budget.depth, budget.seconds) == (DEFAULT.depth, DEFAULT.seconds):
            return None
        deadline = self._sender.now() + budget.seconds
        return Lineage(None, "", 0, "", 0, deadline, budget.depth)

    async def _emit_patiently(
        self, route: Route, payload: bytes, body: Event, budget: Budget | None, trace: bytes = b""
    ) -> Receipt:
        sender = self._sender
        budget = budget or sender.table.budget
        lineage = self._lineage(budget, trace)
        emission = sender.emission(route, payload, body, lineage, budget.events, asks=True)
        if route.gate is not None:
            kept = self._throttle.keeps(emission)
            if kept is not None:
                return kept
        try:
            if self._cork.overdue:
                self._cork.flush()
            chosen = sender.choose(route, body)
            if all(outlet.room > 0 for _, outlet in chosen):
                sender.send_whole(emission, chosen)
                receipt = sender.finish(emission)
                if not emission.asked:
                    self._tracker.undecided.append(receipt)
                elif self._follows(sys._getframe(2)):
                    self._tracker.track(receipt)
            else:
                follows = self._follows(sys._getframe(2))
                receipt = await self._wait_for_room(emission, chosen, follows)
            if emission.asked:
                self._cork.release()
                await self._be_told(emission, receipt)
        finally:
            for _, outlet, _ in emission.asked:
                outlet.asked.pop(emission.sequence, None)
        return heeded(route, receipt)

    def _follows(self, emitter: FrameType) -> bool:
        """Whether to follow an event that leaves before its emitter, which awaits it, has got the receipt."""
        return not discards_result(emitter) or self._tracker.samples_now()

    async def _wait_for_room(self, emission: Emission, chosen: Choice, follows: bool) -> Receipt:
        sender = self._sender
        root = None
        if follows:
            root = self._tracker.open(str(EventId(sender.node, sender.number(emission))))
            emission.branch = root.branch
        ended: asyncio.Future[None] = sender.loop.create_future()
        emit = PatientEmit(
            sender,
            emission,
            lambda: None if ended.done() else ended.set_result(None),
            is_over=ended.cancelled,
        )
        emit.begin(chosen)
        try:
            if emit.places:
                await ended
        except BaseException:
            emit.withdraw(CANCELLED)
            raise
        finally:
            receipt = sender.finish(emission)
            receipt.root = root
            # It is too late to ask anybody to track it.
            receipt.sending = replace(receipt.sending, deliveries=())
            if emission.branch is not None:
                emission.branch.part_ended()
        return receipt

    async def _be_told(self, emission: Emission, receipt: Receipt) -> None:
        """Wait until all receivers that tell have told whether they let the event in, and note it."""
        asked = emission.asked
        await asyncio.wait([answer for *_, answer in asked], timeout=EMIT_PATIENCE)
        taken = set[str]()
        refusals: dict[str, Refusal] = {}
        for service, _, answer in asked:
            verdict = answer.result() if answer.done() else Verdict("", 0.0)
            if not verdict.reason:
                taken.add(service)
            else:
                retry_after = verdict.wait if math.isfinite(verdict.wait) else None
                refusals[service] = Refusal(service, verdict.reason, retry_after)
        refused = tuple(r for service, r in refusals.items() if service not in taken)
        names = {one.service for one in refused}
        targets = tuple(service for service in receipt.targets if service not in names)
        sending = receipt.sending
        receipt.sending = replace(
            sending, targets=targets, deliveries=(), refused=sending.refused + refused
        )
