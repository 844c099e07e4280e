"""A node as a witness: it makes accounts of what its rings still hold.

It looks through them in small steps, so that events go on meanwhile, and costs nothing while nobody asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

from thence.cascade.settlement import MAX_TEXT
from thence.delivery.hosted import HostedService, Subscription
from thence.delivery.reasons import kind_of
from thence.events import Event, EventSpec
from thence.events.envelope import Extras, Told, event_id_of, lineage_of
from thence.events.lineage import Lineage
from thence.facts.ring import ALIKE, MOMENT, RAN, REFUSED, SENT, Ring
from thence.identifiers import EventId
from thence.observability.accounts import (
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

__all__ = ["Witness"]

STEP = 500
"""Facts looked at before other things get their turn; some 0.2 ms."""
MOST_FOUND = 20

Raw: TypeAlias = tuple[Any, ...]
_About: TypeAlias = Callable[..., bool]


class Witness:
    """What one node can tell.

    :param spec_of: the declaration of an event type by its name, if this node knows it.
    """

    def __init__(
        self,
        node: str,
        name: str,
        ring: Ring,
        services: Callable[[], Iterable[HostedService]],
        spec_of: Callable[[str], EventSpec[Event] | None],
        now: Callable[[], float],
        age: float,
    ) -> None:
        self._node = node
        self._name = name
        self._ring = ring
        self._services = services
        self._spec_of = spec_of
        self._now = now
        self._age = age
        self._born = now()

    async def account(self, question: Question) -> Account:
        """Answer a question."""
        self._ring.digest()
        since = self._since()
        facts: list[Fact] = []
        found: dict[EventId, Found] = {}
        cut_short = False
        async for fact in self._told(question, since):
            if question.root is not None:
                if len(facts) >= question.most:
                    cut_short = True
                    break
                facts.append(fact)
            else:
                _note_found(found, fact)
        latest = sorted(found.values(), key=lambda one: one.at)
        if question.failed:
            latest = [one for one in latest if one.failed]
        return Account(
            self._node,
            self._name,
            self._now(),
            since,
            self._born,
            tuple(facts),
            tuple(latest[-MOST_FOUND:]),
            cut_short,
        )

    def _since(self) -> float:
        """From when on nothing has been forgotten."""
        ring = self._ring
        since = max(self._born, self._now() - self._age)
        if not ring.is_on:
            return self._now()
        if ring.overwrote and ring.batches:
            since = max(since, ring.batches[0][3])
        for facts in (ring.facts, ring.refusals):
            if len(facts) == facts.maxlen:
                since = max(since, next(filter(None, map(_time_of, facts)), since))
        return since

    async def _told(self, question: Question, since: float) -> AsyncIterator[Fact]:
        """All facts that the question is about."""
        ring = self._ring
        about, key = _about(question), self._key(question)
        facts = list(ring.facts)
        for sent in self._sent_alike(facts, question, about):
            yield sent
        moments = [(raw[2], raw[1]) for raw in facts if raw[0] == MOMENT]
        async for raw in _in_steps((*facts, *ring.refusals)):
            kind = raw[0]
            if kind == SENT:
                if about(self._node, raw[1], raw[2], raw[5], None):
                    yield self._sent_as(raw, raw[5], moments)
            elif kind != MOMENT and kind != ALIKE:
                told = _told_singly(raw, about, key, since)
                if told is not None:
                    yield told
        async for raw in _in_steps(tuple(ring.batches), lambda raw: len(raw[5])):
            if raw[4] >= since:
                for ran in _ran_in(raw, question, about, key):
                    yield ran
        for pending in self._pending(about):
            yield pending

    def _sent_alike(
        self, facts: Sequence[Raw], question: Question, about: _About
    ) -> Iterator[Sent]:
        """This node's root events that were noted once for many."""
        moments = [(raw[2], raw[1]) for raw in facts if raw[0] == MOMENT]
        alike = [raw for raw in facts if raw[0] == ALIKE]
        sequence = _own_sequence(question, self._node)
        for raw in alike:
            if about(self._node, raw[1], raw[2], None, None) and raw[1] != sequence:
                yield self._sent_as((SENT, *raw[1:], None), None, moments)
        if sequence is None:
            return
        singly = {raw[1] for raw in facts if raw[0] == SENT}
        last = max((raw[1] for raw in facts if raw[0] == SENT or raw[0] == ALIKE), default=0)
        last = max(last, max((upto for upto, _ in moments), default=0))
        before = [raw for raw in alike if raw[1] <= sequence]
        if before and sequence <= last and sequence not in singly:
            yield self._sent_as((SENT, sequence, *before[-1][2:], None), None, moments)

    def _sent_as(
        self, raw: Raw, lineage: Lineage | None, moments: Sequence[tuple[int, float]]
    ) -> Sent:
        _, sequence, event, size, services = raw[:5]
        payload = ""
        if isinstance(size, bytes):
            payload, size = self._shown(event, size), len(size)
        by = None
        if lineage is None or lineage.path is None:
            by = next((time for upto, time in moments if upto >= sequence), None)
        event_id = EventId(self._node, sequence)
        return Sent(event_id, event, services, _ancestry_of(lineage, None), size, by, payload)

    def _key(self, question: Question) -> _Key | None:
        if question.key is None:
            return None
        events = {
            subscription.event.name: subscription.event.key
            for service in self._services()
            for subscription in service.subscriptions
        }
        return _Key(*question.key, events)

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

    def _pending(self, about: _About) -> Iterator[Pending]:
        for service in self._services():
            for arrival in list(service.unfinished):
                subscription: Subscription = arrival.subscription
                event_id, lineage = event_id_of(arrival), lineage_of(arrival)
                if about(*event_id, subscription.event.name, lineage, None):
                    above = _ancestry_of(lineage, None)
                    for handler in subscription.handlers:
                        yield Pending(
                            event_id,
                            subscription.event.name,
                            handler.place,
                            arrival.since,
                            above,
                        )


