"""One service process of the demo: hosts a service, and writes a bulletin a line to standard output.

Only to be started by ``thence demo``. It ends like a replica of ``thence run``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from thence.app.node import Node
from thence.cli.demo.facts import Watcher, encode
from thence.cli.demo.game import FAULT
from thence.cli.options import run_loop
from thence.cli.worker import end_with_parent, services_of, stop_on_signals

__all__: list[str] = []

TELL_EVERY = 0.25
"""Seconds between bulletins."""


async def host(specification: str) -> None:
    """Host the service until told to stop."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    end_with_parent()
    watcher = Watcher()
    node = Node(*services_of([specification]))
    node.observe(watcher)
    async with node:
        while not stop.is_set():
            tell(node, watcher)
            try:
                await asyncio.wait_for(stop.wait(), TELL_EVERY)
            except TimeoutError:
                continue


def tell(node: Node, watcher: Watcher) -> None:
    """Write what has happened since the last time."""
    sys.stdout.buffer.write(encode(watcher.tell(node.report())) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    # What is shed stands in the demo's table, which lines from other processes would tear apart.
    logging.getLogger("thence.losses").setLevel(logging.ERROR)
    # So do the loops.
    logging.getLogger("thence.handling").addFilter(
        lambda record: not record.msg.startswith("loop:")
    )
    # And what the planted fault does: the demo ends with it.
    logging.getLogger("thence.handling").addFilter(
        lambda record: getattr(record, "service", None) not in FAULT
    )
    run_loop(host(sys.argv[1]))
    os._exit(0)
