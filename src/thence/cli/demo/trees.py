"""A cascade of the demo as a tree, from what its processes told. Pure."""

from __future__ import annotations

from collections import defaultdict

from thence.cli.demo.cascades import Cascade
from thence.cli.demo.facts import Cut, Ending
from thence.delivery.reasons import LOOP

__all__ = ["tree"]

TREE = 40
"""Lines that are shown."""


def tree(cascade: Cascade) -> list[str]:
    """A line for each handler that ended, and for each cut, under the handler that caused it."""
    lines = [cascade.event]
    below: defaultdict[tuple[str, str], list[Ending | Cut]] = defaultdict(list)
    parts: tuple[Ending | Cut, ...] = (*cascade.endings, *cascade.cuts)
    for part in parts:
        # How the root itself was handled is not told.
        by = part.by if part.cause_id != cascade.root_id else ""
        below[part.cause_id, by].append(part)

    def grow(cause: str, by: str, indent: str) -> None:
        parts = sorted(below[cause, by], key=lambda part: part.at)
        for position, part in enumerate(parts):
            last = position == len(parts) - 1
            branch = "└─" if last else "├─"
            after = (part.at - cascade.began) * 1000
            if isinstance(part, Cut):
                why = part.reason if part.reason != LOOP else f"loop, {' → '.join(part.loop)}"
                lines.append(f"{indent}{branch}✂ {part.event}  {part.service}  cut: {why}")
                continue
            mark = "✗" if part.failed else "✓"
            lines.append(f"{indent}{branch}▶ {part.event}  {part.service}  +{after:.1f} ms {mark}")
            grow(part.event_id, part.place, indent + ("   " if last else "│  ") + " ")

    grow(cascade.root_id, "", "")
    more = len(lines) - TREE
    return lines if more <= 0 else [*lines[:TREE], f"... and {more:,} more"]
