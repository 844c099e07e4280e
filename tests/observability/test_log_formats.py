"""What a record looks like, and that no record can break what writes it."""

from __future__ import annotations

import inspect
import io
import json
import logging
import logging.config
import re
import sys
import textwrap
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from thence import Event, Node, Service
from thence.identifiers import EventId
from thence.observability import JsonFormatter, PlainFormatter, PrettyFormatter, logs
from thence.testing import run

FORMATTERS = [JsonFormatter(), PlainFormatter(), PrettyFormatter(), PrettyFormatter(colours=True)]
IDS = {
    "event_id": "0197c2e1",
    "root_id": "0197aaaa",
    "cause_id": "0197bbbb",
    "event": "clue_found",
    "service": "scores",
    "handler": "award",
    "batch": None,
}


def record_of(message: Any, *arguments: Any, error: Any = None, **extra: Any) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error is not None else None
    record = logging.LogRecord("shop", logging.ERROR, __file__, 7, message, arguments, info)
    record.__dict__.update(extra)
    return record


def in_json(record: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(record)
    assert "\n" not in line
    shown: dict[str, Any] = json.loads(line)
    return shown


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


class Odd:
    def __repr__(self) -> str:
        raise ValueError("no")


def test_json_tells_time_level_logger_message_and_ids() -> None:
    record = record_of("%d points", 3, **IDS, till=4)
    record.created = datetime(2026, 1, 2, 3, 4, 5, 678900, UTC).timestamp()
    assert in_json(record) == {
        "time": "2026-01-02T03:04:05.678900Z",
        "level": "ERROR",
        "logger": "shop",
        "message": "3 points",
        **{name: value for name, value in IDS.items() if value is not None},
        "extra": {"till": 4},
    }


def test_json_tells_an_exception_by_type_message_and_stack() -> None:
    error = raised(KeyError("cave"))
    shown = in_json(record_of("failed", error=error))["exception"]
    assert (shown["type"], shown["message"]) == ("KeyError", "'cave'")
    assert shown["stack"].startswith("Traceback (most recent call last):\n")
    assert shown["stack"].endswith("KeyError: 'cave'")


def test_json_shows_a_stack_that_was_asked_for() -> None:
    record = record_of("here")
    record.stack_info = "Stack (most recent call last):\n  there"
    assert in_json(record)["stack"].endswith("there")


def test_json_shows_what_was_added_as_far_as_json_can() -> None:
    loop: list[Any] = []
    loop.append(loop)
    shown = in_json(
        record_of(
            "said",
            number=float("nan"),
            when=datetime(2026, 1, 2, tzinfo=UTC),
            price=Decimal("1.50"),
            path=Path("/srv"),
            id=EventId("0" * 20, 255),
            names=("a", {"b"}),
            table={1: "one", "two": None},
            why=raised(ValueError("x")),
            odd=Odd(),
            loop=loop,
            many=list(range(1000)),
            lone="\ud800",
        )
    )["extra"]
    assert shown["number"] == "nan"
    assert shown["when"] == "2026-01-02 00:00:00+00:00"
    assert (shown["price"], shown["path"], shown["id"]) == (
        "1.50",
        "/srv",
        "0" * 20 + "0" * 10 + "ff",
    )
    assert shown["names"] == ["a", ["b"]]
    assert shown["table"] == {"1": "one", "two": None}
    assert shown["why"] == "ValueError: x"
    assert shown["odd"] == "<Odd whose repr raised ValueError>"
    assert len(shown["many"]) == 101
    assert shown["many"][-1] == "… 900 more"


def test_pretty_names_the_place_and_those_ids_that_the_message_does_not() -> None:
    line = PrettyFormatter().format(record_of("lost 0197c2e1", **IDS))
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} ERROR   scores\.award lost 0197c2e1 root 0197aaaa", line
    )
    line = PrettyFormatter().format(record_of("said", **{**IDS, "root_id": IDS["event_id"]}))
    assert line.endswith("scores.award said event 0197c2e1")
    assert PrettyFormatter().format(record_of("said")).endswith("ERROR   shop said")


def test_colours_are_only_in_a_pretty_line_that_was_told_to_have_them() -> None:
    record = record_of("said", **IDS)
    assert ["\x1b[" in one.format(record) for one in FORMATTERS] == [False, False, False, True]


@pytest.mark.parametrize("formatter", FORMATTERS[1:])
def test_what_was_logged_can_neither_steer_a_terminal_nor_forge_a_record(formatter: Any) -> None:
    clean = formatter.format(record_of("x"))
    line = formatter.format(
        record_of(
            "\x1b[2J\rgone\n2026-01-01 00:00:00,000 ERROR   thence: forged", service="\x1b]0;x"
        )
    )
    assert line.count("\x1b") <= clean.count("\x1b") + 2  # those of the colours
    assert "\x1b[2J" not in line
    assert "\x1b]" not in line
    assert "\r" not in line
    assert all(part.startswith("    ") for part in line.splitlines()[1:])


@pytest.mark.parametrize("formatter", FORMATTERS)
@pytest.mark.parametrize(
    ("record", "said"),
    [
        (record_of("%d points", "three"), "can't be formatted with 'three'"),
        (record_of("%s and %s", 1), "can't be formatted with 1"),
        (record_of("%s", Odd()), "whose repr raised ValueError"),
        (record_of(Odd()), "whose repr raised ValueError"),
        (record_of("%(a)s", {"b": 1}), "can't be formatted"),
        (
            record_of(
                "failed", error=raised(type("Bad", (Exception,), {"__str__": Odd.__repr__})())
            ),
            "Bad",
        ),
        (record_of("x" * 1_000_000), "characters …"),
    ],
)
def test_a_record_that_is_broken_says_so_and_raises_nothing(
    formatter: logging.Formatter, record: logging.LogRecord, said: str
) -> None:
    line = formatter.format(record)
    assert said in line
    assert len(line) < 100_000


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_a_record_that_is_no_record_any_more_still_gives_a_line(
    formatter: logging.Formatter,
) -> None:
    record = record_of("said")
    record.created = float("inf")
    assert "can't be written" in formatter.format(record)


class Found(Event):
    player: str


def test_the_set_up_in_the_documentation_works(monkeypatch: pytest.MonkeyPatch) -> None:
    documentation = inspect.getdoc(logs) or ""
    source = textwrap.dedent(documentation.split("::\n", 1)[1].split("\nA format", 1)[0])
    service = Service("scores")

    @service.on(Found)
    async def award(found: Found) -> None:
        logging.getLogger("shop").info("hello %s", found.player)

    async def main() -> None:
        async with Node(service, mesh="memory:log-documentation") as node:
            for _ in range(3):
                await (await node.emit(Found(player="ana"))).settled(5)

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    try:
        exec(source, {})
        run(main())
        root.handlers[0].filters[1].close()  # type: ignore[union-attr]
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    first, summary = map(json.loads, written.getvalue().splitlines())
    assert (first["message"], first["handler"]) == ("hello ana", "award")
    assert summary["message"].endswith(f"last cause {summary['event_id']}: hello ana")
    assert summary["repeats"] == 2
