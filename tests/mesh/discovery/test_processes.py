"""Real processes: what a kill, a stop and a fork mean for those who stay."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from thence.identifiers import new_node_id
from thence.mesh.discovery.contract import Descriptor
from thence.mesh.discovery.local import LocalDiscovery
from thence.testing.conformance import eventually


def files_in(directory: str | os.PathLike[str]) -> list[str]:
    return os.listdir(directory)


MEMBER = """
import asyncio, os, sys
from thence.mesh.discovery.contract import Descriptor
from thence.mesh.discovery.local import LocalDiscovery
from thence.mesh.wires.socket import SocketWire

async def main(directory, node):
    discovery, wire = LocalDiscovery(directory, node), SocketWire()
    address = await wire.listen(discovery.default_address(node), asyncio.Protocol)
    await discovery.open(lambda: None)
    await discovery.announce(Descriptor(node, "child", address, ("scores",), os.getpid()))
    held = discovery.block_locks("scores").acquire(range(256))
    if "fork" in sys.argv:
        grandchild = os.fork()
        if grandchild == 0:
            os.close(1)
            os.read(0, 1)
            os._exit(0)
    print(len(held), flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:3]))
"""


@contextmanager
def member(directory: Path, node: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a node that holds all locks of a service. Its input ends with the test."""
    process = subprocess.Popen(
        [sys.executable, "-c", MEMBER, str(directory), node, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"256\n"
            yield process
        finally:
            process.kill()


async def survivor(directory: Path) -> LocalDiscovery:
    node = new_node_id()
    discovery = LocalDiscovery(directory, node, look=0.01, probe=0.05)
    await discovery.open(lambda: None)
    await discovery.announce(Descriptor(node, "survivor", discovery.default_address(node)))
    return discovery


def test_a_kill_frees_everything_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        here, node = await survivor(tmp_path), new_node_id()
        locks = here.block_locks("scores")
        with member(tmp_path, node) as process:
            assert [peer.node for peer in here.peers()] == [node]
            assert not here.is_dead(node)
            assert locks.acquire(range(256)) == set()
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert here.is_dead(node)
            assert locks.acquire(range(256)) == set(range(256))
            assert not here.peers()
            assert not list(tmp_path.glob(f"{node}*")), "its files are removed, its socket too"
        await here.close()
        assert not files_in(tmp_path)

    asyncio.run(main())


def test_a_kill_is_noticed_by_those_who_do_not_ask(tmp_path: Path) -> None:
    async def main() -> None:
        here, node = await survivor(tmp_path), new_node_id()
        with member(tmp_path, node) as process:
            assert len(here.peers()) == 1
            process.kill()
            await eventually(lambda: not here.peers())
        await here.close()

    asyncio.run(main())


def test_a_stopped_process_is_not_dead(tmp_path: Path) -> None:
    async def main() -> None:
        here, node = await survivor(tmp_path), new_node_id()
        with member(tmp_path, node) as process:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            assert not here.is_dead(node)
            assert len(here.peers()) == 1
            assert here.block_locks("scores").acquire([1]) == set()
            # A newcomer reads its file for the first time, and sees the same.
            newcomer = await survivor(tmp_path)
            assert len(newcomer.peers()) == 2
            await newcomer.close()
            process.kill()
            process.wait()
            assert here.is_dead(node)
        await here.close()

    asyncio.run(main())


def test_a_forked_child_keeps_no_lock_of_its_parent(tmp_path: Path) -> None:
    async def main() -> None:
        here, node = await survivor(tmp_path), new_node_id()
        with member(tmp_path, node, "fork") as process:
            assert not here.is_dead(node)
            assert here.block_locks("scores").acquire([1]) == set()
            process.kill()
            process.wait()
            # The grandchild lives on: it waits for the end of its input. It lets go when it first runs.
            await eventually(lambda: here.is_dead(node))
            assert here.block_locks("scores").acquire(range(256)) == set(range(256))
        await here.close()

    asyncio.run(main())


def test_a_forked_child_takes_nothing_from_its_parent(tmp_path: Path) -> None:
    async def main() -> None:
        here, other = await survivor(tmp_path), await survivor(tmp_path)
        assert here.block_locks("scores").acquire([1, 2]) == {1, 2}
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert not other.is_dead(here.peers()[0].node)
        assert not here.is_dead(other.peers()[0].node)
        assert other.block_locks("scores").acquire([1, 2, 3]) == {3}
        await here.close()
        await other.close()
        assert not files_in(tmp_path)

    asyncio.run(main())


@pytest.mark.parametrize("method", [subprocess.Popen])
def test_a_started_program_keeps_no_lock(
    tmp_path: Path, method: type[subprocess.Popen[bytes]]
) -> None:
    async def main() -> None:
        here, other = await survivor(tmp_path), await survivor(tmp_path)
        assert here.block_locks("scores").acquire([1]) == {1}
        node = other.peers()[0].node
        with method(["cat"], stdin=subprocess.PIPE, close_fds=False) as program:
            await here.close()
            assert other.is_dead(node)
            assert other.block_locks("scores").acquire([1]) == {1}
            program.kill()
        await other.close()

    asyncio.run(main())
