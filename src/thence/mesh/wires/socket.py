"""Streams over the operating system's sockets: Unix ones on one machine, TCP between machines.

The loop's own transports carry the bytes. What is added here is what the loops do differently or
wrongly:

* Given a path, both asyncio and uvloop replace a Unix socket that is there, even one that somebody
  listens at. Here the file is bound before the loop sees it, so an address in use is refused.
* With a full backlog, asyncio takes a Unix connection that the kernel refused for an open one, and
  uvloop cuts a path that is too long. Here the connection is made before the loop sees it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from pathlib import Path

from thence.errors import ConfigurationError
from thence.mesh.addresses import tcp_place, unix_path

__all__ = ["SocketWire"]

BACKLOG = 1024
"""Dials that may wait to be accepted: every node of a large mesh knocks at a newcomer at once."""

Identity = tuple[int, int]
"""Which file it is, whatever its name: device and inode."""

DIAL_WITHIN = 5.0
"""Seconds until a TCP dial that nobody answers is given up."""


class SocketWire:
    """Streams at ``unix:/path`` and ``tcp://host:port``.

    Implements :class:`thence.mesh.wires.contract.Wire`.
    """

    def __init__(self) -> None:
        self._servers: list[asyncio.AbstractServer] = []
        self._files: dict[Path, Identity] = {}
        """The socket files made here."""

    async def listen(self, address: str, accept: Callable[[], asyncio.Protocol]) -> str:
        """Accept streams at ``address``; return where it really listens.

        A Unix socket can be connected to by its owner only. A socket file that is left over is
        never removed here: that nobody answers does not prove that nobody will.

        :raises ConfigurationError: the address is malformed, in use or may not be used.
        """
        path = unix_path(address)
        if path is not None:
            return await self._listen_unix(address, Path(path), accept)
        return await self._listen_tcp(address, *tcp_place(address), accept)

    async def dial(self, address: str, protocol: asyncio.Protocol) -> None:
        """Open a stream to whoever listens at ``address``.

        :raises OSError: nobody accepts it now.
        :raises ConfigurationError: the address is malformed.
        """
        loop = asyncio.get_running_loop()
        path = unix_path(address)
        if path is None:
            host, port = tcp_place(address)
            async with asyncio.timeout(DIAL_WITHIN):
                await loop.create_connection(lambda: protocol, host, port)
            return
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.setblocking(False)
            # Never waits: a Unix socket connects at once or not at all.
            stream.connect(path)
        except BaseException:
            stream.close()
            raise
        closes = None
        try:
            transport, _ = await loop.create_unix_connection(lambda: protocol, sock=stream)
            closes = transport.is_closing()
        finally:
            if closes is not False:
                _let_go(stream, loop)

    async def close(self) -> None:
        """Stop listening and remove the socket files. Open streams go on."""
        servers, self._servers = self._servers, []
        files, self._files = self._files, {}
        for path, identity in files.items():
            _remove(path, identity)
        for server in servers:
            # Not wait_closed(): from Python 3.12 on it waits until the last stream has ended.
            server.close()

    async def _listen_unix(
        self, address: str, path: Path, accept: Callable[[], asyncio.Protocol]
    ) -> str:
        try:
            stream, identity = _bind(path)
        except OSError as error:
            raise _refused(address, error) from error
        try:
            server = await asyncio.get_running_loop().create_unix_server(
                accept, sock=stream, backlog=BACKLOG
            )
        except BaseException:
            stream.close()
            _remove(path, identity)
            raise
        self._servers.append(server)
        self._files[path] = identity
        return address

    async def _listen_tcp(
        self, address: str, host: str, port: int, accept: Callable[[], asyncio.Protocol]
    ) -> str:
        try:
            server = await asyncio.get_running_loop().create_server(
                accept, host, port, backlog=BACKLOG
            )
        except OSError as error:
            raise _refused(address, error) from error
        self._servers.append(server)
        if port:
            return address
        # A name with several addresses got a free port for each: only the first is told.
        host, port = server.sockets[0].getsockname()[:2]
        return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _let_go(stream: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
    """A transport that was given the socket has been closed, perhaps before it knew of the socket as an object.

    One of uvloop has closed the descriptor then. Whatever closed it once more, the object's end for instance, would
    close what has got its number meanwhile.
    """
    if type(loop).__module__.startswith("uvloop"):
        stream.detach()
    else:
        stream.close()


def _bind(path: Path) -> tuple[socket.socket, Identity]:
    """A socket with a new file at ``path``, which does not listen yet."""
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.setblocking(False)
        stream.bind(str(path))
        # In time: nobody can connect before it listens.
        path.chmod(0o600)
        return stream, _identity(path)
    except BaseException:
        stream.close()
        raise


def _identity(path: Path) -> Identity:
    status = path.stat()
    return status.st_dev, status.st_ino


def _remove(path: Path, identity: Identity) -> None:
    """Remove a socket file, unless it is another one by now."""
    try:
        if _identity(path) == identity:
            path.unlink()
    except FileNotFoundError:
        pass


def _refused(address: str, error: OSError) -> ConfigurationError:
    reason = error.strerror or str(error)
    unix = address.startswith("unix:")
    if error.errno == errno.EADDRINUSE and unix:
        fix = (
            "a node listens there, or one that was killed has left the file behind: choose another path, "
            "or remove the file when you are sure that nobody uses it"
        )
    elif error.errno == errno.EADDRINUSE:
        fix = "another program listens there: choose another port, or port 0 for a free one"
    elif error.errno in (errno.EACCES, errno.EPERM):
        fix = (
            "this user may not: choose a directory that it may write to"
            if unix
            else "this user may not: choose a port from 1024 on"
        )
    elif unix:
        fix = "choose a path in a directory that exists"
    else:
        fix = "choose a host name or address of this machine"
    return ConfigurationError(f"can't listen at {address}: {reason}; {fix}")
