"""Where an emitter puts an event that goes to one subscription at one node.

An outlet has room for as many unacknowledged events as the receiver's line is long, so one emitter alone
never makes a receiver shed. Root emits wait for room (:mod:`thence.delivery.room`); consequences never wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from thence.cascade.settlement import Branch, Tally
from thence.delivery.advice import HeededAdvice
from thence.delivery.room import RoomLine
from thence.events import Event
from thence.events.envelope import DEFAULT, TRACKED, Arrival, Extras, all_extras_for, extras_for
from thence.events.lineage import Lineage
from thence.mesh.link import Link
from thence.mesh.messages import Subscribed, Track

__all__ = ["EMIT_PATIENCE", "LinkOutlet", "LocalOutlet", "Outlet", "Verdict"]

EMIT_PATIENCE = 30.0
"""Seconds that a root emit waits for room at a receiver that does not keep up, unless that has less time."""

NEVER = float("inf")

_LOCAL = Extras(path=1)
_LOCAL_TRACKED = Extras(path=1, tracked=1)
"""For consequences that stay within the node, whose lineage need not be put into numbers."""

_encode_into = msgspec.msgpack.Encoder().encode_into


class Verdict(Struct, frozen=True):
    """What a receiver says of one event: let in, with an empty reason, or refused."""

    reason: str
    wait: float
    """Seconds after which it may be tried again; infinite if that can't be told."""


class Outlet:
    """The window shared by all kinds of outlet. ``room`` is what is left of it.

    Whoever finds ``room`` above zero takes one and calls :meth:`send`. What is freed goes to those who wait
    first, at once.
    """

    __slots__ = (
        "_withheld",
        "advice",
        "answers",
        "asked",
        "children",
        "closed",
        "congested",
        "ended",
        "line",
        "node",
        "patience",
        "room",
        "root_credits",
        "spreads",
        "starts",
        "target",
        "window",
    )

    def __init__(
        self,
        node: str,
        window: int,
        answers: bool = False,
        starts: int = 1,
        spreads: bool = True,
    ) -> None:
        self.node = node
        self.window = window
        self.starts = starts
        """How many handlers an event starts there."""
        self.spreads = spreads
        """Whether these may emit anything."""
        self.root_credits = 0
        """What a root event with the node's own budget may cause there."""
        self.children: dict[int, Branch] = {}
        """By sequence number, who waits for an event and all its consequences to end."""
        self.patience = EMIT_PATIENCE
        """Seconds that a root emit waits for room here."""
        self.answers = answers
        """Whether the receiver tells of each event if it has let it in."""
        self.advice: HeededAdvice | None = None
        """What is not worth sending for a while."""
        self.asked: dict[int, asyncio.Future[Verdict]] = {}
        """By sequence number, who waits to be told."""
        self.room = window
        self.ended = 0
        self.congested = False
        self.closed = False
        self.target: Any = None
        """The :class:`~thence.delivery.targets.Target` that this is an outlet of."""
        self.line = RoomLine()
        """Who waits for room here; shared by all outlets of a service that leave a choice."""
        self._withheld = 0

    @property
    def outstanding(self) -> int:
        """Events sent and not acknowledged."""
        return self.window - self.room - self._withheld

    @property
    def sent(self) -> int:
        """Events sent so far."""
        return self.ended + self.outstanding

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
        """Put one event on its way. The caller has taken the room for it.

        ``credits``: how many handler starts it may cause, those that it is for apart; ``tracked``: whether its
        end, and that of all its consequences, is to be reported; ``sent``: when it was emitted, in milliseconds
        of this node's stopwatch, where that matters.
        """
        raise NotImplementedError

    def send_root(self, sequence: int, payload: bytes, body: Event) -> None:
        """The same for a root event of which there is nothing more to tell."""
        self.send(sequence, payload, body, None, self.root_credits)

    def track(self, sequence: int, branch: Branch) -> None:
        """``branch`` waits for the end of a root event that has been sent in this tick."""
        self.children[sequence] = branch

    def settled(self, sequences: Iterable[int], tally: Tally) -> None:
        """These events and all their consequences have ended, each with that tally. What was told before is ignored."""
        children = self.children
        branch, count = None, 0
        for sequence in sequences:
            parent = children.pop(sequence, None)
            if parent is branch:
                count += 1
                continue
            if branch is not None:
                branch.children_ended(tally, count)
            branch, count = parent, 1
        if branch is not None:
            branch.children_ended(tally, count)

    def judged(self, sequence: int, reason: str, wait: float) -> None:
        """The receiver has let an event in, or refused it for that reason."""
        asked = self.asked.pop(sequence, None)
        if asked is not None and not asked.done():
            asked.set_result(Verdict(reason, wait))

    def acknowledged(self, count: int) -> None:
        """``count`` events have ended; more than were sent is a peer's mistake and ignored."""
        count = min(count, self.outstanding)
        self.ended += count
        self.free(count)

    def free(self, count: int) -> None:
        """Room for ``count`` more events."""
        if self.congested:
            self._withheld += count
            return
        self.room += count
        if self.line.attentive and self.room > 0:
            self.line.serve(self)

    def set_congested(self, congested: bool) -> None:
        """Withhold all room while the connection takes no more."""
        self.congested = congested
        if congested:
            self._withheld += self.room
            self.room = 0
        else:
            withheld, self._withheld = self._withheld, 0
            self.free(withheld)

    def close(self) -> int:
        """Nothing goes here any more: who waits looks elsewhere. Returns how many events are unaccounted for."""
        self.closed = True
        unaccounted = self.outstanding
        self.room = self._withheld = 0
        self.line.review()
        if not self.line.waiting:
            self.line.close()
        for sequence in list(self.asked):
            self.judged(sequence, "connection lost", NEVER)
        return unaccounted


