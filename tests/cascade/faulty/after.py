"""The service of ``before`` in a later version: one event has changed so that old and new can't meet."""

from thence import Event, Service


class Kept(Event): ...


class Widened(Event):
    player: str
    team: str = ""


class Changed(Event):
    player: str
    points: str


class Retimed(Event, ttl="6s"): ...


class Added(Event): ...


after = Service("game")


@after.on(Kept, Widened, Changed, Added)
async def take(event: Kept | Widened | Changed | Added) -> None: ...


@after.on(Retimed)
async def time(event: Retimed) -> None: ...
