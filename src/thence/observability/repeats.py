"""Collapsing repeats in the log: the first passes whole, those that follow are counted, a summary tells how many.

A service that fails on each of a thousand events a second must not bury under that what else it has to say, nor
may a single failure go untold.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any, Protocol

from thence.durations import Duration, seconds
from thence.errors import ConfigurationError
from thence.observability.fingerprints import Fingerprint, fingerprint_of
from thence.observability.texts import clean, message_of, safe_repr, shortened

__all__ = ["RepeatsFilter", "Timer", "tell_all"]

MAX_PART = 300
"""Characters that are kept of what tells records apart; of longer texts, also a hash."""
MAX_QUOTED = 300
"""Characters of the first message that a summary quotes."""

LAST = ("event_id", "root_id", "cause_id", "event", "batch")
"""What a summary takes from the last record that it counts."""
COMMON = ("service", "handler", "error_type")
"""What all records of a summary have in common."""

_numbers = itertools.count(1)
_filters: weakref.WeakSet[RepeatsFilter] = weakref.WeakSet()


class Timer(Protocol):
    """What rings later, unless it is cancelled."""

    def cancel(self) -> object:
        """Don't ring."""
        ...


class _Run:
    """The records of one fingerprint in one window."""

    __slots__ = (
        "began",
        "count",
        "ends",
        "file",
        "function",
        "last",
        "level",
        "line",
        "name",
        "same",
        "text",
    )

    def __init__(self, record: logging.LogRecord, began: float, ends: float) -> None:
        known = record.__dict__
        self.name, self.level = record.name, record.levelno
        self.file, self.line, self.function = record.pathname, record.lineno, record.funcName
        self.same = {name: known.get(name) for name in COMMON}
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            self.same["error_type"] = type(error).__name__
        self.began, self.ends = began, ends
        self.count = 0
        """Repeats, the first not among them."""
        self.last: dict[str, Any] = {}
        self.text = f"{record.filename}:{record.lineno}"
        """What to say of the first; its message as soon as it is made."""


