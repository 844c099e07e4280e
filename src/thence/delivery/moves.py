"""Carrying out what :mod:`thence.routing.placement` decides: fences, and what waits behind them."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from msgspec import DecodeError, Raw, Struct
from msgspec.msgpack import Decoder

from thence.delivery.outlets import Outlet
from thence.delivery.targets import Parcel, Target
from thence.events import Event
from thence.events.envelope import Extras
from thence.events.lineage import Lineage
from thence.mesh.frames import BadFrame
from thence.mesh.link import Link
from thence.mesh.messages import Fence, Fenced, Moved
from thence.routing.placement import Hold, Placement

__all__ = ["KeyMoves"]

logger = logging.getLogger("thence.routing")

OWNER_PATIENCE = 1.0
"""Seconds to wait until a new owner that an old one has named is known here too."""
LOOK_AGAIN = 0.01


class Returned(Struct, array_like=True):
    """An envelope of this node's own, as a peer gives it back: the numbers in it are the peer's."""

    number: int
    sequence: int
    payload: Raw
    credits: int = 0
    extras: Extras | None = None


_decode_returned = Decoder(Returned).decode


class KeyMoves:
    """The holds of one emitter, and how they end.

    ``link_to(node)`` is the link to a node, if there is one; ``decode(event, payload)`` makes a body;
    ``lose(target, reason)`` counts a loss; ``decide()`` is called before something is sent, ``flush()`` after.
    """

    def __init__(
        self,
        *,
        node: str,
        link_to: Callable[[str], Link | None],
        fence_locally: Callable[[str, frozenset[int], Callable[[], None]], None],
        decode: Callable[[str, bytes], Event],
        is_dead: Callable[[str], bool],
        lose: Callable[[Target, str], None],
        decide: Callable[[], None],
        flush: Callable[[], None],
    ) -> None:
        self._node = node
        self._link_to = link_to
        self._fence_locally = fence_locally
        self._decode = decode
        self._is_dead = is_dead
        self._lose = lose
        self._decide = decide
        self._flush = flush
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, tuple[Placement[Parcel], Hold[Parcel]]] = {}
        self._last = 0

    def fence(self, placement: Placement[Parcel], hold: Hold[Parcel]) -> None:
        """Ask the hold's old owner to say when all that was sent to it has ended."""
        self._last += 1
        number = self._last
        self._open[number] = (placement, hold)
        if hold.old_owner == self._node:
            self._fence_locally(
                placement.service, frozenset(hold.blocks), lambda: self.fenced(Fenced(number))
            )
            return
        link = self._link_to(hold.old_owner)
        if link is None:
            self._loop.call_soon(self.fenced, Fenced(number))
        else:
            link.say_after_events(Fence(number, placement.service, tuple(hold.blocks)))

    def fenced(self, message: Fenced) -> None:
        """Everything before that fence has ended."""
        moved = self._open.pop(message.number, None)
        if moved is not None:
            placement, hold = moved
            hold.fenced = True
            self._await_owner(placement, hold, self._loop.time() + OWNER_PATIENCE)

    def gone(self, node: str) -> None:
        """That node can answer no fence any more."""
        for number, (_, hold) in list(self._open.items()):
            if hold.old_owner == node:
                self.fenced(Fenced(number))

    def returned(self, link: Link, placement: Placement[Parcel], message: Moved) -> None:
        """The peer gives back events that it had not begun."""
        for envelope in message.envelopes:
            try:
                event = _decode_returned(envelope)
            except (DecodeError, RecursionError) as error:
                raise BadFrame(
                    "garbage", f"an event given back that can't be decoded ({error})"
                ) from error
            outlet = link.outlets.get(event.number)
            if outlet is None or not outlet.outstanding:
                raise BadFrame("garbage", "an event given back that was never sent")
            target: Target = outlet.target
            if target.placement is not placement or target.broadcast:
                raise BadFrame("garbage", "an event given back that was never sent")
            try:
                body = self._decode(target.event, bytes(event.payload))
            except (DecodeError, RecursionError):
                # The decoder's words may show a private value.
                detail = f"an event {target.event!r} given back that can't be decoded"
                raise BadFrame("garbage", detail) from None
            # Whoever owns the key now is not asked: it counts what it sheds.
            outlet.judged(event.sequence, "", 0.0)
            branch = outlet.children.pop(event.sequence, None)
            block, _ = placement.hold_for(target.key_of(body))
            parcel = Parcel(
                target,
                block,
                event.sequence,
                bytes(event.payload),
                body,
                _lineage(link, event.extras),
                event.credits,
                branch,
                event.extras.sent if event.extras else 0,
            )
            placement.give_back(parcel, link.node, message.owner)
            # Its room comes free only now, or what follows it would go there before it.
            outlet.acknowledged(1)

    def _await_owner(
        self, placement: Placement[Parcel], hold: Hold[Parcel], deadline: float
    ) -> None:
        """Go on when the new owner that was named is known here, or can't be known any more."""
        owner = hold.new_owner
        named = owner is not None and owner != hold.old_owner and not self._is_dead(owner)
        unknown = owner not in placement.nodes
        unmoved = all(placement.owner_of(block) == hold.old_owner for block in hold.blocks)
        if named and (unknown or unmoved) and self._loop.time() < deadline:
            self._loop.call_later(LOOK_AGAIN, self._await_owner, placement, hold, deadline)
        else:
            self.send_on(placement, hold)

    def send_on(self, placement: Placement[Parcel], hold: Hold[Parcel]) -> None:
        """Send what waits to the new owner, in order, as far as there is room."""
        self._decide()
        while waiting := hold.returned or hold.waiting:
            parcel = waiting[0]
            outlet = parcel.target.outlet_for(parcel.block)
            if outlet is None:
                waiting.popleft()
                self._lose(parcel.target, "owner unreachable")
                parcel.lose(self._node, "owner unreachable")
            elif outlet.room > 0:
                outlet.room -= 1
                waiting.popleft()
                if parcel.branch is not None:
                    outlet.children[parcel.sequence] = parcel.branch
                outlet.send(
                    parcel.sequence,
                    parcel.payload,
                    parcel.body,
                    parcel.lineage,
                    parcel.credits,
                    parcel.branch is not None,
                    parcel.sent,
                )
            else:
                outlet.line.join(HeldUp(self, placement, hold, outlet))
                self._flush()
                return
        self._flush()
        placement.release(hold)


