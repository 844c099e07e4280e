"""Finding what ``MODULE:NAME`` on a command line names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from thence.cli.exits import CommandError, Exit

__all__ = ["load"]


def load(specification: str, kind: str) -> Any:
    """The object that ``MODULE:NAME`` names; modules are looked for in the current directory first.

    :raises CommandError: it is not of that form (exit code 2), or there is no such thing (3).
    """
    module_name, colon, name = specification.partition(":")
    if not colon or not module_name or not name:
        raise CommandError(
            f"{specification!r}: write MODULE:{kind.upper()}, for example scores:{'scores' if kind == 'service' else 'ClueFound'}",
            Exit.USAGE,
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (
            module_name == error.name or module_name.startswith(f"{error.name}.")
        ):
            raise CommandError(
                f"there is no module {error.name!r}: run this in the folder that holds it, or set PYTHONPATH",
                Exit.NOT_FOUND,
            ) from error
        raise CommandError(
            f"{module_name} can't be imported: {error}; install what it needs"
        ) from error
    except Exception as error:
        raise CommandError(
            f"{module_name} can't be imported: {type(error).__name__}: {error}"
        ) from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise CommandError(
                f"{module_name} has no {name!r}: {_what_there_is(module, kind)}", Exit.NOT_FOUND
            )
        found = getattr(found, part)
    return found


def _what_there_is(module: ModuleType, kind: str) -> str:
    from thence.app.service import Service
    from thence.events import Event

    names = [
        name
        for name, value in vars(module).items()
        if (kind == "service" and isinstance(value, Service))
        or (
            kind == "event"
            and isinstance(value, type)
            and issubclass(value, Event)
            and value is not Event
        )
    ]
    return f"its {kind}s are {', '.join(names)}" if names else f"it has no {kind} at all"
