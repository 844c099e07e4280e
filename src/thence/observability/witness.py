"""A node as a witness: it makes accounts of what its rings still hold.

It looks through them in small steps, so that events go on meanwhile, and costs nothing while nobody asks.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, cast

import msgspec

from thence.cascade.settlement import MAX_TEXT
from thence.delivery.hosted import HostedService, Subscription
from thence.delivery.reasons import kind_of
from thence.events import Event, EventSpec
from thence.events.envelope import Extras, Told, event_id_of, lineage_of
from thence.events.lineage import Lineage
from thence.facts.ring import ALIKE, MAX_KEY, MOMENT, RAN, REFUSED, SENT, Ring, shortened
from thence.identifiers import EventId
from thence.observability.accounts import (
    MOST,
    Account,
    Ancestry,
    Fact,
    Found,
    Pending,
    Question,
    Ran,
    Refused,
    Sent,
)
from thence.observability.former import FormerRun
from thence.observability.questions import (
    MOST_FOUND,
    About,
    Key,
    about,
    latest_found,
    note_found,
    own_sequence,
)

__all__ = ["Witness"]

STEP = 500
"""Facts looked at before other things get their turn; some 0.1 ms."""
MOST_BYTES = 4_000_000
"""What an account may take, roughly: half of what may be sent at once."""
FACT_BYTES = 150
"""What a fact takes of that apart from its longer texts."""

Raw: TypeAlias = tuple[Any, ...]
_Told: TypeAlias = Iterator[Fact | None]
"""What is told, and None whenever it is time to let others go on."""


class Witness:
    """What one node can tell.

    :param spec_of: the declaration of an event type by its name, if this node knows it.
    :param refresh: has everything noted that is still to be.
    :param former: what a run that has ended left in its file.
    """

    def __init__(
        self,
        node: str,
        name: str,
        ring: Ring,
        services: Callable[[], Iterable[HostedService]],
        spec_of: Callable[[str], EventSpec[Event] | None],
        refresh: Callable[[], None],
        now: Callable[[], float],
        age: float,
        former: FormerRun | None = None,
    ) -> None:
        self._former = former
        self._node = node
        self._name = name
        self._ring = ring
        self._services = services
        self._spec_of = spec_of
        self._refresh = refresh
        self._now = now
        self._age = age
        self._born = now()
        self._turn = asyncio.Lock()

    async def account(self, question: Question) -> Account:
        """Answer a question. One at a time, so that many cost no more of each turn of the loop than one."""
        async with self._turn:
            return await self._account(question)

    async def _account(self, question: Question) -> Account:
        began = self._now()
        self._refresh()
        since = self._since()
        most = min(question.most, MOST)
        facts: list[Fact] = []
        found: dict[EventId, Found] = {}
        cut_short, room = False, MOST_BYTES
        for source in self._sources(question, since):
            seen = set[EventId]()
            for fact in source:
                if fact is None:
                    await asyncio.sleep(0)
                elif question.root is None:
                    note_found(found, fact)
                    seen.add(fact.event_id)
                    if len(seen) >= MOST_FOUND:
                        break
                else:
                    room -= _size_of(fact)
                    cut_short = len(facts) >= most or room < 0
                    if cut_short:
                        break
                    facts.append(fact)
            if cut_short:
                break
        now = self._now()
        return Account(
            self._node,
            self._name,
            now,
            since,
            self._born,
            tuple(facts),
            latest_found(found.values(), failed=question.failed),
            cut_short,
            self._places({fact.event for fact in facts}),
            now - began,
            await self._told_before(question),
        )

    async def _told_before(self, question: Question) -> tuple[Account, ...]:
        if self._former is None:
            return ()
        reach, key = self._now() - self._age, self._key(question)
        told = await asyncio.to_thread(self._former.account, question, key, self._now(), reach)
        return () if told is None else (told,)

    def keeper(self, write: Callable[[Fact], None]) -> Callable[[Raw], None]:
        """What writes each fact as soon as it is noted."""

        def keep(raw: Raw) -> None:
            kind, everything = raw[0], Question()
            if kind == SENT:
                write(self._sent_as(raw[1], raw[2:], raw[5], self._now()))
            elif kind == ALIKE:
                write(self._sent_as(raw[1], raw[2:], None, self._now()))
            elif kind == RAN or kind == REFUSED:
                for fact in _singly((raw,), everything, _any, None, 0.0):
                    if fact is not None:
                        write(fact)
            elif kind != MOMENT:
                for fact in _ran_well((raw,), everything, _any, None, 0.0):
                    if fact is not None:
                        write(fact)

        return keep

    def _since(self) -> float:
        """From when on nothing has been forgotten."""
        ring, now = self._ring, self._now()
        since = max(self._born, now - self._age)
        if not ring.is_on:
            return now
        if ring.overwrote:
            since = max(since, ring.batches[0][3] if ring.batches else now)
        for facts in (ring.facts, ring.failures, ring.refusals):
            if len(facts) == facts.maxlen:
                since = max(since, next(filter(None, map(_time_of, facts)), now))
        return since

    def _sources(self, question: Question, since: float) -> Iterator[_Told]:
        """All facts that the question is about, as of now, the latest of each kind first."""
        about_it, key = about(question), self._key(question)
        ring = self._ring
        facts, refusals, batches = list(ring.facts), list(ring.refusals), list(ring.batches)
        failures = list(ring.failures)
        pending = [
            (arrival, event_id_of(arrival), lineage_of(arrival), arrival.since)
            for service in self._services()
            for arrival in service.unfinished
        ]
        return iter(
            (
                self._sent(facts, refusals, question, about_it),
                _singly(failures, question, about_it, key, since),
                _singly(refusals, question, about_it, key, since),
                _singly(facts, question, about_it, key, since),
                _ran_well(batches, question, about_it, key, since),
                self._pending(pending, question, about_it, key),
            )
        )

    def _sent(
        self, facts: list[Raw], refusals: list[Raw], question: Question, about: About
    ) -> _Told:
        if question.failed or question.key is not None:
            return
        moments = _Moments(facts)
        exactly = question.root is not None

        def sent_as(sequence: int, told: Raw, lineage: Lineage | None) -> Sent:
            if exactly:
                by = moments.left_by(sequence) if lineage is None or lineage.path is None else None
                return self._sent_as(sequence, told, lineage, by)
            return self._sent_as(sequence, told, lineage, moments.about(sequence))

        sequence = own_sequence(question, self._node)
        is_told = sequence is None
        for looked, raw in enumerate(reversed(facts)):
            if not looked % STEP:
                yield None
            if raw[0] == SENT:
                is_told = is_told or raw[1] == sequence
                if about(self._node, raw[1], raw[2], raw[5], None):
                    yield sent_as(raw[1], raw[2:], raw[5])
            elif raw[0] == ALIKE:
                if not is_told and sequence is not None and raw[1] <= sequence:
                    is_told = True
                    if self._has_left(sequence, raw, refusals, moments):
                        yield sent_as(sequence, raw[2:], None)
                elif raw[1] != sequence and about(self._node, raw[1], raw[2], None, None):
                    yield sent_as(raw[1], raw[2:], None)

    def _has_left(self, sequence: int, alike: Raw, refusals: list[Raw], moments: _Moments) -> bool:
        """Whether a root event is one of those that a fact is about which was noted once for many: others may have
        been refused meanwhile, and nothing else be noted of them.
        """
        by = moments.left_by(sequence)
        if by is None:
            return False
        if sequence == alike[1]:
            return True
        forgotten = len(refusals) == self._ring.refusals.maxlen and by < refusals[0][4]
        return not forgotten and not any(
            raw[2] == sequence and raw[1] == self._node and not raw[3][1] for raw in refusals
        )

    def _sent_as(self, sequence: int, told: Raw, lineage: Lineage | None, by: float | None) -> Sent:
        event, size, services = told[:3]
        payload = self._ring.payloads.get(sequence)
        shown = "" if payload is None else self._shown(event, payload)
        event_id = EventId(self._node, sequence)
        return Sent(event_id, event, services, _ancestry_of(lineage, None), size, by, shown)

    def _places(self, events: set[str]) -> dict[str, tuple[tuple[str, ...], ...]]:
        places: dict[str, tuple[tuple[str, ...], ...]] = {}
        for service in self._services():
            for subscription in service.subscriptions:
                event = subscription.event.name
                if event in events:
                    together = tuple(handler.place for handler in subscription.handlers)
                    places[event] = (*places.get(event, ()), together)
        return places

    def _key(self, question: Question) -> Key | None:
        if question.key is None:
            return None
        events = {
            subscription.event.name: subscription.event.key
            for service in self._services()
            for subscription in service.subscriptions
        }
        field, value = question.key
        return Key(field, value[:MAX_KEY], events)

    def _shown(self, event: str, payload: bytes) -> str:
        """A payload as JSON, its private fields left out; nothing if it can't be read any more."""
        spec = self._spec_of(event)
        if spec is None:
            return ""
        try:
            values = cast("list[Any]", msgspec.msgpack.decode(payload))
            fields = cast(Any, spec.type).__struct_fields__
            shown = {
                name: value
                for name, value in zip(fields, values, strict=False)
                if name not in spec.private
            }
            return msgspec.json.encode(shown).decode()
        except (msgspec.MsgspecError, TypeError):
            return ""

    def _pending(
        self, pending: Sequence[Raw], question: Question, about: About, key: Key | None
    ) -> _Told:
        if question.failed:
            return
        for looked, (arrival, event_id, lineage, since) in enumerate(pending):
            if not looked % STEP:
                yield None
            subscription: Subscription = arrival.subscription
            event, key_in = subscription.event.name, subscription.key_in
            value = None if key is None or key_in is None else shortened(key_in(arrival))
            if key.has(event, value) if key else about(*event_id, event, lineage, None):
                above = _ancestry_of(lineage, None)
                for handler in subscription.handlers:
                    yield Pending(event_id, event, handler.place, since, above)


