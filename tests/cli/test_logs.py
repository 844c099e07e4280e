"""What ``thence run`` writes on standard error: one line a record, in the form that suits whoever reads it."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest
from tests.cli.processes import Folder, eventually

from thence.cli.logs import LineHandler
from thence.observability import JsonFormatter, PlainFormatter

TALKING = """
import logging, time
from pathlib import Path
from scores import ClueFound
from thence import Context, Service

logging.basicConfig(level=logging.DEBUG)  # as many modules do; must not double anything
talking = Service("talking")
log = logging.getLogger("shop")

@talking.on(ClueFound)
async def talk(found: ClueFound, ctx: Context) -> None:
    ctx.log.info("async %d %s", found.clue, "x" * 3000)

@talking.on(ClueFound)
def threaded(found: ClueFound) -> None:
    log.info("plain %d", found.clue)

failing = Service("failing")

@failing.on(ClueFound)
async def fail(found: ClueFound) -> None:
    raise ValueError(f"clue {found.clue}")

blocking = Service("blocking")

@blocking.on(ClueFound)
async def block(found: ClueFound) -> None:
    if found.clue < 5:
        log.error("so far %d", found.clue)
    else:
        Path("begun").touch()
        time.sleep(120)
"""


def clues(*numbers: int) -> str:
    return "\n".join(
        json.dumps({"hunt": "h1", "player": f"p{number}", "clue": number}) for number in numbers
    )


@pytest.fixture
def talking(folder: Folder) -> Folder:
    (folder.path / "talking.py").write_text(TALKING)
    return folder


def lines_of(folder: Folder, process: Any) -> list[dict[str, Any]]:
    """Each line as the JSON object that it has to be. The last may be half written so far."""
    return [json.loads(line) for line in folder.log(process).split("\n")[:-1]]


def test_where_nobody_looks_each_line_is_json_and_comes_once_from_whichever_replica(
    talking: Folder,
) -> None:
    talking.environment["THENCE_LOG_REPEATS"] = "0"
    hosting = talking.host("talking:talking", "--replicas", "3", replicas=3)
    said = talking.run("emit", "scores:ClueFound", "-", text=clues(*range(100)))
    assert said.returncode == 0, said.stderr
    eventually(
        lambda: talking.log(hosting).count("plain ") + talking.log(hosting).count("async ") >= 200
    )
    hosting.terminate()
    assert hosting.wait(15) == 0
    lines = lines_of(talking, hosting)
    told = Counter(" ".join(line["message"].split()[:2]) for line in lines if "event_id" in line)
    assert told == Counter(f"{way} {n}" for way in ("async", "plain") for n in range(100))
    for line in lines:
        if "event_id" in line:
            assert line["handler"] == {"async": "talk", "plain": "threaded"}[line["message"][:5]]
            assert (line["event"], line["root_id"]) == ("clue_found", line["event_id"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])


def test_alike_failures_are_one_line_and_a_sum_that_comes_by_itself(talking: Folder) -> None:
    talking.environment["THENCE_LOG_REPEATS"] = "1s"
    hosting = talking.host("talking:failing")
    said = talking.run("emit", "scores:ClueFound", "-", text=clues(*range(50)))
    assert said.returncode == 0, said.stderr

    def failures() -> list[dict[str, Any]]:
        return [line for line in lines_of(talking, hosting) if "failed on" in line["message"]]

    eventually(lambda: sum(line.get("repeats", 1) for line in failures()) == 50)
    first, summary = failures()[:2]
    assert first["exception"]["type"] == "ValueError"
    assert first["exception"]["stack"].startswith("Traceback")
    assert re.match(
        r"… \d+ more in 1 s, last cause [0-9a-f]{32}: handler fail of", summary["message"]
    )
    assert "exception" not in summary


def test_what_was_counted_is_told_at_sigterm_by_a_process_that_must_be_ended_too(
    talking: Folder,
) -> None:
    hosting = talking.host("talking:blocking")
    talking.run("emit", "scores:ClueFound", "-", text=clues(0, 1, 2, 3, 5))
    eventually((talking.path / "begun").exists)
    hosting.terminate()
    hosting.wait(30)
    counts = [
        line.get("repeats", 1) for line in lines_of(talking, hosting) if "so far" in line["message"]
    ]
    assert counts == [1, 3]


def test_the_form_is_that_of_the_flag_over_the_environment_over_the_file(folder: Folder) -> None:
    def form(*flags: str) -> str:
        hosting = folder.host("scores:scores", *flags)
        hosting.terminate()
        hosting.wait(15)
        line = folder.log(hosting).splitlines()[0]
        if line.startswith("{"):
            return "json"
        return "plain" if re.match(r"\d{4}-", line) else "pretty"

    assert form() == "json"
    (folder.path / "thence.toml").write_text('logs = "plain"\n')
    assert form() == "plain"
    folder.environment["THENCE_LOGS"] = "pretty"
    assert form() == "pretty"
    assert form("--logs", "plain") == "plain"


@pytest.mark.parametrize(
    ("setting", "said"),
    [("THENCE_LOGS", "json, pretty, plain"), ("THENCE_LOG_REPEATS", "not a duration")],
)
def test_a_form_that_does_not_exist_is_refused_before_anything_runs(
    folder: Folder, setting: str, said: str
) -> None:
    folder.environment[setting] = "any"
    result = folder.run("run", "scores:scores")
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("colours", [True, False])
def test_on_a_terminal_lines_are_pretty_and_coloured_unless_no_color_is_set(
    folder: Folder, colours: bool
) -> None:
    environment = {**folder.environment, "TERM": "xterm", "NO_COLOR": "" if colours else "1"}
    ours, theirs = pty.openpty()
    hosting = subprocess.Popen(
        [sys.executable, "-m", "thence.cli", "run", "scores:scores"],
        cwd=folder.path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        text=True,
    )
    folder.started.append(hosting)
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 20
    while b"is ready" not in shown and time.monotonic() < deadline:
        if select.select([ours], [], [], 1)[0]:
            shown += os.read(ours, 4096)
    folder.close()
    os.close(ours)
    text = shown.decode()
    assert ("\x1b[" in text) == colours
    assert re.search(r"\d\d:\d\d:\d\d\.\d{3}", text)
    assert "thence.run" in text


def test_debug_shows_more_of_the_replicas_too(folder: Folder) -> None:
    hosting = folder.host("scores:scores", "--debug")
    assert any(line["level"] == "DEBUG" for line in lines_of(folder, hosting))
    quiet = folder.host("ranks:ranks")
    assert not any(line["level"] == "DEBUG" for line in lines_of(folder, quiet))


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
def test_a_standard_error_that_can_not_be_written_harms_no_handler(
    folder: Folder, how: str
) -> None:
    if how.endswith("full") and not os.path.exists("/dev/full"):
        pytest.skip("there is no full device here")
    hosting = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$0" -m thence.cli run ranks:ranks scores:scores --json {how}', sys.executable],
        cwd=folder.path,
        env=folder.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    folder.started.append(hosting)
    assert hosting.stdout is not None
    assert json.loads(hosting.stdout.readline())["what"] == "ready"
    folder.run("emit", "scores:ClueFound", clues(-1))
    folder.run("emit", "scores:ClueFound", clues(1))
    eventually(folder.ledger)
    hosting.terminate()
    hosting.stdout.close()
    assert hosting.wait(15) == 0


def record_of(message: object) -> logging.LogRecord:
    return logging.LogRecord("shop", logging.ERROR, __file__, 1, message, None, None)


def test_records_that_could_not_be_written_are_told_of_when_that_is_possible_again() -> None:
    class Full(io.StringIO):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Full()
    handler = LineHandler(stream)
    handler.setFormatter(PlainFormatter())
    for _ in range(3):
        handler.handle(record_of("lost"))
    stream.full = False
    handler.handle(record_of("found"))
    handler.handle(record_of("and on"))
    lines = stream.getvalue().splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == [
        "found",
        "3 log records could not be written here",
        "and on",
    ]


def test_a_closed_stream_or_none_raises_nothing() -> None:
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    for stream in (closed, None):
        handler = LineHandler(stream)
        handler.setFormatter(JsonFormatter())
        handler.handle(record_of("gone"))


@pytest.mark.parametrize("formatter", [JsonFormatter(), PlainFormatter()])
def test_what_the_stream_s_encoding_lacks_is_written_out(formatter: logging.Formatter) -> None:
    raw = io.BytesIO()
    handler = LineHandler(io.TextIOWrapper(raw, encoding="ascii"))
    handler.setFormatter(formatter)
    handler.handle(record_of("→ \ud800"))
    line = raw.getvalue().decode()
    assert "\\ud800" in line
    assert ("→" if isinstance(formatter, JsonFormatter) else "\\u2192") in line


def test_each_record_is_one_write() -> None:
    class Counting(io.RawIOBase):
        writes: list[int] = []  # noqa: RUF012

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.writes.append(len(data))
            return len(data)

    raw = Counting()
    handler = LineHandler(io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True))
    handler.setFormatter(PlainFormatter())
    for length in (10, 5000, 16_000):
        handler.handle(record_of("x" * length))
    assert len(raw.writes) == 3
