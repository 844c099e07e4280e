"""Where the nodes of one machine meet: which directory, and whether it can be trusted.

Whoever can write there can pose as a node and be sent its events. So the directory must belong to
this user, and nobody else may write to it: the nodes of one mesh run as one user.
"""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from pathlib import Path

from thence.errors import ConfigurationError
from thence.mesh.addresses import UNIX_PATH_BYTES

__all__ = ["ANOTHER", "make_socket_path", "runtime_directory", "socket_path"]

ANOTHER = 'choose another directory with mesh="local:PATH" or THENCE_MESH=local:PATH'
"""What every complaint about a runtime directory ends with."""


def runtime_directory(path: str | os.PathLike[str] | None = None) -> Path:
    """The directory at ``path``, or this user's default one; made when it is missing.

    :raises ConfigurationError: it can't be made, or somebody else owns it or may write to it.
    """
    if path is not None:
        directory = Path(path).expanduser().absolute()
        _make(directory)
        _check(directory, links=True)
        return directory
    session = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    base = session / "thence" if session.is_absolute() and session.is_dir() else _temporary()
    return _own(base, "default")


def socket_path(directory: Path, node: str) -> Path:
    """Where ``node`` listens: in ``directory``, if its path is short enough for a socket.

    If not, then in a short directory that every process of this user finds alike.
    """
    path = directory / f"{node}.sock"
    if _fits(path):
        return path
    mesh = sha256(os.fsencode(directory)).hexdigest()[:12]
    return _temporary() / "sockets" / f"{mesh}-{node}.sock"


def make_socket_path(directory: Path, node: str) -> Path:
    """The same, ready to be listened at.

    :raises ConfigurationError: even the short directory is too long, or somebody else owns it.
    """
    path = socket_path(directory, node)
    if not _fits(path):
        raise ConfigurationError(
            f"{directory} is too long for a Unix socket ({UNIX_PATH_BYTES} bytes with the file's name), "
            f"and so is {path.parent}; {ANOTHER}, or set a shorter TMPDIR"
        )
    if path.parent != directory:
        _own(path.parent.parent, path.parent.name)
    return path


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= UNIX_PATH_BYTES


def _temporary() -> Path:
    import tempfile  # 5 ms, which most nodes never need

    return Path(tempfile.gettempdir(), f"thence-{os.geteuid()}")


def _own(base: Path, name: str) -> Path:
    """A directory in ``base``, which stands where others might have put a link in the way."""
    for directory in (base, base / name):
        _make(directory)
        _check(directory, links=False)
    return base / name


def _make(directory: Path) -> None:
    try:
        for missing in reversed([d for d in (directory, *directory.parents) if not d.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"can't make the runtime directory {directory}: {error.strerror}; {ANOTHER}"
        ) from error


def _check(directory: Path, *, links: bool) -> None:
    try:
        status = directory.stat(follow_symlinks=links)
    except OSError as error:
        raise ConfigurationError(
            f"can't use the runtime directory {directory}: {error.strerror}; {ANOTHER}"
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigurationError(f"the runtime directory {directory} is not a directory; {ANOTHER}")
    if status.st_uid != os.geteuid():
        raise ConfigurationError(
            f"the runtime directory {directory} belongs to user {status.st_uid}, and this process runs "
            f"as user {os.geteuid()}; run all services of a mesh as one user, or {ANOTHER}"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigurationError(
            f"others may write to the runtime directory {directory}, and could pose as a node; "
            f"run: chmod go-w {directory}"
        )
