"""What is exported as spans is set like everything else, and bad settings say what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from thence import ConfigurationError
from thence.app.export import Export
from thence.app.settings import Settings


def test_nothing_is_exported_unless_somebody_says_so(tmp_path: Path) -> None:
    assert Settings.read({}, tmp_path).export_plan() is None
    assert Settings.read({"THENCE_EXPORT": "off"}, tmp_path).export_plan() is None


def test_what_is_exported_is_set_in_the_environment_or_the_file(tmp_path: Path) -> None:
    (tmp_path / "thence.toml").write_text('export = "anomalous"\nexport_slower = 0.25\n')
    assert Settings.read({}, tmp_path).export_plan() == Export(False, 0.25)
    environment = {"THENCE_EXPORT": "all", "THENCE_EXPORT_SLOWER": "300ms"}
    assert Settings.read(environment, tmp_path).export_plan() == Export(True, 0.3)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"THENCE_EXPORT": "some"},
            "export='some' in the settings: give one of off, all, anomalous",
        ),
        (
            {"THENCE_EXPORT_SLOWER": "soon"},
            "export_slower in the settings: 'soon' is not a duration",
        ),
        (
            {"THENCE_EXPORT": "all", "THENCE_RECORDER": "0"},
            "export='all' needs the flight recorder, which recorder='0' turns off",
        ),
    ],
)
def test_a_bad_setting_says_what_to_write(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=r".") as raised:
        Settings.read(environment, tmp_path)
    assert said in str(raised.value)
