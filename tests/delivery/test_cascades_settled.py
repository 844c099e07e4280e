"""``settled()`` is never early and never late, whatever goes wrong: it is held against what really happened.

``THENCE_CASCADES=10000`` plays so many random cascades, rather than those of the suite.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from tests.delivery.cascading import followed, running
from tests.delivery.topologies import (
    ALL,
    KEYED,
    STYLES,
    HandlerPlan,
    Newest,
    Plan,
    Play,
    compatible,
    made,
)

from thence import (
    Batch,
    Budget,
    CascadeReport,
    Context,
    Event,
    Limit,
    Node,
    RateLimited,
    Receipt,
    SettleTimeout,
)
from thence.delivery.reasons import kind_of
from thence.testing import MemoryMesh, run

CHUNKS = 10
ROOTS = 10
CASCADES = int(os.environ.get("THENCE_CASCADES", "1500"))
PATIENCE = 100.0
"""Longer than anything waits that these topologies have."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Oracle(Play):
    """Keeps what really became of each cascade. Also the observer of all nodes."""

    def __init__(self, plan: Plan, chance: random.Random, **node: Any) -> None:
        super().__init__(plan, chance, **node)
        self.busy: Counter[str] = Counter()
        self.counts: Counter[tuple[str, str]] = Counter()
        """By root, and what happened."""
        self.wrong: list[str] = []
        self.reports: dict[str, CascadeReport] = {}

    # -- what handlers tell

    @contextlib.contextmanager
    def a_run(self, ctx: Context) -> Iterator[None]:
        root = ctx.root_id
        if root in self.reports and self.reports[root].complete:
            self.wrong.append(f"{root}: a handler began after the end")
        self.starts[root] += 1
        self.busy[root] += 1
        try:
            yield
        except BaseException:
            self.counts[root, "failed"] += 1
            raise
        finally:
            self.busy[root] -= 1

    # -- what nodes tell

    def emitted(self, event_id: Any, lineage: Any, event: str, size: int, targets: int) -> None: ...

    def refused(self, event_id: Any, lineage: Any, event: str, service: str, reason: str) -> None:
        self.counts[_root(event_id, lineage), kind_of(reason)] += 1

    def handled(self, event_id: Any, lineage: Any, event: str, service: str, handler: str) -> None:
        self.counts[_root(event_id, lineage), "handled"] += 1

    def failed(
        self, event_id: Any, lineage: Any, event: str, service: str, handler: str, error: Any
    ) -> None:
        self.counts[_root(event_id, lineage), "handled"] += 1

    def shed(
        self, event_id: Any, lineage: Any, event: str, service: str, handler: str, reason: str
    ) -> None:
        self.counts[_root(event_id, lineage), kind_of(reason)] += 1

    def limit_changed(self, place: str, before: str, after: str, by: str) -> None: ...

    # -- the play

    def node(self, names: tuple[str, ...]) -> Node:
        node = super().node(names)
        node.observe(self)
        return node

    async def settle(self, receipt: Receipt) -> None:
        loop = asyncio.get_running_loop()
        timeout = self.chance.choice((0.05, 1, PATIENCE, PATIENCE, PATIENCE))
        began = loop.time()
        root = receipt.event_id
        try:
            report = await receipt.settled(timeout)
        except SettleTimeout as error:
            partial: Any = error.report
            if partial.complete:
                self.wrong.append(f"{root}: a partial report that calls itself complete")
            if abs(loop.time() - began - timeout) > 0.001:
                self.wrong.append(f"{root}: a timeout after {loop.time() - began}")
            if timeout == PATIENCE:
                self.wrong.append(f"{root}: not settled: {partial}")
            else:
                await self.settle(receipt)
            return
        if loop.time() - began > timeout + 0.001:
            self.wrong.append(f"{root}: settled after its timeout")
        if report.complete:
            if self.busy[root]:
                self.wrong.append(f"{root}: settled while {self.busy[root]} handlers run")
            self.compare(report, "at its end")
        elif not report.lost or (
            not any(failure.kind == "lost" for failure in report.failures)
            and len(report.failures) < 16
        ):
            self.wrong.append(f"{root}: not complete, and nothing lost")
        self.reports[root] = report

    def compare(self, report: CascadeReport, when: str) -> None:
        root, counts = report.event_id, self.counts
        real = {
            "events": self.starts[root],
            "failed": counts[root, "failed"],
            "shed": counts[root, "shed"],
            "cut": counts[root, "cut"],
            "expired": counts[root, "expired"],
            # Runs for several events are noted for each.
            "merged": counts[root, "merged"] + counts[root, "handled"] - self.starts[root],
        }
        for cause, effect in pairwise(report.critical_path):
            service, _, number = cause.handler.partition(".h")
            causes = self.plan.services[service][int(number)].causes
            if effect.event not in {one.__event__.name for one in causes}:
                self.wrong.append(f"{root}: {cause} is said to have caused {effect}")
        told = {name: getattr(report, name) for name in real}
        if told != real:
            self.wrong.append(f"{root}: {told} was reported {when}, {real} is true")

    async def play(self) -> None:
        plan, chance = self.plan, self.chance
        shared = MemoryMesh.named(self.mesh.removeprefix("memory:"))
        nodes = [self.node(names) for names in plan.homes]
        self.emitter.observe(self)  # type: ignore[arg-type]
        async with running(*nodes, self.emitter):
            shared.delay = plan.delay
            changes = [asyncio.create_task(self.change(shared, nodes))]
            waiting: list[asyncio.Task[None]] = []
            late: list[Receipt] = []
            for event, budget, kept in plan.roots:
                one = made(chance, event, 0)
                try:
                    receipt = await self.emitter.emit(one, budget=budget)
                except RateLimited:
                    continue
                if not kept:
                    del receipt
                elif chance.random() < 0.5 or event is Newest:
                    waiting.append(asyncio.create_task(self.settle(receipt)))
                    await asyncio.sleep(0)
                else:
                    late.append(receipt)
                if chance.random() < 0.5:
                    await asyncio.sleep(chance.random() * 0.05)
            await asyncio.sleep(chance.choice((0, 0.1, 10)))
            waiting += [asyncio.create_task(self.settle(receipt)) for receipt in late]
            await asyncio.gather(*waiting, *changes)
            await self.ends()
            for report in self.reports.values():
                if report.complete:
                    self.compare(report, "and long after")
            alive = [node for node in self.nodes if node not in self.killed]
            for _ in range(100):
                if not followed(self.emitter, *alive):
                    break
                await asyncio.sleep(1)
            else:
                left = followed(self.emitter, *alive)
                self.wrong.append(f"{left} things are waited for, and never end")
            for node in self.nodes[len(nodes) :]:
                await node.close()

    async def change(self, shared: MemoryMesh, nodes: list[Node]) -> None:
        happenings: list[tuple[float, Callable[[], Any]]] = []
        for at, names in self.plan.joins:
            happenings.append((at, lambda names=names: self.node(names).start()))
        for at, which in self.plan.deaths:
            happenings.append((at, lambda which=which: self.kill(shared, nodes[which])))
        before = 0.0
        for at, happens in sorted(happenings, key=lambda one: one[0]):
            await asyncio.sleep(at - before)
            before = at
            await happens()


