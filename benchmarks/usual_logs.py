"""One service whose logs are written the usual way: a line for each event emitted and for each handler run.

``python -m benchmarks.usual_logs MODULE:SERVICE``, for ``noise``. A line is compact JSON with a time, ids and names
alone: what else a team writes, as payloads, durations, hosts and tracebacks, would only make it longer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys

from thence import Node
from thence.cli.options import run_loop
from thence.cli.worker import end_with_parent, services_of, stop_on_signals
from thence.events.lineage import Lineage
from thence.identifiers import EventId

__all__: list[str] = []

logger = logging.getLogger("events")


class JsonLine(logging.Formatter):
    """A record as a line of compact JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's fields, without a line break."""
        shown = {"time": round(record.created, 3), "level": record.levelname, "message": record.msg}
        return json.dumps(shown | record.__dict__["fields"], separators=(",", ":"))


class Lines:
    """Logs what a node does. Implements :class:`thence.facts.Observer`."""

    def emitted(
        self, event_id: EventId, lineage: Lineage | None, event: str, size: int, targets: int
    ) -> None:
        """An event leaves."""
        logger.info("emitted", extra={"fields": _ids(event_id, lineage, event)})

    def handled(
        self, event_id: EventId, lineage: Lineage | None, event: str, service: str, handler: str
    ) -> None:
        """A handler has ended well."""
        told = _ids(event_id, lineage, event) | {"handler": f"{service}.{handler}"}
        logger.info("handled", extra={"fields": told})

    def failed(
        self,
        event_id: EventId,
        lineage: Lineage | None,
        event: str,
        service: str,
        handler: str,
        error: BaseException,
    ) -> None:
        """A handler has failed."""
        told = _ids(event_id, lineage, event) | {"handler": f"{service}.{handler}"}
        why = f"{type(error).__name__}: {error}"
        logger.error("failed", extra={"fields": told | {"error": why}})

    def shed(
        self,
        event_id: EventId,
        lineage: Lineage | None,
        event: str,
        service: str,
        handler: str,
        reason: str,
    ) -> None:
        """Nothing was run."""

    def refused(
        self, event_id: EventId, lineage: Lineage | None, event: str, service: str, reason: str
    ) -> None:
        """Nothing was sent."""

    def limit_changed(self, place: str, before: str, after: str, by: str) -> None:
        """No event."""


def _ids(event_id: EventId, lineage: Lineage | None, event: str) -> dict[str, str]:
    ids = {"event": event, "id": str(event_id)}
    if lineage is not None:
        ids |= {"root": str(lineage.root), "cause": str(lineage.cause)}
    return ids


async def host(specification: str) -> None:
    """Host the service until told to stop."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    end_with_parent()
    node = Node(*services_of([specification]))
    node.observe(Lines())
    async with node:
        await stop.wait()


if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLine())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # Lines about events and handlers alone count.
    logging.getLogger("thence").setLevel(logging.CRITICAL + 1)
    run_loop(host(sys.argv[1]))
    sys.stderr.flush()
    os._exit(0)
