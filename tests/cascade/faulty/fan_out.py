"""Four levels of six handlers each: 6 + 36 + 216 + 1,296 starts, always or perhaps."""

from thence import Event, Service


class Zero(Event): ...


class One(Event): ...


class Two(Event): ...


class Three(Event): ...


LEVELS = (Zero, One, Two, Three)

always = Service("always")
perhaps = Service("perhaps")


def add(service: Service, event: type[Event], name: str, returns: object) -> None:
    async def spread(seen: Event) -> Event | None:
        raise NotImplementedError

    spread.__annotations__["return"] = returns
    service.on(event, name=name)(spread)


for level, (handled, emitted) in enumerate(zip(LEVELS, (*LEVELS[1:], None), strict=True)):
    for number in range(6):
        place = f"level_{level}_{number}"
        add(always, handled, place, emitted)
        add(perhaps, handled, place, emitted and (emitted | None))
