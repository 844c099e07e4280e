"""One connection to one peer: the handshake, the frames, and what is written when.

A link knows nothing about handlers or routes. What arrives goes to its :class:`LinkOwner`; what is to be
sent is appended to ``events`` or given to :meth:`Link.say`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sized
from typing import Any, Protocol, cast

import msgspec

from thence.cascade.settlement import Tally
from thence.events.envelope import UNKNOWN_NODE, Told
from thence.events.lineage import Path
from thence.mesh.cork import Cork
from thence.mesh.eager import eager_write
from thence.mesh.frames import (
    EVENTS,
    MAX_FRAME,
    BadFrame,
    EventsFrame,
    FrameReader,
    message_frame,
    stamped,
)
from thence.mesh.messages import (
    PROTOCOL,
    Advice,
    Ended,
    Hello,
    Judged,
    Message,
    Names,
    Paths,
    Ping,
    Refuse,
    Settled,
    decode_message,
    encode_message,
)

__all__ = ["FRAME_BYTES", "Departures", "Link", "LinkOwner"]

logger = logging.getLogger("thence.mesh")

FRAME_BYTES = 16 * 1024
FRAME_EVENTS = 256
"""A frame of events is written out when it has more than this."""

HIGH_WATER = 256 * 1024
"""Unsent bytes from which on emitters have to wait."""

MAX_NAME = 4096
"""Characters that the name and the address of a node may have."""
MAX_ID = 64
"""Characters that a node id may have."""
MAX_NAMES = 4096
"""Node ids that one side may name to the other before numbering starts anew."""

FRESH = 0.05
"""Seconds on their way after which events may have outlived something."""
LONGEST = 1e6
"""Seconds that anything can have been on its way."""

MAX_PATHS = 4096
"""Paths that one side may name to the other before numbering starts anew."""
MAX_PATH_CHARACTERS = 1_000_000
"""The same for the length of all their handlers' names together."""
MAX_PATH_HANDLERS = 65_536
"""The same for the handlers themselves: however short its name is, each of them is an object."""


class Departures(Protocol):
    """Who has something to say to a peer just before events are written to it."""

    @property
    def undecided(self) -> Sized:
        """What there may be something to say about."""
        ...

    def decide(self) -> None:
        """Say it now."""
        ...


class LinkOwner(Protocol):
    """Who is told what happens on a link. All calls are made on the loop, none may block."""

    cork: Cork
    departures: Departures
    now: Callable[[], float]
    """This node's stopwatch."""

    def connected(self, link: Link) -> None:
        """There is a connection; nobody has introduced themselves yet."""
        ...

    def introduce(self) -> Hello:
        """This node, as of now."""
        ...

    def greeted(self, link: Link) -> str | None:
        """``link.peer`` has said who it is. None accepts it; a text refuses, and says why."""
        ...

    def established(self, link: Link) -> None:
        """Both sides have accepted: events may flow."""
        ...

    def received(self, link: Link, batch: bytes) -> None:
        """A batch of events. May raise :class:`BadFrame`, which closes the link."""
        ...

    def told(self, link: Link, message: Message) -> None:
        """Any message but those that the link itself understands. May raise :class:`BadFrame`."""
        ...

    def congested(self, link: Link, congested: bool) -> None:
        """Whether more is waiting to be written than the peer takes."""
        ...

    def owing(self, link: Link) -> None:
        """Acknowledgements are owed from now on; :meth:`Link.pay` is to be called before long."""
        ...

    def lost(self, link: Link, reason: str, detail: str) -> None:
        """The link has ended. Called once, for every link that was ever connected."""
        ...