class _Moments:
    """When a node's events had left, as far as it was noted."""

    def __init__(self, facts: Sequence[Raw]) -> None:
        self._upto: list[int] = []
        self._times: list[float] = []
        for raw in facts:
            if raw[0] == MOMENT and (not self._upto or raw[2] > self._upto[-1]):
                self._upto.append(raw[2])
                self._times.append(raw[1])

    def left_by(self, sequence: int) -> float | None:
        """When that event had left at the latest; None if it is not known."""
        index = bisect_left(self._upto, sequence)
        return self._times[index] if index < len(self._times) else None

    def about(self, sequence: int) -> float:
        """When that event left, roughly; if that is not known, no later than it did."""
        index = bisect_left(self._upto, sequence)
        if index < len(self._upto) and self._upto[index] == sequence:
            return self._times[index]
        return self._times[index - 1] if index else 0.0


def _any(*_: object) -> bool:
    return True


def _text_of(key: object) -> str:
    return "" if key is None else str(key)[:MAX_TEXT]


def _singly(
    facts: Sequence[Raw], question: Question, about: About, key: Key | None, since: float
) -> _Told:
    """What was noted of handlers one by one, or of what was refused."""
    for looked, raw in enumerate(reversed(facts)):
        if not looked % STEP:
            yield None
        if raw[0] == RAN:
            _, node, sequence, what, began, ended, ancestry, told, waits, error, value = raw
            if (
                ended >= since
                and (error is not None or not question.failed)
                and (
                    key.has(what[0], value)
                    if key
                    else about(node, sequence, what[0], ancestry, told)
                )
            ):
                yield Ran(
                    EventId(node, sequence),
                    what[0],
                    what[1],
                    began,
                    ended,
                    _ancestry_of(ancestry, told),
                    since=waits,
                    error=error,
                    key=_text_of(value),
                )
        elif raw[0] == REFUSED and not question.failed:
            _, node, sequence, what, at, ancestry, told, reason, value = raw
            if at >= since and (
                key.has(what[0], value) if key else about(node, sequence, what[0], ancestry, told)
            ):
                above, kind = _ancestry_of(ancestry, told), kind_of(reason)
                event_id = EventId(node, sequence)
                yield Refused(event_id, what[0], what[1], at, reason, kind, above, _text_of(value))


