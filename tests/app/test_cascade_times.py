"""How long cascades take is told by the node that emitted their roots."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from thence import ConfigurationError, Event, Node, Service
from thence.app.report import NodeReport
from thence.app.settings import Settings
from thence.cascade.settlement import Branches
from thence.delivery.tracking import Tracker
from thence.histogram import Histogram
from thence.testing import run


class Asked(Event):
    seconds: float


oracle = Service("oracle")


@oracle.on(Asked)
async def think(asked: Asked) -> None:
    await asyncio.sleep(asked.seconds)


def test_a_report_tells_how_long_the_cascades_took_that_were_followed() -> None:
    async def main() -> tuple[Histogram, Histogram]:
        async with Node(oracle, mesh="memory:times") as host, Node(mesh="memory:times") as node:
            for seconds in (0.1, 0.2, 0.3):
                receipt = await node.emit(Asked(seconds=seconds))
                await receipt.settled()
            return NodeReport.decode(node.report().encode()).cascades, host.report().cascades

    told, elsewhere = run(main())
    assert told.count == 3
    assert told.p50 == pytest.approx(0.2, rel=0.1)
    assert told.greatest == pytest.approx(0.3, rel=0.01)
    assert elsewhere == Histogram(), "its root belongs to another node"


@pytest.mark.parametrize(
    ("text", "share"), [("1%", 0.01), ("0.5 %", 0.005), ("100%", 1), ("0.25", 0.25), ("0", 0)]
)
def test_the_share_of_samples_is_a_setting(text: str, share: float, tmp_path: Path) -> None:
    settings = Settings.read({"THENCE_CASCADE_SAMPLE": text}, tmp_path)
    assert settings.sample_share() == pytest.approx(share)


@pytest.mark.parametrize(("text", "share"), [('"2%"', 0.02), ("0.02", 0.02), ("0", 0), ("1", 1)])
def test_it_may_stand_in_the_file_as_a_text_or_a_number(
    text: str, share: float, tmp_path: Path
) -> None:
    (tmp_path / "thence.toml").write_text(f"cascade_sample = {text}\n")
    assert Settings.read({}, tmp_path).sample_share() == pytest.approx(share)


@pytest.mark.parametrize("text", ["some", "-1%", "101%", "1.5", "nan", "%"])
def test_what_is_no_share_is_refused_with_an_example(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match='cascade_sample=.*as in "1%"'):
        Settings.read({"THENCE_CASCADE_SAMPLE": text}, tmp_path)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.01])
def test_samples_are_that_share_of_root_events_by_chance(share: float) -> None:
    tracker = Tracker(lambda: 0.0, Branches(), share)
    pauses = [tracker.until_sample() for _ in range(5000)]
    assert 5000 / sum(pauses) == pytest.approx(share, rel=0.1)
    assert min(pauses) >= 1
    assert len(set(pauses)) > (1 / share) / 2


def test_with_a_share_of_nothing_no_sample_is_due() -> None:
    assert Tracker(lambda: 0.0, Branches(), 0.0).until_sample() == float("inf")