class RepeatsFilter(logging.Filter):
    """Lets the first record of a fingerprint pass, and sums up its repeats when the window ends.

    The fingerprint is the logger, the level, the message before its arguments are filled in, the service and the
    handler, and for an exception its type and first own frame (:func:`fingerprint_of`). ``extra={"fingerprint":
    ...}`` tells records of one message apart by one thing more; with None there each of them passes.

    The summary is a record of the same logger and level, with the ids of the last one counted, and with how many
    there were and in how many seconds as ``repeats`` and ``window``. It goes to the handlers that have this filter,
    or all that its logger has. All that has passed and all that was summed up make what was logged; only a process
    that is killed takes along what it has counted in its last window.

    :param window: how long repeats are counted after a first one; 0 to let all pass.
    :param most: fingerprints known at a time; for another the oldest is summed up and forgotten.
    :param clock: seconds since some moment.
    :param timer: calls a function in so many seconds; by default from a thread, which lives as long as there is
        something to tell.
    :raises ConfigurationError: a window or a number that makes no sense.
    """

    def __init__(
        self,
        window: Duration = "60s",
        most: int = 1000,
        *,
        clock: Callable[[], float] = time.monotonic,
        timer: Callable[[float, Callable[[], None]], Timer] | None = None,
    ) -> None:
        super().__init__()
        try:
            self.window = seconds(window)
        except ConfigurationError as error:
            raise ConfigurationError(f"RepeatsFilter(window={window!r}): {error}") from None
        if most < 1:
            raise ConfigurationError(f"RepeatsFilter(most={most!r}): give at least 1")
        self._most = most
        self._clock = clock
        self._start_timer = _start_thread if timer is None else timer
        self._mark = f"_thence_repeats_{os.getpid()}_{next(_numbers)}"
        self._lock = threading.RLock()
        self._runs: OrderedDict[Hashable, _Run] = OrderedDict()
        """The one whose window ends first is the first."""
        self._timer: Timer | None = None
        self._rings_at = 0.0
        self._closed = False
        _filters.add(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes. Never raises."""
        known = record.__dict__
        seen = known.get(self._mark)
        if seen is not None:  # by another handler that shares this filter
            return bool(seen)
        if not self.window or "_thence_summary" in known or known.get("fingerprint", "") is None:
            return True
        try:
            passes = self._look_at(record)
        except Exception:
            passes = True
        known[self._mark] = passes
        return passes

    def flush(self) -> None:
        """Sum up now what has been counted so far."""
        with self._lock:
            over = list(self._runs.values())
            self._runs.clear()
            self._stop_timer()
        self._tell(over)

    def close(self) -> None:
        """Sum up what has been counted, and let all pass from now on."""
        self._closed = True
        self.flush()

    def _look_at(self, record: logging.LogRecord) -> bool:
        fingerprint = _fingerprint_of_record(record)
        known = record.__dict__
        over: list[_Run] = []
        with self._lock:
            if self._closed:
                return True
            now = self._clock()
            run = self._runs.get(fingerprint)
            if run is not None and now < run.ends:
                run.count += 1
                run.last = {name: known.get(name) for name in LAST}
                self._arm(run.ends, now)
                return False
            if run is not None:
                over.append(self._runs.pop(fingerprint))
            elif len(self._runs) >= self._most:
                over.append(self._runs.popitem(last=False)[1])
            run = self._runs[fingerprint] = _Run(record, now, now + self.window)
        # Outside of the lock: what is logged may make its text by code that takes locks of its own.
        run.text = _text_of(record)
        self._tell(over, now)
        return True

    def _arm(self, due: float, now: float) -> None:
        if self._timer is not None:
            if self._rings_at <= due:
                return
            self._stop_timer()
        # No thread can be started at the interpreter's end; what was counted is told by then.
        with suppress(RuntimeError):
            self._timer = self._start_timer(max(due - now, 0.0), self._ring)
            self._rings_at = due

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        """A window has ended in which something was counted."""
        over: list[_Run] = []
        with self._lock:
            self._timer = None
            now = self._clock()
            for fingerprint, run in list(self._runs.items()):
                if run.ends > now:
                    if run.count:
                        self._arm(run.ends, now)
                        break
                else:
                    del self._runs[fingerprint]
                    over.append(run)
        self._tell(over, now)

    def _tell(self, over: list[_Run], now: float | None = None) -> None:
        for run in over:
            if run.count:
                with suppress(Exception):
                    ended = self._clock() if now is None else now
                    self._deliver(self._summary(run, min(ended - run.began, self.window)))

    def _summary(self, run: _Run, passed: float) -> logging.LogRecord:
        last = run.last.get("event_id")
        record = logging.LogRecord(
            run.name,
            run.level,
            run.file,
            run.line,
            "… %s more in %s s%s: %s",
            (f"{run.count:,}", _length(passed), f", last cause {last}" if last else "", run.text),
            None,
            run.function,
        )
        record.__dict__.update(
            run.same, **run.last, repeats=run.count, window=round(passed, 3), _thence_summary=True
        )
        return record

    def _deliver(self, record: logging.LogRecord) -> None:
        logger = logging.getLogger(record.name)
        if self in logger.filters:
            logger.callHandlers(record)
            return
        found = False
        place: logging.Logger | None = logger
        while place is not None:
            for handler in place.handlers:
                if self in handler.filters:
                    found = True
                    if record.levelno >= handler.level:
                        handler.handle(record)
            place = place.parent if place.propagate else None
        if not found:  # it is behind a queue, or the set-up has been changed
            logger.callHandlers(record)

    def _begin_anew(self) -> None:
        """In a forked child: what was counted is the parent's to tell, and its thread is not here."""
        self._lock = threading.RLock()
        self._runs.clear()
        self._timer = None


def tell_all() -> None:
    """Let all filters sum up what they have counted, and count no more: at the end of the process."""
    for one in list(_filters):
        one.close()


def _fingerprint_of_record(record: logging.LogRecord) -> Hashable:
    known = record.__dict__
    message = record.msg
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(message, BaseException):
        # logger.error(error): its text is no template.
        error, template = error or message, ""
    else:
        template = message
    kind = known.get("error_type") if error is None else fingerprint_of(error)
    apart = (known.get("service"), known.get("handler"), known.get("fingerprint"), kind)
    return (record.name, record.levelno, _bounded(template), *map(_bounded, apart))


def _bounded(part: object) -> Hashable:
    """A part of a fingerprint, so that it can be kept."""
    if part is None or isinstance(part, Fingerprint):
        return part
    text = part if isinstance(part, str) else safe_repr(part)
    return text if len(text) <= MAX_PART else (text[:MAX_PART], hash(text))


def _text_of(record: logging.LogRecord) -> str:
    text = message_of(record)
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        text += f" ({fingerprint_of(error)})"
    return shortened(clean(text, record), MAX_QUOTED)


def _length(passed: float) -> str:
    return f"{passed:.0f}" if passed >= 10 else f"{max(passed, 0.1):.1f}".removesuffix(".0")


def _start_thread(delay: float, ring: Callable[[], None]) -> Timer:
    timer = threading.Timer(delay, ring)
    timer.name = "thence log summaries"
    timer.daemon = True
    timer.start()
    return timer


def _after_fork() -> None:
    for one in list(_filters):
        one._begin_anew()


# Before logging closes the handlers, as what was registered last is called first.
atexit.register(tell_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
