"""What a limit says, as its author writes it; :mod:`thence.flow.limit` holds it.

The rate is exact: in any window of ``w`` seconds at most ``rate × w + burst`` events are let in. The burst
is what may come at once after a quiet time; it is short by default, so that "100/s" does not admit 199
events within one second.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, Literal, TypeAlias, cast

from thence.durations import seconds
from thence.errors import ConfigurationError

__all__ = ["Limit", "LimitLike", "Limits", "Source", "check_limits", "limits_of"]

BURST_SECONDS = 0.1
"""A burst is by default what the rate allows in this time, and at least 1."""

LARGEST = 1_000_000_000
"""Events in a burst."""

SOURCE = "source"
"""In a text, the word for the emitting service."""

FASTEST = 10_000_000.0
"""Events a second; a rate above this is a slip of the pen."""

SLOWEST = 1 / (1_000 * 86_400)
"""One event in 1,000 days; one in even more time is another."""

Scope: TypeAlias = Literal["replica", "service"]

_TEXT = re.compile(
    r"(?P<count>[0-9]+(?:\.[0-9]+)?)\s*/\s*(?P<unit>[0-9]+(?:\.[0-9]+)?\s*\w+|\w+)"
    r"(?:\s+per\s+(?P<per>[^\W\d]\w*))?"
    r"(?:\s+burst\s+(?P<burst>[0-9]{1,12}))?"
    r"(?:\s+over\s+all\s+(?P<scope>replicas))?"
)
_EXAMPLES = '"200/s", "10/min burst 3", "5/s per player"'


class Source:
    """Stands for the emitting service: see :attr:`Limit.SOURCE`."""

    def __repr__(self) -> str:
        return "Limit.SOURCE"


@dataclass(frozen=True, slots=True, init=False)
class Limit:
    """At most so many events in so much time.

        Limit("200/s")                      # at most 200 a second, 20 of them at once
        Limit("10/min burst 3")             # 3 at once, then one every 6 s
        Limit("5/s", per="player")          # each player has a limit of their own
        Limit("50/s", per=Limit.SOURCE)     # each emitting service has
        Limit("100/s", scope="service")     # all replicas together

    :param rate: a number and a unit of time ("200/s", "10/min", "1/30s"), optionally with "per FIELD",
        "burst N" and "over all replicas"; or events a second.
    :param burst: events that may come at once after a quiet time. 1 is exact spacing; by default what the
        rate allows in 100 ms, at least 1.
    :param per: a field of the event, a function of the event, or ``Limit.SOURCE``: each of their values has
        a limit of its own.
    :param scope: ``"replica"``, or ``"service"``: over all replicas of the service together.
    :raises ConfigurationError: it can't be understood or can't be kept.
    """

    rate: float
    """Events a second."""
    burst: int
    """Events that may come at once."""
    per: str | Callable[[Any], Hashable] | Source | None
    scope: Scope
    text: str = field(compare=False)
    """The limit in words, as counts and messages show it."""

    SOURCE: ClassVar[Source] = Source()
    """The emitting service, for ``per=``: one noisy service can't take what is there for all."""

    def __init__(
        self,
        rate: str | float,
        *,
        burst: int | None = None,
        per: str | Callable[[Any], Hashable] | Source | None = None,
        scope: Scope = "replica",
    ) -> None:
        shown = f"Limit({rate!r})"
        count, unit, pace, words = _read(rate)
        if words.get("burst") is not None:
            if burst is not None:
                raise ConfigurationError(
                    f"{shown}: the burst is given twice: leave out burst={burst}"
                )
            burst = int(words["burst"])
        if words.get("per") is not None:
            if per is not None:
                raise ConfigurationError(f"{shown}: per is given twice: leave out per={per!r}")
            per = Limit.SOURCE if words["per"] == SOURCE else words["per"]
        if words.get("scope") is not None:
            scope = "service"
        per_second = count / unit
        if not SLOWEST <= per_second <= FASTEST:
            raise ConfigurationError(
                f"{shown}: the rate must be at least 1/1000d and at most {FASTEST:,.0f} a second"
            )
        text = _in_words(pace, burst, per, scope)
        if burst is None:
            burst = max(1, math.ceil(round(per_second * BURST_SECONDS, 6)))
        elif isinstance(burst, bool) or not isinstance(burst, int) or not 1 <= burst <= LARGEST:
            raise ConfigurationError(
                f"{shown}: burst={burst!r} must be a whole number from 1 to {LARGEST:,}; 1 spaces events exactly"
            )
        if isinstance(per, str):
            if not per.isidentifier() or per == SOURCE:
                raise ConfigurationError(
                    f"{shown}: per={per!r} must be the name of a field; for the emitting service it is "
                    "Limit.SOURCE"
                )
        elif not (per is None or isinstance(per, Source) or callable(per)):
            raise ConfigurationError(
                f"{shown}: per={per!r} must be the name of a field, a function of the event, or Limit.SOURCE"
            )
        if scope not in ("replica", "service"):
            raise ConfigurationError(
                f'{shown}: scope={scope!r} must be "replica", or "service" for all replicas together'
            )
        if scope == "service" and not (per is None or isinstance(per, str)):
            raise ConfigurationError(
                f"{shown}: over all replicas, per={per!r} can't be kept, as one value's events go to any of "
                "them: name the event's key field, or leave out per"
            )
        for name, value in (
            ("rate", per_second),
            ("burst", burst),
            ("per", per),
            ("scope", scope),
            ("text", text),
        ):
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return self.text


