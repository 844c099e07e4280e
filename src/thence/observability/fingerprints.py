"""What makes two errors the same: their type, and where in one's own code they arose.

The message is no part of it, as it names players, amounts and ids; nor is what libraries did in between.
"""

from __future__ import annotations

import os
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import cast

__all__ = ["Fingerprint", "fingerprint_of"]

MAX_TYPES = 3
"""How many of the errors in a group are named."""

OWN, LIBRARY, DEEP = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Equal for errors that are alike. As text, ``ValueError at scores.award:12``."""

    error: str
    """The type, with its module unless it is built in; for a group also the types in it."""
    module: str = ""
    """Empty for an error that was never raised."""
    function: str = ""
    line: int = 0

    def __str__(self) -> str:
        if not self.module:
            return self.error
        return f"{self.error} at {self.module}.{self.function}:{self.line}"


def fingerprint_of(error: BaseException) -> Fingerprint:
    """The fingerprint of an error: its type, and its first own frame.

    That is the one nearest to where it was raised which belongs neither to Python's standard library, nor to
    Thence, nor to ``site-packages``. If there is none, as in a service that is itself installed, it is the nearest
    of any library other than those two, else the nearest of all.
    """
    best: TracebackType | None = None
    closeness = DEEP
    traceback = error.__traceback__
    while traceback is not None:
        kind = _kind_of(traceback.tb_frame.f_code.co_filename)
        if kind <= closeness:
            best, closeness = traceback, kind
        traceback = traceback.tb_next
    if best is None:
        return Fingerprint(_type_of(error))
    code = best.tb_frame.f_code
    module = best.tb_frame.f_globals.get("__name__")
    return Fingerprint(
        _type_of(error),
        module if isinstance(module, str) else os.path.basename(code.co_filename),
        code.co_qualname,
        best.tb_lineno or 0,
    )


def _type_of(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        types = sorted({_type_of(one) for one in group.exceptions})
        more = ", …" if len(types) > MAX_TYPES else ""
        name += f"[{', '.join(types[:MAX_TYPES])}{more}]"
    return name


_STANDARD = tuple({os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib")})
_THENCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")


@lru_cache(maxsize=4096)
def _kind_of(file: str) -> int:
    if "site-packages" in file or "dist-packages" in file:
        return DEEP if file.startswith(_THENCE) else LIBRARY
    if file.startswith(("<frozen ", _THENCE, *_STANDARD)):
        return DEEP
    return OWN
