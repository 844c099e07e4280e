"""One running node: the floors below, wired together. Made by :class:`thence.app.node.Node` at its start."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Union

import msgspec
from msgspec.structs import replace

from thence.app.context import Context
from thence.app.limits import LimitChange, apply_limit
from thence.app.losses import LossLog
from thence.app.service import Service
from thence.budget import Budget
from thence.cascade.loops import LoopMode
from thence.cascade.settlement import Branches, Tally
from thence.cascade.times import RecentTimes
from thence.clock import LoopClock, stopwatch
from thence.delivery.dispatch import Dispatcher
from thence.delivery.emission import Emitter, undeclared
from thence.delivery.fleet import Fleet, FleetGate
from thence.delivery.hosted import HostedHandler, HostedService, Subscription
from thence.delivery.loop_guard import LoopGuard
from thence.delivery.outlets import EMIT_PATIENCE, LocalOutlet
from thence.delivery.ownership import Ownership
from thence.delivery.routes import RouteTable
from thence.delivery.tracking import Tracker
from thence.errors import ConfigurationError
from thence.events import Event, spec_of
from thence.events.catalog import Catalog
from thence.events.envelope import STALE, TRACKED, Arrival, due_of, event_id_of, full_lineage_of
from thence.events.lineage import Path
from thence.facts import Observer
from thence.flow.limit import RateGate, gate_for
from thence.limits import Limit
from thence.mesh.discovery.contract import Descriptor, Discovery
from thence.mesh.frames import BadFrame
from thence.mesh.link import Link
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
from thence.mesh.peers import NoAnswer, Peers
from thence.mesh.wires.contract import Wire
from thence.routing.replicas import block_of

__all__ = ["Runtime"]

logger = logging.getLogger("thence")

MAX_TO_TRACK = 10_000
"""Root events whose tracking one peer may have asked for before they come."""

_encode = msgspec.msgpack.Encoder().encode
_decode_envelopes = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_number = msgspec.msgpack.Decoder(int).decode


class LocalSource:
    """Where arrivals come from that this node itself emitted."""

    def __init__(self, node: str, name: str) -> None:
        self.node = node
        self.label = name
        self.read_at = 0.0
        self.sent_at = 0.0
        self.outlets: dict[int, LocalOutlet] = {}
        self.to_track: set[tuple[int, int]] = set()
        """Root events in the line that are to be tracked: subscription and sequence number."""

    def moment(self, milliseconds: int) -> float:
        """The same stopwatch."""
        return milliseconds / 1000

    def settle(self, number: int, sequence: int, tally: Tally) -> None:
        """Tell whoever waits for it at this node."""
        self.outlets[number].settled(sequence, tally)

    def judge(self, number: int, sequence: int, reason: str, wait: float) -> None:
        """Tell the emitter of this node."""
        self.outlets[number].judged(sequence, reason, wait)

    def advise(self, advice: Advice) -> None:
        """Between here and here nothing is saved by it."""

    def name_of(self, number: int) -> str:
        """Local arrivals carry their lineage whole."""
        raise LookupError(number)

    def path_of(self, number: int) -> Path:
        """The same."""
        raise LookupError(number)

    def owe(self, number: int, count: int, at_once: int) -> None:
        """Acknowledge at once: there is nobody to wait for."""
        self.outlets[number].acknowledged(count)


class Runtime:
    """Implements :class:`thence.mesh.peers.Traffic`."""

    def __init__(
        self,
        node: str,
        name: str,
        services: Sequence[Service],
        discovery: Discovery,
        wire_for: Callable[[str], Wire],
        answers: Mapping[str, Callable[[bytes], bytes]],
        budget: Budget,
        loops: LoopMode,
        sample_share: float,
    ) -> None:
        self.node = node
        self.name = name
        self.ready = False
        self.invalid: Counter[str] = Counter()
        """Events that could not be decoded, by the name of the node that sent them."""
        self.discovery = discovery
        self.branches = Branches()
        self.tracker = Tracker(stopwatch(asyncio.get_running_loop()), self.branches, sample_share)
        self.cascade_times = RecentTimes(stopwatch(asyncio.get_running_loop()))
        self.tracker.settled = self.cascade_times.note
        self.departing = self.tracker.decide
        self.peers = Peers(node, self, discovery, wire_for)
        self._catalog = Catalog()
        cork = self.peers.cork
        self.table = RouteTable(
            node,
            name,
            self._catalog,
            discovery.is_dead,
            self._fence_locally,
            cork,
            budget,
            self.tracker,
        )
        guard = LoopGuard(loops)
        self.emitter = Emitter(node, self.table, cork, self.tracker, guard.paths)
        self.dispatcher = Dispatcher(
            cork,
            self.emitter.emit_consequences,
            self._make_context,
            self._give_back,
            self.branches,
            guard,
            name,
        )
        self.services: dict[str, HostedService] = {}
        self.fleet = Fleet(
            node,
            self.services,
            discovery.block_locks,
            self._replica_links,
            self.dispatcher.admission.queueing.look_again,
        )
        self.address = ""
        self._clock = LoopClock(asyncio.get_running_loop())
        self._answers = answers
        self._loop = asyncio.get_running_loop()
        self._subscriptions: dict[int, Subscription] = {}
        self._local = LocalSource(node, "+".join(s.name for s in services) or name)
        self._local_line: list[Arrival] = []
        self._farewells: set[Link] = set()
        self._leaving = False
        self._losses = LossLog(name, self._count_losses)
        self.dispatcher.admission.lossy = self.emitter.lossy = self._losses.note
        try:
            for service in services:
                self._host(service)
        except BaseException:
            self.dispatcher.stop()
            raise
        self._decode: Callable[[bytes], list[Arrival]] | None = None
        if self._subscriptions:
            kinds: Any = Union[tuple(s.arrival for s in self._subscriptions.values())]  # noqa: UP007
            self._decode = msgspec.msgpack.Decoder[list[Arrival]](list[kinds]).decode

    # -- coming and going

    async def join(self, address: str, *, within: float) -> None:
        """Listen, become visible, and meet the peers that are there."""
        self.address = await self.peers.listen(address)
        descriptor = Descriptor(
            self.node, self.name, self.address, tuple(self.services), os.getpid()
        )
        await self.peers.join(descriptor, within=within)

    def open_doors(self) -> None:
        """The services take events from now on."""
        self.ready = True
        self.table.set_ready(self.node, frozenset(self.services))
        for service in self.services.values():
            self._update_ownership(service)
        self.fleet.start()
        for link in self.peers.links.values():
            link.say(Ready())

    async def ask_everybody(
        self, question: str, argument: bytes = b"", *, timeout: float
    ) -> tuple[list[bytes], list[str]]:
        """What all peers answer, and the names of those that are alive and did not answer in time."""
        links = list(self.peers.links.values())
        unlinked = [
            peer.name for peer in self.discovery.peers() if peer.node not in self.peers.links
        ]
        replies = await asyncio.gather(
            *(self.peers.ask(link, question, argument, timeout=timeout) for link in links),
            return_exceptions=True,
        )
        answers: list[bytes] = []
        for link, reply in zip(links, replies, strict=True):
            if isinstance(reply, bytes):
                answers.append(reply)
            elif isinstance(reply, NoAnswer):
                assert link.peer is not None
                unlinked.append(link.peer.name)
            else:
                raise reply
        return answers, sorted(unlinked)

    async def drain(self, within: float) -> bool:
        """Take no new events, and end those that are here; whether that was done ``within`` seconds."""
        self._leaving = True
        self.emitter.stop()
        await self.discovery.withdraw()
        self._farewells = set(self.peers.links.values())
        for link in self._farewells:
            link.say_after_events(Bye())
        others = {name for name in self.services if self.table.replicas(name) - {self.node}}
        if others:
            self.table.set_ready(self.node, frozenset(self.services) - others)
            for name in others:
                self.table.place(name)
                self._update_ownership(self.services[name])
        deadline = self._loop.time() + within
        while self._is_busy() and self._loop.time() < deadline:
            await asyncio.sleep(0.002)
        self.fleet.close()
        return not self._is_busy()

    async def cancel(self) -> None:
        """Cancel the runs that are still in flight, and give them a moment to end."""
        tasks = self.dispatcher.cancel()
        if tasks:
            logger.warning(
                "%s: %d handler runs cancelled at the end of the drain", self.name, len(tasks)
            )
            await asyncio.wait(tasks, timeout=0.5)

    async def close(self) -> None:
        """Let go of everything."""
        self.dispatcher.stop()
        self.fleet.close()
        self._losses.close()
        for service in self.services.values():
            if service.ownership is not None:
                service.ownership.close()
            for handler in service.handlers:
                handler.close()
        await self.peers.close()

    def set_limit(self, place: str, limit: str, by: str) -> LimitChange | None:
        """Hold other limits at a place from now on; None if it is not here.

        :raises ConfigurationError: they can't be kept there, or there is no such handler.
        """
        changed = apply_limit(self.services, place, limit, self.peers.now())
        if changed is None:
            return None
        before, after = changed
        for service in self.services.values():
            for handler in service.handlers:
                self.dispatcher.admission.queueing.look_again(handler)
        if self.ready:
            self.fleet.start()
        logger.warning("%s: limit of %s: %s → %s (set by %s)", self.name, place, before, after, by)
        if self.dispatcher.observer is not None:
            self.dispatcher.observer.limit_changed(place, before, after, by)
        return LimitChange(self.name, place, before, after)

    def observe(self, observer: Observer | None) -> None:
        """Tell ``observer`` what happens from now on."""
        self.emitter.observer = observer
        self.dispatcher.observe(observer)

    def _count_losses(self) -> Counter[str]:
        """What was shed or not sent so far, by what and why."""
        losses: Counter[str] = Counter()
        for service in self.services.values():
            for handler in service.handlers:
                for reason, count in handler.shed.items():
                    losses[f"shed by {service.name}.{handler.name}: {reason}"] += count
        for (event, service_name, reason), count in self.emitter.refused.items():
            for_whom = f" to {service_name}" if service_name else ""
            losses[f"{event} not sent{for_whom}: {reason}"] += count
        return losses

    def _is_busy(self) -> bool:
        self._farewells = {link for link in self._farewells if link.established}
        return bool(
            self._farewells
            or self._local_line
            or any(service.unfinished for service in self.services.values())
        )

    # -- the services

    def _host(self, service: Service) -> None:
        hosted = HostedService(service.name, service.concurrency, service.limits, self._make_gate)
        self.services[service.name] = hosted
        wanted: dict[tuple[type[Event], bool], list[HostedHandler]] = {}
        for spec in service.handlers:
            handler = HostedHandler(spec, hosted, self.dispatcher.expired)
            hosted.handlers.append(handler)
            for event in spec.events:
                self._catalog.add(event)
                wanted.setdefault((event, spec.policy.broadcast), []).append(handler)
            for event in handler.declared:
                self._catalog.add(event)
        for (event, broadcast), handlers in wanted.items():
            number = len(self._subscriptions)
            subscription = Subscription(spec_of(event), number, hosted, handlers, broadcast)
            self._subscriptions[number] = subscription
            hosted.subscriptions.append(subscription)
            outlet = LocalOutlet(
                self.node,
                subscription.window,
                subscription.arrival,
                self._enqueue_locally,
                partial(self._track_locally, number),
                subscription.answers,
                len(handlers),
                bool(subscription.spreading),
            )
            outlet.patience = min(subscription.patience or EMIT_PATIENCE, EMIT_PATIENCE)
            self._local.outlets[number] = outlet
            self.table.add_local(subscription.event.name, service.name, broadcast, outlet)
        if any(subscription.owned for subscription in hosted.subscriptions):
            hosted.ownership = Ownership(
                service.name,
                self.node,
                self.discovery.block_locks(service.name),
                admit=self.dispatcher.admission.admit,
                changed=hosted.refresh,
                gained=lambda blocks: self.fleet.taken_over(hosted, blocks),
                released=lambda: self._tell_released(service.name),
            )
        for handler in hosted.handlers:
            for event in handler.declared:
                self.table.route(spec_of(event))

    def _make_gate(self, limit: Limit) -> RateGate:
        if limit.scope == "service" and limit.per is None:
            return FleetGate(limit, self.node)
        return gate_for(limit)

    def _replica_links(self, service: str) -> list[Link]:
        """Also to those that are about to leave, as one of them may lend shares until it has gone."""
        links = self.peers.links.values()
        return [link for link in links if link.peer is not None and service in link.peer.services]

    def _update_ownership(self, service: HostedService) -> None:
        ownership = service.ownership
        if ownership is None:
            return
        blocks = [
            block_of(getattr(arrival.body, arrival.subscription.key))
            for arrival in service.unfinished
            if arrival.subscription.owned
        ]
        for arrival in ownership.update(self.table.replicas(service.name), blocks):
            self.dispatcher.admission.give_up(arrival)
        self.dispatcher.admission.wake()

    def _tell_released(self, service: str) -> None:
        for node in self.table.replicas(service) - {self.node}:
            link = self.peers.links.get(node)
            if link is not None:
                link.say(Released(service))

    def _give_back(self, arrival: Arrival, owner: str) -> None:
        subscription: Subscription = arrival.subscription
        source = arrival.source
        if source is self._local:
            outlet = self._local.outlets[subscription.number]
            outlet.acknowledged(1)
            outlet.judged(arrival.sequence, "", 0.0)
            self.table.returned_locally(
                subscription.event.name,
                subscription.service.name,
                owner,
                arrival,
                full_lineage_of(arrival),
            )
            return
        arrival.lineage = arrival.source = arrival.since = arrival.due = None
        envelope = msgspec.Raw(_encode(arrival))
        source.say(Moved(subscription.service.name, owner, (envelope,)))

    def _fence_locally(self, service: str, ended: Callable[[], None]) -> None:
        hosted = self.services.get(service)
        if hosted is None:
            self._loop.call_soon(ended)
        else:
            # What was emitted in this tick is still in the local line.
            self._loop.call_soon(self.dispatcher.admission.fence, hosted, self._local, ended)

    def _make_context(self, handler: HostedHandler, arrival: Arrival) -> Context:
        def check(event: Event) -> None:
            if event.__class__ not in handler.declared:
                raise undeclared(event, handler)

        return Context(
            event_id=event_id_of(arrival),
            lineage=full_lineage_of(arrival),
            source=arrival.source.label,
            state=handler.service.state,
            check=check,
            logger=logging.getLogger(f"thence.service.{handler.service.name}"),
            clock=self._clock,
            due=due_of(arrival),
            credits=self.emitter.credits_of(handler, arrival),
        )

    # -- local arrivals

    def _enqueue_locally(self, arrival: Arrival) -> None:
        if not self._local_line:
            self._loop.call_soon(self._process_locally)
        self._local_line.append(arrival)

    def _track_locally(self, number: int, sequence: int) -> None:
        self._local.to_track.add((number, sequence))

    def _process_locally(self) -> None:
        self.departing()
        line, self._local_line = self._local_line, []
        self._local.sent_at = self.peers.now()
        if self._local.to_track:
            _mark_wanted(line, self._local.to_track)
            self._local.to_track.clear()
        with self.peers.cork:
            self.dispatcher.process(self._local, line)

    # -- Traffic

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
            for s in self._subscriptions.values()
        )
        # Whoever comes while this node drains need not begin to send anything.
        ready = self.ready and not self._leaving
        return Hello(
            PROTOCOL,
            self.node,
            self.name,
            self.address,
            tuple(self.services),
            subscribed,
            ready,
            os.getpid(),
            self.peers.now(),
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
            self.fleet.forget(link.node)
        self._farewells.discard(link)
        for service in self.services.values():
            if service.ownership is not None:
                service.ownership.fenced(link)
        assert link.peer is not None
        self._replicas_changed(link.peer.services)

    def died(self, node: str) -> None:
        """A peer has died whose connection had ended before."""
        services = self.table.services_of(node)
        self.table.forget(node)
        self.fleet.forget(node)
        self._replicas_changed(services)

    def received(self, link: Link, batch: bytes) -> None:
        """A batch of events."""
        if self._decode is None:
            raise BadFrame("garbage", "events for a node that handles none")
        try:
            arrivals = self._decode(batch)
        except msgspec.ValidationError:
            arrivals = self._decode_one_by_one(link, batch)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadFrame("garbage", f"events that can't be decoded ({error})") from error
        if link.to_track:
            _mark_wanted(arrivals, link.to_track)
        if link.stale:
            for arrival in arrivals:
                arrival.extras = arrival.extras or STALE
        self.dispatcher.process(link, arrivals)

    def _decode_one_by_one(self, link: Link, batch: bytes) -> list[Arrival]:
        """One bad event must not take the others of its frame with it."""
        assert self._decode is not None
        arrivals: list[Arrival] = []
        bad = 0
        try:
            envelopes = _decode_envelopes(batch)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadFrame("garbage", f"events that can't be decoded ({error})") from error
        for envelope in envelopes:
            try:
                arrivals += self._decode(b"\x91" + envelope)
            except (msgspec.DecodeError, RecursionError) as error:
                bad += 1
                subscription = self._subscription_of(envelope)
                if subscription is not None:
                    # Its emitter counts on the room that it took.
                    link.owe(subscription.number, 1, subscription.acknowledge_at)
                if bad == 1:
                    detail = _undecodable(subscription, error)
                    logger.error("%s: %s from %r can't be decoded", self.name, detail, link)
        self.invalid[link.label] += bad
        link.say(Invalid(bad))
        return arrivals

    def _subscription_of(self, envelope: msgspec.Raw) -> Subscription | None:
        """What an event that makes no sense was sent for, if it tells at least that."""
        try:
            return self._subscriptions.get(_decode_number(_decode_envelopes(envelope)[0]))
        except (msgspec.DecodeError, RecursionError, LookupError):
            return None

    def _acknowledged(self, link: Link, counts: tuple[int, ...]) -> None:
        if len(counts) % 2:
            raise BadFrame("garbage", "acknowledgements that are no pairs")
        for number, count in zip(counts[::2], counts[1::2], strict=True):
            outlet = link.outlets.get(number)
            if outlet is None or not 0 < count <= outlet.outstanding:
                raise BadFrame(
                    "garbage", f"{count} acknowledgements of events that were never sent"
                )
            outlet.acknowledged(count)

    def _settled(self, link: Link, reports: tuple[tuple[int, int, Tally], ...]) -> None:
        for number, sequence, tally in reports:
            outlet = link.outlets.get(number)
            if outlet is None:
                raise BadFrame("garbage", "a report on an event that was never sent")
            outlet.settled(sequence, tally)

    def told(self, link: Link, message: Message) -> None:
        """A message that concerns events."""
        match message:
            case Ended(counts):
                self._acknowledged(link, counts)
            case Judged(number, sequence, reason, wait):
                judged = link.outlets.get(number)
                if judged is None:
                    raise BadFrame("garbage", "a verdict on an event that was never sent")
                judged.judged(sequence, reason, wait)
            case Advice(number):
                advised = link.outlets.get(number)
                if advised is None:
                    raise BadFrame("garbage", "advice about what was never sent")
                try:
                    self.table.heed(advised, message, self.peers.now())
                except ConfigurationError as error:
                    raise BadFrame("garbage", str(error)) from error
            case Settled(reports):
                self._settled(link, reports)
            case Track(number, sequence):
                if len(link.to_track) >= MAX_TO_TRACK:
                    link.to_track.clear()
                link.to_track.add((number, sequence))
            case ShareAsked():
                self.fleet.asked(link, message)
            case ShareLent():
                self.fleet.lent(link, message)
            case Ready():
                self._peer_ready(link)
            case Fence(number, service):
                hosted = self.services.get(service)
                if hosted is None:
                    link.say(Fenced(number))
                else:
                    self.dispatcher.admission.fence(
                        hosted, link, lambda: link.say_after_debts(Fenced(number))
                    )
            case Fenced():
                self.table.moves.fenced(message)
            case Moved(service):
                self.table.returned(link, message)
            case Released(service):
                hosted = self.services.get(service)
                if hosted is not None and hosted.ownership is not None:
                    hosted.ownership.take()
                    self.dispatcher.admission.wake()
            case Bye():
                self.table.set_leaving(link.node)
                assert link.peer is not None
                self._replicas_changed(link.peer.services)
                link.say_after_events(ByeHeard())
            case ByeHeard():
                self._farewells.discard(link)
            case Incompatible(service, event, reason):
                logger.error(
                    "%s: %r does not send event %r to service %r: %s",
                    self.name,
                    link,
                    event,
                    service,
                    reason,
                )
            case Invalid(count):
                logger.error("%s: %r could not decode %d events from here", self.name, link, count)
            case _:
                raise BadFrame("garbage", f"an unexpected {type(message).__name__}")

    def congested(self, link: Link, congested: bool) -> None:
        """More waits on that link than its peer takes."""
        self.table.set_congested(link, congested)

    def answer(self, question: str, argument: bytes) -> bytes | None:
        """What this node knows."""
        known = self._answers.get(question)
        return known(argument) if known is not None else None

    def _peer_ready(self, link: Link) -> None:
        assert link.peer is not None
        self.table.set_ready(link.node, frozenset(link.peer.services))
        self._replicas_changed(link.peer.services)

    def _replicas_changed(self, services: Sequence[str] | frozenset[str]) -> None:
        if self.ready:
            for name in services:
                hosted = self.services.get(name)
                if hosted is not None:
                    self._update_ownership(hosted)


def _mark_wanted(arrivals: list[Arrival], wanted: set[tuple[int, int]]) -> None:
    """Note which root events the peer wants tracked."""
    for arrival in arrivals:
        key = (arrival.subscription.number, arrival.sequence)
        if key in wanted:
            wanted.remove(key)
            arrival.extras = (
                TRACKED if arrival.extras is None else replace(arrival.extras, tracked=1)
            )


def _undecodable(subscription: Subscription | None, error: Exception) -> str:
    """What can be told of an event whose values don't fit: the decoder's words may show one of them."""
    if subscription is None:
        return f"an event ({error})"
    spec = subscription.event
    if spec.private:
        return f"an event {spec.name!r} (it has private fields, so no more is shown)"
    return f"an event {spec.name!r} ({error})"