LimitLike: TypeAlias = Limit | str
Limits: TypeAlias = LimitLike | Iterable[LimitLike] | None
"""What ``limit=`` takes: one limit, or several that must all hold."""


def limits_of(limit: Limits) -> tuple[Limit, ...]:
    """The limits that ``limit=`` stands for.

    :raises ConfigurationError: it is none.
    """
    if limit is None:
        return ()
    if isinstance(limit, Limit):
        return (limit,)
    if isinstance(limit, str):
        return (Limit(limit),)
    if isinstance(limit, Iterable) and not isinstance(limit, bytes):
        several = tuple(cast("Iterable[object]", limit))
        if several and all(isinstance(one, str | Limit) for one in several):
            return tuple(
                one if isinstance(one, Limit) else Limit(cast("str", one)) for one in several
            )
    raise ConfigurationError(
        f"limit={limit!r}: give a text such as {_EXAMPLES}, a Limit, or a list of them"
    )


def check_limits(whose: str, limits: Iterable[Limit], event: type[Any], key: str | None) -> None:
    """Check that limits can be kept for events of a type that are ordered by the field ``key``.

    :raises ConfigurationError: one names a field that they don't have, for example.
    """
    fields: tuple[str, ...] = event.__struct_fields__
    for limit in limits:
        if isinstance(limit.per, str) and limit.per not in fields:
            raise ConfigurationError(
                f"{whose}: limit {str(limit)!r} is per {limit.per}, and {event.__name__} has no such field: "
                f"its fields are {', '.join(fields) or 'none'}"
            )
        if limit.scope == "service" and limit.per not in (None, key):
            fix = f"use its key ({key!r}), or leave out per" if key else "leave out per"
            raise ConfigurationError(
                f"{whose}: limit {str(limit)!r} can't be kept for {event.__name__}, as events of one "
                f"{limit.per} may go to any replica: {fix}"
            )


def _read(rate: object) -> tuple[float, float, str, dict[str, str]]:
    """Count, seconds, both as text, and what else the text says."""
    if isinstance(rate, int | float) and not isinstance(rate, bool):
        if abs(rate) < 1e15:
            # Every digit that it takes to read the same number again, and no exponent.
            pace = f"{Decimal(repr(float(rate))):f}".removesuffix(".0")
            return float(rate), 1.0, f"{pace}/s", {}
    elif isinstance(rate, str) and (matched := _TEXT.fullmatch(rate.strip())):
        words = matched.groupdict()
        unit = words["unit"]
        try:
            length = seconds(unit if unit[0].isdigit() else f"1{unit}")
        except ConfigurationError:
            raise ConfigurationError(
                f"Limit({rate!r}): {unit!r} is no unit of time: use s, min, h or d, or a duration as in "
                '"1/30s"'
            ) from None
        if length > 0:
            pace = f"{words['count']}/{unit.replace(' ', '')}"
            return float(words["count"]), length, pace, words
    raise ConfigurationError(f"Limit({rate!r}): write a rate such as {_EXAMPLES}")


def _in_words(rate: str, burst: int | None, per: object, scope: Scope) -> str:
    """In the grammar of the text, as short as can be: a burst only where it was asked for."""
    text = rate
    if isinstance(per, Source):
        text += f" per {SOURCE}"
    elif per is not None:
        text += f" per {per if isinstance(per, str) else getattr(per, '__name__', 'function')}"
    if burst is not None:
        text += f" burst {burst}"
    return text + (" over all replicas" if scope == "service" else "")
