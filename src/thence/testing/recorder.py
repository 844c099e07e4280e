"""What happens at the nodes of a mesh under test, with the events themselves.

An observer is told identifiers and reasons, never bodies or when a run began; a node must not pay for what only
a test wants to know. So this is the one place that reaches into running nodes: it wraps what an emitter sends
events with, and what a handler is called by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from thence.app.runtime import Runtime
from thence.cascade.loops import loop_in
from thence.delivery.emission import Emitter
from thence.delivery.hosted import HostedHandler
from thence.delivery.reasons import LOOP, REPLACED, kind_of
from thence.delivery.receipts import Receipt
from thence.delivery.running import RUNNING, run_of
from thence.delivery.sending import Emission
from thence.errors import RateLimited
from thence.events import Event, spec_of
from thence.events.envelope import event_id_of, lineage_of
from thence.events.lineage import Lineage, Path
from thence.identifiers import EventId
from thence.testing.handlers import Faults, KnownHandlers
from thence.testing.occurrences import Occurrence, Outcome, OutcomeKind

__all__ = ["Recorder", "Recording"]


class Recorder:
    """Watches every node of a mesh. Implements :class:`thence.facts.Observer`.

    Only cascades that begin at the node ``emitter`` are recorded, each until :meth:`forget`.
    """

    def __init__(self, handlers: KnownHandlers, faults: Faults, now: Callable[[], float]) -> None:
        self.emitter = ""
        self._handlers = handlers
        self._faults = faults
        self._now = now
        self._recordings: dict[EventId, Recording] = {}
        self._leaving: tuple[Event, bytes] | None = None
        """What an emitter is sending just now."""

    def attend(self, runtime: Runtime) -> None:
        """Record from now on what this node emits and handles."""
        runtime.observe(self)
        self._wrap_emitter(runtime.emitter)
        for service in runtime.services.values():
            for handler in service.handlers:
                self._wrap_handler(handler)

    def recording(self, root: EventId) -> Recording:
        """The cascade of that root event."""
        return self._recordings[root]

    def forget(self, root: EventId) -> None:
        """Record nothing more of that cascade."""
        self._recordings.pop(root, None)

    # -- inside the nodes

    def _wrap_emitter(self, emitter: Emitter) -> None:
        for emits in (emitter.roots, emitter.consequences):
            emits._put = self._sending(emits._put)  # type: ignore[method-assign]
        sender, throttle = emitter.sender, emitter.throttle
        deliver, finish, keeps = sender.deliver, sender.finish, throttle.keeps

        def recorded_deliver(emission: Emission, *rest: Any) -> None:
            deliver(emission, *rest)
            if emission.deliveries:
                # It may go on waiting for room elsewhere, and is told of when it has gone everywhere.
                self._leaving = (emission.body, emission.payload)
                event_id = EventId(sender.node, emission.sequence)
                self._note_event(event_id, emission.lineage, sent=True)

        def recorded_finish(emission: Emission) -> Receipt:
            self._leaving = (emission.body, emission.payload)
            return finish(emission)

        def recorded_keeps(emission: Emission) -> Receipt | None:
            try:
                kept = keeps(emission)
            except RateLimited:
                self._never_left(emission)
                raise
            if kept is not None:
                event_id = EventId(kept.sending.node, kept.sequence)
                recording = self._recording_of(event_id, emission.lineage)
                if recording is None or event_id not in recording.known:
                    self._leaving = (emission.body, emission.payload)
                    self._note_event(event_id, emission.lineage, sent=False)
            return kept

        sender.deliver = recorded_deliver  # type: ignore[method-assign,assignment]
        sender.finish = recorded_finish  # type: ignore[method-assign]
        throttle.keeps = recorded_keeps  # type: ignore[method-assign]

    def _sending(self, put: Callable[..., bool]) -> Callable[..., bool]:
        def recorded(route: Any, payload: bytes, body: Event, *rest: Any) -> bool:
            self._leaving = (body, payload)
            return put(route, payload, body, *rest)

        return recorded

    def _wrap_handler(self, handler: HostedHandler) -> None:
        call, place = handler.call, handler.place

        async def recorded(*arguments: Any) -> Any:
            running = RUNNING.get()
            assert running is not None
            _, arrival = run_of(running)
            for one in arrival.members or (arrival,):
                recording = self._recording_of(event_id_of(one), lineage_of(one))
                if recording is not None:
                    recording.began(event_id_of(one), place, self._now())
            self._faults.strike(place)
            return await call(*arguments)

        handler.call = recorded

    # -- noting

    def _recording_of(self, event_id: EventId, lineage: Lineage | None) -> Recording | None:
        root = event_id if lineage is None or lineage.path is None else lineage.root
        return self._recordings.get(root)

    def _note_event(self, event_id: EventId, lineage: Lineage | None, *, sent: bool) -> None:
        is_root = lineage is None or lineage.path is None
        if is_root and event_id.node == self.emitter and event_id not in self._recordings:
            self._recordings[event_id] = Recording(self._now())
        recording = self._recording_of(event_id, lineage)
        known = None if recording is None else recording.known.get(event_id)
        if recording is not None and (known is None or not known.sent):
            assert self._leaving is not None
            body, payload = self._leaving
            recording.event(
                event_id, None if is_root else lineage, body, payload, self._now(), sent=sent
            )

    def _never_left(self, emission: Emission) -> None:
        """The limit of its type has refused a consequence. A root event's emitter is told by an error."""
        lineage, gate = emission.lineage, emission.route.gate
        if lineage is None or lineage.path is None or gate is None:
            return
        recording = self._recordings.get(lineage.root)
        if recording is not None:
            now = self._now()
            event = recording.event(None, lineage, emission.body, emission.payload, now, sent=False)
            recording.add(event, "", "shed", now, f"limit of its type: {gate.reason}")

    # -- as an observer

    def emitted(
        self, event_id: EventId, lineage: Lineage | None, event: str, size: int, targets: int
    ) -> None:
        """An event has left."""
        self._note_event(event_id, lineage, sent=True)

    def refused(
        self, event_id: EventId, lineage: Lineage | None, event: str, service: str, reason: str
    ) -> None:
        """An event did not leave for a service that wants it."""
        self._note_end(event_id, lineage, service, kind_of(reason), reason)

    def handled(
        self, event_id: EventId, lineage: Lineage | None, event: str, service: str, handler: str
    ) -> None:
        """A handler has ended well."""
        self._note_end(event_id, lineage, f"{service}.{handler}", "handled")

    def failed(
        self,
        event_id: EventId,
        lineage: Lineage | None,
        event: str,
        service: str,
        handler: str,
        error: BaseException,
    ) -> None:
        """A handler has raised, or timed out."""
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        self._note_end(event_id, lineage, f"{service}.{handler}", "failed", reason, error)

    def shed(
        self,
        event_id: EventId,
        lineage: Lineage | None,
        event: str,
        service: str,
        handler: str,
        reason: str,
    ) -> None:
        """A handler never got to run."""
        place, why = f"{service}.{handler}", reason
        if reason == LOOP and lineage is not None:
            why = f"loop {loop_in(Path(lineage.path, place))}"
        self._note_end(event_id, lineage, place, kind_of(reason), why)

    def limit_changed(self, place: str, before: str, after: str, by: str) -> None:
        """No part of any cascade."""

    def _note_end(
        self,
        event_id: EventId,
        lineage: Lineage | None,
        place: str,
        kind: OutcomeKind,
        reason: str = "",
        error: BaseException | None = None,
    ) -> None:
        recording = self._recording_of(event_id, lineage)
        if recording is not None:
            event = recording.known.get(event_id)
            if event is not None:
                recording.add(event, place, kind, self._now(), reason, error)


