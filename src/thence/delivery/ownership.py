"""Which blocks of a service's keys this replica may handle: those it has locked.

Rendezvous hashing tells whose a block should be; the lock makes sure that nobody handles it before the
former owner has finished with it. A new owner lets arrivals wait until it has the lock. The former one
ends what it has begun, gives back the rest, and releases.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable

from thence.events.envelope import Arrival, Source
from thence.mesh.discovery.contract import BlockLocks
from thence.routing.replicas import BLOCKS, owners

__all__ = ["Ownership"]

FIRST_LOOK, LAST_LOOK = 0.001, 0.05
"""Seconds between attempts to take locks that another replica still holds."""


class Ownership:
    """One replica's part of one service's keys.

    ``admit(arrival)`` takes an arrival that had to wait for its block; ``changed()`` is called when what is
    held may differ, ``gained(blocks)`` when blocks were taken, ``released()`` when other replicas may take what
    this one gave up.
    """

    def __init__(
        self,
        service: str,
        node: str,
        locks: BlockLocks,
        admit: Callable[[Arrival], None],
        changed: Callable[[], None],
        gained: Callable[[set[int]], None],
        released: Callable[[], None],
    ) -> None:
        self.service = service
        self.complete = False
        """Whether this replica holds every block, so that nobody needs to ask for one."""
        self.losing = False
        """Whether blocks that belong to others now are still locked here."""
        self._node = node
        self._locks = locks
        self._admit = admit
        self._changed = changed
        self._gained = gained
        self._released = released
        self._loop = asyncio.get_running_loop()
        self._owners: list[str] = []
        self._mine: set[int] = set()
        self._held: set[int] = set()
        self._unfinished: Counter[int] = Counter()
        """In each block that is being lost, the arrivals that have not ended."""
        self._parked: dict[int, deque[Arrival]] = {}
        self._given_back: set[tuple[Source, int]] = set()
        """Emitters and blocks of which something was given back; what follows it must not overtake it."""
        self._look: asyncio.TimerHandle | None = None
        self._pause = FIRST_LOOK

    @property
    def waiting(self) -> int:
        """Arrivals that wait for the lock of their block."""
        return sum(map(len, self._parked.values()))

    def owner_of(self, block: int) -> str:
        """The node that a block belongs to by this replica's view; empty when there is none."""
        return self._owners[block] if self._owners else ""

    def update(self, nodes: Iterable[str], unfinished: Iterable[int]) -> list[Arrival]:
        """The service's replicas are these; ``unfinished`` are the blocks of arrivals that have not ended.

        Returns arrivals that were waiting here for blocks that belong to others now.
        """
        self._owners = owners(self.service, nodes)
        self._mine = {block for block, owner in enumerate(self._owners) if owner == self._node}
        lost = self._held - self._mine
        self._unfinished = Counter(block for block in unfinished if block in lost)
        self._release(lost - set(self._unfinished))
        self._pause = FIRST_LOOK
        self.take()
        return [
            arrival
            for block in sorted(self._parked.keys() - self._mine)
            for arrival in self._parked.pop(block)
        ]

    def may_handle(self, block: int) -> bool:
        """Whether this replica holds the block, and it belongs to it."""
        return block in self._held and block in self._mine

    def give_back(self, source: Source, block: int) -> None:
        """An arrival goes back to ``source``: so does all that follows in its block, up to the fence."""
        self._given_back.add((source, block))
        self._note()

    def must_follow(self, source: Source, block: int) -> bool:
        """Whether an arrival has to go back because one before it did."""
        return (source, block) in self._given_back

    def fenced(self, source: Source, blocks: Iterable[int]) -> None:
        """``source`` knows of everything of these blocks that went back to it."""
        if self._given_back:
            self._given_back.difference_update([(source, block) for block in blocks])
            self._note()

    def forget(self, source: Source) -> None:
        """``source`` is gone."""
        if self._given_back:
            self._given_back = {mark for mark in self._given_back if mark[0] is not source}
            self._note()

    def park(self, block: int, arrival: Arrival) -> bool:
        """Let an arrival wait for its block; False when the block belongs to another replica."""
        if block not in self._mine:
            return False
        self._parked.setdefault(block, deque()).append(arrival)
        return True

    def ended(self, block: int) -> None:
        """An arrival of this block has ended. Only to be told while :attr:`losing`."""
        if block in self._unfinished:
            self._unfinished[block] -= 1
            if not self._unfinished[block]:
                del self._unfinished[block]
                self._release({block})

    def take(self) -> None:
        """Try to lock what belongs to this replica and is not held yet."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        wanted = self._mine - self._held
        if wanted:
            gained = self._locks.acquire(wanted)
            self._held |= gained
            if gained:
                self._gained(gained)
            for block in sorted(self._parked.keys() & gained):
                for arrival in self._parked.pop(block):
                    self._admit(arrival)
            if gained != wanted:
                self._look = self._loop.call_later(self._pause, self.take)
                self._pause = min(self._pause * 2, LAST_LOOK)
        self._note()

    def close(self) -> None:
        """Try for no further locks."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        self._mine.clear()

    def _release(self, blocks: set[int]) -> None:
        if blocks:
            self._locks.release(blocks)
            self._held -= blocks
            self._released()
        self._note()

    def _note(self) -> None:
        self.complete = (
            len(self._held) == BLOCKS and self._mine >= self._held and not self._given_back
        )
        self.losing = bool(self._unfinished)
        self._changed()
