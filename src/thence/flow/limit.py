"""Holding limits exactly: the generic cell rate algorithm (GCRA; ITU-T I.371, 1993).

A cell remembers one moment: when the next event would be due if all came evenly spaced. An event may come
before that by what the burst allows, and no earlier. So admissions in any window of ``w`` seconds are at
most ``rate × w + burst``: of ``n`` admissions the last is due at least ``(n - 1) × interval`` after the
first one came, and came at most ``(burst - 1) × interval`` before that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Protocol, cast

from thence.limits import Limit

__all__ = ["Gate", "KeyedCells", "RateGate", "changed_gates", "gate_for", "hashable"]

MAX_KEYS = 100_000
"""Busy values of ``per`` that one limit remembers: 13 MB, with keys of 15 letters (measured), and twice that
for a moment while idle ones are forgotten. Further ones share cells."""
SHARED = 1_024
"""Cells that those share, by the hash of their value: who invents values shuts out few others."""
FIRST_SWEEP = 128
SWEEP_EVERY = 1.0
"""Seconds between two sweeps at least while as many keys are busy as can be remembered: one takes 15 ms."""
_PLAIN = (str, int)


def interval_of(rate: float) -> float:
    """Seconds between evenly spaced events: a trifle more than is due, so that rounding never admits one.

    It has few binary digits, so that adding it to a clock's reading, again and again, is exact; else what
    rounding takes off each time would add up over a burst. It holds while the clock is below 2**25 s (a
    year) for rates up to 2**17 a second, and below 2**22 s (48 days) for a million a second.
    """
    exponent = math.frexp(1 / rate)[1]
    grain = math.ldexp(1.0, min(max(-27, exponent - 40), exponent - 11))
    return (math.floor(1 / rate / grain) + 2) * grain


def moved(
    due: float, now: float, interval: float, tolerance: float, rate: float, burst: int
) -> float:
    """When a cell is due under another limit: what its burst lacks, in events, it still lacks."""
    late = due - now
    late += abs(late) * 1e-15  # rounding may take, and never give
    lacking = burst - 1 - round(tolerance / interval) + late / interval
    if lacking <= 0.0:
        return now
    return math.nextafter(now + lacking * interval_of(rate) * (1 + 1e-15), math.inf)


class KeyedCells:
    """A cell for each value of a key. A cell that is idle is as good as new, so it is forgotten.

    What comes when too many keys are busy shares cells: stricter than promised, never looser.
    """

    __slots__ = ("_shared", "_sweep_at", "_swept_at", "due", "interval", "tolerance")

    def __init__(self, rate: float, burst: int) -> None:
        self.interval = interval_of(rate)
        self.tolerance = (burst - 1) * self.interval
        self.due: dict[Hashable, float] = {}
        self._shared: list[float] = []
        """When the shared cells are due; none until they are needed."""
        self._sweep_at = FIRST_SWEEP
        self._swept_at = -math.inf

    def wait(self, key: Hashable, now: float) -> float:
        """Seconds until an event of this key may come; 0.0 when it may now."""
        due = self.due.get(key)
        if due is None:
            due = self._shared_due(key)
        early = due - self.tolerance - now
        if early > 0.0:
            return early
        return 0.0

    def take(self, key: Hashable, now: float) -> None:
        """An event of this key comes now; :meth:`wait` has allowed it."""
        due = self.due.get(key)
        if due is None:
            due = self._shared_due(key)
            self._set(key, due + self.interval if due > now else now + self.interval, now)
        else:
            self.due[key] = due + self.interval if due > now else now + self.interval

    def restart(self, key: Hashable, due: float, now: float) -> None:
        """The key's cell is due then, unless it is due even later."""
        before = self.due.get(key)
        if before is None:
            before = self._shared_due(key)
        if due > before:
            self._set(key, due, now)

    def hold(self, key: Hashable, until: float) -> None:
        """Let no event of this key come before that time, if there is room to remember it."""
        if key in self.due or len(self.due) < MAX_KEYS:
            self.due[key] = until + self.tolerance

    def change(self, rate: float, burst: int, now: float) -> None:
        """Hold another limit from now on; see :meth:`PlainGate.change`."""
        before = self.interval, self.tolerance
        for key, due in self.due.items():
            self.due[key] = moved(due, now, *before, rate, burst)
        self._shared = [moved(due, now, *before, rate, burst) for due in self._shared]
        self.interval = interval_of(rate)
        self.tolerance = (burst - 1) * self.interval

    def _shared_due(self, key: Hashable) -> float:
        shared = self._shared
        return shared[hash(key) % len(shared)] if shared else 0.0

    def _set(self, key: Hashable, due: float, now: float) -> None:
        if key not in self.due and len(self.due) >= self._sweep_at and not self._sweep(now):
            if not self._shared:
                self._shared = [0.0] * SHARED
            self._shared[hash(key) % len(self._shared)] = due
        else:
            self.due[key] = due

    def _sweep(self, now: float) -> bool:
        """Forget idle keys; whether there is room for another then."""
        pause = max(self.interval, SWEEP_EVERY)
        if len(self.due) >= MAX_KEYS and now < self._swept_at + pause:
            return False
        self._swept_at = now
        self.due = {key: due for key, due in self.due.items() if due > now}
        self._sweep_at = min(max(FIRST_SWEEP, 2 * len(self.due)), MAX_KEYS)
        return len(self.due) < MAX_KEYS


