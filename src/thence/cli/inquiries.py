"""Finding the event that somebody means, and what became of its cascade: for ``trace`` and ``why``."""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.structs import replace

from thence.app.inquiry import Answers
from thence.app.node import Node
from thence.cli.exits import CommandError, Exit
from thence.events.suggestions import did_you_mean
from thence.identifiers import EventId
from thence.observability.accounts import Found, Question
from thence.observability.assembly import Heard, Trace, assemble

__all__ = ["Inquiry", "inquire", "window"]

PATIENCE = 0.6
"""Seconds that nodes have to answer."""
NEAR = (28, 24, 20, 16, 12, 8, 4, 1)
"""How many of an identifier's digits are right, perhaps, where there is none like it."""
MOST_SHOWN = 8
"""Events that are named where several may be meant."""


class Inquiry(Struct):
    """What was asked for, and what is known of it."""

    event_id: EventId
    trace: Trace
    seconds: float
    """How far back the nodes that answered remember, at least."""

    @property
    def is_found(self) -> bool:
        """Whether the event has not been forgotten since it was found."""
        return self.trace.find(self.event_id) is not None


async def inquire(node: Node, wanted: str | None, last: str | None, *, failed: bool) -> Inquiry:
    """Ask all nodes.

    :param wanted: an event's identifier, its beginning, its beginning and end as in ``0197…e1``, or ``key=value``.
    :param last: an event type, to mean the last event of it.
    :param failed: to mean the last that a handler failed on.
    :raises CommandError: nothing, or too much, fits; or nobody is there.
    """
    question = _question(wanted, last, failed)
    answers = await node.ask_about(question, timeout=PATIENCE)
    _check_reached(answers)
    found = _together(answers)
    if not found:
        raise await _not_found(node, question, wanted, last, answers)
    if (question.prefix or question.suffix) and len(found) > 1:
        raise CommandError(
            f"{wanted!r} may be one of {len(found)} events; give more of the identifier:\n"
            + _listing(found),
            Exit.NOT_FOUND,
        )
    chosen = found[-1]
    answers = await node.ask_about(Question(root=chosen.root), timeout=PATIENCE)
    trace = assemble(chosen.root, answers.heard, answers.silent, answers.strange)
    remembered = [one.account.clock - one.account.since for one in _others(answers)]
    return Inquiry(chosen.event_id, trace, min(remembered, default=0.0))


def window(seconds: float) -> str:
    """How far back, in words."""
    if seconds >= 120:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _question(wanted: str | None, last: str | None, failed: bool) -> Question:
    given = [one for one in (wanted, last) if one] + ([""] if failed and not last else [])
    if len(given) != 1:
        raise CommandError(
            "say which event: its identifier or the beginning of it, KEY=VALUE, --last EVENT or --failed",
            Exit.USAGE,
        )
    if last or failed:
        return Question(event=last or "", failed=failed)
    assert wanted is not None
    key, equals, value = wanted.partition("=")
    if equals:
        if not key or not value:
            raise CommandError(
                f"{wanted!r}: write KEY=VALUE, the field that orders the type and its value, as in player=ana",
                Exit.USAGE,
            )
        return Question(key=(key, value))
    prefix, _, suffix = wanted.lower().replace("...", "…").replace("..", "…").partition("…")
    if not re.fullmatch(r"[0-9a-f]{1,32}", prefix + suffix):
        raise CommandError(
            f"{wanted!r} is no identifier: those have 32 of the digits 0-9 and a-f, and the beginning will do. To "
            f"look for a key write KEY=VALUE, for the last event of a type --last {wanted}",
            Exit.USAGE,
        )
    return Question(prefix=prefix, suffix=suffix)


def _check_reached(answers: Answers) -> None:
    # The node that asks has seen nothing.
    if len(answers.heard) > 1:
        return
    if answers.silent or answers.strange:
        raise CommandError(f"nobody answered: {_unheard(answers)}", Exit.NOBODY)
    raise CommandError(
        "nobody is on this mesh: start a service with 'thence run MODULE:SERVICE', or name another mesh with "
        "--mesh",
        Exit.NOBODY,
    )


def _unheard(answers: Answers) -> str:
    """Who is there and was not heard, in words."""
    strange = [f"{name} in a way that is not understood here" for name in answers.strange]
    return ", ".join([*answers.silent, *strange])


def _others(answers: Answers) -> list[Heard]:
    """Those heard but the node that asks, which comes first."""
    return answers.heard[1:]


def _together(answers: Answers) -> list[Found]:
    """What was found anywhere, the latest last."""
    found: dict[EventId, tuple[float, Found]] = {}
    for one in answers.heard:
        for event in one.account.found:
            at = event.at + one.ahead
            if (before := found.get(event.event_id)) is not None:
                at = max(at, before[0])
                event = replace(
                    event,
                    key=event.key or before[1].key,
                    failed=event.failed or before[1].failed,
                )
            found[event.event_id] = at, event
    return [event for _, event in sorted(found.values(), key=lambda p: (p[0], p[1].event_id))]


async def _not_found(
    node: Node, question: Question, wanted: str | None, last: str | None, answers: Answers
) -> CommandError:
    remembered = [one.account.clock - one.account.since for one in _others(answers)]
    back = f"within the last {window(min(remembered))}, as far as all who answered remember"
    unheard = _unheard(answers)
    code = Exit.PARTIAL if unheard else Exit.NOT_FOUND
    silent = f" Silent: {unheard}." if unheard else ""
    if question.failed:
        what = f"no handler failed on {last}" if last else "no handler failed"
        return CommandError(f"{what} {back}.{silent}", code)
    reports, _ = await node.ask_peers()
    if last:
        known = {e.event for r in reports for e in r.emitted}
        known |= {event for r in reports for h in r.handlers for event in h.events}
        return CommandError(
            f"no event {last!r} {back}.{did_you_mean(last, known)}{silent}"
            + ("" if not known else f" There is {', '.join(sorted(known))}"),
            code,
        )
    if question.key is not None:
        field, value = question.key
        return CommandError(
            f"no event with {field}={value} {back}: only the field that orders a type (key=) is looked at.{silent}",
            code,
        )
    near = await _near(node, question.prefix)
    listing = f" The nearest:\n{_listing(near)}" if near else ""
    return CommandError(f"no event {wanted} {back}.{silent}{listing}", code)


async def _near(node: Node, prefix: str) -> list[Found]:
    """Events whose identifiers have the most of that beginning in common."""
    for length in (length for length in NEAR if length < len(prefix)):
        answers = await node.ask_about(Question(prefix=prefix[:length]), timeout=PATIENCE)
        if found := _together(answers):
            return found
    return []


def _listing(found: list[Found]) -> str:
    lines = [
        f"  {one.event_id}  {one.event}{f'  {one.key}' if one.key else ''}{'  failed' if one.failed else ''}"
        for one in found[-MOST_SHOWN:]
    ]
    more = len(found) - len(lines)
    return "\n".join(lines + ([f"  … and {more} more"] if more else []))
