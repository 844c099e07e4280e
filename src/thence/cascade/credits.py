"""How a budget of handler starts is divided among the branches of a cascade.

One credit is the right to start one handler. Whoever emits pays each receiver's handlers out of what it has,
and what is left goes in equal parts to those receivers that may emit something themselves, the rest of the
division to the first of them. Nothing is ever given twice, so all starts together can't exceed what the root
had, whatever the topology, and nobody needs to be asked.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["CUT", "divide", "part"]

CUT = -1
"""In place of credits: there are not even enough to start the handlers."""


def divide(credits: int, receivers: Sequence[tuple[int, bool]]) -> list[int]:
    """What each receiver may cause beyond its own handlers' starts, or :data:`CUT`.

    :param credits: what there is to give.
    :param receivers: for each, how many handlers it starts, and whether these may emit anything.
    """
    shares: list[int] = []
    spreading: list[int] = []
    for starts, spreads in receivers:
        if starts > credits:
            shares.append(CUT)
            continue
        credits -= starts
        if spreads:
            spreading.append(len(shares))
        shares.append(0)
    if spreading and credits:
        for index, receiver in enumerate(spreading):
            shares[receiver] = part(credits, index, len(spreading))
    return shares


def part(credits: int, index: int, parts: int) -> int:
    """The equal part of ``credits`` at ``index``; the rest of the division belongs to the first."""
    equal, rest = divmod(credits, parts)
    return equal + rest if index == 0 else equal
