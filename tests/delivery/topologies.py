"""Random topologies of services, what happens to them, and playing that on the virtual clock."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.delivery.cascading import new_mesh, running

from thence import Batch, Budget, Context, Event, Limit, Node, RateLimited, Service, ThenceError
from thence.testing import MemoryMesh


class Plain0(Event):
    number: int = 0


class Plain1(Event):
    number: int = 0


class Plain2(Event):
    number: int = 0


class Fading(Event, ttl="5s"):
    number: int = 0


class Limited(Event, limit="20/s burst 5"):
    number: int = 0


class Keyed0(Event, key="who"):
    number: int = 0
    who: str = ""


class Keyed1(Event, key="who"):
    number: int = 0
    who: str = ""


class Newest(Event, key="who", limit="20/s burst 5", overflow="latest"):
    number: int = 0
    who: str = ""


PLAIN = (Plain0, Plain1, Plain2, Fading, Limited)
KEYED = (Keyed0, Keyed1, Newest)
ALL = (*PLAIN, *KEYED)
HUNGRY = (Plain0, Plain1, Plain2, Keyed0, Keyed1)


def made(chance: random.Random, event: type[Event], number: int) -> Event:
    if event in KEYED:
        return event(number=number, who=f"p{chance.randrange(5)}")  # type: ignore[call-arg]
    return event(number=number)  # type: ignore[call-arg]


@dataclass
class HandlerPlan:
    """One handler as it is at every replica."""

    events: tuple[type[Event], ...]
    causes: list[type[Event]]
    """What one run emits, an event of each."""
    style: str
    policy: dict[str, Any] = field(default_factory=dict)
    pause: float = 0.0
    failing: float = 0.0


@dataclass
class Plan:
    """A topology and what happens to it."""

    services: dict[str, list[HandlerPlan]]
    homes: list[tuple[str, ...]]
    """The services of each node."""
    joins: list[tuple[float, tuple[str, ...]]]
    deaths: list[tuple[float, int]]
    roots: list[tuple[type[Event], Budget, bool]]
    delay: float


STYLES = (
    "return",
    "yield",
    "context",
    "joined",
    "joined at once",
    "joined slowly",
    "left behind",
    "mixed",
)


def faulty_plan(chance: random.Random) -> Plan:
    """Anything goes."""
    names = [f"s{number}" for number in range(chance.randint(1, 4))]
    # Half of them are as greedy as can be, so that it is the budget that ends them.
    greedy = chance.random() < 0.5
    events = chance.sample(HUNGRY if greedy else ALL, chance.randint(2, 5))
    services: dict[str, list[HandlerPlan]] = {}
    for name in names:
        services[name] = compatible(
            [faulty_handler(chance, events, greedy=greedy) for _ in range(chance.randint(1, 4))]
        )
    homes = [
        tuple(chance.sample(names, chance.randint(1, len(names))))
        for _ in range(chance.randint(1, 3))
    ]
    missing = [name for name in names if not any(name in home for home in homes)]
    if missing:
        homes.append(tuple(missing))
    calm = chance.random() < 0.5
    joins = [] if calm else [(chance.uniform(0, 1), chance.choice(homes))]
    deaths = [] if calm or len(homes) < 2 else [(chance.uniform(0, 1), 0)]
    heard = sorted(
        {e for plans in services.values() for plan in plans for e in plan.events},
        key=lambda e: e.__name__,
    )
    roots = [
        (
            chance.choice(heard),
            Budget(
                events=chance.choice((1, 7, 50, 200, 200, 1000)),
                depth=chance.choice((3, 16, 60)),
                seconds=chance.choice((0.3, 30)),
            ),
            chance.random() < 0.5,
        )
        for _ in range(chance.randint(1, 2))
    ]
    return Plan(services, homes, joins, deaths, roots, chance.choice((0, 0, 0.001, 0.02)))


def faulty_handler(chance: random.Random, known: list[type[Event]], *, greedy: bool) -> HandlerPlan:
    events = tuple(chance.sample(known, chance.choice((1, 1, 2))))
    policy: dict[str, Any] = {"max_loops": 1000 if greedy else chance.choice((0, 1, *[1000] * 8))}
    if greedy:
        policy["broadcast"] = chance.random() < 0.2
        causes = [chance.choice(known) for _ in range(chance.choice((1, 2, 3, 4, 10)))]
        pause = chance.choice((0, 0, 0.01))
        return HandlerPlan(events, causes, chance.choice(STYLES), policy, pause)
    if chance.random() < 0.2:
        policy["queue"] = chance.choice((1, 5, 50))
    if chance.random() < 0.3:
        policy["concurrency"] = chance.choice((1, 4))
    kind = chance.random()
    if kind < 0.2:
        policy["limit"] = Limit(chance.choice(("10/s", "1000/s")), burst=chance.choice((1, 20)))
        policy["overflow"] = chance.choice(("wait", "drop", "reject"))
    elif kind < 0.3 and set(events) <= set(KEYED):
        policy["overflow"] = "latest"
        policy["limit"] = "50/s"
    elif kind < 0.4 and policy.get("queue", 1000) >= 5:
        policy["batch"] = Batch(size=chance.randint(2, 5), within="20ms")
    elif kind < 0.55:
        policy["broadcast"] = True
    if chance.random() < 0.2:
        policy["budget"] = Budget(
            events=chance.choice((1, 5, 40)), depth=chance.choice((1, 3, 100))
        )
    causes = [event for event in known for _ in range(chance.choice((0, 0, 1, 1, 2, 4, 10)))]
    chance.shuffle(causes)
    return HandlerPlan(
        events,
        causes[: chance.choice((1, 2, 5, 10, 20))],
        chance.choice(STYLES),
        policy,
        pause=chance.choice((0, 0, 0.01, 0.1)),
        failing=chance.choice((0, 0, 0, 0, 0.1, 0.5)),
    )


def compatible(handlers: list[HandlerPlan]) -> list[HandlerPlan]:
    """The handlers of one service, of which either all or none keep only the newest of an event."""
    for one in handlers:
        for other in handlers:
            if one is not other and set(one.events) & set(other.events):
                for plan in (one, other):
                    if plan.policy.get("overflow") == "latest":
                        del plan.policy["overflow"]
    return handlers


class Play:
    """A topology that runs, and how many handlers were started in each cascade."""

    def __init__(self, plan: Plan, chance: random.Random, **node: Any) -> None:
        self.plan = plan
        self.chance = chance
        self.starts: Counter[str] = Counter()
        self.mesh = new_mesh()
        self.nodes: list[Node] = []
        self.killed: list[Node] = []
        self.tasks = set[asyncio.Task[None]]()
        self.emitter = Node(mesh=self.mesh, name="emitter", **node)
        self.options = node

    def service(self, name: str, home: list[Node]) -> Service:
        service = Service(name)
        plans = self.plan.services[name]
        for number, plan in enumerate(plans):
            rivals = [other for other in plans if set(other.events) & set(plan.events)]
            kept = [other for other in rivals if other.policy.get("overflow") == "latest"]
            if plan in kept and len(kept) < len(rivals):
                # It holds for all handlers of an event, or for none.
                del plan.policy["overflow"]
            handler = self.handler(plan, home)
            service.on(*plan.events, name=f"h{number}", emits=set(plan.causes), **plan.policy)(
                handler
            )
        return service

    @contextlib.contextmanager
    def a_run(self, ctx: Context) -> Iterator[None]:
        """One run of a handler."""
        self.starts[ctx.root_id] += 1
        yield

    def handler(self, plan: HandlerPlan, home: list[Node]) -> Callable[..., Any]:
        chance = self.chance

        async def begin() -> list[Event]:
            if plan.pause and chance.random() < 0.5:
                await asyncio.sleep(chance.random() * plan.pause)
            events = [made(chance, cause, number) for number, cause in enumerate(plan.causes)]
            if chance.random() < plan.failing / 2:
                raise ValueError("before it has emitted anything")
            return events

        def end() -> None:
            if chance.random() < plan.failing / 2:
                raise ValueError("after it has emitted something")

        async def emit(*events: Event, pause: float = 0) -> None:
            for event in events:
                if pause:
                    await asyncio.sleep(pause)
                try:
                    await home[0].emit(event)
                except ThenceError:
                    pass  # beyond a limit, or its node is closing

        async def returning(event: Any, ctx: Context) -> Any:
            with self.a_run(ctx):
                events = await begin()
                end()
                return events

        async def yielding(event: Any, ctx: Context) -> Any:
            with self.a_run(ctx):
                events = await begin()
                for one in events:
                    yield one
                end()

        async def in_context(event: Any, ctx: Context) -> None:
            with self.a_run(ctx):
                events = await begin()
                for one in events:
                    ctx.emit(one)
                end()

        async def joined(event: Any, ctx: Context) -> None:
            with self.a_run(ctx):
                await emit(*await begin())
                end()

        async def joined_at_once(event: Any, ctx: Context) -> None:
            with self.a_run(ctx):
                await asyncio.gather(*(emit(one) for one in await begin()))
                end()

        async def joined_slowly(event: Any, ctx: Context) -> None:
            with self.a_run(ctx):
                await emit(*await begin(), pause=0.001)
                end()

        async def left_behind(event: Any, ctx: Context) -> Any:
            with self.a_run(ctx):
                events = await begin()
                half = len(events) // 2
                self.tasks.add(asyncio.create_task(emit(*events[:half], pause=0.02)))
                end()
                return events[half:]

        async def mixed(event: Any, ctx: Context) -> Any:
            with self.a_run(ctx):
                events = await begin()
                third = len(events) // 3
                await emit(*events[:third])
                for one in events[third : 2 * third]:
                    ctx.emit(one)
                end()
                return events[2 * third :]

        return {
            "return": returning,
            "yield": yielding,
            "context": in_context,
            "joined": joined,
            "joined at once": joined_at_once,
            "joined slowly": joined_slowly,
            "left behind": left_behind,
            "mixed": mixed,
        }[plan.style]

    def node(self, names: tuple[str, ...]) -> Node:
        home: list[Node] = []
        node = Node(*(self.service(name, home) for name in names), mesh=self.mesh, **self.options)
        home.append(node)
        self.nodes.append(node)
        return node

    async def run(self) -> dict[str, Budget]:
        """The budget of each cascade."""
        plan, budgets = self.plan, dict[str, Budget]()
        shared = MemoryMesh.named(self.mesh.removeprefix("memory:"))
        nodes = [self.node(names) for names in plan.homes]
        async with running(*nodes, self.emitter):
            shared.delay = plan.delay
            happenings: list[tuple[float, Callable[[], Any]]] = []
            for at, names in plan.joins:
                happenings.append((at, lambda names=names: self.node(names).start()))
            for at, which in plan.deaths:
                happenings.append((at, lambda which=which: self.kill(shared, self.nodes[which])))
            kept: list[Any] = []
            for event, budget, tracked in plan.roots:
                with contextlib.suppress(RateLimited):
                    receipt = await self.emitter.emit(made(self.chance, event, 0), budget=budget)
                    budgets[receipt.event_id] = budget
                    if tracked:
                        kept.append(receipt)
                    receipt = None
                await asyncio.sleep(0)
            before = 0.0
            for at, happens in sorted(happenings, key=lambda one: one[0]):
                await asyncio.sleep(at - before)
                before = at
                await happens()
            await self.ends()
            for node in self.nodes[len(nodes) :]:
                await node.close()
        return budgets

    async def kill(self, shared: MemoryMesh, node: Node) -> None:
        shared.kill(node.report().node)
        self.killed.append(node)

    async def ends(self) -> None:
        """Wait until nothing has been started for a while longer than anything waits."""
        quiet, seen = 0, -1
        while quiet < 2:
            await asyncio.sleep(0.6)
            now = self.starts.total()
            quiet = quiet + 1 if now == seen else 0
            seen = now
