"""Budgets and ways with loops that are set without code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thence import Budget, ConfigurationError, Node
from thence.app.settings import Settings


def test_the_environment_sets_the_budget_and_the_way_with_loops(tmp_path: Path) -> None:
    settings = Settings.read(
        {"THENCE_BUDGET": "events=7 seconds=2s", "THENCE_LOOPS": "warn"}, tmp_path
    )
    assert settings.cascade_budget() == Budget(events=7, seconds=2)
    assert settings.loop_mode() == "warn"


def test_without_a_setting_the_defaults_hold(tmp_path: Path) -> None:
    settings = Settings.read({"THENCE_BUDGET": "", "THENCE_LOOPS": ""}, tmp_path)
    assert settings.cascade_budget() == Budget(events=1000, depth=16, seconds=30)
    assert settings.loop_mode() == "enforce"


def test_the_environment_wins_over_the_file_and_an_argument_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thence.toml").write_text('budget = "events=5"\nloops = "observe"\n')
    assert Settings.read({}, tmp_path).cascade_budget() == Budget(events=5)
    assert Settings.read({}, tmp_path).loop_mode() == "observe"
    environment = {"THENCE_BUDGET": "events=6", "THENCE_LOOPS": "warn"}
    assert Settings.read(environment, tmp_path).cascade_budget() == Budget(events=6)
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    node = Node(budget=Budget(events=9), loops="enforce")
    assert node._budget == Budget(events=9)
    assert node._settings.loop_mode() == "enforce"
    assert Node()._budget == Budget(events=6)


@pytest.mark.parametrize(
    "text", ["events=0", "events", "1000", "hops=3", "depth=-1", "seconds=0s", "events=5 events=6"]
)
def test_a_budget_that_is_none_is_refused_and_the_setting_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="budget in the settings"):
        Settings.read({"THENCE_BUDGET": text}, tmp_path)


@pytest.mark.parametrize("mode", ["ENFORCE", "cut", "off", "enforce,warn"])
def test_a_way_with_loops_that_does_not_exist_is_refused_and_the_ways_named(
    mode: Any, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="enforce") as caught:
        Settings.read({"THENCE_LOOPS": mode}, tmp_path)
    assert "observe" in str(caught.value)


@pytest.mark.parametrize("wrong", ["cut", "", 1, ["warn"]], ids=repr)
def test_a_node_refuses_a_way_with_loops_that_does_not_exist_when_it_is_made(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="observe"):
        Node(loops=wrong)
