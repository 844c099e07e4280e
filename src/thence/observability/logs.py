"""Logs that tell what event they are about, and that can't drown: filters for the standard library's ``logging``.

``thence run`` sets them up by itself. In a logging set-up of one's own they go on the handlers, the ids first::

    import logging.config

    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {
                "ids": {"()": "thence.observability.IdsFilter"},
                "repeats": {"()": "thence.observability.RepeatsFilter", "window": "60s"},
            },
            "formatters": {"json": {"()": "thence.observability.JsonFormatter"}},
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler",
                    "filters": ["ids", "repeats"],
                    "formatter": "json",
                }
            },
            "root": {"level": "INFO", "handlers": ["stderr"]},
        }
    )

A format of one's own may name what the first filter adds, as in ``"%(message)s event=%(event_id)s"``: outside of a
run it is None. With a ``QueueHandler`` the filters belong on that: behind it the run is not known any more.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from thence.delivery.about import NOTHING, PRIVATE, about
from thence.delivery.running import RUNNING, run_of

__all__ = ["IdsFilter"]


class IdsFilter(logging.Filter):
    """Adds to each record what event it is about, and lets all of them pass. Never raises.

    ``event_id``, ``root_id``, ``cause_id`` (None for a root event), ``event``, ``service``, ``handler``, and ``batch``,
    the number of events where a handler takes many at once. They are those of the run that the record was made in:
    by the handler, by what it calls, by a task or a thread that it has started with its context. What the
    record's own ``extra`` says is left as it is. Without a run they are None. Thence's own records don't depend on
    the run in which they happen to be made: they say themselves what they are about.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete the record."""
        known = record.__dict__
        if PRIVATE not in known:
            told = _told_by_the_run(record)
            if known.keys().isdisjoint(told):
                known.update(told)
            else:
                for name, value in told.items():
                    known.setdefault(name, value)
        return True


def _told_by_the_run(record: logging.LogRecord) -> Mapping[str, Any]:
    running = RUNNING.get()
    if running is None:
        return NOTHING
    try:
        handler, arrival = run_of(running)
        told = about(arrival, handler)
    except Exception:
        return NOTHING
    if (
        _says_itself(record.name)
        # Logged by the context of another run, or about an event of somebody else's.
        or record.__dict__.get("event_id", told["event_id"]) != told["event_id"]
    ):
        return {**NOTHING, PRIVATE: told[PRIVATE]}
    return told


def _says_itself(logger: str) -> bool:
    """Whether the logger's records are Thence's own, or asyncio's, which come from anywhere."""
    return logger in ("thence", "asyncio") or (
        logger.startswith("thence.") and not logger.startswith("thence.service.")
    )
