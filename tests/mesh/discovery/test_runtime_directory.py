"""Where nodes meet, and what makes a directory unfit for it."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from thence.errors import ConfigurationError
from thence.mesh.addresses import UNIX_PATH_BYTES
from thence.mesh.discovery.local import LocalDiscovery
from thence.mesh.discovery.runtime_directory import make_socket_path, runtime_directory
from thence.mesh.wires.socket import SocketWire
from thence.testing.conformance.wire import Recorder


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short temporary directory of this test's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        yield Path(directory)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_runtime_directory_of_the_session_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_directory() == tmp_path / "thence" / "default"
    assert mode(tmp_path / "thence" / "default") == 0o700


@pytest.mark.parametrize("useless", [None, "", "relative", "/no/such/directory"])
def test_without_one_it_is_in_the_temporary_directory(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, useless: str | None
) -> None:
    if useless is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", useless)
    directory = runtime_directory()
    assert directory == temporary / f"thence-{os.geteuid()}" / "default"
    assert mode(directory) == mode(directory.parent) == 0o700
    assert runtime_directory() == directory


def test_a_path_is_made_and_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert runtime_directory("here/and/there") == tmp_path / "here" / "and" / "there"
    assert mode(tmp_path / "here") == mode(tmp_path / "here/and/there") == 0o700


@pytest.mark.parametrize("bits", [0o720, 0o702, 0o777])
def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path, bits: int) -> None:
    tmp_path.chmod(bits)
    with pytest.raises(ConfigurationError, match=f"chmod go-w {tmp_path}"):
        runtime_directory(tmp_path)


def test_a_directory_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ConfigurationError, match="run all services of a mesh as one user"):
        runtime_directory(tmp_path)


def test_a_link_in_the_way_is_refused(temporary: Path) -> None:
    target = temporary / "trap"
    target.mkdir()
    (temporary / f"thence-{os.geteuid()}").symlink_to(target)
    with pytest.raises(ConfigurationError, match="not a directory"):
        runtime_directory()
    assert not list(target.iterdir())


def test_a_file_in_the_way_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="not a directory"):
        runtime_directory(tmp_path / "file")
    with pytest.raises(ConfigurationError, match='mesh="local:PATH"'):
        runtime_directory(tmp_path / "file" / "below")


def test_sockets_of_a_directory_with_a_long_path_are_elsewhere(
    temporary: Path, tmp_path: Path
) -> None:
    long = tmp_path / ("x" * UNIX_PATH_BYTES)
    node = "0" * 20
    address = LocalDiscovery(long, node).default_address(node)
    path = Path(address.removeprefix("unix:"))
    assert len(os.fsencode(path)) <= UNIX_PATH_BYTES
    assert path.parent == temporary / f"thence-{os.geteuid()}" / "sockets"
    assert mode(path.parent) == 0o700
    assert address == LocalDiscovery(long, "1" * 20).default_address(node), (
        "everybody finds it alike"
    )
    assert address != LocalDiscovery(long / "other", node).default_address(node)

    async def main() -> None:
        wire = SocketWire()
        await wire.listen(address, Recorder)
        await wire.close()
        assert not path.exists()

    asyncio.run(main())


def test_the_socket_of_a_dead_node_is_removed_there_too(temporary: Path, tmp_path: Path) -> None:
    long = tmp_path / ("x" * UNIX_PATH_BYTES)
    observer, node = LocalDiscovery(long, "0" * 20), "1" * 20
    path = make_socket_path(long, node)
    path.touch()
    (long / f"{node}.node").touch()
    assert observer.is_dead(node)
    assert not path.exists()


def test_when_nothing_is_short_enough_that_is_explained(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / ("y" * UNIX_PATH_BYTES)))
    with pytest.raises(ConfigurationError, match="shorter TMPDIR"):
        make_socket_path(tmp_path / ("x" * UNIX_PATH_BYTES), "0" * 20)
