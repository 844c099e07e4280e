"""Somebody who asks all nodes about the latest cascade."""

import asyncio

from benchmarks.contestants.contract import Contestant
from thence import Node
from thence.observability.accounts import Question

__all__ = ["Inquirer"]

EVERY = 0.25
"""Seconds between two questions."""


class Inquirer(Contestant):
    async def open(self) -> None:
        self.node = Node(mesh=f"local:{self.place.directory}")
        await self.node.start()

    async def close(self) -> None:
        await self.node.close()

    async def ask(self, seconds: float) -> int:
        """Return how many answers came within that time."""
        loop = asyncio.get_running_loop()
        end, answers = loop.time() + seconds, 0
        while loop.time() < end:
            found = await self.node.ask_about(Question(event="moved"), timeout=2.0)
            events = [one for heard in found.heard for one in heard.account.found]
            if events:
                told = await self.node.ask_about(Question(root=events[-1].root), timeout=2.0)
                answers += len(told.heard) - 1
            await asyncio.sleep(EVERY)
        return answers
