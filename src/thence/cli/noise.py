"""``thence noise``: who talks most, what grows, what is shed and why."""

from __future__ import annotations

import json as json_module
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from thence.app.node import Node
from thence.cli.exits import CommandError, Exit
from thence.cli.noise_drawings import document, screen
from thence.cli.options import Debug, Json, Mesh, run_loop
from thence.durations import seconds
from thence.errors import ConfigurationError
from thence.observability.noise import Noise
from thence.observability.recent import LONGEST

__all__ = ["noise"]

PATIENCE = 1.0
"""Seconds that nodes have to answer."""


def noise(
    *,
    window: Annotated[
        str, Parameter(help="How far to look back: from 1s to 60s, compared with as much before.")
    ] = "60s",
    top: Annotated[int, Parameter(help="How many lines of each kind.")] = 5,
    mesh: Mesh = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show who makes the noise: the most events and bytes, what grows, what handlers make of events, sheds, loops.

    All nodes answer at once, from what they have counted and remember anyway. Rates, growth, sheds and loops are
    exact; bytes and amplification (events that a handler emits for each that it handles) are of the events that
    are still remembered, and the last lines say which share that is. Exit code 4: some nodes did not answer, and
    are named. 5: nobody is there.
    """
    if top < 1:
        raise CommandError(f"--top {top}: give at least 1", Exit.USAGE)
    return run_loop(_noise(_seconds(window), top, mesh, json))


def _seconds(window: str) -> float:
    try:
        length = seconds(window)
    except ConfigurationError as error:
        raise CommandError(f"--window {window}: {error}", Exit.USAGE) from None
    if not 1 <= length <= LONGEST:
        raise CommandError(
            f"--window {window}: give 1s to {LONGEST:g}s; nodes keep what they counted for two minutes, and the "
            "window is compared with the one before it",
            Exit.USAGE,
        )
    return length


async def _noise(length: float, top: int, mesh: str | None, as_json: bool) -> int:
    async with Node(mesh=mesh, name="thence noise") as node:
        heard = await node.ask_noise(length, timeout=PATIENCE)
    _check_reached(heard)
    if as_json:
        print(json_module.dumps(document(heard, top)))
    else:
        console = Console(highlight=False)
        for part in screen(heard, top):
            console.print(part)
    return Exit.PARTIAL if heard.silent else Exit.DONE


def _check_reached(heard: Noise) -> None:
    if heard.answered:
        return
    if heard.silent:
        raise CommandError(f"nobody answered in time: {', '.join(heard.silent)}", Exit.NOBODY)
    raise CommandError(
        "nobody is on this mesh: start a service with 'thence run MODULE:SERVICE', or name another mesh with "
        "--mesh",
        Exit.NOBODY,
    )