class _Key(NamedTuple):
    """The key that a question is about."""

    field: str
    value: str
    events: Mapping[str, str | None]
    """By event type, the field that orders it."""

    def has(self, event: str, value: object) -> bool:
        """Whether an event of that type, with that value there, is meant."""
        return self.events.get(event) == self.field and str(value) == self.value


def _text_of(key: object) -> str:
    return "" if key is None else str(key)[:MAX_TEXT]


def _about(question: Question) -> _About:
    """What tells whether a question is about an event: by its node, number and type, and its ancestry."""
    root, event = question.root, question.event
    prefix, suffix = question.prefix, question.suffix
    if root is not None:
        root_node, root_sequence = root

        def is_below(node: str, sequence: int, _event: str, ancestry: Any, told: Any) -> bool:
            if isinstance(ancestry, Lineage):
                if ancestry.path is not None:
                    return (
                        ancestry.root_sequence == root_sequence and ancestry.root_node == root_node
                    )
            elif ancestry is not None and ancestry.path and told is not None:
                if ancestry.root_node < 0:
                    number, sequence = ancestry.cause_node, ancestry.cause_sequence
                else:
                    number, sequence = ancestry.root_node, ancestry.root_sequence
                return sequence == root_sequence and told.name_of(number) == root_node
            return sequence == root_sequence and node == root_node

        return is_below
    if prefix or suffix:

        def is_named(node: str, sequence: int, *_: object) -> bool:
            text = str(EventId(node, sequence)) if node.startswith(prefix[:20]) else ""
            return text.startswith(prefix) and bool(text) and text.endswith(suffix)

        return is_named

    def is_of_type(_node: str, _sequence: int, name: str, *_: object) -> bool:
        return name == event if event else question.failed

    return is_of_type


def _own_sequence(question: Question, node: str) -> int | None:
    """The sequence number of the root event of this node that the question is about."""
    if question.root is not None:
        return question.root.sequence if question.root.node == node else None
    try:
        asked = EventId.parse(question.prefix)
    except ValueError:
        return None
    return asked.sequence if asked.node == node else None


def _told_singly(raw: Raw, about: _About, key: _Key | None, since: float) -> Ran | Refused | None:
    if raw[0] == RAN:
        _, node, sequence, what, began, ended, ancestry, told, waits, error, value = raw
        if ended < since or not (
            key.has(what[0], value) if key else about(node, sequence, what[0], ancestry, told)
        ):
            return None
        return Ran(
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
    _, node, sequence, what, at, ancestry, told, reason, value = raw
    if at < since or not (
        key.has(what[0], value) if key else about(node, sequence, what[0], ancestry, told)
    ):
        return None
    above, kind = _ancestry_of(ancestry, told), kind_of(reason)
    return Refused(
        EventId(node, sequence), what[0], what[1], at, reason, kind, above, _text_of(value)
    )


def _ran_in(raw: Raw, question: Question, about: _About, key: _Key | None) -> Iterator[Ran]:
    node, (event, place), sent, began, ended, sequences, keys, ancestries, told = raw
    root = question.root
    if root is not None and ancestries is None:
        if node != root.node or root.sequence not in sequences:
            return
    elif (question.event and event != question.event) or (key and keys is None):
        return
    for index, sequence in enumerate(sequences):
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


def _note_found(found: dict[EventId, Found], fact: Fact) -> None:
    before = found.get(fact.event_id)
    root = fact.ancestry.root if fact.ancestry is not None else fact.event_id
    failed = isinstance(fact, Ran) and fact.error is not None
    match fact:
        case Sent():
            at = fact.by or 0.0
        case Ran():
            at = fact.ended
        case Refused():
            at = fact.at
        case Pending():
            at = fact.since or 0.0
    if before is not None:
        at, failed = max(at, before.at), failed or before.failed
    key = getattr(fact, "key", "") or (before.key if before is not None else "")
    found[fact.event_id] = Found(fact.event_id, fact.event, root, at, key, failed)
    if len(found) > 50 * MOST_FOUND:
        for event_id in sorted(found, key=lambda one: found[one].at)[: 25 * MOST_FOUND]:
            del found[event_id]


async def _in_steps(
    facts: Sequence[Raw], weight: Callable[[Raw], int] = lambda _: 1
) -> AsyncIterator[Raw]:
    left = STEP
    for fact in facts:
        yield fact
        left -= weight(fact)
        if left <= 0:
            await asyncio.sleep(0)
            left = STEP