class HeldUp:
    """What waits for a key that has moved, and now waits for room at its new owner."""

    __slots__ = ("_hold", "_moves", "_outlet", "_placement", "due")

    def __init__(
        self, moves: KeyMoves, placement: Placement[Parcel], hold: Hold[Parcel], outlet: Outlet
    ) -> None:
        self.due = math.inf
        self._moves = moves
        self._placement = placement
        self._hold = hold
        self._outlet = outlet

    def take(self, outlet: Outlet) -> None:
        """Send on as much as there is room for."""
        self._moves.send_on(self._placement, self._hold)

    def give_up(self) -> None:
        """It waits as long as its new owner is there."""

    def review(self) -> None:
        """The new owner may have gone, or be another."""
        waiting = self._hold.returned or self._hold.waiting
        if not waiting:
            self._outlet.line.leave(self)
            self._moves.send_on(self._placement, self._hold)
            return
        first = waiting[0]
        if self._outlet.closed or first.target.outlet_for(first.block) is not self._outlet:
            self._outlet.line.leave(self)
            self._moves.send_on(self._placement, self._hold)


def _lineage(link: Link, extras: Extras | None) -> Lineage | None:
    if extras is None:
        return None
    deadline = extras.deadline / 1000
    if not extras.path:
        if not deadline:
            return None
        return Lineage(
            None, "", 0, "", 0, deadline, extras.max_depth, extras.began / 1000, extras.trace
        )
    cause = root = link.told.name_of(extras.cause_node), extras.cause_sequence
    if extras.root_node >= 0:
        root = link.told.name_of(extras.root_node), extras.root_sequence
    path = link.told.path_of(extras.path)
    began = extras.began / 1000
    return Lineage(path, *cause, *root, deadline, extras.max_depth, began, extras.trace)
