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
from rich.console import Console

from thence.cli.demo.figures import figures
from thence.cli.demo.game import Game
from thence.cli.demo.places import examples
from thence.cli.demo.screen import LiveTable, last_screen
from thence.cli.demo.tracks import world_of
from thence.cli.demo.whys import ask_why
from thence.cli.exits import CommandError, Exit
from thence.cli.options import Debug, Json

__all__ = ["demo"]

LOOK_EVERY = 0.1
STAMPEDE_SECONDS = 10.0


def demo(
    *,
    seconds: Annotated[
        float, Parameter(help="How long the players walk, apart from a stampede.")
    ] = 15.0,
    players: Annotated[int, Parameter(help="How many players walk, without --tracks.")] = 40,
    tracks: Annotated[
        Path | None, Parameter(help="A folder of GPX recordings to walk along instead.")
    ] = None,
    stampede: Annotated[
        bool,
        Parameter(
            negative="",
            help="For ten seconds the players tell of 50 times the moves. They come in the middle of --seconds, "
            "and on top of them: the game lasts so much longer.",
        ),
    ] = False,
    curse: Annotated[
        bool,
        Parameter(
            negative="",
            help="A third into the game a cursed clue is found. Two more services feed each other with what follows, "
            "and are cut: as a loop, or by the cascade's budget with THENCE_LOOPS=observe.",
        ),
    ] = False,
    fault: Annotated[
        bool,
        Parameter(
            negative="",
            help="Some players' phones tell a wrong name. One more service fails on it, three services later: the demo "
            "ends with what 'thence why' says of that.",
        ),
    ] = False,
    stampede_seconds: Annotated[
        float | None, Parameter(help="Have a stampede, and one that lasts so long.")
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

    Ends with figures, with an account of every event, and with what 'thence why' says of the slowest cascade and of
    a failure, if there is any. Exit code 1: the account does not balance.
    """
    if seconds < 1:
        raise CommandError(f"--seconds {seconds:g}: give at least 1", Exit.USAGE)
    if players < 1:
        raise CommandError(f"--players {players}: give at least 1", Exit.USAGE)
    if stampede_seconds is None:
        stampede_seconds = STAMPEDE_SECONDS if stampede else 0.0
    elif stampede_seconds < 1:
        raise CommandError(f"--stampede-seconds {stampede_seconds:g}: give at least 1", Exit.USAGE)
    world = _world(seconds + stampede_seconds, players, tracks)
    if stampede_seconds:
        from treasure_hunt.world import Stampede

        rush = Stampede(seconds / 2, stampede_seconds)
        world = msgspec.structs.replace(world, stampede=rush)
    if curse:
        from treasure_hunt.world import curse as lay_curse

        world = lay_curse(world, (seconds + stampede_seconds) / 3)
    if fault:
        from treasure_hunt.world import plant_fault

        world = plant_fault(world)
    return asyncio.run(_demo(world, seconds + stampede_seconds, mesh, as_json=json))


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
            rush = game.periods.stampede
            with LiveTable(seconds, quiet=as_json) as screen:
                screen.say("starting the services ...")
                await game.start()

                def show() -> None:
                    if screen.due:
                        screen.show(
                            game.reports,
                            game.cascades.complete(),
                            time.monotonic() - game.began,
                            rushing=rush is not None and rush.running,
                            cursed=world.cursed,
                        )

                await game.play(show, LOOK_EVERY)
            cascades = game.cascades.complete()
            result = figures(
                game.reports,
                cascades,
                time.monotonic() - game.began,
                game.processes,
                game.periods,
                world.stampede.times if world.stampede else 1,
                cursed=world.cursed,
            )
            whys = await ask_why(game.mesh, cascades, failed=bool(result.account.failed))
            killed = game.killed
    except asyncio.CancelledError:
        return Exit.INTERRUPTED
    # Of those that were cut, if there are any.
    largest = max(cascades, key=lambda cascade: (bool(cascade.cuts), cascade.size), default=None)
    if as_json:
        document = {
            "schema": "thence.demo/1",
            **msgspec.to_builtins(result),
            "balanced": result.account.balanced,
            "killed": killed,
            "why": whys.document(),
        }
        print(json_module.dumps(document))
    else:
        print(last_screen(result, largest))
        console = Console(highlight=False, soft_wrap=True)
        option = "" if mesh in (None, "local") else f" --mesh {mesh}"
        for line in whys.lines(option, console.width):
            console.print(line)
        if killed:
            print(
                f"\nkilled on the way: {', '.join(killed)}; what they counted last is in no account"
            )
    return Exit.DONE if result.account.balanced else Exit.FAILED
