"""Which node handles which of a service's keys, and moving keys without losing their order.

When a replica joins or leaves, some blocks of keys get a new owner. The events of those blocks that are
already with the old owner must end before the first goes to the new one, or the order of a key would be
lost. So such blocks are held: a fence follows the last event to the old owner, and what is emitted
meanwhile waits, in order, until the old owner answers that everything before the fence has ended. What it
had not begun it gives back, and that goes first.

Nothing is counted per key for this, and nothing is asked per event: holds exist only while keys move.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from thence.routing.replicas import block_of, owners

__all__ = ["Hold", "Parcel", "Placement"]


class Parcel(Protocol):
    """An event waiting in a hold."""

    block: int


P = TypeVar("P", bound=Parcel)


class Hold(Generic[P]):
    """Blocks on their way from one owner to another, and what waits for them to arrive."""

    __slots__ = ("blocks", "fenced", "new_owner", "old_owner", "returned", "waiting")

    def __init__(self, old_owner: str) -> None:
        self.old_owner = old_owner
        self.new_owner: str | None = None
        """Whom the old owner named when it gave something back."""
        self.fenced = False
        """Whether everything sent to the old owner has ended, so that what waits may be sent on."""
        self.blocks: set[int] = set()
        self.returned: deque[P] = deque()
        self.waiting: deque[P] = deque()

    def __len__(self) -> int:
        return len(self.returned) + len(self.waiting)

    def split(self, block: int, old_owner: str) -> Hold[P]:
        """A hold of its own for that block, with what waits here for it."""
        hold = Hold[P](old_owner)
        self.blocks.discard(block)
        for waiting in (self.returned, self.waiting):
            hold.waiting.extend(parcel for parcel in waiting if parcel.block == block)
            staying = [parcel for parcel in waiting if parcel.block != block]
            waiting.clear()
            waiting.extend(staying)
        return hold


class Placement(Generic[P]):
    """One emitter's view of one service's replicas.

    ``fence(hold)`` is called for each new hold: it asks the old owner to say when all that was sent has
    ended, sees to it that what waits is sent then, and calls :meth:`release`. ``changed()`` is called when
    routes differ.
    """

    def __init__(
        self,
        service: str,
        *,
        outstanding: Callable[[str], bool],
        fence: Callable[[Hold[P]], None],
        changed: Callable[[], None],
    ) -> None:
        self.service = service
        self.nodes: frozenset[str] = frozenset()
        self.holds: dict[int, Hold[P]] = {}
        self._owners: list[str] = []
        self._last: list[str] = []
        """The owners when there last were any."""
        self._outstanding = outstanding
        self._fence = fence
        self._changed = changed

    @property
    def held(self) -> int:
        """How many events wait in holds."""
        return sum(map(len, {id(hold): hold for hold in self.holds.values()}.values()))

    def owner_of(self, block: int) -> str | None:
        """The node that owns a block, None when there is no replica."""
        return self._owners[block] if self._owners else None

    def hold_for(self, key: object) -> tuple[int, Hold[P] | None]:
        """The block of a key value, and the hold that is on it."""
        block = block_of(key)
        return block, self.holds.get(block)

    def update(self, nodes: Iterable[str], dead: str | None = None) -> None:
        """The service's replicas are these now. What ``dead`` had is gone: its keys move at once."""
        nodes = frozenset(nodes)
        if nodes == self.nodes:
            return
        before = self._last
        self._owners = owners(self.service, nodes)
        # While there is no replica at all, the last ones may still have something unended.
        self._last = self._owners or before
        self.nodes = nodes
        new_holds: dict[str, Hold[P]] = {}
        for block, (old, new) in enumerate(zip(before, self._owners, strict=False)):
            known = self.holds.get(block)
            if known is not None and not known.fenced:
                # It goes to whoever is the owner when the fence is answered.
                continue
            if old == new or old == dead or not self._outstanding(old):
                continue
            hold = new_holds.get(old)
            if hold is None:
                hold = new_holds[old] = Hold(old)
            if known is not None:
                # Some of what waited has been sent on already: the rest waits until that has ended.
                hold.waiting.extend(known.split(block, old).waiting)
            hold.blocks.add(block)
            self.holds[block] = hold
        self._changed()
        for hold in new_holds.values():
            self._fence(hold)

    def give_back(self, parcel: P, old_owner: str, new_owner: str) -> None:
        """``old_owner`` had not begun this event, and says whose it is now."""
        known = self.holds.get(parcel.block)
        hold = known
        if hold is None or hold.fenced:
            # What was sent on may come back too: then what still waits for its turn comes after it.
            hold = Hold[P](old_owner) if hold is None else hold.split(parcel.block, old_owner)
            hold.blocks.add(parcel.block)
            self.holds[parcel.block] = hold
        hold.returned.append(parcel)
        hold.new_owner = new_owner or None
        if known is None:
            self._changed()
        if known is not hold:
            self._fence(hold)

    def release(self, hold: Hold[P]) -> None:
        """The blocks have arrived at their new owner, and what waited has been sent there."""
        for block in hold.blocks:
            if self.holds.get(block) is hold:
                del self.holds[block]
        self._changed()

    def holds_on(self, node: str) -> list[Hold[P]]:
        """The holds that wait for that node's answer."""
        return [
            hold
            for hold in {id(h): h for h in self.holds.values()}.values()
            if hold.old_owner == node
        ]
