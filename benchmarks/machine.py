"""What a figure was measured on: a number without its machine means nothing."""

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import msgspec

__all__ = ["Machine", "describe_machine", "library_versions", "usable_processors"]

LIBRARIES = (
    "thence",
    "msgspec",
    "uvloop",
    "nats-py",
    "faststream",
    "fast-depends",
    "pydantic",
    "redis",
    "hiredis",
    "limits",
    "throttled-py",
    "pyrate-limiter",
)
SERVERS = ("nats-server", "redis-server")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The hardware and system a run took place on. The host's name is left out on purpose."""

    system: str
    processor: str
    processors: int
    memory_megabytes: int | None


def usable_processors() -> list[int]:
    """Return the numbers of the processors this process may use; empty if it can't choose."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))


def describe_machine() -> Machine:
    """Describe this machine."""
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=_processor_name(),
        processors=len(usable_processors()) or os.cpu_count() or 1,
        memory_megabytes=_memory_megabytes(),
    )


def library_versions() -> dict[str, str]:
    """Return the versions of Python, of the libraries that took part and of the servers."""
    versions = {"python": f"{platform.python_implementation()} {platform.python_version()}"}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "not installed"
    for server in SERVERS:
        versions[server] = _server_version(server)
    return versions


def _processor_name() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", described.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _memory_megabytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (ValueError, OSError):
        return None


def _server_version(server: str) -> str:
    path = shutil.which(server)
    if path is None:
        return "not installed"
    answer = subprocess.run(
        [path, "--version"], capture_output=True, text=True, timeout=10, check=False
    )
    found = re.search(r"\d+(?:\.\d+)+", answer.stdout + answer.stderr)
    return found[0] if found else "unknown"
