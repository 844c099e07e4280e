"""Spans of real processes, each of which writes its own to a file; and processes that write none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import Folder, eventually

TRACING = """
import os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

class Files(SpanExporter):
    def export(self, spans):
        with open(f"spans-{os.getpid()}", "a") as file:
            for span in spans:
                file.write(span.to_json(indent=None) + "\\n")
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Files(), schedule_delay_millis=int(os.environ.get("SPANS_AFTER", "50"))))
trace.set_tracer_provider(provider)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    opened = Folder(tmp_path)
    (tmp_path / "tracing.py").write_text(TRACING)
    for name in ("scores", "ranks"):
        file = tmp_path / f"{name}.py"
        file.write_text("import tracing\n" + file.read_text())
    try:
        yield opened
    finally:
        opened.close()


def spans_in(folder: Folder) -> list[dict[str, Any]]:
    return [
        {**json.loads(line), "file": path.name}
        for path in folder.path.glob("spans-*")
        for line in path.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]


def test_the_processes_of_a_mesh_write_a_failed_cascade_and_no_good_one(folder: Folder) -> None:
    ranks = folder.host("ranks:ranks", "--export", "anomalous")
    scores = folder.host("scores:scores", "--export", "anomalous")
    folder.environment["THENCE_EXPORT"] = "anomalous"
    (folder.path / "fails.py").write_text(
        "import tracing\n"
        "from thence import Service\n"
        "from scores import ScoreChanged\n"
        "fails = Service('fails')\n"
        "@fails.on(ScoreChanged)\n"
        "async def fail(change: ScoreChanged) -> None:\n"
        "    if change.player == 'bad':\n"
        "        raise ValueError('no such player')\n"
    )
    folder.host("fails:fails")
    lines = "".join(
        json.dumps({"hunt": "h", "player": player, "clue": 1}) + "\n"
        for player in [*["good"] * 50, "bad", *["good"] * 50]
    )
    emitted = folder.run("emit", "scores:ClueFound", "-", text=lines)
    assert emitted.returncode == 0, emitted.stderr
    eventually(lambda: len(folder.ledger()) == 101)
    eventually(lambda: len(spans_in(folder)) >= 5)
    for process in folder.started:
        process.terminate()
    for process in folder.started:
        assert process.wait(15) == 0
    spans = spans_in(folder)
    assert sorted(span["name"] for span in spans) == [
        "process clue_found",
        "process score_changed",
        "process score_changed",
        "send clue_found",
        "send score_changed",
    ]
    assert len({span["context"]["trace_id"] for span in spans}) == 1
    ids = {span["context"]["span_id"] for span in spans}
    assert len(ids) == 5
    (root,) = [span for span in spans if span["parent_id"] is None]
    assert root["name"] == "send clue_found"
    assert all(span["parent_id"] in ids for span in spans if span is not root)
    (bad,) = [span for span in spans if "error.type" in span["attributes"]]
    assert bad["attributes"]["error.type"] == "ValueError"
    assert bad["attributes"]["thence.handler"] == "fails.fail"
    # Each process has written its own.
    assert len({span["file"] for span in spans if span["name"].startswith("process")}) == 3
    assert "Traceback" not in folder.log(ranks) + folder.log(scores)


def test_what_the_sdk_keeps_back_is_written_before_a_process_ends(folder: Folder) -> None:
    folder.environment |= {"THENCE_EXPORT": "all", "SPANS_AFTER": "60000"}
    scores = folder.host("scores:scores", "ranks:ranks")
    emitted = folder.run("emit", "scores:ClueFound", '{"hunt": "h", "player": "p", "clue": 1}')
    assert emitted.returncode == 0, emitted.stderr
    eventually(folder.ledger)
    scores.terminate()
    assert scores.wait(15) == 0
    assert sorted(span["name"] for span in spans_in(folder)) == [
        "process clue_found",
        "process score_changed",
        "send clue_found",
        "send score_changed",
    ]


ALL_OFF = """
import asyncio, sys
from thence import Event, Node, Service

class Ping(Event):
    number: int = 0

service = Service("service")

@service.on(Ping)
async def handle(ping: Ping) -> None:
    pass

async def main():
    async with Node(service, mesh="memory:m") as node:
        await (await node.emit(Ping())).settled()

asyncio.run(main())
print([name for name in sys.modules if "opentelemetry" in name or name == "thence.app.exporting"])
"""


def script(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def test_where_nothing_is_exported_nothing_of_it_is_imported() -> None:
    done = script(ALL_OFF)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    on = script(ALL_OFF, THENCE_EXPORT="anomalous")
    assert on.returncode == 0, on.stderr
    assert "thence.app.exporting" in on.stdout


@pytest.mark.parametrize(
    ("missing", "package"),
    [("opentelemetry", "opentelemetry-api"), ("opentelemetry.sdk", "opentelemetry-sdk")],
)
def test_without_the_packages_a_start_fails_and_says_what_to_install(
    missing: str, package: str
) -> None:
    done = script(f"import sys; sys.modules[{missing!r}] = None\n" + ALL_OFF, THENCE_EXPORT="all")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "ConfigurationError" in last
    assert package in last
    assert "pip install" in last