class Link(asyncio.Protocol):
    """A connection from its first byte to its last. Either side may have dialled."""

    is_local = False

    def __init__(self, owner: LinkOwner, *, dialled: bool) -> None:
        self.dialled = dialled
        self.peer: Hello | None = None
        self.node = UNKNOWN_NODE
        self.label = "?"
        """What the peer is called in contexts and counts: its services, or its name."""
        self.decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Done when the handshake is: whether the link was established."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection has ended."""
        self.established = False
        self.congested = False
        self.events = EventsFrame()
        self.told = Told()
        """What the numbers in the peer's envelopes stand for."""
        self.behind = math.inf
        """Seconds by which the peer's stopwatch is behind this node's, or a little more."""
        self.outlets: dict[int, Any] = {}
        """By the peer's number of a subscription, what this node sends there."""
        self.heard_at = 0.0
        self.read_at = 0.0
        """When the batch that is being handled was read, if others of the same reading were handled before it."""
        self.sent_at = 0.0
        """When the batch that is being handled was sent, by this node's stopwatch; just now, unless stale."""
        self.stamp = 0.0
        """The same by the peer's stopwatch."""
        self.stale = False
        """Whether that was so long ago that events may have outlived their cascade's budget."""
        self.to_track: set[tuple[int, int]] = set()
        """Root events that the peer wants tracked and that have not come yet: subscription and sequence number."""
        self.incomplete_since: float | None = None
        self.bytes_written = 0
        self._owner = owner
        self._received = owner.received
        self._departures = owner.departures
        self._now = owner.now
        self.cork = self._cork = owner.cork
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._write: Callable[[bytes | bytearray], None] = _write_nothing
        self._stop_writing: Callable[[], None] = _nothing
        self.dirty = False
        """Whether it is about to be flushed."""
        self._messages = bytearray()
        self._owed: dict[int, int] = {}
        self._advised: dict[tuple[int, str | int | None], float] = {}
        """By subscription and key, when the peer was last advised about it."""
        self._numbers: dict[str, int] = {}
        self.path_numbers: dict[Path, int] = {}
        self._path_characters = self._path_handlers = 0
        self._characters_heard = self._handlers_heard = 0
        self._settled: list[tuple[int, tuple[int, ...], Tally]] = []
        self._ending: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return f"<Link to {self.peer.name if self.peer else 'somebody'}>"

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._write, self._stop_writing = eager_write(self._transport)
        self.opened_at = self.heard_at = asyncio.get_running_loop().time()
        self._owner.connected(self)
        if self._ending is not None:
            # Not wanted any more since before there was a connection.
            self._transport.abort()
        elif self.dialled:
            self.say(self._owner.introduce())

    def data_received(self, data: bytes) -> None:
        self.heard_at = -1.0
        cork = self._cork
        cork.depth += 1
        try:
            reader = self._reader
            batch = reader.single_batch(data)
            if batch is not None and self.established:
                # The lines of _receive.
                self.sent_at = now = self._now()
                self.stamp = stamp = reader.stamp
                self.stale = stale = now - self.behind - stamp > FRESH
                if stale:
                    self._note_late(stamp)
                self._received(self, batch)
            else:
                self._take_apart(data)
        except BadFrame as error:
            self.end(error.reason, str(error))
        finally:
            cork.depth -= 1
            if cork.waiting and not cork.depth:
                cork.flush()

    def pause_writing(self) -> None:
        self.congested = True
        self._owner.congested(self, True)

    def resume_writing(self) -> None:
        self.congested = False
        self._owner.congested(self, False)
        self.pay()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._stop_writing()
        self.established = False
        self.gone.set_result(None)
        if not self.decided.done():
            self.decided.set_result(False)
        reason, detail = self._ending or (
            "closed",
            str(exc) if exc else "the peer closed the connection",
        )
        self._owner.lost(self, reason, detail)

    # -- what the owner does

    def cut_frame(self) -> None:
        """Write out the frame if it has grown long, so that the peer starts on it meanwhile."""
        if self.events.count >= FRAME_EVENTS or len(self.events.buffer) > FRAME_BYTES:
            if self._cork.whole:
                self._cork.overdue = True
            else:
                self.flush()

    def say(self, message: Message) -> None:
        """Send a message. It may overtake events that are still buffered, but no earlier message."""
        self._messages += message_frame(encode_message(message))
        if not self.dirty:
            self.dirty = True
            self._cork.touch(self)

    def say_after_events(self, message: Message) -> None:
        """Send a message that the peer must get after every event appended so far."""
        if self.events.count:
            self.flush()
        self.say(message)

    def say_after_debts(self, message: Message) -> None:
        """Send a message that the peer must get after every acknowledgement owed so far."""
        self.pay()
        self.say(message)

    def owe(self, number: int, count: int, at_once: int) -> None:
        """Acknowledge ``count`` more events under ``number``: before long, and with the next write when
        ``at_once`` of them are owed. One message then stands for many events.
        """
        owed = self._owed
        if not owed:
            self._owner.owing(self)
        total = owed.get(number, 0) + count
        owed[number] = total
        if total >= at_once and not self.congested:
            self.pay()

    def pay(self) -> None:
        """Send the acknowledgements that are owed."""
        if self._owed:
            counts = tuple(value for pair in self._owed.items() for value in pair)
            self._owed.clear()
            self.say(Ended(counts))

    def settle(self, number: int, sequences: tuple[int, ...], tally: Tally) -> None:
        """Report to the peer, with the next write, that these events and all their consequences have ended."""
        self._settled.append((number, sequences, tally))
        if not self.dirty:
            self.dirty = True
            self._cork.touch(self)

    def judge(self, number: int, sequence: int, reason: str, wait: float) -> None:
        """Tell the peer whether an event was let in."""
        self.say(Judged(number, sequence, reason, wait))

    def advise(self, advice: Advice) -> None:
        """Tell the peer what is not worth sending, unless it has just been told."""
        now, about = self._owner.now(), (advice.number, advice.key)
        pause = min(advice.seconds / 2, 0.1, 0.25 / advice.rate)
        if now - self._advised.get(about, -math.inf) >= pause:
            if len(self._advised) >= MAX_NAMES:
                self._advised.clear()
            self._advised[about] = now
            self.say(advice)

    def number_of(self, node: str) -> int:
        """The number that stands for ``node`` in envelopes on this link; told to the peer if it is new."""
        number = self._numbers.get(node)
        if number is None:
            self._make_room_for_names(1)
            number = len(self._numbers)
            self._numbers[node] = number
            self.say(Names(number, (node,)))
        return number

    def numbers_of(self, cause: str, root: str) -> tuple[int, int]:
        """The numbers of two nodes in one envelope: the second does not make the first begin anew."""
        numbers = self._numbers
        first, second = numbers.get(cause), numbers.get(root)
        if first is None or second is None:
            self._make_room_for_names(2)
            return self.number_of(cause), self.number_of(root)
        return first, second

    def _make_room_for_names(self, count: int) -> None:
        if len(self._numbers) + count > MAX_NAMES:
            # Envelopes already buffered used the old numbers.
            self.flush()
            self._numbers.clear()

    def number_of_path(self, path: Path) -> int:
        """The number that stands for ``path`` in envelopes on this link; told to the peer if it is new."""
        number = self.path_numbers.get(path)
        if number is None:
            handlers = path.handlers
            characters = sum(map(len, handlers))
            if (
                len(self.path_numbers) >= MAX_PATHS
                or self._path_characters + characters > MAX_PATH_CHARACTERS
                or self._path_handlers + path.depth > MAX_PATH_HANDLERS
            ):
                self.flush()
                self.path_numbers.clear()
                self._path_characters = self._path_handlers = 0
            number = len(self.path_numbers) + 1
            self.path_numbers[path] = number
            self._path_characters += characters
            self._path_handlers += path.depth
            self.say(Paths(number, handlers))
        return number

    def flush(self) -> None:
        """Write out what is buffered."""
        events = self.events
        if events.count and self._departures.undecided:
            self._departures.decide()
        self.dirty = False
        if self._settled:
            reports, self._settled = tuple(self._settled), []
            self._messages += _settled_frames(reports)
        if self._messages:
            data = self._messages
            self._messages = bytearray()
            if events.count:
                data += events.take(self._now())
        elif events.count:
            data = events.take(self._now())
        else:
            return
        if self._transport is not None:
            self.bytes_written += len(data)
            self._write(data)

    def beat(self, now: float, silent: float, patience: float) -> None:
        """Called about once a second: keep the peer convinced, and end a link that has died.

        ``silent``: seconds without a byte after which an established link ends; ``patience``: the same for
        a handshake or a frame that does not get finished.
        """
        if self.heard_at < 0.0:
            self.heard_at = now
            self.incomplete_since = None
        if self._reader.incomplete:
            self.incomplete_since = self.incomplete_since or now
            if now - self.incomplete_since > patience:
                self.end("half frame", f"a frame was not completed within {patience:g} s")
                return
        if not self.established:
            if now - self.opened_at > patience:
                self.end("no hello", f"nobody introduced themselves within {patience:g} s")
        elif now - self.heard_at > silent:
            self.end("silent", f"nothing was heard for {silent:g} s")
        elif not self.congested:
            self.say(Ping(self._owner.now()))

    def end(self, reason: str, detail: str, *, abort: bool = True) -> None:
        """Close the connection, for that reason; without ``abort`` what is owed and buffered leaves first."""
        if self._ending is None:
            self._ending = (reason, detail)
        if self._transport is None:
            return
        if abort:
            self._write = self._transport.write
            self._transport.abort()
        else:
            self.pay()
            self.flush()
            self._transport.close()

    # -- inside

    def _take_apart(self, data: bytes) -> None:
        self.read_at = self._owner.now()
        try:
            self._take_frames(data)
        finally:
            self.read_at = 0.0

    def _take_frames(self, data: bytes) -> None:
        for kind, body in self._reader.feed(data):
            if kind != EVENTS:
                self._hear(body)
            elif self.established:
                self._receive(*stamped(body))
            else:
                raise BadFrame("garbage", "events before a Hello")
            if self._ending is not None:
                return

    def _receive(self, stamp: float, events: bytes) -> None:
        self.sent_at = now = self._now()
        self.stamp = stamp
        self.stale = stale = now - self.behind - stamp > FRESH
        if stale:
            self._note_late(stamp)
        self._received(self, events)

    def _note_late(self, stamp: float) -> None:
        self.sent_at -= min(self.sent_at - self.behind - stamp, LONGEST)

    def _hear(self, body: bytes) -> None:
        try:
            message = decode_message(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadFrame("garbage", f"a message that can't be decoded ({error})") from error
        if not self.established:
            self._shake_hands(message)
        elif isinstance(message, Ping):
            self._compare_clocks(message.clock)
        elif isinstance(message, Names):
            self._learn(message)
        elif isinstance(message, Paths):
            self._learn_path(message)
        elif isinstance(message, Hello | Refuse):
            raise BadFrame("garbage", "a second greeting")
        else:
            self._owner.told(self, message)

    def _shake_hands(self, message: Message) -> None:
        if isinstance(message, Refuse) and self.dialled:
            self.end("refused", f"the peer refused: {message.reason}")
            return
        if not isinstance(message, Hello):
            raise BadFrame("garbage", "a message before a Hello")
        if message.protocol != PROTOCOL:
            reason = f"protocol version {message.protocol} of {message.name!r}, this node speaks {PROTOCOL}"
            self._refuse("protocol", reason)
            return
        _check(message)
        self.peer = message
        refusal = self._owner.greeted(self)
        if refusal is not None:
            self._refuse("refused", refusal)
            return
        if not self.dialled:
            self.say(self._owner.introduce())
        self._compare_clocks(message.clock)
        self.node = message.node
        self.label = "+".join(message.services) or message.name
        self.established = True
        self.decided.set_result(True)
        self._owner.established(self)

    def _refuse(self, reason: str, detail: str) -> None:
        if not self.dialled:
            self.say(Refuse(detail))
        self.end(reason, detail, abort=False)

    def _compare_clocks(self, clock: float) -> None:
        # Every comparison is late by its journey: the least of them is the best.
        self.behind = min(self.behind, self._owner.now() - clock)

    def _learn(self, message: Names) -> None:
        if message.first == 0:
            self.told = Told(paths=self.told.paths)
        names = self.told.names
        if message.first != len(names) or len(names) + len(message.nodes) > MAX_NAMES:
            raise BadFrame("garbage", "node numbers that don't follow each other")
        if any(len(node) > MAX_ID for node in message.nodes):
            raise BadFrame("garbage", f"a node id of more than {MAX_ID} characters")
        names.extend(message.nodes)

    def _learn_path(self, message: Paths) -> None:
        if message.number == 1:
            self.told = Told(names=self.told.names)
            self._characters_heard = self._handlers_heard = 0
        self._characters_heard += sum(map(len, message.handlers))
        self._handlers_heard += len(message.handlers)
        paths = self.told.paths
        if message.number != len(paths) + 1 or len(paths) >= MAX_PATHS:
            raise BadFrame("garbage", "path numbers that don't follow each other")
        if self._characters_heard > MAX_PATH_CHARACTERS or self._handlers_heard > MAX_PATH_HANDLERS:
            raise BadFrame("garbage", "paths that are too long together")
        paths.append(Path.through(message.handlers))


def _settled_frames(reports: tuple[tuple[int, tuple[int, ...], Tally], ...]) -> bytes:
    """The reports, in as many frames as they need."""
    try:
        body = encode_message(Settled(reports))
        if len(body) <= MAX_FRAME:
            return message_frame(body)
    except OverflowError:
        # Peers that lie may have told of so many events that their sum is no number of the wire's.
        pass
    half = len(reports) // 2
    if half:
        return _settled_frames(reports[:half]) + _settled_frames(reports[half:])
    number, sequences, _ = reports[0]
    return _settled_frames(((number, sequences, Tally(lost=1)),))


def _write_nothing(data: bytes | bytearray) -> None:
    """There is no connection yet."""


def _nothing() -> None:
    """Nothing has to be done."""


def _check(hello: Hello) -> None:
    """Refuse an introduction that this node could not keep books by.

    :raises BadFrame: it contradicts itself.
    """
    numbers = {wanted.number for wanted in hello.subscribed}
    wishes = {(wanted.schema.name, wanted.service, wanted.broadcast) for wanted in hello.subscribed}
    if not hello.node or len(hello.node) > MAX_ID:
        raise BadFrame(
            "garbage", f"a node id of {len(hello.node)} characters, 1 to {MAX_ID} are allowed"
        )
    if len(hello.name) > MAX_NAME or len(hello.address) > MAX_NAME:
        raise BadFrame("garbage", f"a name or an address of more than {MAX_NAME} characters")
    if len(numbers) < len(hello.subscribed) or len(wishes) < len(hello.subscribed):
        raise BadFrame("garbage", "a subscription that is there twice")
    if any(wanted.window < 1 or wanted.number < 0 for wanted in hello.subscribed):
        raise BadFrame("garbage", "a subscription without a window, or with a negative number")
