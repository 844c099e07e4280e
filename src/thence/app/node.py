"""The node: what a program starts to host services, to emit events, or both."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import msgspec

from thence.app.inquiry import Answers, ask_all, ask_peers_for
from thence.app.lifespans import RunningLifespan
from thence.app.limits import (
    LimitChange,
    LimitOrder,
    decode_order,
    note_elsewhere,
    parse_limits,
)
from thence.app.meshes import open_mesh
from thence.app.report import NodeReport, report_on
from thence.app.runtime import Runtime
from thence.app.service import Service
from thence.app.settings import Settings
from thence.budget import Budget
from thence.cascade.loops import LoopMode
from thence.clock import LoopClock
from thence.delivery.receipts import Receipt
from thence.delivery.roots import RootEmits
from thence.delivery.running import RUNNING, run_of
from thence.errors import ConfigurationError, NodeClosed
from thence.events import Event
from thence.facts import Observer
from thence.identifiers import new_node_id
from thence.observability.accounts import Question, decode_question
from thence.observability.noise import (
    Noise,
    NoiseQuestion,
    decode_noise,
    decode_noise_question,
    together,
)
from thence.observability.sightings import Sightings, decode_sightings

if TYPE_CHECKING:
    from thence.app.exporting import Exporting

__all__ = ["Node"]

logger = logging.getLogger("thence")

_decode_reply = msgspec.msgpack.Decoder[LimitChange | None](LimitChange | None).decode

MEET_WITHIN = 1.0
"""Seconds that a start waits for the peers already there."""
DRAIN_WITHIN = 4.0
"""Seconds after which a close cancels what is still running."""


class Node:
    """One member of a mesh. An async context manager; also :meth:`start` and :meth:`close`.

    :param services: what it hosts: nothing (a pure emitter), one, or many (a modular monolith).
    :param mesh: ``"local"`` (this machine), ``"local:PATH"`` or ``"memory:NAME"``.
    :param name: what people call it.
    :param listen: ``"tcp://host:port"``; by default a Unix socket of its own.
    :param budget: what the cascade of each event emitted here may use up; :class:`~thence.Budget` tells the
        default.
    :param loops: what becomes of events that come back to a handler through its own consequences more often than
        it allows: ``"enforce"`` cuts them, ``"warn"`` only logs the loop, ``"observe"`` only counts it.

    What is left out comes from the environment (``THENCE_MESH``, ...), then from ``thence.toml``.

    :raises ConfigurationError: an argument or a setting is wrong.
    """

    def __init__(
        self,
        *services: Service,
        mesh: str | None = None,
        name: str | None = None,
        listen: str | None = None,
        budget: Budget | None = None,
        loops: LoopMode | None = None,
    ) -> None:
        for service in services:
            if not isinstance(service, Service):
                raise ConfigurationError(f"Node({service!r}): pass Service objects")
        names = [service.name for service in services]
        if len(set(names)) < len(names):
            raise ConfigurationError(
                f"two services of one node share a name ({', '.join(sorted(names))}): rename one"
            )
        self._services = services
        self._settings = Settings.read().override(mesh=mesh, name=name, listen=listen, loops=loops)
        self._budget = _checked_budget(budget) or self._settings.cascade_budget()
        self._loops: LoopMode = self._settings.loop_mode()
        self.name = self._settings.name or f"{'+'.join(names) or 'emitter'}-{os.getpid()}"
        self._runtime: Runtime | None = None
        self._lifespans: list[RunningLifespan] = []
        self._recorder_file: str | None = None
        self._observer: Observer | None = None
        self._exporting: Exporting | None = None
        self._state = "not started"
        self._roots: RootEmits | None = None
        """Only while root events may be emitted."""
        self._closing: asyncio.Task[None] | None = None
        _nodes.add(self)

    async def start(self) -> None:
        """Join the mesh and begin to take events.

        Returns when the services are ready and the peers already there have been met, at most a second
        later than that takes.

        :raises ConfigurationError: a declaration or a setting is wrong.
        :raises NodeClosed: the node has been started before.
        """
        if self._state != "not started":
            raise NodeClosed(f"node {self.name!r} is {self._state}: make a new Node to start again")
        self._state = "starting"
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise
        self._state = "running"

    async def _start(self) -> None:
        export = self._settings.export_plan()
        if export is not None:
            from thence.observability.opentelemetry.spans import require

            require()
        identifier = new_node_id(LoopClock(asyncio.get_running_loop()).now())
        discovery, wire_for = open_mesh(self._settings.mesh, identifier)
        answers: dict[str, Callable[[bytes], bytes | Awaitable[bytes] | None]] = {
            "report": self._answer_report,
            "limit": self._answer_limit,
            "account": self._answer_account,
            "noise": self._answer_noise,
            "sightings": self._answer_sightings,
        }
        runtime = Runtime(
            identifier,
            self.name,
            self._services,
            discovery,
            wire_for,
            answers,
            self._budget,
            self._loops,
            self._settings.sample_share(),
            self._settings.recorder_bytes(),
            self._settings.recorder_seconds(),
            self._recorder_file,
            traces=export is not None,
        )
        self._runtime = runtime
        if export is not None:
            # Not before it is needed, as are the packages that it needs.
            from thence.app.exporting import Exporting

            self._exporting = exporting = Exporting(runtime, export)
            runtime.also_beat = exporting.beat
            answers |= exporting.answers()
        runtime.observe(self._observer)
        for place, limit in self._settings.limits.items():
            if runtime.set_limit(place, limit, "the settings") is None:
                note_elsewhere(self.name, place, runtime.services.values())
        # From now on: a lifespan may emit before its service is ready.
        self._roots = runtime.emitter.roots
        await runtime.join(
            self._settings.listen or discovery.default_address(identifier), within=MEET_WITHIN
        )
        self._check_starting()
        for service in self._services:
            if service.lifespan is not None:
                lifespan = RunningLifespan(service.lifespan, self, service.name)
                self._lifespans.append(lifespan)
                runtime.services[service.name].state = await lifespan.enter()
                self._check_starting()
        runtime.open_doors()

    def _check_starting(self) -> None:
        if self._state != "starting":
            raise NodeClosed(f"node {self.name!r} was closed while it started: make a new Node")

    async def close(self) -> None:
        """Leave the mesh: take no new events, end those that are here, and let go of everything.

        Runs still in flight after 4 s are cancelled. May be called in any task, and more than once.
        """
        if self._closing is None:
            if self._runtime is None or self._state == "forked":
                self._state = "closed"
                return
            self._state = "closing"
            self._roots = None
            self._closing = asyncio.create_task(self._close(self._runtime), name="thence closing")
        await asyncio.shield(self._closing)

    async def _close(self, runtime: Runtime) -> None:
        try:
            if not await runtime.drain(within=DRAIN_WITHIN):
                await runtime.cancel()
            # What arrives from now on would find its service's state gone.
            runtime.dispatcher.stop()
            if self._exporting is not None:
                await self._exporting.close()
            for lifespan in reversed(self._lifespans):
                try:
                    await lifespan.leave()
                except Exception:
                    logger.exception("%s: a lifespan failed while it was left", self.name)
        finally:
            self._state = "closed"
            await runtime.close()

    def emit(self, event: Event, *, budget: Budget | None = None) -> Coroutine[Any, Any, Receipt]:
        """Hand an event to every service that wants it. To be awaited.

        Returns when the event is accepted, never only when it is handled; waits while a receiver has no
        room. Called inside a handler, the event joins that handler's cascade and leaves at once.

        :param budget: what its cascade may use up, in place of the node's; inside a handler it can only be
            smaller than what is left.
        :raises ConfigurationError: ``budget`` is no :class:`~thence.Budget`.
        :raises InvalidEvent: its values don't fit its types.
        :raises PayloadTooLarge: it is over its type's byte budget.
        :raises UndeclaredEvent: a handler emits it that does not declare its type.
        :raises SchemaMismatch: nobody who wants it declares it compatibly.
        :raises NodeClosed: the node is not running, or belongs to the process this one was forked from.
        """
        if budget is not None:
            _checked_budget(budget)
        running = RUNNING.get()
        if running is None and self._roots is not None:
            return self._roots.emit(event, budget)
        runtime = self._runtime
        if running is None or runtime is None or self._state in ("forked", "closed"):
            self._refuse()
        return runtime.emitter.emit_joined(event, *run_of(running), budget)

    def _refuse(self) -> NoReturn:
        if self._state == "forked":
            raise NodeClosed(
                f"node {self.name!r} belongs to the process this one was forked from: start a Node of its own here"
            )
        remedy = (
            "make a new Node"
            if "clos" in self._state
            else "use 'async with Node(...)' or await node.start()"
        )
        raise NodeClosed(f"node {self.name!r} is {self._state}: {remedy}")

    def observe(self, observer: Observer | None) -> None:
        """Tell ``observer`` from now on what happens to events at this node."""
        self._observer = observer
        if self._runtime is not None:
            self._runtime.observe(observer)

    def record_to(self, path: str) -> None:
        """Keep what the flight recorder notes in a file too, as large as the setting ``recorder`` says: it outlives
        a crash. What the run before left there is told of beside it.

        To be called before the start, which raises :exc:`ConfigurationError` if there can be no such file.

        :raises NodeClosed: the node has been started.
        """
        if self._state != "not started":
            raise NodeClosed(
                f"node {self.name!r} is {self._state}: call record_to before its start"
            )
        self._recorder_file = path

    def report(self) -> NodeReport:
        """What this node is, whom it knows and what it has counted, as of now.

        :raises NodeClosed: it is not running.
        """
        if self._runtime is None:
            self._refuse()
        return report_on(self._runtime)

    def _answer_report(self, _argument: bytes) -> bytes:
        return self.report().encode()

    async def ask_peers(self, *, timeout: float = 1.0) -> tuple[list[NodeReport], list[str]]:
        """The reports of all peers, and the names of those that are there but did not answer in time.

        :raises NodeClosed: this node is not running.
        """
        runtime = self._runtime
        if runtime is None or self._state != "running":
            self._refuse()
        return await runtime.ask_everybody("report", timeout=timeout, decode=NodeReport.decode)

    async def ask_about(self, question: Question, *, timeout: float = 1.0) -> Answers:
        """What all nodes, this one included, remember of an event; :func:`thence.observability.assembly.assemble`
        makes a tree of it.

        :raises NodeClosed: this node is not running.
        """
        runtime = self._runtime
        if runtime is None or self._state != "running":
            self._refuse()
        return await ask_all(runtime, question, timeout)

    def _answer_account(self, argument: bytes) -> Awaitable[bytes] | None:
        try:
            question = decode_question(argument)
        except msgspec.DecodeError:
            return None
        return self._account(question)

    async def _account(self, question: Question) -> bytes:
        assert self._runtime is not None
        return (await self._runtime.witness.account(question)).encode()

    async def ask_noise(self, seconds: float, *, timeout: float = 1.0) -> Noise:
        """What all peers tell of the events of the last ``seconds``, 60 at most.

        :raises NodeClosed: this node is not running.
        """
        argument = msgspec.msgpack.encode(NoiseQuestion(seconds))
        answers, silent = await ask_peers_for(
            self._running(), "noise", argument, decode_noise, timeout
        )
        return together(seconds, answers, silent)

    async def _answer_noise(self, argument: bytes) -> bytes:
        assert self._runtime is not None
        noise = await self._runtime.counting.noise(decode_noise_question(argument))
        return noise.encode()

    async def ask_sightings(self, *, timeout: float = 1.0) -> tuple[list[Sightings], list[str]]:
        """What all peers have seen their handlers do, and the names of those that did not answer in time.

        :raises NodeClosed: this node is not running.
        """
        return await ask_peers_for(self._running(), "sightings", b"", decode_sightings, timeout)

    async def _answer_sightings(self, _argument: bytes) -> bytes:
        assert self._runtime is not None
        return (await self._runtime.counting.sightings()).encode()

    def _running(self) -> Runtime:
        runtime = self._runtime
        if runtime is None or self._state != "running":
            self._refuse()
        return runtime

    async def set_limit(
        self, place: str, limit: str, *, by: str, timeout: float = 1.0
    ) -> tuple[list[LimitChange], list[str]]:
        """Hold other limits at all replicas from now on, until they end.

        :param place: a handler as ``"service.handler"``, or a service.
        :param limit: as in ``"5/s per player"``, several separated by commas, or ``"off"``.
        :param by: who wants it, for the record.
        :returns: what was changed at each node, or why not (:attr:`LimitChange.refused`), and the names of
            nodes that did not answer in time.
        :raises ConfigurationError: the limit can't be understood; or nobody can keep it there or has such a
            handler, so that nothing was changed.
        :raises NodeClosed: this node is not running.
        """
        runtime = self._runtime
        if runtime is None or self._state != "running":
            self._refuse()
        parse_limits(limit)
        order = LimitOrder(place, limit, by)
        replies = [self._obey(order)]
        answers, silent = await runtime.ask_everybody(
            "limit", msgspec.msgpack.encode(order), timeout=timeout, decode=_decode_reply
        )
        replies += answers
        changes = [reply for reply in replies if reply is not None]
        if changes and not silent and all(change.refused for change in changes):
            raise ConfigurationError(changes[0].refused)
        return changes, silent

    def _answer_limit(self, argument: bytes) -> bytes:
        try:
            order = decode_order(argument)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return msgspec.msgpack.encode(LimitChange(self.name, "", "", "", str(error)))
        return msgspec.msgpack.encode(self._obey(order))

    def _obey(self, order: LimitOrder) -> LimitChange | None:
        assert self._runtime is not None
        try:
            return self._runtime.set_limit(order.place, order.limit, order.by)
        except ConfigurationError as error:
            return LimitChange(self.name, order.place, "", "", str(error))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Node {self.name!r} {self._state}>"

    def _forked(self) -> None:
        self._state = "forked"
        self._roots = None


def _checked_budget(budget: Budget | None) -> Budget | None:
    if budget is not None and not isinstance(budget, Budget):
        raise ConfigurationError(
            f"budget={budget!r}: give a Budget, as in budget=Budget(events=100)"
        )
    return budget


_nodes: weakref.WeakSet[Node] = weakref.WeakSet()


def _after_fork() -> None:
    for node in _nodes:
        node._forked()


os.register_at_fork(after_in_child=_after_fork)
