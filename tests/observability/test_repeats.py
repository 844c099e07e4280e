"""Repeats are collapsed, and each record stays present: as itself or in a count."""

from __future__ import annotations

import copy
import gc
import logging
import os
import queue
import subprocess
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from logging.handlers import QueueHandler, QueueListener
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.observability.rig import Kept

from thence import ConfigurationError
from thence.observability import RepeatsFilter
from thence.observability.repeats import tell_all


class Time:
    """A clock and timers that a test moves on by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def timer(self, delay: float, ring: Callable[[], None]) -> Any:
        entry = (self.now + delay, ring)
        self.timers.append(entry)
        time = self

        class Timer:
            def cancel(self) -> None:
                if entry in time.timers:
                    time.timers.remove(entry)

        return Timer()

    def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted((e for e in self.timers if e[0] <= end), key=lambda e: e[0]):
            self.timers.remove(due[0])
            self.now = max(self.now, due[0][0])
            due[0][1]()
        self.now = end


class Rig:
    """A logger with one handler that has the filter."""

    def __init__(self, **options: Any) -> None:
        self.time = Time()
        self.filter = RepeatsFilter(clock=self.time, timer=self.time.timer, **options)
        self.kept = Kept()
        self.kept.addFilter(self.filter)
        self.log = logging.getLogger("tests.repeats")
        self.log.handlers = [self.kept]
        self.log.propagate = False
        self.log.setLevel(logging.DEBUG)


@pytest.fixture(autouse=True)
def clean_logger() -> Iterator[None]:
    yield
    log = logging.getLogger("tests.repeats")
    log.handlers, log.filters, log.propagate = [], [], True


def accounted(records: list[logging.LogRecord]) -> int:
    return sum(getattr(record, "repeats", 1) for record in records)


def test_the_first_passes_and_a_summary_tells_of_the_rest_when_the_window_ends() -> None:
    rig = Rig()
    for number in range(4214):
        rig.log.error("award of %d failed", number, extra={"event_id": f"0197-{number}"})
    assert rig.kept.said == ["award of 0 failed"]
    rig.time.pass_by(59.9)
    assert len(rig.kept.records) == 1
    rig.time.pass_by(0.2)
    first, summary = rig.kept.said
    assert summary == f"… 4,213 more in 60 s, last cause 0197-4213: {first}"
    record = rig.kept.records[1]
    assert (record.levelname, record.name) == ("ERROR", "tests.repeats")
    assert (record.event_id, record.repeats, record.window) == ("0197-4213", 4213, 60.0)  # type: ignore[attr-defined]


def test_nothing_is_timed_while_there_is_nothing_to_tell() -> None:
    rig = Rig()
    rig.log.error("once")
    assert rig.time.timers == []
    rig.log.error("once")
    assert len(rig.time.timers) == 1
    rig.time.pass_by(60)
    assert rig.time.timers == []


def test_after_its_window_a_fingerprint_begins_anew() -> None:
    rig = Rig(window="10s")
    for _ in range(3):
        rig.log.error("again")
        rig.log.error("again")
        rig.time.pass_by(10)
    assert rig.kept.said == ["again", "… 1 more in 10 s: again"] * 3


def test_a_summary_that_is_due_comes_before_the_record_that_begins_anew() -> None:
    rig = Rig(window="10s")
    rig.log.error("again")
    rig.log.error("again")
    rig.time.now = 11.0  # the timer is late
    rig.log.error("again")
    assert rig.kept.said == ["again", "… 1 more in 10 s: again", "again"]


def test_a_window_that_began_earlier_is_told_of_first() -> None:
    rig = Rig()
    rig.log.error("early")
    rig.time.pass_by(30)
    rig.log.error("late")
    rig.log.error("late")
    rig.log.error("early")
    rig.time.pass_by(30)
    assert rig.kept.said[2:] == ["… 1 more in 60 s: early"]
    rig.time.pass_by(30)
    assert rig.kept.said[3:] == ["… 1 more in 60 s: late"]


@pytest.mark.parametrize(
    "other",
    [
        lambda log: log.warning("no %s", 1),
        lambda log: log.error("no, %s", 1),
        lambda log: log.getChild("deeper").error("no %s", 1),
        lambda log: log.error("no %s", 1, exc_info=ValueError()),
        lambda log: log.error("no %s", 1, extra={"handler": "award"}),
        lambda log: log.error("no %s", 1, extra={"error_type": "KeyError"}),
        lambda log: log.error("no %s", 1, extra={"fingerprint": "another"}),
        lambda log: log.error("no %s", 1, extra={"fingerprint": None}),
    ],
)
def test_what_differs_in_more_than_its_arguments_is_no_repeat(other: Any) -> None:
    rig = Rig()
    rig.log.error("no %s", 0)
    other(rig.log)
    assert len(rig.kept.records) == 2


def test_errors_are_told_apart_by_type_and_place_and_not_by_message() -> None:
    rig = Rig()

    def fail(kind: type[Exception], number: int) -> None:
        try:
            raise kind(number)
        except Exception:
            rig.log.exception("failed")

    for number in range(3):
        fail(ValueError, number)
        fail(KeyError, number)
    assert len(rig.kept.records) == 2
    rig.filter.flush()
    assert [r.repeats for r in rig.kept.records[2:]] == [2, 2]  # type: ignore[attr-defined]
    assert "failed (ValueError at " in rig.kept.said[2]


def test_records_that_each_count_all_pass() -> None:
    rig = Rig()
    for number in range(3):
        rig.log.info("replica %d", number, extra={"fingerprint": None})
    assert len(rig.kept.records) == 3


def test_a_window_of_zero_lets_all_pass() -> None:
    rig = Rig(window=0)
    for _ in range(3):
        rig.log.error("again")
    assert rig.kept.said == ["again"] * 3


def test_of_too_many_fingerprints_the_oldest_is_summed_up_and_forgotten() -> None:
    rig = Rig(most=2)
    for text in ("a", "a", "b", "b", "c", "b", "a"):
        rig.log.error(text)
    assert rig.kept.said[:2] == ["a", "b"]
    assert rig.kept.said[2].endswith("1 more in 0.1 s: a")
    assert rig.kept.said[3:] == ["c", "… 2 more in 0.1 s: b", "a"]
    assert len(rig.filter._runs) == 2


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.5, 3.0, 11.0])), max_size=80
    ),
    most=st.integers(1, 8),
    closing=st.booleans(),
)
def test_what_passed_and_what_was_summed_up_make_what_was_logged(
    steps: list[tuple[int, float]], most: int, closing: bool
) -> None:
    rig = Rig(window="10s", most=most)
    logged = Counter[int]()
    for kind, pause in steps:
        rig.log.log(10 + kind, "kind %s", len(logged))
        logged[10 + kind] += 1
        assert len(rig.filter._runs) <= most
        rig.time.pass_by(pause)
    if closing:
        rig.filter.close()
    else:
        rig.time.pass_by(10)
        assert rig.time.timers == []
    told = Counter[int]()
    for record in rig.kept.records:
        told[record.levelno] += getattr(record, "repeats", 1)
    assert told == logged


def test_threads_that_log_at_once_lose_no_record() -> None:
    rig = Rig(most=3)
    begin = threading.Barrier(8)
    kinds = [f"kind {number}" for number in range(5)]

    def work(number: int) -> None:
        begin.wait()
        for turn in range(500):
            rig.log.error(kinds[(number + turn) % 5])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rig.filter.flush()
    assert accounted(rig.kept.records) == 4000


def test_the_summary_comes_from_a_thread_by_itself_without_a_loop_or_another_record() -> None:
    arrived = threading.Event()

    class Told(Kept):
        def emit(self, record: logging.LogRecord) -> None:
            super().emit(record)
            if "repeats" in record.__dict__:
                arrived.set()

    rig = Rig()
    told = Told()
    told.addFilter(RepeatsFilter("50ms"))
    rig.log.handlers = [told]
    rig.log.error("again")
    rig.log.error("again")
    assert arrived.wait(20)
    assert told.said == ["again", "… 1 more in 0.1 s: again"]


def test_handlers_that_share_a_filter_show_the_same_and_count_once() -> None:
    rig = Rig()
    other = Kept()
    other.addFilter(rig.filter)
    rig.log.addHandler(other)
    for _ in range(3):
        rig.log.error("again")
    rig.filter.flush()
    assert rig.kept.said == other.said == ["again", "… 2 more in 0.1 s: again"]


def test_a_handler_without_the_filter_gets_each_record_and_no_summary() -> None:
    rig = Rig()
    other = Kept()
    rig.log.addHandler(other)
    for _ in range(3):
        rig.log.error("again")
    rig.filter.flush()
    assert other.said == ["again"] * 3


def test_the_filter_may_be_on_the_logger() -> None:
    rig = Rig()
    rig.kept.removeFilter(rig.filter)
    rig.log.addFilter(rig.filter)
    for _ in range(3):
        rig.log.error("again")
    rig.filter.flush()
    assert rig.kept.said == ["again", "… 2 more in 0.1 s: again"]


@pytest.mark.parametrize("behind", [False, True])
def test_the_filter_may_be_on_either_side_of_a_queue(behind: bool) -> None:
    rig = Rig()
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    sender = QueueHandler(waiting)
    listener = QueueListener(waiting, rig.kept)
    rig.log.handlers = [sender]
    if not behind:
        rig.kept.removeFilter(rig.filter)
        sender.addFilter(rig.filter)
    listener.start()
    for _ in range(3):
        rig.log.error("again")
    listener.stop()
    rig.filter.flush()
    listener.start()
    listener.stop()
    assert rig.kept.said == ["again", "… 2 more in 0.1 s: again"]


def test_a_record_that_defies_being_told_apart_passes() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ValueError("no")

        __hash__ = None  # type: ignore[assignment]

    rig = Rig()
    odd = Odd()
    for extra in ({"handler": odd}, {"fingerprint": [odd]}, {"service": {}}):
        rig.log.error("odd", extra=extra)
    rig.log.error(odd)
    rig.log.error("%d", "no number")
    for _ in range(2):
        rig.log.error(ValueError("as a message"))
    rig.filter.flush()
    assert accounted(rig.kept.records) == 7


def test_what_a_filter_keeps_is_no_error_and_no_argument() -> None:
    class Big:
        """Weakly referable."""

    class Failure(Exception):
        """The same."""

    rig = Rig()
    argument = Big()
    error = Failure("x")
    alive = weakref.ref(argument), weakref.ref(error)
    for _ in range(2):
        rig.log.error("of %s", argument, exc_info=error)
    rig.kept.records.clear()
    del argument, error
    gc.collect()
    assert [one() for one in alive] == [None, None]


@pytest.mark.parametrize("options", [{"window": "soon"}, {"window": -1}, {"most": 0}])
def test_a_window_or_a_number_that_makes_no_sense_is_refused(options: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        RepeatsFilter(**options)


def test_from_the_end_of_the_process_on_all_pass() -> None:
    tell_all()  # what other tests have left
    rig = Rig()
    rig.log.error("again")
    rig.log.error("again")
    tell_all()
    rig.log.error("again")
    rig.log.error("again")
    assert rig.kept.said == ["again", "… 1 more in 0.1 s: again", "again", "again"]


AT_EXIT = """
import logging
from thence.observability import RepeatsFilter

handler = logging.StreamHandler()
handler.addFilter(RepeatsFilter())
logging.basicConfig(handlers=[handler], format="%(message)s")
for _ in range(5):
    logging.error("again")
"""


def test_what_was_counted_is_told_when_the_interpreter_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], capture_output=True, text=True, check=True, timeout=40
    )
    assert "4 more in" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_tells_of_its_own_repeats_only() -> None:
    source = (
        AT_EXIT + "import os\nif os.fork():\n    os.wait()\nelse:\n    logging.error('again')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=40
    )
    assert [line.startswith("…") for line in done.stderr.splitlines()] == [False, False, True]


def test_a_copy_of_a_record_is_not_counted_again() -> None:
    rig = Rig()
    record = logging.LogRecord(rig.log.name, 40, __file__, 1, "again", None, None)
    assert rig.filter.filter(record)
    assert rig.filter.filter(copy.copy(record))