class RateGate(Protocol):
    """Something that limits the events of a handler, a service or a type."""

    @property
    def limit(self) -> Limit:
        """What it holds."""
        ...

    @property
    def reason(self) -> str:
        """Why it has refused an event just now."""
        ...

    def seat(self) -> RateGate:
        """What one of those asks that share this; they may have to be told apart."""
        ...

    def admit(self, event: Any, source: str, now: float) -> float:
        """Let the event in (0.0), or tell how many seconds it is too early."""
        ...

    def wait(self, event: Any, source: str, now: float) -> float:
        """Seconds until this event may come; 0.0 when it may now."""
        ...

    def take(self, event: Any, source: str, now: float) -> None:
        """It comes now; :meth:`wait` has allowed it."""
        ...

    def refused(self) -> None:
        """An event was not let in, and will not be."""
        ...

    def change(self, limit: Limit, now: float) -> None:
        """Hold another rate and burst from now on."""
        ...


class PlainGate:
    """One cell: when an event would be due if all came evenly spaced."""

    __slots__ = ("due", "interval", "limit", "tolerance")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.interval = interval_of(limit.rate)
        self.tolerance = (limit.burst - 1) * self.interval
        self.due = 0.0

    @property
    def reason(self) -> str:
        return f"limit {self.limit}"

    def seat(self) -> RateGate:
        return self

    def admit(self, event: Any, source: str, now: float) -> float:
        # wait and take in one, for most handlers have one limit.
        due = self.due
        early = due - self.tolerance - now
        if early > 0.0:
            return early
        self.due = due + self.interval if due > now else now + self.interval
        return 0.0

    def wait(self, event: Any, source: str, now: float) -> float:
        early = self.due - self.tolerance - now
        if early > 0.0:
            return early
        return 0.0

    def take(self, event: Any, source: str, now: float) -> None:
        due = self.due
        self.due = due + self.interval if due > now else now + self.interval

    def refused(self) -> None:
        pass

    def change(self, limit: Limit, now: float) -> None:
        """Hold another limit from now on. Nothing is gained by it: the credit in events is kept or cut."""
        self.due = moved(self.due, now, self.interval, self.tolerance, limit.rate, limit.burst)
        self.interval = interval_of(limit.rate)
        self.tolerance = (limit.burst - 1) * self.interval
        self.limit = limit


