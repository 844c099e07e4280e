"""Keeping one link to every peer of the mesh.

A newcomer knocks at everybody it finds; those who were there first need not look for it. If both dial at
once, the connection dialled by the node with the lower id stays. A lost link is dialled again, with
jittered backoff, until the peer is back or certainly dead.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Protocol

from thence.clock import stopwatch
from thence.errors import ConfigurationError, ThenceError
from thence.mesh.cork import Cork
from thence.mesh.discovery.contract import Descriptor, Discovery
from thence.mesh.link import Departures, Link
from thence.mesh.messages import Answer, Ask, Hello, Message
from thence.mesh.wires.contract import Wire

__all__ = ["NoAnswer", "Peers", "Traffic"]

logger = logging.getLogger("thence.mesh")

MAX_ANSWERING = 32
"""Questions that are being answered at once."""
BEAT = 1.0
"""Seconds between heartbeats."""
SILENT = 10.0
PATIENCE = 5.0
FIRST_RETRY, LAST_RETRY = 0.02, 2.0
KNOCK_GRACE = 0.3
"""Seconds that a newcomer is given to knock before it is dialled."""
DEATH_CHECKS = (0.0, 0.002, 0.01, 0.05, 0.2)
"""Pauses, in seconds, before each look whether a peer whose link broke has died: a process that ends may
close its connections before its lock."""
CLOSE_WITHIN = 0.5
"""Seconds given to each peer to take what is still to be written."""
ACKNOWLEDGE_WITHIN = 0.005
"""Seconds that acknowledgements wait for more of them."""


class NoAnswer(ThenceError):
    """A peer was asked something and did not answer in time, or can't."""


class Traffic(Protocol):
    """The floor above: what is done with events, and with changes of who is there."""

    departures: Departures

    def introduce(self) -> Hello:
        """This node, as of now."""
        ...

    def joined(self, link: Link) -> None:
        """A link is established; ``link.peer`` tells who it is."""
        ...

    def left(self, link: Link, dead: bool) -> None:
        """An established link ended. ``dead``: the peer has certainly died."""
        ...

    def died(self, node: str) -> None:
        """A peer whose link had ended earlier has certainly died."""
        ...

    def received(self, link: Link, batch: bytes) -> None:
        """A batch of events."""
        ...

    def beat(self) -> None:
        """About a second has passed."""
        ...

    def told(self, link: Link, message: Message) -> None:
        """A message that is not about the connection itself."""
        ...

    def congested(self, link: Link, congested: bool) -> None:
        """Whether more is waiting to be written than the peer takes."""
        ...

    def answer(self, question: str, argument: bytes) -> bytes | Awaitable[bytes] | None:
        """The answer to a peer's question, perhaps one to wait for; None when it is not known here."""
        ...


