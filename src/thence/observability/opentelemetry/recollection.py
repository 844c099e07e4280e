"""What a node's rings tell, for spans: of all that is new, or of some cascades from as long ago as they reach.

It is read in small steps, so that events go on meanwhile.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from thence.delivery.reasons import kind_of
from thence.events.envelope import Extras, Told
from thence.events.lineage import Lineage
from thence.facts import ring
from thence.facts.ring import ALIKE, MOMENT, RAN, REFUSED, SENT, Ring
from thence.identifiers import EventId

__all__ = [
    "Emitted",
    "Facts",
    "Handled",
    "Raw",
    "Recollection",
    "Refused",
    "Remembered",
    "Wanted",
    "foreign_trace",
    "in_chunks",
    "in_steps",
    "root_of",
]

STEP = 300
"""Facts looked at before other things get their turn."""
CHUNK = 3000
"""The same where there is little to look at; some 0.5 ms."""

Raw: TypeAlias = tuple[Any, ...]


class Emitted(NamedTuple):
    """This node emitted an event."""

    event_id: EventId
    event: str
    root: EventId
    foreign: bytes
    """The trace that others began, if they did."""
    size: int | None
    services: tuple[str, ...]
    cause: EventId | None
    """None for a root."""
    place: str
    """The handler that emitted it."""
    at: float | None
    """When; None if that was not noted."""


class Handled(NamedTuple):
    """A handler here has ended."""

    event_id: EventId
    event: str
    root: EventId
    foreign: bytes
    place: str
    since: float | None
    """When it began to wait."""
    began: float
    ended: float
    error: str | None
    company: int
    """How many runs these times are for, which came one after the other."""


class Refused(NamedTuple):
    """An event did not leave for a service, or a handler here was not begun."""

    event_id: EventId
    event: str
    root: EventId
    foreign: bytes
    place: str
    """The handler, the service, or nothing if it did not leave at all."""
    at: float
    reason: str
    kind: str
    cause: EventId | None
    """Of what did not leave: None for a root."""
    emitter: str
    """The handler that emitted that."""


Remembered: TypeAlias = Emitted | Handled | Refused
Wanted: TypeAlias = Callable[[EventId], bool]
"""Whether a root's cascade is wanted."""


class Facts(NamedTuple):
    """Some of what the rings held at one moment."""

    facts: Sequence[Raw]
    bad: Sequence[Raw]
    """Failures and refusals."""
    batches: Sequence[Raw]


class Recollection:
    """Reads the rings of one node.

    :attr:`missed`: how often facts were overwritten before anybody looked at them.
    """

    def __init__(self, node: str, kept: Ring, now: Callable[[], float]) -> None:
        self.node = node
        self.missed = 0
        self.fill = 0.0
        """The share of their room that the last news took, in the ring that fills the fastest."""
        self._ring = kept
        self._now = now
        self._last: list[Raw | None] = [None, None, None, None]

    def everything(self) -> Facts:
        """All that is remembered now."""
        kept = self._ring
        kept.digest()
        return Facts(list(kept.facts), [*kept.failures, *kept.refusals], list(kept.batches))

    def news(self) -> Facts:
        """All that was noted since the last time."""
        rings = self._ring
        rings.digest()
        found: list[list[Raw]] = []
        missed = False
        for index, kept in enumerate((rings.facts, rings.failures, rings.refusals, rings.batches)):
            news, is_whole = _after(kept, self._last[index])
            missed |= not is_whole
            self._last[index] = kept[-1] if kept else None
            found.append(news)
        self.missed += missed
        facts, failures, refusals, batches = found
        self.fill = max(
            len(facts) / (rings.facts.maxlen or 1),
            len(failures) / (rings.failures.maxlen or 1),
            # Those are kept by their size; how many that is shows when the first are gone.
            len(batches) / len(rings.batches) if rings.overwrote and rings.batches else 0.0,
        )
        return Facts(facts, failures + refusals, batches)

    async def recall(self, facts: Facts, wanted: Wanted | None = None) -> list[Remembered]:
        """What those facts tell of the wanted cascades, or of all; root events only if they are noted singly."""
        found: list[Remembered] = []
        moments: dict[int, float] = {}
        now = self._now()
        for raw in facts.facts:
            if raw[0] == MOMENT:
                moments.setdefault(raw[2], raw[1])
        before: float | None = None
        async for raw in in_steps((*facts.facts, *facts.bad)):
            kind = raw[0]
            if kind == MOMENT:
                before = raw[1]
            elif kind == SENT or kind == ALIKE:
                one = self._emitted(raw, moments, before, wanted)
                if one is not None:
                    found.append(one)
            elif kind == RAN:
                _, node, sequence, what, began, ended, ancestry, told, since, error, _ = raw
                root = root_of(node, sequence, ancestry, told)
                if wanted is None or wanted(root):
                    start = began if began is not None else since
                    found.append(
                        Handled(
                            EventId(node, sequence),
                            what[0],
                            root,
                            foreign_trace(ancestry),
                            what[1],
                            since,
                            ended if start is None else start,
                            ended,
                            error,
                            1,
                        )
                    )
            elif kind == REFUSED:
                _, node, sequence, what, at, ancestry, told, reason, _ = raw
                root = root_of(node, sequence, ancestry, told)
                if wanted is None or wanted(root):
                    found.append(
                        Refused(
                            EventId(node, sequence),
                            what[0],
                            root,
                            foreign_trace(ancestry),
                            what[1],
                            at,
                            reason,
                            kind_of(reason),
                            *_emitter_of(ancestry),
                        )
                    )
        async for raw in in_steps(facts.batches, lambda raw: len(raw[5])):
            found.extend(_batch(raw, wanted))
        ends = {(one.event_id, one.place): one.ended for one in found if isinstance(one, Handled)}
        # A handler's consequences leave at its end, unless they have left before.
        return [
            one._replace(at=min(one.at or now, ends.get((one.cause, one.place), now)))
            if isinstance(one, Emitted) and one.cause is not None
            else one
            for one in found
        ]

    def _emitted(
        self, raw: Raw, moments: dict[int, float], before: float | None, wanted: Wanted | None
    ) -> Emitted | None:
        kind, sequence, event, size, services = raw[:5]
        lineage: Lineage | None = raw[5] if kind == SENT else None
        root = root_of(self.node, sequence, lineage, None)
        if wanted is not None and not wanted(root):
            return None
        cause, place = _emitter_of(lineage)
        at = before if kind == ALIKE else moments.get(sequence, None if cause else before)
        return Emitted(
            EventId(self.node, sequence),
            event,
            root,
            b"" if lineage is None else lineage.trace,
            len(size) if isinstance(size, bytes) else size,
            services,
            cause,
            place,
            at,
        )

    def root_events(self, roots: Sequence[EventId]) -> Iterator[Emitted]:
        """Root events of this node, also those that were noted once with others alike; with the latest moment at
        which each may have left.
        """
        singly: dict[int, Raw] = {}
        alike: list[Raw] = []
        moments: list[tuple[int, float]] = []
        for raw in self._ring.facts:
            match raw[0]:
                case ring.MOMENT:
                    moments.append((raw[2], raw[1]))
                case ring.SENT:
                    singly[raw[1]] = raw
                case ring.ALIKE:
                    alike.append(raw)
                case _:
                    pass
        alike.sort(key=itemgetter(1))
        numbers, counts = [raw[1] for raw in alike], [upto for upto, _ in moments]
        for root in roots:
            sequence = root.sequence
            found = singly.get(sequence)
            if found is None:
                index = bisect_right(numbers, sequence)
                if not index:
                    continue
                found = (ALIKE, sequence, *alike[index - 1][2:])
            index = bisect_left(counts, sequence)
            by = moments[index][1] if index < len(moments) else None
            one = self._emitted(found, {}, by, None)
            if one is not None and one.cause is None:
                yield one


