"""A service as it was when its catalogue was saved."""

from thence import Event, Service


class Kept(Event): ...


class Widened(Event):
    player: str


class Changed(Event):
    player: str
    points: int


class Removed(Event): ...


class Retimed(Event, ttl="5s"): ...


before = Service("game")


@before.on(Kept, Widened, Changed, Removed)
async def take(event: Kept | Widened | Changed | Removed) -> None: ...


@before.on(Retimed)
async def time(event: Retimed) -> None: ...
