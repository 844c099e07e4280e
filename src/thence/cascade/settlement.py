"""When a cascade has ended: reports that fold up the causal tree.

Every delivery of a tracked event has one parent, the delivery whose handler emitted it, or the root. It has
ended when its handlers and all deliveries that they caused have; then it tells its parent, once, and its
parent alone. So nobody needs to see the whole tree, and what a node that has died does not report is written
off by the parent that waits for it.

The algorithm is Dijkstra's and Scholten's ("Termination detection for diffusing computations", 1980), whose
signals carry a summary here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

__all__ = ["ENDED", "MAX_TEXT", "Branch", "Branches", "Failure", "Kind", "Step", "Tally"]

MAX_TEXT = 500
"""Characters of a name or an error in a report."""
MAX_FAILURES = 16
"""Failures that one report names; all are counted."""
MAX_STEPS = 64
"""Steps of a critical path that one report names."""
MAX_BRANCHES = 100_000
"""Deliveries that one node waits for. The oldest is written off for one more."""

Kind: TypeAlias = Literal["failed", "loop", "lost"]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Text: TypeAlias = Annotated[str, Meta(max_length=MAX_TEXT)]


class Failure(Struct, array_like=True, frozen=True):
    """What went wrong at one place of a cascade."""

    kind: Kind
    """``failed``: the handler raised or timed out; ``loop``: it was cut; ``lost``: its node did not tell."""
    event: Text
    event_id: Text
    handler: Text
    """``service.handler``; just the service if the handler is unknown."""
    error: Text

    def __str__(self) -> str:
        return f"{self.handler} on {self.event}: {self.error}"


class Step(Struct, array_like=True, frozen=True):
    """One handler run on the way that took longest."""

    event: Text
    handler: Text
    """``service.handler``."""
    node: Text
    """Name of the node that it ran at."""
    waited: float
    """Seconds from when the event was read there until the handler began."""
    ran: float
    """Seconds that the handler took."""


class Tally(Struct, array_like=True, frozen=True):
    """What is known of a part of a cascade that has ended. Tallies add up in any order."""

    events: Count = 0
    """Handlers started."""
    depth: Count = 0
    """The greatest depth of what was delivered."""
    shed: Count = 0
    """Handlers that were not started, for reasons other than those below."""
    cut: Count = 0
    """Handlers, or whole deliveries, that the budget or a loop did not allow."""
    expired: Count = 0
    """Handlers not started because the event or its cascade was too old."""
    merged: Count = 0
    """Events that were handled together with a newer one, which their consequences follow."""
    failed: Count = 0
    """Handlers that raised or timed out."""
    lost: Count = 0
    """Deliveries of which nobody knows what became of them."""
    failures: Annotated[tuple[Failure, ...], Meta(max_length=MAX_FAILURES)] = ()
    """The first of what went wrong."""
    steps: Annotated[tuple[Step, ...], Meta(max_length=MAX_STEPS)] = ()
    """The runs that ended last, each the cause of the next."""


class Branch:
    """A delivery that waits for its own handlers and for all that they cause, or the root of a cascade.

    ``ended(tally)`` is called once, when nothing is open any more.
    """

    __slots__ = (
        "_cut",
        "_ended",
        "_events",
        "_expired",
        "_failed",
        "_failures",
        "_lost",
        "_merged",
        "_shed",
        "_steps",
        "began",
        "depth",
        "open",
        "runs",
        "step",
    )

    def __init__(self, depth: int, parts: int, ended: Callable[[Branch, Tally], None]) -> None:
        self.open = parts
        """Handlers and consequences that have not ended."""
        self.depth = depth
        self.step: Step | None = None
        """Its own handler's run, if that has ended well or not."""
        self.began = 0.0
        """When its handler was begun."""
        self.runs: dict[str, Branch] = {}
        """By handler, the branches of their runs, where there are several."""
        self._ended = ended
        self._events = self._shed = self._cut = self._expired = self._merged = 0
        self._failed = self._lost = 0
        self._failures: tuple[Failure, ...] = ()
        self._steps: tuple[Step, ...] = ()

    def branch_of(self, handler: str) -> Branch:
        """What waits for that handler's run and all that it causes: a branch of its own, or else this one."""
        return self.runs.get(handler, self)

    def grows(self) -> None:
        """One more delivery is under way because of it."""
        self.open += 1

    def ran(self, step: Step, failure: Failure | None = None) -> None:
        """One of its handlers has been run."""
        self._events += 1
        self.step, self._steps = step, ()
        if failure is not None:
            self._failed += 1
            self.note(failure)

    def note(self, failure: Failure) -> None:
        """Something went wrong."""
        if len(self._failures) < MAX_FAILURES:
            self._failures += (failure,)

    def refused(self, reason: Literal["shed", "cut", "expired", "merged"], count: int = 1) -> None:
        """Handlers were not started, or a consequence not sent."""
        match reason:
            case "shed":
                self._shed += count
            case "cut":
                self._cut += count
            case "expired":
                self._expired += count
            case "merged":
                self._merged += count

    def child_ended(self, tally: Tally) -> None:
        """A consequence has ended, with all that followed from it."""
        self.children_ended(tally, 1)

    def children_ended(self, tally: Tally, count: int) -> None:
        """So many consequences have ended, each with all that followed from it."""
        self._events += count * tally.events
        self.depth = max(self.depth, tally.depth)
        if tally.shed or tally.cut or tally.expired or tally.merged or tally.failed or tally.lost:
            self._shed += count * tally.shed
            self._cut += count * tally.cut
            self._expired += count * tally.expired
            self._merged += count * tally.merged
            self._failed += count * tally.failed
            self._lost += count * tally.lost
        if tally.failures:
            self._failures = (self._failures + count * tally.failures)[:MAX_FAILURES]
        self._steps = tally.steps
        self.open -= count
        if not self.open:
            self._ended(self, self.tally())

    def child_lost(self, failure: Failure) -> None:
        """Nobody will tell what became of a consequence."""
        self._lost += 1
        self.note(failure)
        self._steps = ()
        self.part_ended()

    def part_ended(self) -> None:
        """One of its handlers, or one consequence, has ended."""
        self.open -= 1
        if not self.open:
            self._ended(self, self.tally())

    def tally(self) -> Tally:
        """What is known so far."""
        steps = self._steps if self.step is None else (self.step, *self._steps)[:MAX_STEPS]
        return Tally(
            self._events,
            self.depth,
            self._shed,
            self._cut,
            self._expired,
            self._merged,
            self._failed,
            self._lost,
            self._failures,
            steps,
        )


