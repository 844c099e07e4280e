"""``thence top``: what each handler does, as it does it."""

from __future__ import annotations

import asyncio
import json as json_module
import os
import sys
import time
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from thence.app.node import Node
from thence.app.report import NodeReport
from thence.cli.exits import CommandError, Exit
from thence.cli.options import Debug, Json, Mesh, run_loop
from thence.cli.supervisor import python_module
from thence.cli.top_rows import COLUMNS, Order, Row, cells, chosen, headline, rows_of
from thence.histogram import Histogram

__all__ = ["empty_text", "top"]

TRACE_WITHIN = 20.0


def top(
    *,
    once: Annotated[bool, Parameter(negative="", help="Print one table and end.")] = False,
    seconds: Annotated[float, Parameter(help="With --once: how long to watch.")] = 1.0,
    sort: Annotated[Order, Parameter(help="What the first rows have most of.")] = "rate",
    filter: Annotated[  # noqa: A002 - the flag is called so
        str, Parameter(help="Only rows with this in a name.")
    ] = "",
    mesh: Mesh = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show each handler's events: how many a second, how long they take, what its limits leave of them.

    One row per type of event and handler, over all replicas; in a terminal it is live, and its last line names the
    keys. Exit code 4: some peers did not answer, and are named. 5: nobody is there.
    """
    if seconds <= 0:
        raise CommandError(f"--seconds {seconds:g}: give a time above zero", Exit.USAGE)
    if once:
        return run_loop(_once(seconds, sort, filter, mesh, json))
    if json:
        raise CommandError("--json: add --once; without it the table is live", Exit.USAGE)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError("thence top needs a terminal: add --once for one table", Exit.USAGE)
    return run_loop(_live(sort, filter, mesh))


async def _once(seconds: float, sort: Order, text: str, mesh: str | None, as_json: bool) -> int:
    async with Node(mesh=mesh, name="thence top") as node:
        before, _ = await node.ask_peers()
        began = time.monotonic()
        await asyncio.sleep(seconds)
        after, silent = await node.ask_peers()
        elapsed = time.monotonic() - began
    if not after and not silent:
        raise CommandError(
            "nobody is on this mesh: start a service with 'thence run MODULE:SERVICE', or name another mesh with "
            "--mesh",
            Exit.NOBODY,
        )
    every = rows_of(before, after, elapsed)
    rows = chosen(every, sort, text)
    if as_json:
        print(json_module.dumps(_document(rows, after, silent, elapsed)))
    else:
        _print(rows, every, after, silent, text)
    if not after:
        return Exit.NOBODY
    return Exit.PARTIAL if silent else Exit.DONE


async def _live(sort: Order, text: str, mesh: str | None) -> int:
    try:
        from thence.cli.top_screen import TopScreen
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "textual":
            raise
        raise CommandError(
            "the live table needs textual: pip install 'thence[tui]'; or add --once for one table",
            Exit.USAGE,
        ) from error
    async with Node(mesh=mesh, name="thence top") as node:
        screen = TopScreen(node.ask_peers, lambda event: _traced(event, mesh), sort, text)
        await screen.run_async()
    return screen.return_code or Exit.DONE


async def _traced(event: str, mesh: str | None) -> str:
    """What ``thence trace`` says of the last event of a type."""
    command = [*python_module("thence.cli"), "trace", "--last", event]
    process = await asyncio.create_subprocess_exec(
        *command,
        *(["--mesh", mesh] if mesh else []),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    )
    try:
        said, complaint = await asyncio.wait_for(process.communicate(), TRACE_WITHIN)
    except TimeoutError:
        return f"no answer within {TRACE_WITHIN:g} s: try 'thence trace --last {event}' yourself"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return (said + complaint).decode(errors="replace").strip() or "it said nothing"


def _print(
    rows: list[Row], every: list[Row], reports: list[NodeReport], silent: list[str], text: str
) -> None:
    console = Console(highlight=False)
    console.print(headline(every, reports, silent), soft_wrap=True, markup=False)
    if not rows:
        console.print(empty_text(every, text), soft_wrap=True, markup=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        words = name in ("event", "handler", "limit")
        table.add_column(
            name, justify="left" if words else "right", no_wrap=not words, overflow="fold"
        )
    for row in rows:
        table.add_row(*cells(row))
    console.print(table, markup=False)


def empty_text(every: list[Row], text: str) -> str:
    """What to say where there are no rows."""
    if every:
        return f"none of {len(every)} rows has {text!r} in a name: filter by something else"
    return "no handlers: start a service with 'thence run MODULE:SERVICE'"


def _document(
    rows: list[Row], reports: list[NodeReport], silent: list[str], seconds: float
) -> dict[str, Any]:
    return {
        "schema": "thence.top/1",
        "complete": not silent,
        "silent": silent,
        "seconds": seconds,
        "nodes": len(reports),
        "lag": msgspec.to_builtins(Histogram.together(report.lag for report in reports)),
        "rows": [msgspec.to_builtins(row) for row in rows],
    }