def _root(event_id: Any, lineage: Any) -> str:
    return str(event_id if lineage is None or lineage.path is None else lineage.root)


SETTLING = tuple(style for style in STYLES if style != "left behind")
"""What a handler leaves running after its end is not waited for."""


def handler_plan(chance: random.Random, known: list[type[Event]]) -> HandlerPlan:
    events = tuple(chance.sample(known, chance.choice((1, 1, 2))))
    policy: dict[str, Any] = {
        "max_loops": chance.choice((0, 1, 1000, 1000)),
        "queue": chance.choice((1, 5, 50, 1000, 1000)),
        "concurrency": chance.choice((1, 2, 64)),
    }
    if chance.random() < 0.2:
        policy["timeout"] = 0.03
    kind = chance.random()
    if kind < 0.2:
        policy["limit"] = Limit(chance.choice(("20/s", "500/s")), burst=chance.choice((1, 20)))
        policy["overflow"] = chance.choice(("wait", "drop", "reject"))
    elif kind < 0.35 and set(events) <= set(KEYED):
        policy["overflow"] = "latest"
        if chance.random() < 0.5:
            policy["limit"] = "50/s"
    elif kind < 0.5 and policy["queue"] >= 5:
        policy["batch"] = Batch(size=chance.randint(2, 5), within="20ms")
    elif kind < 0.6:
        policy["broadcast"] = True
    elif kind < 0.65:
        policy["queue_target"] = "20ms"
    if chance.random() < 0.2:
        policy["budget"] = Budget(events=chance.choice((1, 5, 40)), depth=chance.choice((1, 3)))
    causes = [event for event in known for _ in range(chance.choice((0, 0, 1, 1, 2)))]
    chance.shuffle(causes)
    return HandlerPlan(
        events,
        causes[: chance.choice((0, 1, 2, 5))],
        chance.choice(SETTLING),
        policy,
        pause=chance.choice((0, 0, 0.01, 0.1)),
        failing=chance.choice((0, 0, 0.1, 0.5)),
    )


