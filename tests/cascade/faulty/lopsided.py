"""One branch is long and nine are short. Together they need 29 starts, and more if all get equal parts."""

from thence import Event, Service


class Begun(Event): ...


class Ended(Event): ...


class Step(Event): ...


class Next(Event): ...


lopsided = Service("lopsided")
ends = Service("ends")


@ends.on(Ended)
async def hear(ended: Ended) -> None: ...


for number in range(9):
    short = Service(f"short_{number}")

    @short.on(Begun)
    async def end(begun: Begun) -> Ended | None: ...

    globals()[f"short_{number}"] = short

names = [f"short_{number}" for number in range(9)]


@lopsided.on(Begun)
async def begin(begun: Begun) -> Step | None: ...


@lopsided.on(Step, max_loops=4)
async def step(step: Step) -> Next | None: ...


@lopsided.on(Next, max_loops=4)
async def step_on(next_one: Next) -> Step | None: ...
