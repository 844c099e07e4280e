"""What nodes say to each other besides events.

Each message is a MessagePack array that begins with its number. A field may be appended with a default;
anything else is a new protocol version, and peers of different versions do not talk.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from thence.budget import DEEPEST
from thence.cascade.settlement import MAX_TEXT, Tally
from thence.events.schema import Schema
from thence.flow.fleet import Grant, ShareRequest

__all__ = [
    "PROTOCOL",
    "Advice",
    "Answer",
    "Ask",
    "Bye",
    "ByeHeard",
    "Ended",
    "Fence",
    "Fenced",
    "Hello",
    "Incompatible",
    "Invalid",
    "Judged",
    "Message",
    "Moved",
    "Names",
    "Paths",
    "Ping",
    "Ready",
    "Refuse",
    "Released",
    "Settled",
    "ShareAsked",
    "ShareLent",
    "Subscribed",
    "Track",
    "decode_message",
    "encode_message",
]

PROTOCOL = 1

ServiceName: TypeAlias = Annotated[str, Meta(max_length=64)]
"""As long as :class:`thence.app.service.Service` lets it be."""
HandlerPlace: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
"""``service.handler``."""
Clock: TypeAlias = Annotated[float, Meta(ge=0.0, le=2.0**33)]
"""What the sender's stopwatch shows, in seconds: some centuries at most."""


class Subscribed(Struct, array_like=True, frozen=True):
    """A service here handles an event type; its events are to be sent under this number."""

    number: int
    service: ServiceName
    schema: Schema
    window: int
    """How many unacknowledged events one emitter may have on their way."""
    broadcast: bool
    answers: bool = False
    """Whether each event is answered by a :class:`Judged`."""
    patience: float | None = None
    """Seconds after which it is pointless that an event goes on waiting for room."""
    handlers: int = 1
    """How many handlers an event starts."""
    spreads: bool = True
    """Whether these may emit anything."""


class Hello(Struct, array_like=True, tag=0, frozen=True):
    """The first message in either direction; the answerer's own Hello accepts the connection."""

    protocol: int
    node: str
    name: str
    address: str
    services: tuple[ServiceName, ...]
    subscribed: tuple[Subscribed, ...]
    ready: bool
    pid: int
    clock: Clock = 0.0


class Refuse(Struct, array_like=True, tag=1, frozen=True):
    """In place of an answering Hello: this connection is not wanted."""

    reason: str


class Ready(Struct, array_like=True, tag=2, frozen=True):
    """The services here take events from now on."""


class Names(Struct, array_like=True, tag=3, frozen=True):
    """From now on the number ``first`` stands for the first of these node ids in envelopes, and so on."""

    first: int
    nodes: tuple[str, ...]


class Ended(Struct, array_like=True, tag=4, frozen=True):
    """Acknowledgement: so many more events sent under these numbers have ended, however they ended.

    ``counts`` is flat: number, count, number, count.
    """

    counts: tuple[int, ...]


class Fence(Struct, array_like=True, tag=5, frozen=True):
    """Say :class:`Fenced` when all events sent before this, for that service's keys, have ended.

    Nothing of ``blocks`` is sent before that.
    """

    number: int
    service: str
    blocks: tuple[int, ...]


class Fenced(Struct, array_like=True, tag=6, frozen=True):
    """The answer to the fence of that number."""

    number: int


class Moved(Struct, array_like=True, tag=7, frozen=True):
    """These events were not begun: their keys belong to ``owner`` now. They count as ended here.

    The envelopes are those that came, but for node ids and paths: those have the numbers that the sender of this
    has told for them.
    """

    service: str
    owner: str
    envelopes: tuple[msgspec.Raw, ...]


class Released(Struct, array_like=True, tag=8, frozen=True):
    """Some blocks of this service's keys are free for their new owners."""

    service: str


class Bye(Struct, array_like=True, tag=9, frozen=True):
    """This node is leaving: send it no more events of your own making."""


class ByeHeard(Struct, array_like=True, tag=10, frozen=True):
    """No event follows this on the connection."""


class Ping(Struct, array_like=True, tag=11, frozen=True):
    """Still here; needs no answer."""

    clock: Clock = 0.0


class Ask(Struct, array_like=True, tag=12, frozen=True):
    """A question about this node, to be answered under the same number."""

    number: int
    question: str
    argument: bytes = b""


class Answer(Struct, array_like=True, tag=13, frozen=True):
    """The answer to the question of that number; ``known`` is false if this node can't answer such."""

    number: int
    known: bool
    content: bytes = b""


class Incompatible(Struct, array_like=True, tag=14, frozen=True):
    """Events of this type are not sent to you, for that reason."""

    service: str
    event: str
    reason: str


class Invalid(Struct, array_like=True, tag=15, frozen=True):
    """That many events of yours could not be decoded."""

    count: int


class Judged(Struct, array_like=True, tag=16, frozen=True):
    """The event of that sequence number was let in (an empty reason), or refused."""

    number: int
    sequence: int
    reason: str = ""
    wait: float = 0.0
    """Seconds after which it may be tried again."""


class Advice(Struct, array_like=True, tag=17, frozen=True):
    """Events under this number beyond such a limit would only be refused: for a while, better not send them.

    Nothing depends on its being followed. It leaves headroom, as the sender can't know who else emits.
    """

    number: int
    limit: str
    """What the receiver holds, in words."""
    rate: float
    """Events a second that are worth sending."""
    burst: int
    per: str | None
    """The field whose values have a limit each."""
    seconds: float
    """How long this holds."""
    key: str | int | None = None
    """The value of that field which was refused just now."""
    wait: float = 0.0
    """Seconds after which it would be let in."""


class ShareAsked(Struct, array_like=True, tag=18, frozen=True):
    """A replica's request for its share of a limit over all replicas of a service."""

    service: str
    place: str
    request: ShareRequest


class ShareLent(Struct, array_like=True, tag=19, frozen=True):
    """The answer of the replica that lends the shares."""

    service: str
    place: str
    grant: Grant


class Paths(Struct, array_like=True, tag=20, frozen=True):
    """From now on ``number`` stands for the path through these handlers in envelopes."""

    number: int
    handlers: Annotated[tuple[HandlerPlace, ...], Meta(min_length=1, max_length=DEEPEST)]


class Track(Struct, array_like=True, tag=21, frozen=True):
    """The root event of that sequence number follows: tell when it and all its consequences have ended."""

    number: int
    sequence: int


class Settled(Struct, array_like=True, tag=22, frozen=True):
    """These tracked events have ended, with all that followed from them.

    Told of by the number of the subscription, their sequence numbers, and what became of each of them.
    """

    reports: tuple[tuple[int, tuple[int, ...], Tally], ...]


Message: TypeAlias = (
    Hello
    | Refuse
    | Ready
    | Names
    | Ended
    | Fence
    | Fenced
    | Moved
    | Released
    | Bye
    | ByeHeard
    | Ping
    | Ask
    | Answer
    | Incompatible
    | Invalid
    | Judged
    | Advice
    | ShareAsked
    | ShareLent
    | Paths
    | Track
    | Settled
)

encode_message = msgspec.msgpack.Encoder().encode
decode_message = msgspec.msgpack.Decoder[Message](Message).decode