def root_of(
    node: str, sequence: int, ancestry: Lineage | Extras | None, told: Told | None
) -> EventId:
    """The root of an event's cascade."""
    if isinstance(ancestry, Lineage):
        if ancestry.path is not None:
            return EventId(ancestry.root_node, ancestry.root_sequence)
    elif ancestry is not None and ancestry.path and told is not None:
        if ancestry.root_node < 0:
            return EventId(told.name_of(ancestry.cause_node), ancestry.cause_sequence)
        return EventId(told.name_of(ancestry.root_node), ancestry.root_sequence)
    return EventId(node, sequence)


def _emitter_of(ancestry: Lineage | Extras | None) -> tuple[EventId | None, str]:
    """What caused an event of this node, and the handler that emitted it."""
    if isinstance(ancestry, Lineage) and ancestry.path is not None:
        return ancestry.cause, ancestry.path.handler
    return None, ""


def foreign_trace(ancestry: Lineage | Extras | None) -> bytes:
    """The trace that the cascade belongs to, if others began it."""
    return b"" if ancestry is None else ancestry.trace


def _batch(raw: Raw, wanted: Wanted | None) -> Iterator[Handled]:
    node, (event, place), _, began, ended, sequences, _, ancestries, told = raw
    for index, sequence in enumerate(sequences):
        ancestry = None if ancestries is None else ancestries[index]
        root = root_of(node, sequence, ancestry, told)
        if wanted is None or wanted(root):
            yield Handled(
                EventId(node, sequence),
                event,
                root,
                foreign_trace(ancestry),
                place,
                None,
                began,
                ended,
                None,
                len(sequences),
            )


def _after(kept: deque[Raw], last: Raw | None) -> tuple[list[Raw], bool]:
    """What was appended after ``last``, and whether nothing of that is gone."""
    news: list[Raw] = []
    for raw in reversed(kept):
        if raw is last:
            break
        news.append(raw)
    else:
        is_whole = last is None and (kept.maxlen is None or len(kept) < kept.maxlen)
        return list(reversed(news)), is_whole or not kept
    return list(reversed(news)), True


async def in_chunks(facts: Sequence[Raw]) -> AsyncIterator[Sequence[Raw]]:
    """Some of the facts after others, with pauses."""
    for start in range(0, len(facts), CHUNK):
        yield facts[start : start + CHUNK]
        await asyncio.sleep(0)


async def in_steps(
    facts: Sequence[Raw], weight: Callable[[Raw], int] = lambda _: 1
) -> AsyncIterator[Raw]:
    """The facts, with pauses."""
    left = STEP
    for fact in facts:
        yield fact
        left -= weight(fact)
        if left <= 0:
            await asyncio.sleep(0)
            left = STEP
