"""What a node hears from its peers, and what it does about it."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, cast

import msgspec

from thence.app.hosting import Hosting
from thence.cascade.settlement import Tally
from thence.delivery.hosted import Subscription
from thence.delivery.outlets import NEVER, Outlet
from thence.delivery.reasons import UNDECODABLE
from thence.delivery.routes import RouteTable
from thence.delivery.tracking import Tracker, mark_tracked
from thence.errors import ConfigurationError
from thence.events.envelope import STALE, Arrival, Extras
from thence.mesh.frames import BadFrame
from thence.mesh.link import Departures, Link
from thence.mesh.messages import (
    PROTOCOL,
    Advice,
    Bye,
    ByeHeard,
    Ended,
    Fence,
    Fenced,
    Hello,
    Incompatible,
    Invalid,
    Judged,
    Message,
    Moved,
    Ready,
    Released,
    Settled,
    ShareAsked,
    ShareLent,
    Subscribed,
    Track,
)

__all__ = ["NodeTraffic"]

logger = logging.getLogger("thence")

MAX_TO_TRACK = 10_000
"""Root events whose tracking one peer may have asked for before they come."""

TRACKED_AT = Extras.__struct_fields__.index("tracked")
"""Where that stands among an envelope's extras."""

_decode_envelopes = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_number = msgspec.msgpack.Decoder(int).decode
_decode_numbers = msgspec.msgpack.Decoder(list[int]).decode