ENDED = Branch(0, 0, lambda _branch, _tally: None)
"""Stands for a delivery that has ended and caused nothing, so that nothing had to wait for it."""


class Branches:
    """The branches of one node, so many at most."""

    def __init__(self, most: int = MAX_BRANCHES) -> None:
        self._most = most
        self._open: dict[Branch, Callable[[Tally], None]] = {}
        self._untold: deque[tuple[Callable[[Tally], None], Tally]] = deque()
        """Who is still to be told that a branch has ended."""
        self._telling = False

    def __len__(self) -> int:
        return len(self._open)

    def open(self, depth: int, parts: int, ended: Callable[[Tally], None]) -> Branch:
        """A branch of so many parts. ``ended(tally)`` is called once: when it has ended, or is written off."""
        if len(self._open) >= self._most:
            oldest = next(iter(self._open))
            oldest.child_lost(Failure("lost", "", "", "", "too many cascades are tracked at once"))
            self._end(oldest, oldest.tally())
        branch = Branch(depth, parts, self._end)
        self._open[branch] = ended
        return branch

    def open_run(self, branch: Branch, handler: str) -> Branch:
        """One of several handlers of a delivery begins: its run and all that it causes are one part of ``branch``."""
        run = branch.runs[handler] = self.open(branch.depth, 1, branch.child_ended)
        return run

    def forget(self, branch: Branch) -> None:
        """Somebody else will report on it."""
        self._open.pop(branch, None)

    def _end(self, branch: Branch, tally: Tally) -> None:
        ended = self._open.pop(branch, None)
        if ended is None:
            return
        self._untold.append((ended, tally))
        # Not recursively: its parent may end with it, and that one's parent, up a cascade of any depth.
        if self._telling:
            return
        self._telling = True
        try:
            while self._untold:
                ended, tally = self._untold.popleft()
                ended(tally)
        finally:
            self._telling = False
