"""Limits set without code and changed on live nodes, and what the log says of losses."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from tests.delivery.watching import eventually

from thence import ConfigurationError, Event, Node, Service
from thence.app.settings import Settings
from thence.testing import run

MESH = "memory:operator"


class Pinged(Event, key="player"):
    number: int
    player: str = ""


def service(starts: list[int], limit: str | None = None, name: str = "hints.v2") -> Service:
    made = Service(name)

    @made.on(Pinged, limit=limit, queue=100)
    async def offer(pinged: Pinged) -> None:
        starts.append(pinged.number)

    return made


def limits(node: Node) -> tuple[str, ...]:
    (handler,) = node.report().handlers
    return handler.limits


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("THENCE_LIMITS", raising=False)
    return tmp_path


def test_a_limit_in_the_file_takes_the_place_of_that_in_the_code_and_one_in_the_environment_of_that(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> tuple[str, ...]:
        async with Node(service([], "1/s"), mesh=MESH) as node:
            return limits(node)

    assert run(main()) == ("1/s",)
    (elsewhere / "thence.toml").write_text('[limits]\n"hints.v2.offer" = "2/s per player"\n')
    assert run(main()) == ("2/s per player",)
    monkeypatch.setenv("THENCE_LIMITS", "hints.v2.offer = 3/s, 60/min burst 9; hints.v2=4/s")
    assert run(main()) == ("3/s", "60/min burst 9", "4/s")
    monkeypatch.setenv("THENCE_LIMITS", "hints.v2.offer=off; elsewhere=5/s")
    assert run(main()) == ()
    monkeypatch.setenv("THENCE_LIMITS", "hints.v2=4/s")
    assert run(main()) == ("2/s per player", "4/s")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hints.v2.ofer=5/s", "no such handler.*Did you mean 'hints.v2.offer'"),
        ("hints.v2.offer=5/fortnight", "limit for 'hints.v2.offer'.*no unit of time"),
        ("hints.v2.offer=5/s per team", "Pinged has no such field"),
        ("hints.v2.offer", "HANDLER=LIMIT"),
        ("=5/s", "HANDLER=LIMIT"),
        ("hints.v2=5/s; hints.v2 = 6/s", "'hints.v2' is given twice: leave one out"),
        ("hints.v2=5/s;hints.v2=5/s", "'hints.v2' is given twice: leave one out"),
    ],
)
def test_a_limit_in_the_settings_that_can_not_be_kept_is_refused_and_the_fix_is_named(
    text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with Node(service([]), mesh=MESH):
            pass

    monkeypatch.setenv("THENCE_LIMITS", text)
    with pytest.raises(ConfigurationError, match=words):
        run(main())


def test_limits_in_the_file_have_to_be_a_table_of_texts(elsewhere: Path) -> None:
    (elsewhere / "thence.toml").write_text("[limits]\nhints = 5\n")
    with pytest.raises(ConfigurationError, match=r"limits"):
        Settings.read()


@pytest.mark.parametrize(
    ("table", "place"),
    [
        ('[limits]\nhints.offer = "5/s"\n', "hints.offer"),
        ('[limits]\n"ok" = "1/s"\nhints.v2.offer = "5/s"\n', "hints.v2.offer"),
        ('[limits.hints]\noffer = "5/s"\n', "hints.offer"),
    ],
)
def test_a_place_without_quotes_in_the_file_is_refused_with_the_line_to_write(
    table: str, place: str, elsewhere: Path
) -> None:
    (elsewhere / "thence.toml").write_text(table)
    with pytest.raises(ConfigurationError) as caught:
        Settings.read()
    assert f'"{place}" = "5/s"' in str(caught.value)
    assert str(caught.value).startswith("thence.toml: limits: ")


@pytest.mark.parametrize(
    ("place", "level", "words"),
    [
        ("hintz.v2.offer", logging.WARNING, "Did you mean 'hints.v2.offer'"),
        ("notifications", logging.INFO, "which is not hosted here"),
    ],
)
def test_a_limit_in_the_settings_for_what_is_not_here_is_told_loudly_if_it_looks_like_a_slip(
    place: str,
    level: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with Node(service([], "1/s"), mesh=MESH) as node:
            assert limits(node) == ("1/s",)

    caplog.set_level(logging.INFO, "thence")
    monkeypatch.setenv("THENCE_LIMITS", f"{place}=5/s")
    run(main())
    (record,) = [record for record in caplog.records if place in record.getMessage()]
    assert record.levelno == level
    assert words in record.getMessage()


def test_a_limit_that_the_settings_change_is_a_fact_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> list[tuple[str, ...]]:
        facts: list[tuple[str, ...]] = []
        node = Node(service([], "1/s"), mesh=MESH)
        node.observe(Facts(facts))
        async with node:
            pass
        return facts

    monkeypatch.setenv("THENCE_LIMITS", "hints.v2.offer=5/s")
    assert run(main()) == [("hints.v2.offer", "1/s", "5/s", "the settings")]


def test_a_changed_limit_holds_at_every_replica_and_who_changed_it_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        facts: list[tuple[str, ...]] = []
        async with (
            Node(service([], "1/s"), mesh=MESH, name="one") as one,
            Node(service([], "1/s"), mesh=MESH, name="two") as two,
            Node(service([], "1/s", "other"), mesh=MESH) as other,
            Node(mesh=MESH) as operator,
        ):
            two.observe(Facts(facts))
            changes, silent = await operator.set_limit("hints.v2.offer", "7/s burst 2", by="ana")
            assert {(c.node, c.before, c.after) for c in changes} == {
                ("one", "1/s", "7/s burst 2"),
                ("two", "1/s", "7/s burst 2"),
            }
            assert silent == []
            assert limits(one) == limits(two) == ("7/s burst 2",)
            assert limits(other) == ("1/s",)
            assert facts == [("hints.v2.offer", "1/s", "7/s burst 2", "ana")]
        assert sum("set by ana" in record.getMessage() for record in caplog.records) == 2

    run(main())


def test_what_waits_goes_at_once_when_its_limit_is_lifted() -> None:
    async def main() -> None:
        starts: list[int] = []
        async with Node(service(starts, "1/min"), mesh=MESH) as node:
            for number in range(20):
                await node.emit(Pinged(number=number, player=str(number)))
            await asyncio.sleep(1)
            assert starts == [0]
            await node.set_limit("hints.v2.offer", "off", by="ana")
            await asyncio.sleep(0.01)
            assert starts == list(range(20))

    run(main())


def test_what_waits_goes_on_in_order_when_its_limit_becomes_another_kind() -> None:
    async def main() -> None:
        starts: list[int] = []
        async with Node(service(starts, "1/min"), mesh=MESH) as node:
            for number in range(20):
                await node.emit(Pinged(number=number, player="ab"[number % 2]))
            await asyncio.sleep(1)
            await node.set_limit("hints.v2.offer", "10/s per player burst 1", by="ana")
            await eventually(lambda: len(starts) == 20)
            for first in (0, 1):
                assert [n for n in starts if n % 2 == first] == list(range(first, 20, 2))

    run(main())


@pytest.mark.parametrize(
    ("place", "limit"), [("hints.v2.nobody", "1/s"), ("hints.v2.offer", "1/s per team")]
)
def test_a_change_that_can_not_be_kept_is_refused_and_changes_nothing(
    place: str, limit: str
) -> None:
    async def main() -> None:
        async with Node(service([], "1/s"), mesh=MESH) as node, Node(mesh=MESH) as operator:
            with pytest.raises(ConfigurationError, match=r"hints\.v2"):
                await operator.set_limit(place, limit, by="ana")
            assert limits(node) == ("1/s",)

    run(main())


def test_a_limit_over_all_replicas_is_refused_for_a_handler_in_each_of_them() -> None:
    async def main() -> None:
        loud = Service("loud")

        @loud.on(Pinged, broadcast=True)
        async def hear(pinged: Pinged) -> None:
            pass

        async with Node(loud, mesh=MESH) as node:
            for place in ("loud", "loud.hear"):
                with pytest.raises(ConfigurationError, match="give a limit for a replica"):
                    await node.set_limit(place, "5/s over all replicas", by="ana")

    run(main())


def test_losses_are_told_once_per_reason_and_interval_however_many_they_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "thence.losses")

    async def main() -> None:
        lossy = Service("lossy")

        @lossy.on(Pinged, limit="1/s", overflow="drop")
        async def few(pinged: Pinged) -> None:
            pass

        async with Node(lossy, mesh=MESH, name="n") as node:
            for number in range(25_000):
                await node.emit(Pinged(number=number, player=str(number)))
                await asyncio.sleep(0.001)
        told = [record.getMessage() for record in caplog.records]
        assert len(told) <= 4
        assert sum(int(line.split()[1].replace(",", "")) for line in told) == pytest.approx(
            24_975, abs=2
        )
        assert all("shed by lossy.few: limit 1/s" in line for line in told)

    run(main())


class Facts:
    """An observer that keeps changes of limits."""

    def __init__(self, facts: list[tuple[str, ...]]) -> None:
        self._facts = facts

    def __getattr__(self, name: str) -> object:
        return lambda *_: None

    def limit_changed(self, *fact: str) -> None:
        self._facts.append(fact)
