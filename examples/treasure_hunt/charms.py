"""Charms: lift every curse.

Only there with ``thence demo --curse``. A harmless service, as long as one does not know ``curses.py``.
"""

from __future__ import annotations

from thence import Service
from treasure_hunt.events import CurseLifted, PlayerCursed

__all__ = ["charms"]

charms = Service("charms")


@charms.on(PlayerCursed)
async def lift(cursed: PlayerCursed) -> CurseLifted:
    return CurseLifted(player=cursed.player)
