"""Twenty handlers in a row, one hop after the other, always or perhaps."""

from thence import Event, Service

always = Service("always")
perhaps = Service("perhaps")


def event_of(number: int) -> type[Event]:
    return type(Event)(f"Link{number}", (Event,), {"__module__": __name__})


def add(service: Service, event: type[Event], name: str, returns: object) -> None:
    async def pass_on(seen: Event) -> Event | None:
        raise NotImplementedError

    pass_on.__annotations__["return"] = returns
    service.on(event, name=name)(pass_on)


EVENTS = [event_of(number) for number in range(20)]
for handled, emitted in zip(EVENTS, (*EVENTS[1:], None), strict=True):
    add(always, handled, f"pass_{handled.__name__}", emitted)
    add(perhaps, handled, f"pass_{handled.__name__}", emitted and (emitted | None))
