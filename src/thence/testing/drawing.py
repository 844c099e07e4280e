"""A cascade as a tree of text: each event, below it its handlers, below each of these what it emitted."""

from __future__ import annotations

from thence.testing.occurrences import Occurrence, Outcome, shown_event

__all__ = ["draw"]

MOST_LINES = 200
"""Lines that are drawn; nobody reads more of them under a failed assertion."""


def draw(root: Occurrence) -> list[str]:
    """The lines of the tree. Without recursion: a cascade may be deeper than Python's stack."""
    lines = [_event_line(root)]
    left_out = 0
    stack: list[tuple[str, bool, Outcome | Occurrence]] = []

    def push(before: str, below: tuple[Outcome | Occurrence, ...]) -> None:
        for position, one in enumerate(reversed(below)):
            stack.append((before, position == 0, one))

    push("", root.outcomes)
    while stack:
        before, last, shown = stack.pop()
        edge, within = ("└─", "   ") if last else ("├─", "│  ")
        if isinstance(shown, Outcome):
            text = f"{shown.mark} {_outcome_line(shown)}"
            push(before + within, shown.emitted)
        else:
            text = f"▶ {_event_line(shown)}"
            push(before + within, shown.outcomes)
        if len(lines) < MOST_LINES:
            lines.append(f"{before}{edge}{text}")
        else:
            left_out += 1
    if left_out:
        lines.append(f"… and {left_out:,} more lines")
    return lines


def _event_line(occurrence: Occurrence) -> str:
    shown = shown_event(occurrence.event)
    return shown if occurrence.outcomes else f"{shown}  nobody wants it"


def _outcome_line(outcome: Outcome) -> str:
    parts = [outcome.handler or "not sent", f"+{_duration(outcome.at)}"]
    if outcome.seconds >= 1e-6:
        parts.append(_duration(outcome.seconds))
    if outcome.why:
        parts.append(outcome.why)
    return "  ".join(parts)


def _duration(seconds: float) -> str:
    """Milliseconds or seconds, whichever reads better."""
    return f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else f"{seconds:.4g} s"
