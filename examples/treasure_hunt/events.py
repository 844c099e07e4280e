"""Everything that happens in the game, in the order in which it does."""

from thence import Event, Limit

__all__ = [
    "BadgeEarned",
    "ClaimDecided",
    "ClueFound",
    "CurseLifted",
    "HintAsked",
    "HintOffered",
    "HuntCompleted",
    "PlayerCursed",
    "PlayerMoved",
    "RankChanged",
    "ScoreChanged",
    "TreasureClaimed",
]


class PlayerMoved(
    Event,
    key="player",
    max_bytes=64,
    limit=Limit("25/s", per="player"),
    overflow="latest",
    priority="low",
):
    """A phone has a new position. By far the most frequent event, and mostly nothing follows from it.

    Only the newest position counts: what a phone tells more often never leaves its node.
    """

    player: str
    latitude: float
    longitude: float


class HintAsked(Event, key="player", max_bytes=64, priority="low"):
    """A player does not know where to go."""

    player: str
    latitude: float
    longitude: float


class HintOffered(Event, key="player", max_bytes=64, priority="low"):
    """There is a clue that many metres away."""

    player: str
    hunt: str
    metres: int


class ClueFound(Event, key="player", max_bytes=64):
    """A player came close to a clue for the first time."""

    player: str
    hunt: str
    clue: int


class HuntCompleted(Event, key="player", max_bytes=64):
    """A player has found every clue of a hunt, and knows now where the treasure is."""

    player: str
    hunt: str


class TreasureClaimed(Event, key="hunt", max_bytes=64, priority="high"):
    """A player wants a hunt's treasure. Ordered by hunt: of two claims one is first, everywhere."""

    hunt: str
    player: str


class ClaimDecided(Event, key="player", max_bytes=64, priority="high"):
    """Whether a claim was the first."""

    player: str
    hunt: str
    accepted: bool


class ScoreChanged(Event, key="player", max_bytes=64):
    """A player has that many points now."""

    player: str
    points: int


class RankChanged(Event, key="player", max_bytes=64):
    """A player has moved up or down the table; 1 is the top."""

    player: str
    rank: int


class BadgeEarned(Event, key="player", max_bytes=64):
    """A player has reached a round number of points."""

    player: str
    badge: str


class PlayerCursed(Event, key="player", max_bytes=64):
    """A curse lies on a player. Only with ``thence demo --curse``."""

    player: str


class CurseLifted(Event, key="player", max_bytes=64):
    """A player is free of a curse. Only with ``thence demo --curse``."""

    player: str
