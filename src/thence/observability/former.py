"""A run of a node that has ended, as a witness: what it left in the flight recorder's file."""

from __future__ import annotations

from msgspec.structs import replace

from thence.identifiers import EventId
from thence.observability.accounts import Account, Fact, Found, Question
from thence.observability.questions import Key, about, latest_found, note_found
from thence.observability.recorder_file import former_account, moment_of, shifted

__all__ = ["FormerRun"]


class FormerRun:
    """What is in a file. It is read anew for each question, and may be in any thread."""

    def __init__(self, path: str) -> None:
        self._path = path

    def account(
        self, question: Question, key: Key | None, now: float, since: float
    ) -> Account | None:
        """What it tells, by the stopwatch that shows ``now``, of what happened since then; None if there is none."""
        account = former_account(self._path, now)
        if account is None:
            return None
        shift, is_about = now - account.clock, about(question)
        facts: list[Fact] = []
        found: dict[EventId, Found] = {}
        for fact in account.facts:
            moment = moment_of(fact)
            if moment is not None and moment + shift < since:
                continue
            root = fact.ancestry.root if fact.ancestry is not None else fact.event_id
            if question.root is not None:
                if root == question.root:
                    facts.append(shifted(fact, shift))
            elif (
                key.has(fact.event, getattr(fact, "key", ""))
                if key
                else is_about(*fact.event_id, fact.event, None, None)
            ):
                note_found(found, shifted(fact, shift))
        return replace(
            account,
            clock=now,
            since=max(account.since + shift, since),
            born=account.born + shift,
            facts=tuple(facts[: question.most]),
            found=latest_found(found.values(), failed=question.failed),
            cut_short=len(facts) > question.most,
        )