def _ran_well(
    batches: Sequence[Raw], question: Question, about: About, key: Key | None, since: float
) -> _Told:
    """What was noted of handlers together."""
    if question.failed:
        return
    root, left = question.root, 0
    for raw in reversed(batches):
        if left <= 0:
            yield None
            left = STEP
        node, (event, place), sent, began, ended, sequences, keys, ancestries, told = raw
        left -= 1 + len(sequences)
        if ended < since or (question.event and event != question.event) or (key and keys is None):
            continue
        if (
            root is not None
            and ancestries is None
            and (node != root.node or root.sequence not in sequences)
        ):
            continue
        for index in range(len(sequences) - 1, -1, -1):
            sequence = sequences[index]
            ancestry = None if ancestries is None else ancestries[index]
            value = None if keys is None else keys[index]
            if key.has(event, value) if key else about(node, sequence, event, ancestry, told):
                yield Ran(
                    EventId(node, sequence),
                    event,
                    place,
                    began,
                    ended,
                    _ancestry_of(ancestry, told),
                    sent=sent,
                    company=len(sequences),
                    key=_text_of(value),
                )


def _ancestry_of(ancestry: Lineage | Extras | None, told: Told | None) -> Ancestry | None:
    if isinstance(ancestry, Lineage):
        if ancestry.path is None:
            return None
        return Ancestry(ancestry.cause, ancestry.root, ancestry.path.handlers)
    if ancestry is None or not ancestry.path or told is None:
        return None
    cause = EventId(told.name_of(ancestry.cause_node), ancestry.cause_sequence)
    root = cause
    if ancestry.root_node >= 0:
        root = EventId(told.name_of(ancestry.root_node), ancestry.root_sequence)
    return Ancestry(cause, root, told.path_of(ancestry.path).handlers)


def _time_of(raw: Raw) -> float | None:
    at = {MOMENT: 1, RAN: 5, REFUSED: 4}.get(raw[0])
    return None if at is None else cast(float, raw[at])


def _size_of(fact: Fact) -> int:
    """What a fact takes in an account, or a little more."""
    path = () if fact.ancestry is None else fact.ancestry.path
    size = FACT_BYTES + 5 * len(path) + sum(map(len, path))
    if isinstance(fact, Sent):
        size += 4 * len(fact.payload)
    elif isinstance(fact, Ran) and fact.error is not None:
        size += 4 * len(fact.error)
    return size