class KeyedGate:
    """A cell for each value of a key."""

    __slots__ = ("_block_of", "_cells", "_crowded", "_key_of", "_restarts", "_settled", "limit")

    def __init__(self, limit: Limit, key_of: Callable[[Any, str], Hashable]) -> None:
        self.limit = limit
        self._cells = KeyedCells(limit.rate, limit.burst)
        self._key_of = key_of
        self._crowded = False
        """Whether an event was refused just now by a cell that keys share."""
        self._block_of: Callable[[Any], int] = hash
        self._restarts: dict[int, float] = {}
        """For blocks of keys that were begun anew, when each cell in them is due at least."""
        self._settled = -math.inf
        """When that makes no difference any more."""

    @property
    def reason(self) -> str:
        crowd = f" (more than {MAX_KEYS:,} keys are busy)" if self._crowded else ""
        return f"limit {self.limit}{crowd}"

    def seat(self) -> RateGate:
        return self

    def admit(self, event: Any, source: str, now: float) -> float:
        cells, key = self._cells, self._key_of(event, source)
        if self._restarts:
            self._begin_anew(key, now)
        early = cells.wait(key, now)
        if early:
            self._crowded = key not in cells.due
        else:
            cells.take(key, now)
        return early

    def wait(self, event: Any, source: str, now: float) -> float:
        cells, key = self._cells, self._key_of(event, source)
        if self._restarts:
            self._begin_anew(key, now)
        early = cells.wait(key, now)
        if early:
            self._crowded = key not in cells.due
        return early

    def take(self, event: Any, source: str, now: float) -> None:
        self._cells.take(self._key_of(event, source), now)

    def refused(self) -> None:
        pass

    def restart(self, blocks: Iterable[int], block_of: Callable[[Any], int], now: float) -> None:
        """These blocks of keys are new here: another replica may just have let in what the limit allows, so
        their keys begin without credit.
        """
        self._block_of = block_of
        cells = self._cells
        self._settled = now + cells.tolerance + cells.interval
        self._restarts.update(dict.fromkeys(blocks, self._settled))

    def change(self, limit: Limit, now: float) -> None:
        self.limit = limit
        cells = self._cells
        before = cells.interval, cells.tolerance
        cells.change(limit.rate, limit.burst, now)
        for block, due in self._restarts.items():
            self._restarts[block] = moved(due, now, *before, limit.rate, limit.burst)
        self._settled = max(self._restarts.values(), default=-math.inf)

    def _begin_anew(self, key: Hashable, now: float) -> None:
        if now >= self._settled:
            self._restarts.clear()
        else:
            due = self._restarts.get(self._block_of(key), now)
            if due > now:
                self._cells.restart(key, due, now)


def gate_for(limit: Limit) -> RateGate:
    """What holds one limit."""
    key_of = key_function(limit)
    return PlainGate(limit) if key_of is None else KeyedGate(limit, key_of)


def changed_gates(
    gates: Sequence[RateGate],
    limits: Sequence[Limit],
    now: float,
    make: Callable[[Limit], RateGate] = gate_for,
) -> list[RateGate]:
    """What holds these limits in place of others; where only rates differ, with what was counted so far."""
    alike = len(gates) == len(limits) and all(
        (gate.limit.per, gate.limit.scope) == (limit.per, limit.scope)
        for gate, limit in zip(gates, limits, strict=True)
    )
    if not alike:
        return [make(limit) for limit in limits]
    for gate, limit in zip(gates, limits, strict=True):
        gate.change(limit, now)
    return list(gates)


def key_function(limit: Limit) -> Callable[[Any, str], Hashable] | None:
    """What tells an event's key from the event and the service it came from; None for a limit without."""
    per = limit.per
    if per is None:
        return None
    if isinstance(per, str):
        return lambda event, _: hashable(getattr(event, per))
    if callable(per):
        return lambda event, _: _safe(per, event)
    return lambda _, source: source


def hashable(value: Any) -> Hashable:
    """The value, or its text if it can't be a key, or is not equal to itself as NaN is."""
    if value.__class__ in _PLAIN:
        plain: Hashable = value
        return plain
    if isinstance(value, tuple):
        return tuple(map(hashable, cast("tuple[object, ...]", value)))
    try:
        hash(value)
    except TypeError:
        return repr(value)
    key: Hashable = value
    return key if key == key else repr(value)  # noqa: PLR0124


def _safe(per: Callable[[Any], Hashable], event: Any) -> Hashable:
    """What a user's function says of an event. One that fails puts the event with all others it fails on."""
    try:
        return hashable(per(event))
    except Exception as error:
        return type(error).__name__


class Gate:
    """All the limits that an event has to pass at one place, together: all let it in, or none counts it."""

    __slots__ = ("gates", "refused_by")

    def __init__(self, gates: Sequence[RateGate]) -> None:
        self.gates = tuple(gate.seat() for gate in gates)
        self.refused_by: RateGate = self.gates[0]
        """Which one has refused last."""

    @property
    def reason(self) -> str:
        """Why it was refused, in the words that refusals are counted by."""
        return self.refused_by.reason

    def wait(self, event: Any, source: str, now: float) -> float:
        """Seconds until the event may come; 0.0 when it may now."""
        longest = 0.0
        for gate in self.gates:
            wait = gate.wait(event, source, now)
            if wait > longest:
                longest = wait
                self.refused_by = gate
        return longest

    def admit(self, event: Any, source: str, now: float) -> float:
        """Let the event in (0.0), or tell how many seconds it is too early."""
        gates = self.gates
        if len(gates) == 1:
            return gates[0].admit(event, source, now)
        # Looked at first and taken together, so that nobody counts what another has refused.
        early = self.wait(event, source, now)
        if not early:
            for gate in gates:
                gate.take(event, source, now)
        return early
