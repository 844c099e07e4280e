"""Discovery by a runtime directory keeps what every discovery promises; and what is particular to it."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from thence.identifiers import new_node_id
from thence.mesh.discovery import byte_ranges
from thence.mesh.discovery.contract import Descriptor, Discovery
from thence.mesh.discovery.local import LocalDiscovery
from thence.testing.conformance import DiscoveryConformance, Views, eventually


def files_in(directory: str | os.PathLike[str]) -> list[str]:
    return os.listdir(directory)


LOOK, PROBE = 0.01, 0.04


async def crash(_: str, discovery: Discovery) -> None:
    """What the end of a process does: its files are closed, and nothing is removed."""
    assert isinstance(discovery, LocalDiscovery)
    if discovery._timer is not None:
        discovery._timer.cancel()
    if discovery._entry is not None:
        discovery._entry._file.close()
    for locks in discovery._locks.values():
        if locks._ranges is not None:
            locks._ranges.close()


class TestLocalDiscovery(DiscoveryConformance):
    @asynccontextmanager
    async def views(self) -> AsyncIterator[Views]:
        with tempfile.TemporaryDirectory() as directory:
            yield Views(
                join=lambda node: LocalDiscovery(directory, node, look=LOOK, probe=PROBE),
                crash=crash,
            )
            tidy = LocalDiscovery(directory, new_node_id())
            await tidy.close()
            assert not files_in(directory), "files are left over"


class TestLocalDiscoveryOnUvloop(TestLocalDiscovery):
    def run(self, main: Coroutine[Any, Any, None]) -> None:
        uvloop.run(main)


class TestLocalDiscoveryWithoutOpenFileLocks(TestLocalDiscovery):
    @pytest.fixture(autouse=True)
    def _elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(byte_ranges, "_SET_LOCK", None)


class Node:
    """A member that is started and ended by the test."""

    def __init__(self, directory: Path, **periods: float) -> None:
        self.id = new_node_id()
        self.discovery = LocalDiscovery(
            directory, self.id, **(periods or {"look": LOOK, "probe": PROBE})
        )
        self.changes = 0

    async def start(self) -> Node:
        await self.discovery.open(self._changed)
        address = self.discovery.default_address(self.id)
        await self.discovery.announce(Descriptor(self.id, "test", address))
        return self

    def sees(self, node: str) -> bool:
        return any(peer.node == node for peer in self.discovery.peers())

    def _changed(self) -> None:
        self.changes += 1


def test_nothing_is_left_after_a_clean_close(tmp_path: Path) -> None:
    async def main() -> None:
        nodes = [await Node(tmp_path).start() for _ in range(5)]
        for node in nodes:
            node.discovery.block_locks("scores").acquire(range(256))
            node.discovery.block_locks("ranks").acquire([node is nodes[0]])
        await nodes[0].discovery.withdraw()
        assert files_in(tmp_path)
        for node in nodes:
            await node.discovery.close()
        assert not files_in(tmp_path)

    asyncio.run(main())


def test_what_a_killed_node_left_is_removed_with_its_socket(tmp_path: Path) -> None:
    async def main() -> None:
        left, node = await Node(tmp_path).start(), await Node(tmp_path).start()
        (tmp_path / f"{left.id}.sock").touch()
        left.discovery.block_locks("scores").acquire([1])
        await crash(left.id, left.discovery)
        await eventually(lambda: not list(tmp_path.glob(f"{left.id}*")))
        await node.discovery.close()
        assert not files_in(tmp_path)

    asyncio.run(main())


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1, 2]", b"null", b"\xff\x00\xfe", b'{"node": "another"}' + b" " * 100]
)
def test_garbage_of_the_dead_is_removed(tmp_path: Path, content: bytes) -> None:
    async def main() -> None:
        path = tmp_path / f"{new_node_id()}.node"
        path.write_bytes(content)
        node = await Node(tmp_path).start()
        assert not node.discovery.peers()
        assert not path.exists()
        await node.discovery.close()

    asyncio.run(main())


def test_garbage_of_the_living_is_told_once_and_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        stranger = new_node_id()
        path = tmp_path / f"{stranger}.node"
        path.write_bytes(b"{half written")
        with path.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            node = await Node(tmp_path).start()
            newcomer = await Node(tmp_path).start()
            await eventually(lambda: node.sees(newcomer.id) and node.changes)
            assert not node.sees(stranger)
            assert not node.discovery.is_dead(stranger)
            told = [r for r in caplog.records if str(path) in r.getMessage()]
            assert len(told) == 2, "once by each node"
            assert all(record.levelno == logging.WARNING for record in told)
        await eventually(lambda: not path.exists(), what="the removal of a dead node's file")
        await newcomer.discovery.close()
        await node.discovery.close()

    asyncio.run(main())


def test_a_node_goes_on_when_its_file_is_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        node, other = await Node(tmp_path).start(), await Node(tmp_path).start()
        assert node.discovery.block_locks("scores").acquire([1, 2]) == {1, 2}
        for path in tmp_path.iterdir():
            path.unlink()
        await eventually(lambda: node.sees(other.id) and other.sees(node.id))
        assert not node.discovery.is_dead(other.id)
        await eventually(lambda: other.discovery.block_locks("scores").acquire([1, 3]) == {3})
        assert "Leave the files of a running mesh alone" in caplog.text
        await node.discovery.close()
        await other.discovery.close()
        assert not files_in(tmp_path)

    asyncio.run(main())


def test_a_node_goes_on_when_the_directory_is_removed(tmp_path: Path) -> None:
    async def main() -> None:
        directory = tmp_path / "mesh"
        node, other = await Node(directory).start(), await Node(directory).start()
        directory.rename(tmp_path / "elsewhere")
        assert not node.discovery.is_dead(other.id), "nothing is certain now"
        assert not node.discovery.peers()
        await eventually(lambda: node.sees(other.id) and other.sees(node.id))
        await node.discovery.close()
        await other.discovery.close()

    asyncio.run(main())


def test_changes_within_one_tick_of_the_file_system_are_all_seen(tmp_path: Path) -> None:
    async def main() -> None:
        watcher = await Node(tmp_path).start()
        for _ in range(200):
            node = await Node(tmp_path, look=1000.0, probe=1000.0).start()
            assert watcher.sees(node.id)
            await node.discovery.close()
            assert not watcher.sees(node.id)
        await watcher.discovery.close()

    asyncio.run(main())


def test_a_quiet_directory_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, other = Node(tmp_path), Node(tmp_path)

    async def main() -> None:
        await other.start()
        await node.start()
        os.utime(tmp_path, ns=(0, 0))
        node.discovery.peers()
        monkeypatch.setattr(os, "listdir", None)
        assert node.sees(other.id)
        monkeypatch.undo()
        await node.discovery.close()
        await other.discovery.close()

    asyncio.run(main())


def test_too_many_open_files_are_not_a_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        node, other = await Node(tmp_path).start(), await Node(tmp_path).start()

        def no_more(*_: object, **__: object) -> int:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(os, "open", no_more)
        assert not node.discovery.is_dead(other.id)
        monkeypatch.undo()
        await node.discovery.close()
        await other.discovery.close()

    asyncio.run(main())


def test_an_id_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="node id"):
        LocalDiscovery(tmp_path, "../escape")
