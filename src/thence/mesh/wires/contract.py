"""How bytes get to a peer.

A wire is an ordered, reliable stream of bytes in both directions. Its two ends speak asyncio's own
protocol and transport classes: they are what uvloop makes fast, and every engineer knows them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

__all__ = ["Wire"]


class Wire(Protocol):
    """Opens streams. Every stream belongs to one :class:`asyncio.Protocol`.

    The transport that ``connection_made`` is given has ``write`` (keeps the object it is given, so the
    caller must not change it afterwards), ``close`` (what was written still goes out), ``abort``,
    ``is_closing``, ``get_write_buffer_size`` and ``set_write_buffer_limits``, and calls ``pause_writing``
    and ``resume_writing``. Each stream ends with exactly one ``connection_lost`` at either end.
    """

    async def listen(self, address: str, accept: Callable[[], asyncio.Protocol]) -> str:
        """Accept streams at ``address``; return where it really listens (port 0 gets a free port).

        :raises ConfigurationError: the address is malformed, in use or may not be used.
        """
        ...

    async def dial(self, address: str, protocol: asyncio.Protocol) -> None:
        """Open a stream to whoever listens at ``address``.

        :raises OSError: nobody accepts it now. This says nothing about whether the peer lives.
        """
        ...

    async def close(self) -> None:
        """Stop listening. Open streams are their protocols' business. Idempotent."""
        ...
