"""What several commands take."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeAlias, TypeVar

from cyclopts import Parameter

__all__ = ["Debug", "Json", "Mesh", "run_loop"]

T = TypeVar("T")

Mesh: TypeAlias = Annotated[
    str | None,
    Parameter(
        name="--mesh",
        env_var="THENCE_MESH",
        show_env_var=True,
        help='Which mesh: "local" (this machine, the default) or "local:PATH".',
    ),
]
Json: TypeAlias = Annotated[
    bool,
    Parameter(
        name="--json", negative="", help="One JSON document on stdout, or a line each for streams."
    ),
]
Debug: TypeAlias = Annotated[bool, Parameter(name="--debug", negative="", help="Show tracebacks.")]


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop where it exists."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)
