"""Where settings come from, and what is said when one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from thence import ConfigurationError, Node
from thence.app.settings import Settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("MESH", "NAME", "LISTEN", "LOGS", "LOG_REPEATS", "METRICS"):
        monkeypatch.delenv(f"THENCE_{name}", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("mesh", "memory:{}"),
        ("name", "{}"),
        ("listen", "tcp://{}:7000"),
        ("metrics", "{}:7000"),
    ],
)
def test_an_argument_wins_over_the_environment_that_over_the_file_that_over_the_default(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    default = getattr(Settings(), setting)
    assert getattr(Settings.read(), setting) == default
    (elsewhere / "thence.toml").write_text(f'{setting} = "{value.format("file")}"\n')
    assert getattr(Settings.read(), setting) == value.format("file")
    monkeypatch.setenv(f"THENCE_{setting.upper()}", value.format("environment"))
    assert getattr(Settings.read(), setting) == value.format("environment")
    argument = {setting: value.format("argument")}
    assert getattr(Settings.read().override(**argument), setting) == value.format("argument")
    assert getattr(Settings.read().override(**{setting: None}), setting) == value.format(
        "environment"
    )


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("logs", "xml", "give one of json, pretty, plain"),
        ("log_repeats", "soon", "log_repeats in the settings: 'soon' is not a duration"),
        ("log_repeats", "-1s", "log_repeats"),
    ],
)
def test_a_way_of_logging_that_does_not_exist_is_refused(
    elsewhere: Path, setting: str, value: str, said: str
) -> None:
    (elsewhere / "thence.toml").write_text(f'{setting} = "{value}"\n')
    with pytest.raises(ConfigurationError, match=said):
        Settings.read()


@pytest.mark.parametrize(
    ("text", "window"), [('"0"', 0), ("0", 0), ('"5min"', 300), ("1.5", 1.5), (None, 60)]
)
def test_how_long_repeats_are_counted_may_be_set(
    elsewhere: Path, text: str | None, window: float
) -> None:
    if text is not None:
        (elsewhere / "thence.toml").write_text(f"log_repeats = {text}\n")
    assert Settings.read().repeats_window() == window


def test_an_empty_variable_counts_as_absent(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere / "thence.toml").write_text('mesh = "memory:file"\n')
    monkeypatch.setenv("THENCE_MESH", "")
    assert Settings.read().mesh == "memory:file"


def test_a_node_takes_what_the_file_sets(elsewhere: Path) -> None:
    (elsewhere / "thence.toml").write_text('name = "kiosk"\n')
    assert Node().name == "kiosk"
    assert Node(name="till").name == "till"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mesh = ", "not valid TOML"),
        ('mehs = "local"', "the settings are mesh, name, listen"),
        ("mesh = 3", r"\$\.mesh"),
        ("\udcff", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong_in_it(
    elsewhere: Path, text: str, said: str
) -> None:
    (elsewhere / "thence.toml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigurationError, match=said) as caught:
        Node()
    assert "thence.toml" in str(caught.value)


def test_a_file_that_can_not_be_read_is_named(elsewhere: Path) -> None:
    (elsewhere / "thence.toml").mkdir()
    with pytest.raises(ConfigurationError, match=r"thence\.toml.*can't be read"):
        Node()
