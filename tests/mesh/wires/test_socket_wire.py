"""Sockets keep what every wire promises, on both loops; and what is particular to sockets."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from thence.errors import ConfigurationError
from thence.mesh.wires.socket import SocketWire
from thence.testing.conformance import WireConformance, Wires, eventually
from thence.testing.conformance.wire import Recorder


def files_in(directory: str | os.PathLike[str]) -> list[str]:
    return os.listdir(directory)


Run = Callable[[Coroutine[Any, Any, None]], None]

MALFORMED = (
    "unix:",
    "unix:/" + "x" * 200,
    "tcp://",
    "tcp://localhost",
    "tcp://localhost:",
    "tcp://localhost:http",
    "tcp://localhost:65536",
    "tcp://localhost:-1",
    "tcp://localhost:٣",
    "tcp://:80",
    "tcp://::1:80",
    "tcp://user@host:80",
    "tcp://host/path:80",
    "tcp:host:80",
    "memory:x",
)


class TestUnixSockets(WireConformance):
    malformed = (*WireConformance.malformed, *MALFORMED)

    @asynccontextmanager
    async def wires(self) -> AsyncIterator[Wires]:
        with tempfile.TemporaryDirectory() as directory:
            numbers = itertools.count()
            yield Wires(make=SocketWire, address=lambda: f"unix:{directory}/{next(numbers)}.sock")
            assert not files_in(directory), "socket files are left over"


class TestUnixSocketsOnUvloop(TestUnixSockets):
    def run(self, main: Coroutine[Any, Any, None]) -> None:
        uvloop.run(main)


class TestTcp(WireConformance):
    host = "127.0.0.1"

    @asynccontextmanager
    async def wires(self) -> AsyncIterator[Wires]:
        yield Wires(make=SocketWire, address=lambda: f"tcp://{self.host}:0")


class TestTcpOnUvloop(TestTcp):
    def run(self, main: Coroutine[Any, Any, None]) -> None:
        uvloop.run(main)


class TestTcpByName(TestTcp):
    host = "localhost"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
class TestTcpVersion6(TestTcp):
    host = "[::1]"


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return asyncio.run if request.param == "asyncio" else uvloop.run


def test_only_the_owner_may_connect(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        wire = SocketWire()
        await wire.listen(f"unix:{tmp_path}/a.sock", Recorder)
        assert stat.S_IMODE((tmp_path / "a.sock").stat().st_mode) == 0o600
        await wire.close()

    run(main())


def test_a_socket_file_left_over_is_not_removed(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()
    before = path.stat().st_ino

    async def main() -> None:
        wire = SocketWire()
        with pytest.raises(
            ConfigurationError, match=r"a\.sock: .*remove the file when you are sure"
        ):
            await wire.listen(f"unix:{path}", Recorder)
        await wire.close()
        with pytest.raises(ConnectionRefusedError):
            await wire.dial(f"unix:{path}", Recorder())

    run(main())
    assert path.stat().st_ino == before


def test_closing_spares_a_file_that_another_node_has_made_since(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "a.sock"
        first, second = SocketWire(), SocketWire()
        await first.listen(f"unix:{path}", Recorder)
        path.rename(tmp_path / "gone")
        await second.listen(f"unix:{path}", Recorder)
        await first.close()
        assert path.exists()
        await second.close()
        assert not path.exists()

    run(main())


@pytest.mark.parametrize(
    ("address", "fix"),
    [
        ("unix:{directory}/missing/a.sock", "directory that exists"),
        ("tcp://192.0.2.1:0", "address of this machine"),
        ("tcp://no-such-host.invalid:0", "address of this machine"),
    ],
)
def test_an_address_that_can_not_be_used_is_explained(
    run: Run, tmp_path: Path, address: str, fix: str
) -> None:
    async def main() -> None:
        wire = SocketWire()
        place = address.format(directory=tmp_path)
        with pytest.raises(ConfigurationError, match=f"{place}: .*{fix}"):
            await wire.listen(place, Recorder)
        await wire.close()

    run(main())


def test_a_directory_that_may_not_be_written_to_is_explained(run: Run, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("nothing is forbidden to root")
    tmp_path.chmod(0o500)

    async def main() -> None:
        with pytest.raises(ConfigurationError, match="directory that it may write to"):
            await SocketWire().listen(f"unix:{tmp_path}/a.sock", Recorder)

    run(main())
    tmp_path.chmod(0o700)


def test_a_full_backlog_is_an_error_and_not_a_stream(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    waiting: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(path)
        busy.listen(0)
        while True:
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            try:
                waiting[-1].connect(path)
            except BlockingIOError:
                break

        async def main() -> None:
            near = Recorder()
            with pytest.raises(OSError):  # noqa: PT011
                await SocketWire().dial(f"unix:{path}", near)
            assert not near.ready.done()

        run(main())
    for stream in waiting:
        stream.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_small_writes_are_not_held_back(run: Run, host: str) -> None:
    async def main() -> None:
        wire = SocketWire()
        accepted: list[Recorder] = []

        def accept() -> Recorder:
            accepted.append(Recorder())
            return accepted[-1]

        address = await wire.listen(f"tcp://{host}:0", accept)
        near = Recorder()
        await wire.dial(address, near)
        await eventually(lambda: accepted and accepted[0].ready.done())
        for end in (near, accepted[0]):
            stream = end.transport.get_extra_info("socket")
            assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            end.transport.close()
            await end.lost
        await wire.close()

    run(main())


def test_a_port_in_use_is_explained(run: Run) -> None:
    async def main() -> None:
        first, second = SocketWire(), SocketWire()
        address = await first.listen("tcp://127.0.0.1:0", Recorder)
        with pytest.raises(ConfigurationError, match="choose another port, or port 0"):
            await second.listen(address, Recorder)
        await first.close()

    run(main())
