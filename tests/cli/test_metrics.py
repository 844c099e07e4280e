"""What Prometheus reads at ``thence run --metrics``."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from tests.cli.processes import Folder, eventually

from thence import Node
from thence.app import metrics_server
from thence.app.metrics import families
from thence.app.metrics_server import AT_ONCE, MetricsServer
from thence.app.report import AccountReport, HandlerReport, NodeReport, RouteReport
from thence.histogram import Histogram, Totals

BLOCKED = """
import time
from pathlib import Path
from thence import Service
from scores import ClueFound

blocked = Service("blocked")

@blocked.on(ClueFound)
async def block(found: ClueFound) -> None:
    Path("blocking").touch()
    while Path("blocking").exists():
        time.sleep(0.01)
"""

FOUND = '{"hunt": "h1", "player": "ana", "clue": 3}'
NOT_FOUND = '{"hunt": "h1", "player": "ana", "clue": -1}'
ANY = "127.0.0.1:0"

COUNTERS = {
    "thence_connections_closed",
    "thence_events_emitted",
    "thence_events_failed",
    "thence_events_handled",
    "thence_events_not_sent",
    "thence_events_sent",
    "thence_events_shed",
    "thence_events_undecodable",
    "thence_events_unheard",
    "thence_written_bytes",
}
GAUGES = {
    "thence_breaker_open",
    "thence_events_held",
    "thence_events_outstanding",
    "thence_events_waiting",
    "thence_loop_lag_greatest_seconds",
    "thence_peers",
    "thence_ready",
    "thence_runs_in_flight",
}
HISTOGRAMS = {
    "thence_cascade_seconds",
    "thence_handler_seconds",
    "thence_loop_lag_seconds",
    "thence_queue_seconds",
}


def addresses(log: str) -> list[str]:
    return re.findall(r"http://127\.0\.0\.1:\d+/metrics", log)


def host(folder: Folder, service: str, *arguments: str) -> str:
    """Start a service; where its metrics are."""
    process = folder.host(service, "--metrics", ANY, *arguments)
    (address,) = addresses(folder.log(process))
    return address


def read(address: str, accept: str = "") -> str:
    asked = urllib.request.Request(address, headers={"Accept": accept})
    with urllib.request.urlopen(asked, timeout=20) as answer:
        said: bytes = answer.read()
    return said.decode()


def scrape(address: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(read(address))}


def value(metrics: dict[str, Metric], sample: str, **labels: str) -> float:
    """The sum of the samples of that name with at least these labels."""
    return sum(
        one.value
        for family in metrics.values()
        for one in family.samples
        if one.name == sample and labels.items() <= one.labels.items()
    )


def test_all_metrics_are_there_typed_and_told_of_and_agree_with_what_was_emitted(
    folder: Folder,
) -> None:
    at_scores, at_ranks = host(folder, "scores:scores"), host(folder, "ranks:ranks")
    for _ in range(3):
        assert folder.run("emit", "scores:ClueFound", FOUND).returncode == 0
    assert folder.run("emit", "scores:ClueFound", NOT_FOUND).returncode == 0
    eventually(lambda: len(folder.ledger()) == 3)
    award = {"event": "clue_found", "service": "scores", "handler": "award"}
    eventually(lambda: value(scrape(at_scores), "thence_events_failed_total", **award) == 1)
    scores, ranks = scrape(at_scores), scrape(at_ranks)
    for name, metrics in {"scores": scores, "ranks": ranks}.items():
        types = {family.name: family.type for family in metrics.values()}
        assert {n for n, t in types.items() if t == "counter"} == COUNTERS, name
        assert {n for n, t in types.items() if t == "gauge"} == GAUGES, name
        assert {n for n, t in types.items() if t == "histogram"} == HISTOGRAMS, name
        assert types.keys() == COUNTERS | GAUGES | HISTOGRAMS
        assert all(family.documentation.endswith(".") for family in metrics.values())
    assert value(scores, "thence_events_handled_total", **award) == 3
    assert value(scores, "thence_handler_seconds_count", **award) == 4
    assert value(scores, "thence_queue_seconds_count", **award) == 4
    assert value(scores, "thence_events_emitted_total", event="score_changed") == 3
    assert value(scores, "thence_events_sent_total", event="score_changed", service="ranks") == 3
    rank = {"event": "score_changed", "service": "ranks", "handler": "rank"}
    assert value(ranks, "thence_events_handled_total", **rank) == 3
    assert value(ranks, "thence_events_handled_total") == 3
    assert value(ranks, "thence_events_failed_total") == 0
    assert value(ranks, "thence_handler_seconds_count", **rank) == 3
    assert 0 < value(ranks, "thence_handler_seconds_sum", **rank) < 10
    assert value(ranks, "thence_peers") == value(ranks, "thence_ready") == 1
    eventually(lambda: value(scrape(at_ranks), "thence_loop_lag_seconds_count") > 0)
    assert read(at_ranks).isascii()


def test_those_that_ask_for_open_metrics_get_it(folder: Folder) -> None:
    address = host(folder, "ranks:ranks")
    said = read(address, "application/openmetrics-text; version=1.0.0")
    assert {family.name for family in open_metrics_families(said)} == (
        COUNTERS | GAUGES | HISTOGRAMS
    )


def test_a_scrape_of_a_node_that_is_held_up_ends_in_time_and_says_why(folder: Folder) -> None:
    (folder.path / "blocked.py").write_text(BLOCKED)
    address = host(folder, "blocked:blocked")
    assert folder.run("emit", "scores:ClueFound", FOUND).returncode == 0
    blocking = folder.path / "blocking"
    eventually(blocking.exists)
    with pytest.raises(urllib.error.HTTPError) as caught:
        read(address)
    with caught.value as refusal:
        assert refusal.code == 503
        assert (
            "did not answer within 2 s: a handler keeps its event loop" in refusal.read().decode()
        )
    blocking.unlink()
    eventually(lambda: value(scrape(address), "thence_events_handled_total") == 1)
    assert value(scrape(address), "thence_handler_seconds_sum") >= 2


def test_replicas_take_ports_of_their_own_and_say_which(folder: Folder) -> None:
    process = folder.host("ranks:ranks", "--replicas", "2", "--metrics", ANY, replicas=2)
    both = addresses(folder.log(process))
    assert len(set(both)) == 2
    for address in both:
        eventually(lambda: value(scrape(address), "thence_peers") == 1)  # noqa: B023


def test_the_line_of_a_ready_replica_says_where_its_metrics_are(folder: Folder) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "thence.cli", "run", "ranks:ranks", "--json"],
        cwd=folder.path,
        env={**folder.environment, "THENCE_METRICS": ANY},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    folder.started.append(process)
    assert process.stdout is not None
    with process.stdout as lines:
        ready = json.loads(lines.readline())
        assert ready["what"] == "ready"
        assert value(scrape(f"http://{ready['metrics']}/metrics"), "thence_ready") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--metrics", "9464"], "give host and port"),
        (["--metrics", ""], "give host and port"),
        (["--metrics", "127.0.0.1:99999"], "give host and port"),
        (["--metrics", "127.0.0.1:9464", "--replicas", "2"], "use port 0"),
        (["--metrics", "no.such.host.invalid:0"], "can't listen there"),
    ],
)
def test_a_place_that_can_not_be_served_is_refused_with_what_to_change(
    folder: Folder, arguments: list[str], said: str
) -> None:
    ended = folder.run("run", "ranks:ranks", *arguments)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_named_and_ends_the_command(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = folder.run("run", "ranks:ranks", "--metrics", place)
    assert ended.returncode == 2
    assert f"--metrics {place}: can't listen there" in ended.stderr


def test_nothing_of_it_is_imported_unless_it_is_asked_for() -> None:
    code = "import sys, thence, thence.cli.worker, thence.cli.run; print('prometheus_client' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


# -- without processes


def report(**fields: Any) -> NodeReport:
    empty = NodeReport(
        node="n", name="n", pid=1, address="", ready=True, services=(), peers=(), handlers=(), emitted=(),
        routes=(), lost=(), closures={}, invalid={}, bytes_written=0,
    )  # fmt: skip
    return msgspec.structs.replace(empty, **fields)


def parsed(told: NodeReport) -> dict[str, Metric]:
    class Told:
        def collect(self) -> Iterator[Metric]:
            return families(told)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Told())  # type: ignore[arg-type]
    page = generate_latest(registry).decode()
    return {family.name: family for family in text_string_to_metric_families(page)}


def handler(name: str, ran: Histogram, shed: dict[str, int]) -> HandlerReport:
    account = AccountReport('said "so"\\\n', 3, 1, shed, 2, ran, Histogram())
    return HandlerReport("s", name, (), (), 3, 1, shed, 2, 5, (), "open", (account,))


def test_buckets_are_exact_at_the_bounds_that_are_told() -> None:
    totals = Totals()
    times = [1e-6, 16e-6, 17e-6, 0.001, 0.002, 0.003, 1.0, 100.0]
    totals.note_all(list(times))
    metrics = parsed(report(handlers=(handler("h", totals.histogram(), {}),)))
    family = metrics["thence_handler_seconds"]
    buckets = {
        float(one.labels["le"]): one.value for one in family.samples if one.name.endswith("_bucket")
    }
    assert len(buckets) == 24
    for bound, count in buckets.items():
        # A bound is told with six digits.
        assert count == sum(1 for one in times if one <= bound * (1 + 1e-5))
    assert value(metrics, "thence_handler_seconds_sum") == pytest.approx(sum(times))


def test_names_are_escaped_and_reasons_are_told_without_their_figures() -> None:
    shed = {"limit 5/s": 1, "limit 9/s per player": 2, "queue full": 4}
    told = report(
        handlers=(handler("h", Histogram(), shed),),
        lost=(
            ("e", "s", "limit 5/s, stopped at its source", 1),
            ("e", "s", "no room within 2 s", 2),
            ("e", "s", "no room within 0.5 s", 3),
        ),
        routes=(RouteReport("e", "s", "n1", 4, 1), RouteReport("e", "s", "n2", 5, 2)),
    )
    metrics = parsed(told)
    place = {"event": 'said "so"\\\n', "service": "s", "handler": "h"}
    name = "thence_events_shed_total"
    assert value(metrics, name, reason="limit", **place) == 3
    assert value(metrics, name, reason="queue full", **place) == 4
    assert value(metrics, name) == 7
    name = "thence_events_not_sent_total"
    assert value(metrics, name, reason="limit, stopped at its source") == 1
    assert value(metrics, name, reason="no room", event="e", service="s") == 5
    assert value(metrics, "thence_events_sent_total", event="e", service="s") == 9
    assert value(metrics, "thence_events_outstanding") == 3
    assert value(metrics, "thence_breaker_open", service="s", handler="h") == 1
    assert value(metrics, "thence_events_waiting") == 5
    assert value(metrics, "thence_runs_in_flight", **place) == 2
    labels = {
        label for family in metrics.values() for one in family.samples for label in one.labels
    }
    assert labels == {"event", "service", "handler", "reason", "le"}


def test_idle_clients_keep_nobody_else_from_ending_and_those_too_many_are_turned_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics_server._Request, "timeout", 0.5)

    async def main() -> None:
        async with Node(mesh="memory:metrics") as node:
            server = MetricsServer(node.report, "127.0.0.1", 0)
            idle = [
                socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(2 * AT_ONCE)
            ]
            try:
                ended = [await asyncio.to_thread(one.recv, 1) for one in idle]
                assert ended == [b""] * len(idle)
                address = f"http://{server.address}/metrics"
                assert "thence_ready 1.0" in await asyncio.to_thread(read, address)
            finally:
                for one in idle:
                    one.close()
                await server.close()
            with pytest.raises(urllib.error.URLError):
                await asyncio.to_thread(read, address)

    asyncio.run(main())


def test_a_node_that_has_ended_is_not_told_of_as_if_it_lived() -> None:
    async def main() -> int:
        node = Node(mesh="memory:metrics")
        server = MetricsServer(node.report, "127.0.0.1", 0)
        try:
            began = time.monotonic()
            with pytest.raises(urllib.error.HTTPError) as caught:
                await asyncio.to_thread(read, f"http://{server.address}/metrics")
            assert time.monotonic() - began < 20
            with caught.value as refusal:
                return refusal.code
        finally:
            await server.close()

    assert asyncio.run(main()) == 503
