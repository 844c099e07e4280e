"""The table of commands, and what happens around each: errors, exit codes, Ctrl-C."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from thence.cli.exits import CommandError, Exit
from thence.errors import ConfigurationError, ThenceError

__all__ = ["run_command"]

COMMANDS = {
    "run": ("thence.cli.run:run", "Host services, restarting what crashes."),
    "emit": ("thence.cli.emit:emit", "Emit an event, or many from JSON lines."),
    "check": (
        "thence.cli.check:check_services",
        "Find loops, overlong cascades and misunderstandings, without running anything.",
    ),
    "map": ("thence.cli.map:map_mesh", "Show who is there, and what flows between them."),
    "top": ("thence.cli.top:top", "Show what each handler does, live."),
    "trace": ("thence.cli.trace:trace", "Show what became of an event and of all that it caused."),
    "why": ("thence.cli.why:why", "Show the root cause of an event, and what went wrong first."),
    "noise": (
        "thence.cli.noise:noise",
        "Show who talks most, what grows, and what is shed and why.",
    ),
    "limit": ("thence.cli.limit:limit", "Change a limit on live nodes."),
    "demo": ("thence.cli.demo:demo", "Play a treasure hunt on a dozen processes."),
}
"""Where each command is, and what the list of commands says of it without importing it."""


def _application(arguments: Sequence[str]) -> App:
    application = App(
        name="thence",
        help="Events go straight from the service where they happen to the services that handle them.",
        help_epilogue="Every command: --mesh (or THENCE_MESH), --json for scripts, --debug for tracebacks.",
        version=_version,
        exit_on_error=False,
        result_action="return_value",
    )
    listing = "--help" in arguments[:1] or "-h" in arguments[:1]
    for name, (place, summary) in COMMANDS.items():
        if listing:
            application.command(App(name=name, help=summary))
        else:
            application.command(place, name=name)
    return application


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Errors are one line, unless ``--debug`` is given."""
    try:
        if not arguments:
            _application(["--help"])(["--help"])
            return Exit.USAGE
        result = _application(arguments)(list(arguments))
        return int(result) if isinstance(result, int) else Exit.DONE
    except CycloptsError:
        return Exit.USAGE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; the interpreter must not complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except (CommandError, ThenceError) as error:
        if "--debug" in arguments:
            raise
        print(f"thence: {error}", file=sys.stderr)
        if isinstance(error, CommandError):
            return error.code
        return Exit.USAGE if isinstance(error, ConfigurationError) else Exit.FAILED


def _version() -> str:
    from importlib.metadata import version

    return version("thence")
