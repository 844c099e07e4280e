"""Entering and leaving services' lifespans, each in a task of its own.

A node may be started in one task and closed in another; an async context manager with a task group or a
cancel scope in it must be entered and left in the same.
"""

from __future__ import annotations

import asyncio
from typing import Any

from thence.app.service import Lifespan
from thence.errors import NodeClosed

__all__ = ["RunningLifespan"]


class RunningLifespan:
    """One lifespan, from its entering to its leaving."""

    def __init__(self, lifespan: Lifespan, node: Any, name: str) -> None:
        self._entered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._leave = asyncio.Event()
        self._task = asyncio.create_task(
            self._live(lifespan, node), name=f"thence lifespan of {name}"
        )

    async def enter(self) -> Any:
        """The state it yields. Raises what it raises instead."""
        return await asyncio.shield(self._entered)

    async def leave(self) -> None:
        """Let it end. Raises what it raises then. While it is still being entered, that is cancelled."""
        self._leave.set()
        if not self._entered.done():
            self._task.cancel()
        await self._task

    async def _live(self, lifespan: Lifespan, node: Any) -> None:
        try:
            async with lifespan(node) as state:
                self._entered.set_result(state)
                await self._leave.wait()
        except BaseException as error:
            if self._entered.done():
                raise
            if isinstance(error, asyncio.CancelledError):
                error = NodeClosed("the node was closed while a lifespan was being entered")
            self._entered.set_exception(error)
            # Perhaps nobody waits for it any more.
            self._entered.exception()
