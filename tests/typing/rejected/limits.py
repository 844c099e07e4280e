"""What type checkers must reject of limits, and of what becomes of too much, line by line."""

from __future__ import annotations

from thence import Event, Limit, Service


class ClueFound(Event, key="player"):
    player: str


class Urgent(Event, priority="urgent"):  # rejected: a priority that there is not
    player: str


class Numbered(Event, priority=1):  # rejected: a number where a priority is named
    player: str


class Dropped(Event, limit="5/s", overflow="drop"):  # rejected: a type drops nothing
    player: str


class Misspelt(Event, limits="5/s"):  # rejected: a misspelt keyword
    player: str


class MisspeltTtl(Event, tll="5s"):  # rejected: another misspelt keyword
    player: str


class BareLimit(Event, limit=5):  # rejected: a bare number is no limit
    player: str


class Bytes(Event, ttl=b"5s"):  # rejected: bytes are no duration
    player: str


scores = Service("scores")


@scores.on(ClueFound, limit="5/s", overflow="discard")  # rejected: an overflow that there is not
async def discarding(found: ClueFound) -> None: ...


@scores.on(ClueFound, limits="5/s")  # rejected: a misspelt keyword of a handler
async def misspelt(found: ClueFound) -> None: ...


@scores.on(ClueFound, limit=5)  # rejected: a bare number
async def bare(found: ClueFound) -> None: ...


@scores.on(ClueFound, limit=["5/s", 5])  # rejected: a bare number among limits
async def bare_among_others(found: ClueFound) -> None: ...


@scores.on(ClueFound, queue_target=True, overflw="drop")  # rejected: a misspelt overflow
async def misspelt_overflow(found: ClueFound) -> None: ...


@scores.on(ClueFound, queue_target=b"100ms")  # rejected: bytes are no duration
async def bytes_for_a_duration(found: ClueFound) -> None: ...


@scores.on(ClueFound, priority="high")  # rejected: priority belongs to the event
async def priority_here(found: ClueFound) -> None: ...


Service("fast", limit=100)  # rejected: a bare number as a service's limit
Service("fast", limits="100/s")  # rejected: a misspelt keyword of a service
Service("fast", overflow="drop")  # rejected: overflow belongs to handlers
Limit("5/s", scope="fleet")  # rejected: a scope that there is not
Limit("5/s", per=5)  # rejected: a number to tell events by
Limit("5/s", burst="2")  # rejected: a text as a burst
Limit("5/s", 2)  # rejected: a burst by position
Limit("5/s", bursts=2)  # rejected: a misspelt keyword of a limit
Limit("5/s", per=Limit.source)  # rejected: there is no such attribute
Limit("5/s").burst = 3  # rejected: a limit can't be changed
Limit(b"5/s")  # rejected: bytes as a rate