class NodeTraffic:
    """Implements :class:`thence.mesh.peers.Traffic`.

    :attr:`hosting` is to be set before anything arrives.
    """

    hosting: Hosting

    def __init__(
        self,
        node: str,
        name: str,
        *,
        now: Callable[[], float],
        tracker: Tracker,
        answers: Mapping[str, Callable[[bytes], bytes | Awaitable[bytes]]],
    ) -> None:
        self.address = ""
        """Where this node listens."""
        self.ready = False
        """Whether the services here take events."""
        self.leaving = False
        self.farewells: set[Link] = set()
        """Peers that have not heard yet that this node leaves."""
        self.invalid: Counter[str] = Counter()
        """Events that could not be decoded, by the name of the node that sent them."""
        self.departures: Departures = tracker
        self.beat: Callable[[], None] = _nothing
        self._node = node
        self._name = name
        self._now = now
        self._answers: Mapping[str, Callable[[bytes], bytes | Awaitable[bytes]]] = answers
        self._decode: Callable[[bytes], list[Arrival]] | None = None

    def serve(self, hosting: Hosting, table: RouteTable) -> None:
        """Lead what arrives to these services."""
        self.hosting, self.table = hosting, table
        self._process = hosting.dispatcher.process
        if hosting.subscriptions:
            # Not Union[...], which remembers its members, and all they hold, after this node's end.
            kinds: Any = None
            for subscription in hosting.subscriptions.values():
                arrival = cast(Any, subscription.arrival)
                kinds = arrival if kinds is None else kinds | arrival
            self._decode = msgspec.msgpack.Decoder[list[Arrival]](list[kinds]).decode

    def forget(self) -> None:
        """Nothing comes any more: let go of those that it was led to."""
        del self.hosting, self.table, self._process
        self._decode = None
        self.beat = _nothing
        self._answers = {}

    # -- who comes and goes

    def introduce(self) -> Hello:
        """This node, as of now."""
        subscribed = tuple(
            Subscribed(
                s.number,
                s.service.name,
                s.event.schema,
                s.window,
                s.broadcast,
                s.answers,
                s.patience,
                len(s.handlers),
                bool(s.spreading),
            )
            for s in self.hosting.subscriptions.values()
        )
        # Whoever comes while this node drains need not begin to send anything.
        ready = self.ready and not self.leaving
        return Hello(
            PROTOCOL,
            self._node,
            self._name,
            self.address,
            tuple(self.hosting.services),
            subscribed,
            ready,
            os.getpid(),
            self._now(),
        )

    def joined(self, link: Link) -> None:
        """A peer is there."""
        assert link.peer is not None
        self.table.add_link(link)
        if link.peer.ready:
            self._peer_ready(link)

    def left(self, link: Link, dead: bool) -> None:
        """A connection ended."""
        self.table.drop_link(link, dead)
        if dead:
            self.hosting.fleet.forget(link.node)
        self.farewells.discard(link)
        self.hosting.link_lost(link)
        assert link.peer is not None
        self._replicas_changed(link.peer.services)

    def died(self, node: str) -> None:
        """A peer has died whose connection had ended before."""
        services = self.table.services_of(node)
        self.table.forget(node)
        self.hosting.fleet.forget(node)
        self._replicas_changed(services)

    def congested(self, link: Link, congested: bool) -> None:
        """More waits on that link than its peer takes."""
        self.table.set_congested(link, congested)

    def answer(self, question: str, argument: bytes) -> bytes | Awaitable[bytes] | None:
        """What this node knows."""
        known = self._answers.get(question)
        return known(argument) if known is not None else None

    def _peer_ready(self, link: Link) -> None:
        assert link.peer is not None
        self.table.set_ready(link.node, frozenset(link.peer.services))
        self._replicas_changed(link.peer.services)

    def _replicas_changed(self, services: Iterable[str]) -> None:
        if self.ready:
            self.hosting.replicas_changed(services)

    # -- events

    def received(self, link: Link, batch: bytes) -> None:
        """A batch of events."""
        if self._decode is None:
            raise BadFrame("garbage", "events for a node that handles none")
        try:
            arrivals = self._decode(batch)
        except (msgspec.ValidationError, UnicodeDecodeError):
            arrivals = self._decode_one_by_one(link, batch)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadFrame("garbage", f"events that can't be decoded ({error})") from error
        if link.to_track:
            mark_tracked(arrivals, link.to_track)
        if link.stale:
            for arrival in arrivals:
                arrival.extras = arrival.extras or STALE
        self._process(link, arrivals)

    def _decode_one_by_one(self, link: Link, batch: bytes) -> list[Arrival]:
        """One bad event must not take the others of its frame with it."""
        assert self._decode is not None
        arrivals: list[Arrival] = []
        bad = 0
        try:
            envelopes = _decode_envelopes(batch)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadFrame("garbage", f"events that can't be decoded ({error})") from error
        for envelope in envelopes:
            try:
                arrivals += self._decode(b"\x91" + envelope)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                bad += 1
                subscription = self._give_up(link, envelope)
                if bad == 1:
                    detail = _undecodable(subscription, error)
                    logger.error("%s: %s from %r can't be decoded", self._name, detail, link)
        self.invalid[link.label] += bad
        link.say(Invalid(bad))
        return arrivals

    def _give_up(self, link: Link, envelope: msgspec.Raw) -> Subscription | None:
        """Tell the emitter of an event that makes no sense what it waits for, as far as the envelope can be read.

        :returns: what the event was sent for.
        """
        try:
            fields = _decode_envelopes(envelope)
            subscription = self.hosting.subscriptions[_decode_number(fields[0])]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError):
            return None
        number = subscription.number
        link.owe(number, 1, subscription.acknowledge_at)
        with suppress(msgspec.DecodeError, UnicodeDecodeError, LookupError):
            sequence = _decode_number(fields[1])
            if subscription.answers:
                link.judge(number, sequence, UNDECODABLE, NEVER)
            tracked = (number, sequence) in link.to_track
            link.to_track.discard((number, sequence))
            if tracked or _decode_numbers(fields[4])[TRACKED_AT]:
                link.settle(number, (sequence,), Tally(shed=len(subscription.handlers)))
        return subscription

    # -- messages

    def told(self, link: Link, message: Message) -> None:
        """A message that concerns events."""
        match message:
            case Ended(counts):
                _acknowledged(link, counts)
            case Judged(number, sequence, reason, wait):
                _outlet(link, number).judged(sequence, reason, wait)
            case Settled(reports):
                _settled(link, reports)
            case Track(number, sequence):
                if len(link.to_track) >= MAX_TO_TRACK:
                    link.to_track.clear()
                link.to_track.add((number, sequence))
            case Advice(number):
                try:
                    self.table.heed(_outlet(link, number), message, self._now())
                except ConfigurationError as error:
                    raise BadFrame("garbage", str(error)) from error
            case ShareAsked():
                self.hosting.fleet.asked(link, message)
            case ShareLent():
                self.hosting.fleet.lent(link, message)
            case Ready():
                self._peer_ready(link)
            case Fence(number, service, blocks):
                self.hosting.fence(
                    service, link, blocks, lambda: link.say_after_debts(Fenced(number))
                )
            case Fenced():
                self.table.moves.fenced(message)
            case Moved():
                self.table.returned(link, message)
            case Released(service):
                self.hosting.blocks_released(service)
            case Bye():
                self.table.set_leaving(link.node)
                assert link.peer is not None
                self._replicas_changed(link.peer.services)
                link.say_after_events(ByeHeard())
            case ByeHeard():
                self.farewells.discard(link)
            case Incompatible(service, event, reason):
                logger.error(
                    "%s: %r does not send event %r to service %r: %s",
                    self._name, link, event, service, reason,
                    extra={"fingerprint": f"{event} {service}"},
                )  # fmt: skip
            case Invalid(count):
                logger.error("%s: %r could not decode %d events from here", self._name, link, count)
            case _:
                raise BadFrame("garbage", f"an unexpected {type(message).__name__}")


def _nothing() -> None:
    """Nobody minds how time goes by."""


def _outlet(link: Link, number: int) -> Outlet:
    outlet: Outlet | None = link.outlets.get(number)
    if outlet is None:
        raise BadFrame("garbage", "something about events that were never sent")
    return outlet


def _acknowledged(link: Link, counts: tuple[int, ...]) -> None:
    if len(counts) % 2:
        raise BadFrame("garbage", "acknowledgements that are no pairs")
    for number, count in zip(counts[::2], counts[1::2], strict=True):
        outlet = _outlet(link, number)
        if not 0 < count <= outlet.outstanding:
            raise BadFrame("garbage", f"{count} acknowledgements of events that were never sent")
        outlet.acknowledged(count)


def _settled(link: Link, reports: tuple[tuple[int, tuple[int, ...], Tally], ...]) -> None:
    for number, sequences, tally in reports:
        _outlet(link, number).settled(sequences, tally)


def _undecodable(subscription: Subscription | None, error: Exception) -> str:
    """What can be told of an event whose values don't fit: the decoder's words may show one of them."""
    if subscription is None:
        return f"an event ({error})"
    spec = subscription.event
    if spec.private:
        return f"an event {spec.name!r} (it has private fields, so no more is shown)"
    return f"an event {spec.name!r} ({error})"