class _Recorded:
    """One event, as it is being recorded."""

    def __init__(
        self, event_id: EventId | None, body: Event, payload: bytes, lineage: Lineage | None
    ) -> None:
        self.event_id = event_id
        self.body = body
        self.payload = payload
        self.depth = lineage.depth if lineage else 0
        self.cause = lineage.cause if lineage else None
        self.by = lineage.path.handler if lineage and lineage.path else ""
        self.at = 0.0
        self.number = 0
        self.sent = False
        self.began: dict[str, float] = {}
        """By place, the runs that have begun."""
        self.ends: dict[str, Outcome] = {}
        """By place, what became of it; without what was emitted there."""


class Recording:
    """What has happened so far in one cascade."""

    def __init__(self, began: float) -> None:
        self.known: dict[EventId, _Recorded] = {}
        self._events: list[_Recorded] = []
        self._began = began
        self._count = 0

    def event(
        self,
        event_id: EventId | None,
        lineage: Lineage | None,
        body: Event,
        payload: bytes,
        now: float,
        *,
        sent: bool,
    ) -> _Recorded:
        """An event was emitted, or would have been but for the limit of its type."""
        event = None if event_id is None else self.known.get(event_id)
        if event is None:
            event = _Recorded(event_id, body, payload, lineage)
            self._events.append(event)
            if event_id is not None:
                self.known[event_id] = event
        event.at, event.sent = now - self._began, sent
        event.number = self._next()
        return event

    def began(self, event_id: EventId, place: str, now: float) -> None:
        """A handler begins to run."""
        event = self.known.get(event_id)
        if event is not None:
            event.began[place] = now - self._began

    def add(
        self,
        event: _Recorded,
        place: str,
        kind: OutcomeKind,
        now: float,
        reason: str,
        error: BaseException | None = None,
    ) -> None:
        """A handler has ended, or is not going to begin."""
        at = now - self._began
        began = event.began.get(place, at)
        event.ends[place] = Outcome(
            event.body, place, kind, reason, error, began, at - began, (), self._next()
        )

    def _next(self) -> int:
        self._count += 1
        return self._count

    def tree(self, handlers: KnownHandlers) -> Occurrence:
        """All of it, as of now."""
        root: Occurrence | None = None
        emitted: dict[tuple[EventId | None, str], list[Occurrence]] = {}
        # What an event caused was emitted after it.
        for event in reversed(self._events):
            outcomes = [*event.ends.values(), *self._open(event, handlers)]
            root = Occurrence(
                event.body,
                str(event.event_id or ""),
                event.at,
                event.depth,
                tuple(
                    replace(
                        o, emitted=tuple(reversed(emitted.get((event.event_id, o.handler), ())))
                    )
                    for o in outcomes
                ),
                event.sent,
                event.payload,
                event.number,
            )
            emitted.setdefault((event.cause, event.by), []).append(root)
        assert root is not None
        return root

    def _open(self, event: _Recorded, handlers: KnownHandlers) -> Iterator[Outcome]:
        """What has not ended."""
        if not event.sent:
            if not event.ends:
                yield Outcome(event.body, "", "merged", REPLACED, at=event.at)
            return
        for service, place in handlers.wanting(spec_of(type(event.body)).name):
            if place in event.ends or service in event.ends:
                continue
            began = event.began.get(place)
            kind: OutcomeKind = "waiting" if began is None else "running"
            yield Outcome(event.body, place, kind, at=event.at if began is None else began)
