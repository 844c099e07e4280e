"""Which nodes of a mesh export the spans of which cascades.

Whoever notices that a cascade went wrong tells the node that emitted its root. That node asks all others, and itself,
to export theirs, once: a list of such requests, of which each peer is told what it has not heard yet. If the root's node
has gone, the one that noticed it takes its place.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from thence.app.export import Export
from thence.app.runtime import Runtime
from thence.cascade.settlement import Tally
from thence.delivery.tracing import TracingRoots
from thence.identifiers import EventId
from thence.mesh.link import Link
from thence.mesh.peers import NoAnswer
from thence.observability.opentelemetry.current import current_trace, with_current_span
from thence.observability.opentelemetry.exporter import MOST_WANTED, Exporter, Sighting

__all__ = ["Exporting"]

logger = logging.getLogger("thence")

MOST_A_SECOND = 100
"""Cascades whose spans one node has exported."""
AT_ONCE = 500
"""Cascades that one question names."""
ANSWER_WITHIN = 2.0
HEARD = b"heard"
TRIES = 3
OFTEN = 0.25
"""Seconds between looks at what is new, or less if that is much."""
SOON = 0.2
"""Seconds after which is seen to what somebody has noticed."""
FULL = 0.25
"""The share of the recorder that may become new between two looks."""
SOONEST = 0.02
"""How often a peer is asked that does not answer."""
END_WITHIN = 1.5
"""Seconds that the last spans of a node may take that closes."""

_decode_roots = msgspec.msgpack.Decoder[list[EventId]](list[EventId]).decode
_decode_sightings = msgspec.msgpack.Decoder[list[Sighting]](list[Sighting]).decode
_encode = msgspec.msgpack.encode


class Exporting:
    """The exporting of one running node."""

    def __init__(self, runtime: Runtime, export: Export) -> None:
        self._runtime = runtime
        self._export = export
        self._loop = asyncio.get_running_loop()
        self._exporter = Exporter(
            runtime.node,
            runtime.name,
            runtime.ring,
            runtime.peers.now,
            everything=export.everything,
            slower=export.slower,
            behind=self._behind,
        )
        self.left_out = 0
        """Anomalies that there were too many of."""
        self._allowance = float(MOST_A_SECOND)
        self._allowed_at = runtime.peers.now()
        self._noticed: dict[EventId, None] = {}
        """Roots of this node, or in its care, whose cascades turned out to be anomalies."""
        self._orders: deque[EventId] = deque(maxlen=MOST_WANTED)
        self._count = 0
        """How many orders there ever were."""
        self._ordered: dict[EventId, None] = {}
        self._heard: dict[str, int] = {}
        """By peer, how many of the orders it has heard of."""
        self._tries: dict[str, int] = {}
        self._raised = self._closes = False
        self._looked_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        roots = runtime.emitter.roots
        assert isinstance(roots, TracingRoots)
        roots.current_trace = current_trace
        roots.notes_each = export.everything
        for service in runtime.services.values():
            for handler in service.handlers:
                handler.call = with_current_span(
                    handler.call, handler.place, runtime.node, always=export.everything
                )
        if not export.everything:
            runtime.tracker.watch = self._judge
        self._look_within(OFTEN)

    def answers(self) -> dict[str, Callable[[bytes], bytes | Awaitable[bytes]]]:
        """The questions that peers may ask."""
        return {"anomaly": self._answer_anomaly, "export": self._answer_export}

    def beat(self) -> None:
        """About a second has passed."""
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._turn(), name="thence export")

    async def close(self) -> None:
        """Export what is left to be."""
        self._closes = True
        if self._timer is not None:
            self._timer.cancel()
        self._runtime.emitter.note_moment()
        try:
            async with asyncio.timeout(END_WITHIN):
                if self._task is not None and not self._task.done():
                    await self._task
                await self._turn()
                await self._flush()
        except TimeoutError:
            logger.warning("%s: some spans may not have been exported", self._runtime.name)

    def _look_within(self, seconds: float) -> None:
        due = self._loop.time() + seconds
        if self._closes or (self._timer is not None and self._timer.when() <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._look_early)

    def _look_early(self) -> None:
        self._timer = None
        self.beat()

    async def _flush(self) -> None:
        if self._exporter.maker.made:
            await asyncio.to_thread(self._exporter.maker.flush)

    # -- what turned out to be an anomaly

    def _judge(self, event_id: str, seconds: float, tally: Tally) -> None:
        """A tracked cascade has ended."""
        if tally.failed or tally.cut or tally.lost or seconds > self._export.slower:
            self._notice([EventId.parse(event_id)])

    def _notice(self, roots: Iterable[EventId]) -> None:
        for root in roots:
            if root not in self._ordered and len(self._noticed) < MOST_WANTED:
                self._noticed[root] = None
        if self._noticed:
            self._look_within(SOON)

    async def _turn(self) -> None:
        try:
            found = await self._exporter.look()
            mine = [root for root in found if root not in self._ordered]
            for node, roots in self._by_node(mine).items():
                if node == self._runtime.node or not await self._pass_on(node, roots):
                    self._noticed |= dict.fromkeys(roots)
            noticed, self._noticed = self._noticed, {}
            await self._tell(self._order(noticed))
            self._look_before_it_is_overwritten()
        except Exception:
            if not self._raised:
                self._raised = True
                logger.exception(
                    "%s: the export of spans has raised, which may have lost some; this is logged once",
                    self._runtime.name,
                )

    def _look_before_it_is_overwritten(self) -> None:
        now = self._loop.time()
        since, self._looked_at = now - self._looked_at, now
        fill = self._exporter.fill
        self._look_within(min(OFTEN, max(SOONEST, since * FULL / fill)) if fill else OFTEN)

    def _by_node(self, roots: Iterable[EventId]) -> dict[str, list[EventId]]:
        """By the node whose business they are, as many as may be told of."""
        found: dict[str, list[EventId]] = {}
        count = 0
        for root in roots:
            if count >= MOST_A_SECOND:
                self._leave_out()
                continue
            count += 1
            links = self._runtime.peers.links
            alive = root.node == self._runtime.node or root.node in links
            # All who notice it think of the same one.
            node = root.node if alive else min((self._runtime.node, *links))
            found.setdefault(node, []).append(root)
        return found

    async def _pass_on(self, node: str, roots: list[EventId]) -> bool:
        """Tell the node whose business it is. Whether it will see to it."""
        link = self._runtime.peers.links.get(node)
        if link is None:
            return False
        try:
            answer = await self._runtime.peers.ask(
                link, "anomaly", _encode(roots), timeout=ANSWER_WITHIN
            )
        except NoAnswer:
            return False
        return answer == HEARD

    def _answer_anomaly(self, argument: bytes) -> bytes:
        if self._closes:
            return b""
        self._notice(_decode_roots(argument))
        return HEARD

    # -- having it exported

    def _order(self, roots: Iterable[EventId]) -> list[EventId]:
        """Those that may be exported."""
        now = self._runtime.peers.now()
        earned = (now - self._allowed_at) * MOST_A_SECOND
        self._allowance = min(float(MOST_A_SECOND), self._allowance + earned)
        self._allowed_at = now
        fresh: list[EventId] = []
        for root in roots:
            if root in self._ordered:
                continue
            if self._allowance < 1:
                self._leave_out()
                continue
            self._allowance -= 1
            self._orders.append(root)
            self._ordered[root] = None
            fresh.append(root)
        self._count += len(fresh)
        while len(self._ordered) > MOST_WANTED:
            del self._ordered[next(iter(self._ordered))]
        return fresh

    async def _tell(self, fresh: list[EventId]) -> None:
        """Have peers export what they have not heard of yet, and this node what is new."""
        links = list(self._runtime.peers.links.values())
        self._heard = {link.node: self._heard.get(link.node, 0) for link in links}
        self._tries = {node: self._tries.get(node, 0) for node in self._heard}
        asked = [self._ask(link) for link in links if self._heard[link.node] < self._count]
        if not fresh and not asked:
            return
        sightings, *others = await asyncio.gather(self._exporter.recall(fresh), *asked)
        for one in others:
            sightings += one
        self._exporter.send_roots(fresh, sightings)

    async def _ask(self, link: Link) -> list[Sighting]:
        count = self._count
        unheard = count - self._heard[link.node]
        roots = list(self._orders)[-unheard:]
        sightings: list[Sighting] = []
        try:
            for start in range(0, len(roots), AT_ONCE):
                argument = _encode(roots[start : start + AT_ONCE])
                answer = await self._runtime.peers.ask(
                    link, "export", argument, timeout=ANSWER_WITHIN
                )
                sightings += _decode_sightings(answer)
        except (NoAnswer, msgspec.DecodeError):
            self._tries[link.node] += 1
            if self._tries[link.node] < TRIES:
                return sightings
        self._heard[link.node] = count
        self._tries[link.node] = 0
        return sightings

    async def _answer_export(self, argument: bytes) -> bytes:
        sightings = await self._exporter.recall(_decode_roots(argument))
        if self._closes:
            await self._flush()
        return _encode(sightings)

    def _leave_out(self) -> None:
        self.left_out += 1
        if self.left_out == 1:
            logger.warning(
                "%s: more than %d cascades a second fail, are cut or are slow: the spans of the others are not "
                "exported. 'thence trace' tells of each as long as the recorder remembers it; this is logged once",
                self._runtime.name,
                MOST_A_SECOND,
            )

    def _behind(self, node: str) -> float:
        """Stopwatches of one machine agree, so what is not known is no more than that."""
        link = self._runtime.peers.links.get(node)
        return link.behind if link is not None and math.isfinite(link.behind) else 0.0
