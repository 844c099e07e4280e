"""Why the slowest cascade of a game took so long, and why one failed: asked while its nodes are still there.

It is what ``thence why`` says, through the same code.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from rich.text import Text

from thence.app.node import Node
from thence.cli.demo.cascades import Cascade
from thence.cli.exits import CommandError
from thence.cli.inquiries import PATIENCE, Inquiry, inquire
from thence.cli.why import why_document, why_lines
from thence.errors import ThenceError
from thence.identifiers import EventId
from thence.observability.accounts import Question

__all__ = ["Whys", "ask_why"]


class Whys(Struct):
    """What was asked, and the answers."""

    slowest: Inquiry | None = None
    seconds: float = 0.0
    """How long the slowest took."""
    failed: Inquiry | None = None
    untold: str = ""
    """Why there is no answer, if that is not for want of anything to ask about."""

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "slowest": None if self.slowest is None else why_document(self.slowest),
            "failed": None if self.failed is None else why_document(self.failed),
            "untold": self.untold or None,
        }

    def lines(self, option: str, width: int) -> list[Text]:
        """For people.

        :param option: what a person would have to add to the command.
        """
        lines: list[Text] = []
        if self.slowest is not None:
            what = f"the slowest cascade that is remembered took {self.seconds * 1000:.1f} ms:"
            lines += [*_asked(what, self.slowest, option), *why_lines(self.slowest, width)]
        if self.failed is not None:
            what = "a failure, the latest of those nearest to their root:"
            lines += [*_asked(what, self.failed, option), *why_lines(self.failed, width)]
        if self.untold:
            lines += [Text(), Text(f"thence why has no answer: {self.untold}", "yellow")]
        return lines


async def ask_why(mesh: str, cascades: Sequence[Cascade], *, failed: bool) -> Whys:
    """Ask the nodes on a mesh, twice at most about each of the two.

    :param failed: whether a handler has failed at all.
    """
    whys = Whys()
    try:
        async with Node(mesh=mesh, name="thence demo") as node:
            whole = await _remembered(node, cascades) if cascades else []
            if whole:
                slowest = max(whole, key=lambda cascade: cascade.seconds)
                last = max(slowest.endings, key=lambda ending: ending.at)
                whys.slowest = _if_found(await inquire(node, last.event_id, None, failed=False))
                whys.seconds = slowest.seconds
            elif cascades:
                whys.untold = (
                    "no cascade is remembered whole any more: play with a larger THENCE_RECORDER"
                )
            if failed and not whys.untold:
                chosen = _failed_in(whole)
                inquiry = await inquire(node, chosen, None, failed=chosen is None)
                whys.failed = _if_found(inquiry)
    except (CommandError, ThenceError) as error:
        whys.untold = str(error)
    return whys


async def _remembered(node: Node, cascades: Sequence[Cascade]) -> list[Cascade]:
    """Those that no node can have forgotten anything of."""
    asked = time.monotonic()
    root = EventId.parse(cascades[-1].root_id)
    answers = await node.ask_about(Question(root=root), timeout=PATIENCE)
    spans = [one.account.clock - one.account.since for one in answers.heard[1:]]
    return [one for one in cascades if one.began > asked - min(spans, default=0.0)]


def _failed_in(cascades: Sequence[Cascade]) -> str | None:
    """The event that a handler failed on nearest to its root, the latest of these; None if none is known."""
    failures = [ending for cascade in cascades for ending in cascade.endings if ending.failed]
    nearest = min(failures, key=lambda ending: (ending.depth, -ending.at), default=None)
    return None if nearest is None else nearest.event_id


def _if_found(inquiry: Inquiry) -> Inquiry | None:
    return inquiry if inquiry.is_found else None


def _asked(what: str, inquiry: Inquiry, option: str) -> list[Text]:
    """A heading, with what a person would type."""
    return [
        Text(),
        Text(what, "bold"),
        Text(f"$ thence why {inquiry.event_id}{option}", "cyan"),
    ]
