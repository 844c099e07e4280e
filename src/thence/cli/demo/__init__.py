"""``thence demo``: the treasure hunt, a dozen processes and no broker."""

from __future__ import annotations

import asyncio
import json as json_module
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from thence.cli.demo.figures import figures
from thence.cli.demo.game import Game
from thence.cli.demo.places import examples
from thence.cli.demo.screen import LiveTable, last_screen
from thence.cli.demo.tracks import world_of
from thence.cli.exits import CommandError, Exit
from thence.cli.options import Debug, Json

__all__ = ["demo"]

LOOK_EVERY = 0.1


def demo(
    *,
    seconds: Annotated[float, Parameter(help="How long the players walk.")] = 15.0,
    players: Annotated[int, Parameter(help="How many players walk, without --tracks.")] = 40,
    tracks: Annotated[
        Path | None, Parameter(help="A folder of GPX recordings to walk along instead.")
    ] = None,
    mesh: Annotated[
        str | None,
        Parameter(
            name="--mesh",
            help="Which mesh to play on, for 'thence map' to look at; by default one of its own.",
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Play a treasure hunt: every service a process of its own, and no broker between them.

    Ends with figures, and with an account of every event; exit code 1 if it does not balance.
    """
    if seconds < 1:
        raise CommandError(f"--seconds {seconds:g}: give at least 1", Exit.USAGE)
    if players < 1:
        raise CommandError(f"--players {players}: give at least 1", Exit.USAGE)
    return asyncio.run(_demo(_world(seconds, players, tracks), seconds, mesh, as_json=json))


def _world(seconds: float, players: int, tracks: Path | None) -> Any:
    if tracks is not None:
        return world_of(tracks, seconds)
    sys.path.insert(0, str(examples()))
    from treasure_hunt.world import invent

    return invent(players, seconds)


async def _demo(world: Any, seconds: float, mesh: str | None, *, as_json: bool) -> int:
    playing = asyncio.current_task()
    assert playing is not None
    # Whoever ends the demo ends its processes too.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
    try:
        async with Game(world, mesh) as game:
            with LiveTable(seconds, quiet=as_json) as screen:
                screen.say("starting the services ...")
                await game.start()

                def show() -> None:
                    elapsed = time.monotonic() - game.began
                    screen.show(game.reports, game.cascades.complete(), elapsed)

                await game.play(seconds, show, LOOK_EVERY)
            cascades = game.cascades.complete()
            result = figures(game.reports, cascades, time.monotonic() - game.began, game.processes)
    except asyncio.CancelledError:
        return Exit.INTERRUPTED
    largest = max(cascades, key=lambda cascade: cascade.size, default=None)
    if as_json:
        document = {
            "schema": "thence.demo/1",
            **msgspec.to_builtins(result),
            "balanced": result.account.balanced,
        }
        print(json_module.dumps(document))
    else:
        print(last_screen(result, largest))
    return Exit.DONE if result.account.balanced else Exit.FAILED