def plan_of(chance: random.Random, *, steady: bool) -> Plan:
    names = [f"s{number}" for number in range(chance.randint(1, 3))]
    events = chance.sample(ALL, chance.randint(2, 5))
    services = {
        name: compatible([handler_plan(chance, events) for _ in range(chance.randint(1, 3))])
        for name in names
    }
    homes = [
        tuple(chance.sample(names, chance.randint(1, len(names))))
        for _ in range(chance.randint(1, 3))
    ]
    missing = [name for name in names if not any(name in home for home in homes)]
    if missing:
        homes.append(tuple(missing))
    joins = [] if steady else [(chance.uniform(0, 0.5), chance.choice(homes))]
    deaths = []
    if not steady and chance.random() < 0.5:
        deaths = [(chance.uniform(0, 0.5), chance.randrange(len(homes)))]
    heard = sorted(
        {e for plans in services.values() for plan in plans for e in plan.events},
        key=lambda e: e.__name__,
    )
    roots = [
        (
            chance.choice(heard),
            Budget(
                events=chance.choice((1, 5, 20, 60)),
                depth=chance.choice((1, 3, 16)),
                seconds=chance.choice((0.1, 2, 30)),
            ),
            chance.random() < 0.8,
        )
        for _ in range(ROOTS)
    ]
    return Plan(services, homes, joins, deaths, roots, chance.choice((0, 0.001, 0.02)))


def played(seed: int, *, steady: bool) -> Oracle:
    chance = random.Random(f"settled {steady} {seed}")
    oracle = Oracle(plan_of(chance, steady=steady), chance)
    run(oracle.play())
    return oracle


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_cascade_is_called_complete_when_it_has_ended_and_all_of_it_is_told(chunk: int) -> None:
    for seed in range(chunk, CASCADES // ROOTS * 2 // 3, CHUNKS):
        oracle = played(seed, steady=True)
        assert not oracle.wrong, f"play {seed}: {oracle.wrong[0]}"
        assert all(report.complete for report in oracle.reports.values()), f"play {seed}"


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_same_while_replicas_join_and_die_and_what_they_took_along_is_lost(chunk: int) -> None:
    for seed in range(chunk, CASCADES // ROOTS // 3, CHUNKS):
        oracle = played(seed, steady=False)
        assert not oracle.wrong, f"play {seed}: {oracle.wrong[0]}"
