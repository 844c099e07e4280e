"""Whatever the topology and whatever goes wrong, a cascade starts no more handlers than its budget has events.

``THENCE_TOPOLOGIES=5000`` tries so many random topologies, rather than the thousand of the suite.
"""

from __future__ import annotations

import logging
import os
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.delivery.cascading import followed, new_mesh, running
from tests.delivery.topologies import HUNGRY, HandlerPlan, Plan, Play, faulty_plan

from thence import Budget, Event, Node, Service
from thence.testing import run

CHUNKS = 20
TOPOLOGIES = int(os.environ.get("THENCE_TOPOLOGIES", "1000"))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Failures and losses are meant here; formatting what is logged of them takes a third of the time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_topology_and_no_fault_starts_more_handlers_than_the_budget_allows(chunk: int) -> None:
    for seed in range(chunk, TOPOLOGIES, CHUNKS):
        chance = random.Random(f"faults {seed}")
        play = Play(faulty_plan(chance), chance)
        budgets = run(play.run())
        for root, starts in play.starts.items():
            assert root in budgets, f"topology {seed}: nobody has emitted {root}"
            assert starts <= budgets[root].events, f"topology {seed}"


# -- how much of a budget is used


def hungry_plan(chance: random.Random, *, several: bool = False) -> Plan:
    """Every branch is at least as hungry as the budget: whoever is started emits two events at least that are heard.

    One handler for each delivery; with ``several``, up to three.
    """
    events = chance.sample(HUNGRY, chance.randint(1, 4))
    names = [f"s{number}" for number in range(chance.randint(1, 4))]
    services: dict[str, list[HandlerPlan]] = {}
    for name in names:
        services[name] = []
        for event in events if name == names[0] else chance.sample(events, 1):
            broadcast = chance.random() < 0.2
            for _ in range(chance.randint(1, 3) if several else 1):
                causes = [chance.choice(events) for _ in range(chance.choice((2, 3, 10)))]
                style = chance.choice(("return", "yield", "context"))
                policy: dict[str, Any] = {"max_loops": 10**6, "broadcast": broadcast}
                services[name].append(HandlerPlan((event,), causes, style, policy))
    homes: list[tuple[str, ...]] = [tuple(names)]
    homes += [tuple(chance.sample(names, chance.randint(1, len(names)))) for _ in range(2)]
    root = (chance.choice(events), Budget(events=1000, depth=200), True)
    return Plan(services, homes, [], [], [root], 0)


def shares_used(topologies: range, *, several: bool) -> list[float]:
    used: list[float] = []
    for seed in topologies:
        chance = random.Random(f"hungry {seed}")
        play = Play(hungry_plan(chance, several=several), chance)
        (budget,) = run(play.run()).values()
        assert play.starts.total() <= budget.events, f"topology {seed}"
        used.append(play.starts.total() / budget.events)
    return used


def test_a_tree_that_is_as_hungry_as_its_budget_uses_nine_tenths_of_it_at_least() -> None:
    used = shares_used(range(max(60, TOPOLOGIES // 10)), several=False)
    print(f"least {min(used):.1%}, mean {sum(used) / len(used):.1%} of {len(used)}")
    assert min(used) >= 0.9


@pytest.mark.parametrize("hosting", ["one node", "a node each"])
def test_of_ten_ways_on_six_levels_the_budget_starts_a_thousand_exactly(hosting: str) -> None:
    async def main() -> None:
        levels = [type(f"Level{n}", (Event,), {"__annotations__": {}}) for n in range(7)]
        services = [Service(f"level{number}") for number in range(7)]
        starts: Counter[int] = Counter()

        def host(number: int) -> None:
            below = levels[number + 1 : number + 2]

            @services[number].on(levels[number], emits=below, name="spread")
            async def spread(event: Any) -> Any:
                starts[number] += 1
                return [one() for one in below for _ in range(10)]

        for number in range(7):
            host(number)
        mesh = new_mesh()
        nodes = [Node(*services, mesh=mesh)]
        if hosting != "one node":
            nodes = [Node(service, mesh=mesh) for service in services]
        async with running(*nodes):
            receipt = await nodes[0].emit(levels[0](), budget=Budget(events=1000))
            report = await receipt.settled(20)
            assert starts.total() == report.events == 1000
            assert report.complete
            assert report.cut > 0
            assert not followed(*nodes)

    run(main())
