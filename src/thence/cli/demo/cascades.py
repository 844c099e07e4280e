"""What different processes saw of each cascade, put together. Pure."""

from __future__ import annotations

from collections import defaultdict

from msgspec import Struct

from thence.cli.demo.facts import Bulletin, Cut, Ending

__all__ = ["Cascade", "Cascades", "percentile"]


class Cascade(Struct, frozen=True):
    """One root event and what came of it."""

    root_id: str
    event: str
    began: float
    endings: tuple[Ending, ...]
    cuts: tuple[Cut, ...] = ()

    @property
    def seconds(self) -> float:
        """From the root's emission to the end of the last handler."""
        return max(ending.at for ending in self.endings) - self.began

    @property
    def size(self) -> int:
        """Events, the root included."""
        return 1 + len({ending.event_id for ending in self.endings})


class Cascades:
    """Puts together what different processes saw of each cascade."""

    def __init__(self) -> None:
        self._roots: dict[str, tuple[str, float]] = {}
        self._endings: defaultdict[str, list[Ending]] = defaultdict(list)
        self._cuts: defaultdict[str, list[Cut]] = defaultdict(list)

    def add(self, bulletin: Bulletin) -> None:
        """Take in one bulletin, in any order."""
        for root_id, event, at in bulletin.roots:
            self._roots[root_id] = (event, at)
        for ending in bulletin.endings:
            self._endings[ending.root_id].append(ending)
        for cut in bulletin.cuts:
            self._cuts[cut.root_id].append(cut)

    def complete(self) -> list[Cascade]:
        """The cascades whose root is known, in the order in which they began."""
        found = [
            Cascade(
                root_id, *self._roots[root_id], tuple(endings), tuple(self._cuts.get(root_id, ()))
            )
            for root_id, endings in self._endings.items()
            if root_id in self._roots
        ]
        return sorted(found, key=lambda cascade: cascade.began)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that is not below ``share`` of all; 0.0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
