"""One running node: the floors below, wired together. Made by :class:`thence.app.node.Node` at its start."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from thence.app.counting import Counting
from thence.app.hosting import Hosting
from thence.app.limits import LimitChange, apply_limit
from thence.app.loop_lag import LoopLag
from thence.app.losses import LossLog
from thence.app.service import Service
from thence.app.traffic import NodeTraffic
from thence.budget import Budget
from thence.cascade.loops import LoopMode
from thence.cascade.settlement import Branches
from thence.clock import stopwatch
from thence.delivery.about import EACH
from thence.delivery.consequences import ConsequenceEmits
from thence.delivery.emission import Emitter
from thence.delivery.loop_guard import LoopGuard
from thence.delivery.roots import RootEmits
from thence.delivery.routes import RouteTable
from thence.delivery.tracing import TracingConsequences, TracingOutlet, TracingRoots
from thence.delivery.tracking import Tracker
from thence.events import Catalog, Event, EventSpec
from thence.facts import GuardedObserver, Observer, Ring
from thence.histogram import Recent
from thence.mesh.discovery.contract import Descriptor, Discovery
from thence.mesh.messages import Bye, Ready
from thence.mesh.peers import NoAnswer, Peers
from thence.mesh.wires.contract import Wire
from thence.observability.former import FormerRun
from thence.observability.recorder_file import RecorderFile
from thence.observability.witness import Witness

__all__ = ["Runtime"]

Answer = TypeVar("Answer")

logger = logging.getLogger("thence")


class Runtime:
    """A node's parts, and how they come and go together."""

    def __init__(
        self,
        node: str,
        name: str,
        services: Sequence[Service],
        discovery: Discovery,
        wire_for: Callable[[str], Wire],
        answers: Mapping[str, Callable[[bytes], bytes | Awaitable[bytes] | None]],
        budget: Budget,
        loops: LoopMode,
        sample_share: float,
        recorder_bytes: int,
        recorder_age: float,
        recorder_file: str | None,
        traces: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        now = stopwatch(self._loop)
        self.node = node
        self.name = name
        self.discovery = discovery
        self.branches = Branches()
        self.tracker = Tracker(now, self.branches, sample_share)
        self.cascade_times = Recent(now)
        self.tracker.settled = self.cascade_times.note
        self.traffic = NodeTraffic(node, name, now=now, tracker=self.tracker, answers=answers)
        self.ring = Ring(recorder_bytes)
        self.recorder_file: RecorderFile | None = None
        self.witness = Witness(
            node,
            name,
            self.ring,
            lambda: self.services.values(),  # noqa: PLW0108 - made below
            self._spec_of,
            self._note_up,
            now,
            recorder_age,
            FormerRun(f"{recorder_file}.before") if recorder_file else None,
        )
        if recorder_file:
            self.recorder_file = RecorderFile(recorder_file, recorder_bytes, node, name, now())
            self.ring.keep(self.witness.keeper(self.recorder_file.write))
        self.peers = Peers(node, self.traffic, discovery, wire_for)
        catalog, guard = Catalog(), LoopGuard(loops)
        self.table = RouteTable(
            node,
            name,
            catalog,
            discovery.is_dead,
            lambda service, blocks, ended: self.hosting.fence_locally(service, blocks, ended),  # noqa: PLW0108 - made below
            self.peers.cork,
            budget,
            self.tracker,
        )
        self.emitter = Emitter(
            node,
            self.table,
            self.peers.cork,
            self.tracker,
            guard.paths,
            self.ring,
            TracingRoots if traces else RootEmits,
            TracingConsequences if traces else ConsequenceEmits,
        )
        if traces:
            self.table.outlet_to = TracingOutlet
        self.hosting = Hosting(
            name,
            services,
            catalog=catalog,
            discovery=discovery,
            peers=self.peers,
            table=self.table,
            emitter=self.emitter,
            tracker=self.tracker,
            loops=guard,
            ring=self.ring,
        )
        self.services = self.hosting.services
        self.dispatcher = self.hosting.dispatcher
        self.fleet = self.hosting.fleet
        self.traffic.serve(self.hosting, self.table)
        self.counting = Counting(
            node, name, self.hosting, self.table, self.emitter, guard, self.ring, now
        )
        self._losses = LossLog(name, self._count_losses)
        self.dispatcher.admission.lossy = self._losses.note
        self.emitter.tell_losses(self._losses.note)
        self.lag = LoopLag(now)
        self.traffic.beat = self._beat
        self.also_beat: Callable[[], None] | None = None
        """Called once a second, if somebody wants to be."""

    # -- coming and going

    async def join(self, address: str, *, within: float) -> None:
        """Listen, become visible, and meet the peers that are there."""
        self.traffic.address = await self.peers.listen(address)
        descriptor = Descriptor(
            self.node, self.name, self.traffic.address, tuple(self.services), os.getpid()
        )
        self.lag.start()
        await self.peers.join(descriptor, within=within)

    def open_doors(self) -> None:
        """The services take events from now on."""
        self.traffic.ready = True
        self.hosting.open()
        for link in self.peers.links.values():
            link.say(Ready())

    async def ask_everybody(
        self,
        question: str,
        argument: bytes = b"",
        *,
        timeout: float,
        decode: Callable[[bytes], Answer],
    ) -> tuple[list[Answer], list[str]]:
        """What all peers answer, and the names of those that are alive and did not answer in time, or not in a way
        that is understood here.
        """
        links = list(self.peers.links.values())
        unlinked = self.unlinked()
        replies = await asyncio.gather(
            *(self.peers.ask(link, question, argument, timeout=timeout) for link in links),
            return_exceptions=True,
        )
        answers: list[Answer] = []
        for link, reply in zip(links, replies, strict=True):
            assert link.peer is not None
            if isinstance(reply, bytes):
                try:
                    answers.append(decode(reply))
                except msgspec.DecodeError:
                    unlinked.append(link.peer.name)
            elif isinstance(reply, NoAnswer):
                unlinked.append(link.peer.name)
            else:
                raise reply
        return answers, sorted(unlinked)

    def unlinked(self) -> list[str]:
        """The names of nodes that are there and that there is no connection to."""
        peers = self.discovery.peers()
        return [peer.name for peer in peers if peer.node not in self.peers.links]

    async def drain(self, within: float) -> bool:
        """Take no new events, and end those that are here; whether that was done ``within`` seconds."""
        self.traffic.leaving = True
        self.emitter.stop()
        self.dispatcher.admission.queueing.close_batches()
        await self.discovery.withdraw()
        self.traffic.farewells = set(self.peers.links.values())
        for link in self.traffic.farewells:
            link.say_after_events(Bye())
        self.hosting.leave_to_others()
        deadline = self._loop.time() + within
        while self._is_busy() and self._loop.time() < deadline:
            await asyncio.sleep(0.002)
        self.fleet.close()
        return not self._is_busy()

    def _is_busy(self) -> bool:
        farewells = self.traffic.farewells
        farewells.intersection_update([link for link in farewells if link.established])
        # What its handlers have emitted is not lost with this node before others have ended it.
        awaited = bool(self.hosting.services) and self.table.is_outstanding
        return bool(farewells) or awaited or self.hosting.is_busy

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
        self.lag.close()
        self.hosting.close()
        self._losses.close()
        await self.peers.close()
        # Arrivals refer to where they came from, and the garbage collector does not see it: whoever keeps one, in
        # an error's traceback for instance, would keep all of this for ever.
        self.hosting.dissolve()
        self.tracker.forget()
        self.traffic.forget()
        self.ring.clear()
        if self.recorder_file is not None:
            self.recorder_file.close()

    # -- the operator's hand, and those who watch

    def set_limit(self, place: str, limit: str, by: str) -> LimitChange | None:
        """Hold other limits at a place from now on; None if it is not here.

        :raises ConfigurationError: they can't be kept there, or there is no such handler.
        """
        changed = apply_limit(self.services, place, limit, self.peers.now())
        if changed is None:
            return None
        before, after = changed
        for handler in self.hosting.handlers:
            self.dispatcher.admission.queueing.look_again(handler)
        if self.traffic.ready:
            self.fleet.start()
        logger.warning(
            "%s: limit of %s: %s → %s (set by %s)", self.name, place, before, after, by, extra=EACH
        )
        if self.dispatcher.observer is not None:
            self.dispatcher.observer.limit_changed(place, before, after, by)
        return LimitChange(self.name, place, before, after)

    def observe(self, observer: Observer | None) -> None:
        """Tell ``observer`` what happens from now on."""
        observer = None if observer is None else GuardedObserver(observer)
        self.emitter.observe(observer)
        self.dispatcher.observe(observer)

    def _spec_of(self, event: str) -> EventSpec[Event] | None:
        routes = self.table.routes.values()
        return next((route.spec for route in routes if route.spec.name == event), None)

    def _beat(self) -> None:
        self._note_up()
        self.counting.look()
        if self.also_beat is not None:
            self.also_beat()

    def _note_up(self) -> None:
        self.ring.digest()
        self.emitter.note_moment()

    def _count_losses(self) -> Counter[str]:
        """What was shed or not sent so far, by what and why."""
        losses: Counter[str] = Counter()
        for handler in self.hosting.handlers:
            for reason, count in handler.shed.items():
                losses[f"shed by {handler.place}: {reason}"] += count
        for (event, service_name, reason), count in self.emitter.refused.items():
            for_whom = f" to {service_name}" if service_name else ""
            losses[f"{event} not sent{for_whom}: {reason}"] += count
        return losses
