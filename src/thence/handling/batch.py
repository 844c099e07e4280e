"""What a handler says that takes many events at once."""

from __future__ import annotations

from dataclasses import dataclass

from thence.durations import Duration, seconds
from thence.errors import ConfigurationError

__all__ = ["Batch"]


@dataclass(frozen=True, slots=True, init=False)
class Batch:
    """Hand the handler a list of events: so many, or as many as have come in that time.

        @stats.on(PlayerMoved, batch=Batch(size=100, within="50ms"))
        async def note(moves: list[PlayerMoved]) -> None: ...

    :param size: the most events in a list.
    :param within: how long the first of them waits for others.
    :raises ConfigurationError: one of them makes no sense.
    """

    size: int
    within: float
    """Seconds."""

    def __init__(self, size: int = 100, within: Duration = "50ms") -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigurationError(f"Batch(size={size!r}): give a whole number of at least 1")
        try:
            length = seconds(within)
        except ConfigurationError as error:
            raise ConfigurationError(f"Batch(within={within!r}): {error}") from None
        if length <= 0:
            raise ConfigurationError(
                f'Batch(within={within!r}): give a time above zero, as in "50ms"'
            )
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "within", length)
