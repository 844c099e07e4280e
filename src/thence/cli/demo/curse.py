"""What became of a curse: what the loop cost, where it was cut, and how everything else fared. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from thence.cli.demo.cascades import Cascade, percentile
from thence.delivery.reasons import LOOP

__all__ = ["Calm", "Curse", "CutPlace", "curse_in"]


class CutPlace(Struct, frozen=True, order=True):
    """Where cascades were cut, and why."""

    place: str
    """A handler, or ``event for service`` if it was not sent."""
    reason: str
    rounds: int
    """How often the cascade had come back to the handler, or to the one that emitted the event."""


class Calm(Struct, frozen=True):
    """The cascades without a curse in one part of the game."""

    cascades: int
    seconds_p50: float
    seconds_p99: float


class Curse(Struct, frozen=True):
    """The cascades that were cut, and the others."""

    cascades: int
    """That were cut."""
    loop: tuple[str, ...]
    """The handlers of the loop, the first again at the end."""
    cuts: dict[str, int]
    """How many, by :class:`CutPlace` in words."""
    starts: int
    """Handler starts of the loop, in all cascades."""
    starts_max: int
    """The same in one cascade."""
    before: Calm
    """The other cascades, from before the first that was cut."""
    since: Calm

    @property
    def cut(self) -> int:
        """Deliveries that were cut."""
        return sum(self.cuts.values())


def curse_in(cascades: Sequence[Cascade]) -> Curse:
    """What the cuts in these cascades tell, which are in the order in which they began."""
    cursed = [cascade for cascade in cascades if cascade.cuts]
    cuts = [cut for cascade in cursed for cut in cascade.cuts]
    # One loop may be told of from each of its handlers on.
    loops = sorted({cut.loop for cut in cuts if cut.loop}, key=lambda loop: (len(loop), loop))
    around = {handler for loop in loops for handler in loop}
    starts = [sum(ending.place in around for ending in cascade.endings) for cascade in cursed]
    places = Counter(
        CutPlace(
            f"{cut.service}.{cut.handler}" if cut.handler else f"{cut.event} for {cut.service}",
            cut.reason,
            cut.rounds,
        )
        for cut in cuts
    )
    first = cursed[0].began if cursed else float("inf")
    others = [cascade for cascade in cascades if not cascade.cuts]
    return Curse(
        cascades=len(cursed),
        loop=loops[0] if loops else (),
        cuts={_in_words(place): number for place, number in sorted(places.items())},
        starts=sum(starts),
        starts_max=max(starts, default=0),
        before=_calm([one for one in others if one.began < first]),
        since=_calm([one for one in others if one.began >= first]),
    )


def _in_words(cut: CutPlace) -> str:
    within = f" in round {cut.rounds}" if cut.rounds else ""
    why = f"loop, max_loops={cut.rounds - 1}" if cut.reason == LOOP else cut.reason
    return f"{cut.place}{within}: {why}"


def _calm(cascades: list[Cascade]) -> Calm:
    durations = [cascade.seconds for cascade in cascades]
    return Calm(len(cascades), percentile(durations, 0.50), percentile(durations, 0.99))