class Peers:
    """This node's links. Implements :class:`thence.mesh.link.LinkOwner`."""

    def __init__(
        self,
        node: str,
        traffic: Traffic,
        discovery: Discovery,
        wire_for: Callable[[str], Wire],
        jitter: random.Random | None = None,
    ) -> None:
        self.node = node
        self.links: dict[str, Link] = {}
        """The established ones, by the peer's node id."""
        self.closures: Counter[str] = Counter()
        """Links that ended, by reason."""
        self.discovery = discovery
        self._loop = asyncio.get_running_loop()
        self.cork = Cork(self._loop)
        self.now = stopwatch(self._loop)
        self._traffic = traffic
        self.received = traffic.received
        self.departures = traffic.departures
        self._wire_for = wire_for
        self._jitter = jitter or random.Random()
        self._listening: Wire | None = None
        self._connected: set[Link] = set()
        self._dialling: dict[str, Link] = {}
        self._dialers: dict[str, asyncio.Task[None]] = {}
        self._owing: list[Link] = []
        self._owing_timer: asyncio.TimerHandle | None = None
        self._beat_timer: asyncio.TimerHandle | None = None
        self._beat_due = 0.0
        self._questions: dict[tuple[Link, int], asyncio.Future[bytes]] = {}
        self._last_question = 0
        self._answering: set[asyncio.Task[None]] = set()
        """What peers have asked and takes a while to answer."""
        self._closed = False
        self._bytes_written = 0

    @property
    def bytes_written(self) -> int:
        """Bytes given to connections so far, framing included."""
        return self._bytes_written + sum(link.bytes_written for link in self._connected)

    # -- coming and going

    async def listen(self, address: str) -> str:
        """Accept links at ``address``; return where it really listens."""
        self._listening = self._wire_for(address)
        return await self._listening.listen(address, lambda: Link(self, dialled=False))

    async def join(self, descriptor: Descriptor, *, within: float) -> None:
        """Become visible and knock at everybody there; return when all have answered, or in ``within`` s."""
        await self.discovery.open(self._changed)
        await self.discovery.announce(descriptor)
        self._beat_due = self._loop.time() + BEAT
        self._beat_timer = self._loop.call_at(self._beat_due, self._beat)
        for peer in self.discovery.peers():
            self._dial(peer)
        if self._dialers:
            await asyncio.wait(list(self._dialers.values()), timeout=within)

    async def close(self) -> None:
        """End every link and stop listening; from now on this node counts as dead."""
        self._closed = True
        for timer in (self._beat_timer, self._owing_timer):
            if timer is not None:
                timer.cancel()
        for answering in self._answering:
            answering.cancel()
        dialers = list(self._dialers.values())
        for dialer in dialers:
            dialer.cancel()
        await asyncio.gather(*dialers, return_exceptions=True)
        if self._listening is not None:
            await self._listening.close()
        closing = [link.gone for link in self._connected]
        for link in list(self._connected):
            link.end("closed", "this node is closing", abort=False)
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_WITHIN)
        for link in list(self._connected):
            link.end("closed", "this node is closing")
        await self.discovery.close()

    async def ask(
        self, link: Link, question: str, argument: bytes = b"", *, timeout: float = 1.0
    ) -> bytes:
        """Ask the peer at the other end of ``link``.

        :raises NoAnswer: it did not answer within ``timeout`` seconds, or does not know.
        """
        self._last_question += 1
        number = self._last_question
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._questions[link, number] = answer
        link.say(Ask(number, question, argument))
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise NoAnswer(f"{link!r} did not answer within {timeout:g} s") from None
        finally:
            del self._questions[link, number]

    # -- links: LinkOwner

    def introduce(self) -> Hello:
        """This node, as of now."""
        return self._traffic.introduce()

    def greeted(self, link: Link) -> str | None:
        """Whether this link is the one to keep."""
        assert link.peer is not None
        node = link.peer.node
        if self._closed:
            return "this node is closing"
        if node == self.node:
            return "a node does not talk to itself"
        if node in self.links:
            return "there is a connection already"
        dialling = self._dialling.get(node)
        if not link.dialled and dialling is not None:
            if self.node < node:
                return "this node is dialling, and has the lower id"
            dialling.end("replaced", "the peer with the lower id dialled too")
        return None

    def connected(self, link: Link) -> None:
        """Somebody is there."""
        self._connected.add(link)

    def established(self, link: Link) -> None:
        """Both sides have accepted."""
        self.links[link.node] = link
        self._traffic.joined(link)

    def told(self, link: Link, message: Message) -> None:
        """Questions and answers stay here; the rest goes up."""
        if isinstance(message, Ask):
            content = self._traffic.answer(message.question, message.argument)
            if content is None or isinstance(content, bytes):
                link.say(Answer(message.number, content is not None, content or b""))
            elif len(self._answering) < MAX_ANSWERING:
                task = self._loop.create_task(self._answer(link, message.number, content))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            else:
                _never_await(content)
                link.say(Answer(message.number, known=False))
        elif isinstance(message, Answer):
            answer = self._questions.get((link, message.number))
            if answer is None or answer.done():
                return
            if message.known:
                answer.set_result(message.content)
            else:
                answer.set_exception(
                    NoAnswer(f"{link!r} does not know this question; is it of an older version?")
                )
        else:
            self._traffic.told(link, message)

    async def _answer(self, link: Link, number: int, content: Awaitable[bytes]) -> None:
        try:
            answer = await content
        except Exception:
            logger.exception("a question of %r could not be answered", link)
            link.say(Answer(number, known=False))
        else:
            link.say(Answer(number, True, answer))

    def congested(self, link: Link, congested: bool) -> None:
        """More is waiting to be written than the peer takes."""
        self._traffic.congested(link, congested)

    def owing(self, link: Link) -> None:
        """Acknowledgements are owed."""
        self._owing.append(link)
        if self._owing_timer is None:
            self._owing_timer = self._loop.call_later(ACKNOWLEDGE_WITHIN, self._acknowledge)

    def lost(self, link: Link, reason: str, detail: str) -> None:
        """A link has ended."""
        self._connected.discard(link)
        self._bytes_written += link.bytes_written
        self.closures[reason] += 1
        for (asked, _), answer in list(self._questions.items()):
            if asked is link and not answer.done():
                answer.set_exception(NoAnswer(f"{link!r} ended: {detail}"))
        if reason not in ("closed", "refused", "replaced"):
            logger.warning("connection to %s closed: %s (%s)", _name_of(link), detail, reason)
        peer = link.peer
        if peer is None or self.links.get(peer.node) is not link:
            return
        del self.links[peer.node]
        dead = not self._closed and self.discovery.is_dead(peer.node)
        self._traffic.left(link, dead)
        if not dead and not self._closed:
            descriptor = Descriptor(peer.node, peer.name, peer.address, peer.services, peer.pid)
            self._dial(descriptor, *DEATH_CHECKS, 0.0 if self.node < peer.node else KNOCK_GRACE)

    # -- dialling

    def _changed(self) -> None:
        if self._closed:
            return
        for peer in self.discovery.peers():
            self._dial(peer, KNOCK_GRACE)

    def _dial(self, peer: Descriptor, *pauses: float) -> None:
        if peer.node == self.node or peer.node in self.links or peer.node in self._dialers:
            return
        dialler = self._loop.create_task(
            self._keep_dialling(peer, pauses), name=f"thence dialling {peer.name}"
        )
        self._dialers[peer.node] = dialler
        dialler.add_done_callback(lambda _: self._dialers.pop(peer.node, None))

    async def _keep_dialling(self, peer: Descriptor, pauses: tuple[float, ...]) -> None:
        for pause in pauses:
            if pause:
                await asyncio.sleep(pause)
            if self._is_settled(peer.node):
                return
        retry = FIRST_RETRY
        while True:
            link = Link(self, dialled=True)
            self._dialling[peer.node] = link
            try:
                await self._wire_for(peer.address).dial(peer.address, link)
                await link.decided
            except (OSError, ValueError, ConfigurationError) as error:
                # An address is what the peer says it is, and may be none at all.
                logger.debug("can't reach %s at %s: %s", peer.name, peer.address, error)
            finally:
                if self._dialling.get(peer.node) is link:
                    del self._dialling[peer.node]
            if self._is_settled(peer.node):
                return
            await asyncio.sleep(retry * (0.5 + self._jitter.random()))
            if self._is_settled(peer.node):
                return
            retry = min(retry * 2, LAST_RETRY)

    def _is_settled(self, node: str) -> bool:
        """Whether there is no need to dial that node any more."""
        if node in self.links:
            return True
        if self.discovery.is_dead(node):
            self._traffic.died(node)
            return True
        return False

    # -- the clock

    def _acknowledge(self) -> None:
        self._owing_timer = None
        owing, self._owing = self._owing, []
        for link in owing:
            if not link.congested:
                link.pay()

    def _beat(self) -> None:
        now = self._loop.time()
        self._traffic.beat()
        # After this process itself was stopped or busy, what the peers sent lies unread: hear it first.
        late = now - self._beat_due > BEAT
        if not late:
            for link in list(self._connected):
                link.beat(now, SILENT, PATIENCE)
        self._beat_due = now + BEAT
        self._beat_timer = self._loop.call_at(self._beat_due, self._beat)


def _never_await(content: Awaitable[bytes]) -> None:
    if isinstance(content, Coroutine):
        content.close()


def _name_of(link: Link) -> str:
    return link.peer.name if link.peer is not None else "somebody who did not introduce themselves"
