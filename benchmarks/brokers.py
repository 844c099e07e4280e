"""The servers that brokered peers need.

An address from ``NATS_URL`` or ``REDIS_URL`` is used as it is. Without one, a server that is
installed here is started for the launch, on a port or socket of its own: nothing else talks to
it, and it can be pinned with the processes it serves, which makes NATS's round trip a good deal
faster on one core. Without either, the usual address on this machine is tried.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmarks.processes import stop

__all__ = ["Brokers", "running_brokers"]

NATS_DEFAULT = "nats://127.0.0.1:4222"
REDIS_DEFAULT = "redis://127.0.0.1:6379"
PR_SET_PDEATHSIG = 1
START_TIMEOUT = 10.0
POLL_SECONDS = 0.01


class Brokers(msgspec.Struct, frozen=True, kw_only=True):
    """Where the peers' servers are, and a remark on each for the report."""

    nats_url: str
    redis_url: str
    notes: tuple[str, ...]


@contextmanager
def running_brokers(directory: Path, processor: int | None = None) -> Iterator[Brokers]:
    """Provide both servers' addresses, starting what is installed and stopping it after."""
    with ExitStack() as stack:
        nats_url, nats_note = _nats(directory, processor, stack)
        redis_url, redis_note = _redis(directory, processor, stack)
        yield Brokers(nats_url=nats_url, redis_url=redis_url, notes=(nats_note, redis_note))


def _nats(directory: Path, processor: int | None, stack: ExitStack) -> tuple[str, str]:
    if url := os.environ.get("NATS_URL"):
        return url, "NATS: the server of NATS_URL, not pinned by the harness"
    program = shutil.which("nats-server")
    if program is None:
        return NATS_DEFAULT, "NATS: the usual local address, not pinned by the harness"
    command = [program, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(directory)]
    process = _start(command, directory / "nats.log", processor, stack)
    ports = directory / f"nats-server_{process.pid}.ports"

    def address() -> str | None:
        try:
            return str(msgspec.json.decode(ports.read_bytes())["nats"][0])
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    if url := _await(process, address):
        return url, "NATS: a server of its own"
    return NATS_DEFAULT, "NATS: its own server did not start; the usual local address"


def _redis(directory: Path, processor: int | None, stack: ExitStack) -> tuple[str, str]:
    if url := os.environ.get("REDIS_URL"):
        return url, "Redis: the server of REDIS_URL, not pinned by the harness"
    program = shutil.which("redis-server")
    if program is None:
        return REDIS_DEFAULT, "Redis: the usual local address, not pinned by the harness"
    socket = directory / "redis.socket"
    command = [program, "--port", "0", "--unixsocket", str(socket), "--dir", str(directory)]
    command += ["--save", "", "--appendonly", "no"]
    process = _start(command, directory / "redis.log", processor, stack)
    if url := _await(process, lambda: f"unix://{socket}" if socket.exists() else None):
        return url, "Redis: a server of its own on a Unix socket, nothing written to disk"
    return REDIS_DEFAULT, "Redis: its own server did not start; the usual local address"


def _start(
    command: list[str], log: Path, processor: int | None, stack: ExitStack
) -> subprocess.Popen[bytes]:
    die_with_parent = _death_signal()

    def prepare() -> None:
        os.setpgid(0, 0)  # Ctrl-C goes to the harness alone, which stops it in order
        die_with_parent()
        if processor is not None:
            os.sched_setaffinity(0, {processor})

    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=prepare,  # noqa: PLW1509 - the harness has no threads
        )
    stack.callback(stop, [process])
    return process


def _death_signal() -> Callable[[], object]:
    """Make the call that ends this process with its parent, even one that was killed (Linux)."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    control = ctypes.CDLL(None).prctl
    return lambda: control(PR_SET_PDEATHSIG, signal.SIGTERM)


def _await(process: subprocess.Popen[bytes], address: Callable[[], str | None]) -> str | None:
    deadline = time.monotonic() + START_TIMEOUT
    while (found := address()) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            return None
        time.sleep(POLL_SECONDS)
    return found
