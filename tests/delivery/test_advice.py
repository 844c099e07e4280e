"""Noise stops where it starts: emitters drop what would only be refused, and nothing depends on it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from tests.delivery.test_limits import Log, Pinged, now, shed
from tests.delivery.watching import eventually, lost

from thence import Limit, Node, RateLimited, Service
from thence.limits import Limits
from thence.mesh.messages import Advice
from thence.testing import run

MESH = "memory:advice"


def limited(log: Log, limit: Limits, overflow: Any = "drop") -> Service:
    service = Service("s")

    @service.on(Pinged, limit=limit, overflow=overflow)
    async def handle(pinged: Pinged) -> None:
        log.note(pinged)

    return service


async def emit_for(node: Node, seconds: float, rate: float, player: str = "") -> int:
    """An open loop of emits; returns how many."""
    emitted, end = 0, now() + seconds
    while now() < end:
        try:
            await node.emit(Pinged(number=emitted, player=player))
        except RateLimited:
            pass
        emitted += 1
        await asyncio.sleep(1 / rate)
    return emitted


def sent(node: Node) -> int:
    return sum(route.sent for route in node.report().routes)


@pytest.mark.parametrize("overflow", ["drop", "reject"])
def test_most_of_the_excess_never_leaves_its_emitter_and_all_of_it_is_counted(
    overflow: str,
) -> None:
    async def main() -> None:
        log = Log()
        async with Node(limited(log, "100/s", overflow), mesh=MESH) as node, Node(mesh=MESH) as one:
            emitted = await emit_for(one, 5, 2000)
            await eventually(lambda: not any(r.outstanding for r in one.report().routes))
            assert sent(one) < 100 * 5 * 1.4
            assert len(log.starts) >= 0.99 * 100 * 5
            assert log.worst(100, 10) < 1e-6
            assert len(log.starts) + shed(node).total() + lost(one).total() == emitted

    run(main())


def test_skewed_demand_reaches_the_limit() -> None:
    async def main() -> None:
        log = Log()
        async with Node(limited(log, "200/s"), mesh=MESH), Node(mesh=MESH) as loud:
            quiet = [Node(mesh=MESH) for _ in range(3)]
            for node in quiet:
                await node.start()
            await asyncio.gather(emit_for(loud, 5, 1000), *(emit_for(node, 5, 3) for node in quiet))
            assert len(log.starts) >= 0.99 * 200 * 5
            assert log.worst(200, 20) < 1e-6
            for node in quiet:
                await node.close()

    run(main())


def test_advice_about_one_player_stops_no_other() -> None:
    async def main() -> None:
        log = Log()
        service = limited(log, Limit("10/s", burst=1, per="player"))
        async with Node(service, mesh=MESH), Node(mesh=MESH) as one:
            _, ana, ben = await asyncio.gather(
                emit_for(one, 3, 1000, "loud"),
                emit_for(one, 3, 5, "ana"),
                emit_for(one, 3, 5, "ben"),
            )
            by_player = Counter(event.player for _, event in log.starts)
            assert (by_player["ana"], by_player["ben"]) == (ana, ben)
            assert 29 <= by_player["loud"] <= 31

    run(main())


def test_advice_is_forgotten_when_the_noise_is_over() -> None:
    async def main() -> None:
        log = Log()
        async with Node(limited(log, "10/s"), mesh=MESH) as node, Node(mesh=MESH) as one:
            await emit_for(one, 2, 500)
            await asyncio.sleep(1)
            await node.set_limit("s.handle", "off", by="the test")
            before = len(log.starts)
            await emit_for(one, 1, 500)
            await asyncio.sleep(0.1)
            assert len(log.starts) - before == pytest.approx(500, abs=2)

    run(main())


def test_an_emitter_that_heeds_no_advice_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thence.delivery.routes.RouteTable.heed", lambda *_: None)

    async def main() -> None:
        log = Log()
        async with Node(limited(log, "100/s"), mesh=MESH) as node, Node(mesh=MESH) as one:
            emitted = await emit_for(one, 3, 2000)
            await eventually(lambda: not any(r.outstanding for r in one.report().routes))
            assert sent(one) == emitted
            assert log.worst(100, 10) < 1e-6
            assert len(log.starts) + shed(node).total() == emitted

    run(main())


@pytest.mark.parametrize(
    "nonsense",
    [
        Advice(0, "1/s", -1.0, 1, None, 1.0),
        Advice(0, "1/s", float("nan"), 1, None, 1.0),
        Advice(0, "1/s", 1.0, 0, None, 1.0),
        Advice(0, "1/s", 1.0, 1, "nobody", 1.0),
        Advice(0, "1/s", 1.0, 1, None, float("inf")),
        Advice(99, "1/s", 1.0, 1, None, 1.0),
    ],
)
def test_advice_that_makes_no_sense_ends_the_connection_and_nothing_else(nonsense: Advice) -> None:
    async def main() -> None:
        log = Log()
        async with Node(limited(log, "10/s"), mesh=MESH) as node, Node(mesh=MESH) as one:
            await one.emit(Pinged(number=0))
            (link,) = node._runtime.peers.links.values()  # type: ignore[union-attr]
            link.say(nonsense)
            await eventually(lambda: one.report().closures.get("garbage") == 1)
            await eventually(lambda: one.report().peers)
            await one.emit(Pinged(number=1))
            await eventually(lambda: log.numbers == [0, 1])

    run(main())


@pytest.mark.parametrize("rate", [8_000_001, 10_000_000])
def test_advice_about_the_fastest_limits_ends_no_connection(rate: int) -> None:
    async def main() -> None:
        log = Log()
        service = limited(log, Limit(rate, burst=1))
        async with Node(service, mesh=MESH) as node, Node(mesh=MESH) as one:
            for number in range(100):
                await one.emit(Pinged(number=number))
            await eventually(lambda: not any(r.outstanding for r in one.report().routes))
            assert shed(node)
            assert not one.report().closures
            assert not node.report().closures

    run(main())
