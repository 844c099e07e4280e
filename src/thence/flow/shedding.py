"""When waiting is pointless: events that have stood in line too long are shed, before they cost work.

A line that is empty now and then absorbs bursts; a line that never empties only makes everything late.
Controlled delay tells them apart (CoDel: Nichols and Jacobson, "Controlling queue delay", ACM Queue, 2012),
here in the form that servers use (Maurer, "Fail at scale", ACM Queue, 2015): after a burst events may wait
for twice the target, in a standing line for the target. What is served is then fresh, and a place never
stands idle while the line holds anything fresh.
"""

from __future__ import annotations

__all__ = ["QueueDelay"]


class QueueDelay:
    """How long events may wait in one line. ``target`` in seconds."""

    __slots__ = ("_empty_at", "target")

    def __init__(self, target: float) -> None:
        self.target = target
        self._empty_at = 0.0

    def was_empty(self, now: float) -> None:
        """The line was empty just now."""
        self._empty_at = now

    def allows(self, waited: float, now: float) -> bool:
        """Whether to begin an event that has waited that many seconds."""
        if waited <= self.target:
            return True
        return waited <= 2 * self.target and now - self._empty_at <= 2 * self.target
