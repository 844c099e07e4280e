"""How addresses are written, and what is wrong with one that can't be understood."""

from __future__ import annotations

import os
import sys

from thence.errors import ConfigurationError

__all__ = ["UNIX_PATH_BYTES", "tcp_place", "unix_path"]

UNIX_PATH_BYTES = 103 if sys.platform == "darwin" else 107
"""The longest path that a Unix socket can have, in bytes."""


def unix_path(address: str) -> str | None:
    """The path in ``unix:/path``; None for an address of another kind.

    :raises ConfigurationError: there is no path, or it is too long for a socket.
    """
    kind, _, path = address.partition(":")
    if kind != "unix":
        return None
    if not path or "\0" in path:
        raise ConfigurationError(f'address {address!r}: write "unix:/path/of/a/socket"')
    length = len(os.fsencode(path))
    if length > UNIX_PATH_BYTES:
        raise ConfigurationError(
            f"address {address!r}: the path of a Unix socket has at most {UNIX_PATH_BYTES} bytes, "
            f"this has {length}; choose a shorter directory"
        )
    return path


def tcp_place(address: str) -> tuple[str, int]:
    """Host and port in ``tcp://host:port``, without the brackets of an IPv6 host.

    :raises ConfigurationError: the address is not of that form.
    """
    scheme, _, place = address.partition("://")
    host, _, digits = place.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    is_port = digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) < 65536
    if scheme != "tcp" or not host or not is_port or set(host) & set("/[]@ "):
        raise ConfigurationError(
            f'address {address!r}: write "tcp://host:port", "tcp://[::1]:port" (port 0 takes a free '
            'one) or "unix:/path/of/a/socket"'
        )
    return host, int(digits)
