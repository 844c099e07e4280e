"""Which events a question means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from thence.events.lineage import Lineage
from thence.facts.ring import MAX_KEY
from thence.identifiers import EventId
from thence.observability.accounts import Fact, Found, Pending, Question, Ran, Refused, Sent

__all__ = ["MOST_FOUND", "About", "Key", "about", "latest_found", "note_found", "own_sequence"]

MOST_FOUND = 20
"""Events that one node names where several may be meant."""

About: TypeAlias = Callable[..., bool]
"""Whether a question is about an event: by its node, number and type, and its ancestry as it was noted."""


class Key(NamedTuple):
    """The key that a question is about."""

    field: str
    value: str
    events: Mapping[str, str | None]
    """By event type, the field that orders it."""

    def has(self, event: str, value: object) -> bool:
        """Whether an event of that type, with that value there, is meant."""
        return self.events.get(event) == self.field and str(value)[:MAX_KEY] == self.value


def about(question: Question) -> About:
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


def own_sequence(question: Question, node: str) -> int | None:
    """The sequence number of the root event of this node that the question is about."""
    if question.root is not None:
        return question.root.sequence if question.root.node == node else None
    try:
        asked = EventId.parse(question.prefix)
    except ValueError:
        return None
    return asked.sequence if asked.node == node else None


def note_found(found: dict[EventId, Found], fact: Fact) -> None:
    """Something was told of an event that may be meant."""
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


def latest_found(found: Iterable[Found], *, failed: bool) -> tuple[Found, ...]:
    """The latest of them, the last last; only those that failed, if that is what was asked."""
    latest = sorted(found, key=lambda one: (one.at, one.event_id))
    return tuple([one for one in latest if one.failed or not failed][-MOST_FOUND:])
