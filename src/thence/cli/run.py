"""``thence run``: host services, restarting what crashes."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from thence.app.settings import Settings
from thence.cli.exits import CommandError, Exit
from thence.cli.logs import LogFormat, format_for, set_up_logs
from thence.cli.options import Debug, Json, Mesh
from thence.cli.supervisor import REPLICA, Supervisor, python_module

__all__ = ["run"]


def run(
    *services: Annotated[str, Parameter(help="MODULE:SERVICE, for example scores:scores.")],
    replicas: Annotated[
        int, Parameter(help="How many processes, each hosting all of these services.")
    ] = 1,
    reload: Annotated[
        bool, Parameter(negative="", help="Restart when a Python file here changes.")
    ] = False,
    listen: Annotated[
        str | None, Parameter(help="tcp://host:port in place of a Unix socket; port 0 for any.")
    ] = None,
    logs: Annotated[
        LogFormat | None,
        Parameter(
            help="How to log on stderr (or THENCE_LOGS); by default pretty on a terminal, else json.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        Parameter(
            help="host:port where Prometheus reads metrics (or THENCE_METRICS); port 0 for any.",
        ),
    ] = None,
    recorder: Annotated[
        str | None,
        Parameter(
            help="A file that keeps what the flight recorder notes over a crash; with replicas, one each: FILE-1, ..."
        ),
    ] = None,
    export: Annotated[
        Literal["off", "all", "anomalous"] | None,
        Parameter(
            help="Which cascades to export as spans of OpenTelemetry (or THENCE_EXPORT); by default off.",
        ),
    ] = None,
    mesh: Mesh = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Host services until Ctrl-C or SIGTERM; a replica that crashes is started again.

    ``thence run scores:scores`` hosts the service ``scores`` of the module ``scores.py``. Several services
    share a process; ``--replicas 3`` starts three such processes, which share the work by key. With
    ``--json``, a line on stdout tells of each replica that is ready, and of each that has ended.
    """
    if not services:
        raise CommandError(
            "name at least one service: thence run MODULE:SERVICE, for example scores:scores",
            Exit.USAGE,
        )
    if replicas < 1:
        raise CommandError(f"--replicas {replicas}: give a number of at least 1", Exit.USAGE)
    if listen is not None and replicas > 1 and not listen.endswith(":0"):
        raise CommandError(
            f"--listen {listen} with {replicas} replicas: use port 0, they can't share one",
            Exit.USAGE,
        )
    for service in services:
        if not all(service.partition(":")):
            raise CommandError(
                f"{service!r}: write MODULE:SERVICE, for example scores:scores", Exit.USAGE
            )
    settings = Settings.read().override(logs=logs, metrics=metrics)
    place = settings.metrics_place()
    if place is not None and place[1] and replicas > 1:
        raise CommandError(
            f"--metrics {settings.metrics} with {replicas} replicas: use port 0, they can't share one; each says "
            "which it took when it is ready",
            Exit.USAGE,
        )
    if export is not None:
        # The replicas inherit it.
        os.environ["THENCE_EXPORT"] = export
    form, window = format_for(settings.logs, sys.stderr), settings.repeats_window()
    set_up_logs(form, window, debug=debug)
    command = [
        *python_module("thence.cli.worker"),
        "--mesh",
        mesh or "",
        "--listen",
        listen or "",
        "--json",
        "lines" if json else "",
        "--logs",
        form,
        "--window",
        str(window),
        "--metrics",
        settings.metrics or "",
        "--debug",
        "yes" if debug else "",
        "--recorder",
        "" if recorder is None else recorder + (f"-{REPLICA}" if replicas > 1 else ""),
        *services,
    ]
    return asyncio.run(_supervise(command, replicas, reload, json))


async def _supervise(command: list[str], replicas: int, reload: bool, as_json: bool) -> int:
    return await Supervisor(command, replicas, as_json=as_json).run(reload=reload)