class LinkOutlet(Outlet):
    """Events to a peer, appended to the frame that its link is filling."""

    __slots__ = ("link", "number")

    def __init__(self, link: Link, wanted: Subscribed) -> None:
        super().__init__(link.node, wanted.window, wanted.answers, wanted.handlers, wanted.spreads)
        self.link = link
        self.number = wanted.number
        if wanted.patience is not None:
            self.patience = min(max(wanted.patience, 0.0), EMIT_PATIENCE)
        if link.congested:
            self.set_congested(True)

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
        link = self.link
        if link.events.count and not link.events.count & 7:
            link.cut_frame()
        extras: tuple[int | bytes, ...]
        # Naming a node or a path may send what is buffered, so it comes before looking at the frame.
        if sent or lineage is None or lineage.path is None or lineage.max_depth != DEFAULT.depth:
            extras = all_extras_for(lineage, link, tracked, sent)
        else:
            extras = extras_for(lineage, link, tracked)
        form = (self.number, sequence, Raw(payload), credits, extras)
        events = link.events
        _encode_into(form, events.buffer, -1)
        events.count = count = events.count + 1
        if count == 1 and not link.dirty:
            link.dirty = True
            link.cork.touch_by_event(link)

    def send_root(self, sequence: int, payload: bytes, body: Event) -> None:
        """Append the event to the frame."""
        link = self.link
        events = link.events
        count = events.count
        if not count & 7 and count:
            link.cut_frame()
            count = events.count
        credits = self.root_credits
        form = (
            (self.number, sequence, Raw(payload), credits)
            if credits
            else (self.number, sequence, Raw(payload))
        )
        _encode_into(form, events.buffer, -1)
        events.count = count + 1
        if not count and not link.dirty:
            link.dirty = True
            link.cork.touch_by_event(link)

    def track(self, sequence: int, branch: Branch) -> None:
        """Ask the peer to report on a root event that has been sent with nothing said about it."""
        super().track(sequence, branch)
        self.link.say(Track(self.number, sequence))


class LocalOutlet(Outlet):
    """Events to a service of this very node: the decoded copy goes straight to its line."""

    __slots__ = ("_arrival", "_enqueue", "_track")

    def __init__(
        self,
        node: str,
        window: int,
        arrival: type[Arrival],
        enqueue: Callable[[Any], None],
        track: Callable[[int], None],
        answers: bool = False,
        starts: int = 1,
        spreads: bool = True,
    ) -> None:
        super().__init__(node, window, answers, starts, spreads)
        self._arrival = arrival
        self._enqueue = enqueue
        self._track = track

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
        """Append the event's copy to the local line."""
        arrival = self._arrival(sequence, body, credits)
        if lineage is not None:
            arrival.lineage = lineage
            arrival.due = lineage.deadline
        if sent:
            arrival.extras = Extras(path=lineage is not None, tracked=tracked, sent=sent)
        elif lineage is None:
            arrival.extras = TRACKED if tracked else None
        else:
            arrival.extras = _LOCAL_TRACKED if tracked else _LOCAL
        self._enqueue(arrival)

    def send_root(self, sequence: int, payload: bytes, body: Event) -> None:
        """Append the event's copy to the local line."""
        self._enqueue(self._arrival(sequence, body, self.root_credits))

    def track(self, sequence: int, branch: Branch) -> None:
        """Have the event tracked, which is still in the line."""
        super().track(sequence, branch)
        self._track(sequence)
