"""``thence top``: the table that is printed once, and the live one."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from tests.cli.processes import Folder, eventually
from tests.cli.test_map import report
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static

from thence.app.report import AccountReport, HandlerReport, NodeReport
from thence.cli.top import _traced
from thence.cli.top_rows import Order, Row, chosen, headline, next_order, rows_of
from thence.cli.top_screen import NO_DEAD_LETTERS, TopScreen
from thence.histogram import Histogram, Totals

FOUND = '{"hunt": "h1", "player": "ana", "clue": 3}'


def times(*seconds: float) -> Histogram:
    totals = Totals()
    totals.note_all(list(seconds))
    return totals.histogram()


def account(event: str, handled: int, ran: Histogram, **more: Any) -> AccountReport:
    fields = {"failed": 0, "shed": {}, "in_flight": 0, "waited": Histogram(), **more}
    return AccountReport(event=event, handled=handled, ran=ran, **fields)


def hosting(
    node: str, *accounts: AccountReport, limits: tuple[str, ...] = (), breaker: str = "closed"
) -> NodeReport:
    handler = HandlerReport(
        "scores", "award", tuple(a.event for a in accounts), (), 0, 0, {}, 0, 3, limits, breaker, accounts
    )  # fmt: skip
    return msgspec.structs.replace(
        report("scores", node=node, handlers=(handler,)), lag=times(0.002)
    )


def test_a_row_tells_of_all_replicas_what_came_between_two_looks() -> None:
    before = [
        hosting("1", account("found", 100, times(5.0), shed={"queue full": 1})),
        hosting("2", account("found", 10, times(7.0))),
    ]
    after = [
        hosting("1", account("found", 130, times(5.0, *[0.001] * 30), shed={"queue full": 9}, in_flight=2, failed=2)),
        hosting("2", account("found", 12, times(7.0, 0.5, 0.5), in_flight=1)),
    ]  # fmt: skip
    (row,) = rows_of(before, after, 2.0)
    assert (row.service, row.handler, row.event, row.nodes) == ("scores", "award", "found", 2)
    assert (row.rate, row.failed, row.shed) == (17, 1, 4)
    assert (row.in_flight, row.waiting) == (3, 6)
    assert row.ran.count == 32
    assert row.ran.p50 == pytest.approx(0.001, rel=0.1)
    assert row.ran.p99 == row.ran.greatest == pytest.approx(0.5, rel=0.1)
    told = headline([row], after, ["lost-1"])
    assert told.startswith("3 nodes · 17 ev/s · p99 ")
    assert "shed 4/s" in told
    assert "loop lag 2.0 ms" in told
    assert told.endswith("silent: lost-1")


def test_each_type_of_event_has_a_row_and_a_limit_is_shown_beside_what_is_used_of_it() -> None:
    def at(first: int, second: int) -> NodeReport:
        return hosting("1", account("found", first, Histogram()), account("lost", second, Histogram()), limits=("9/s",))  # fmt: skip

    before, after = at(0, 0), at(4, 2)
    # What a limit lets in is counted by the handler, whatever the type.
    counted = msgspec.structs.replace(after.handlers[0], handled=6)
    rows = rows_of([before], [msgspec.structs.replace(after, handlers=(counted,))], 1.0)
    assert sorted((row.event, row.rate, row.allowed, row.used) for row in rows) == [
        ("found", 4, "9/s", 6),
        ("lost", 2, "9/s", 6),
    ]


def test_a_node_seen_once_is_no_rush_but_has_its_row() -> None:
    (row,) = rows_of([], [hosting("1", account("found", 9000, times(1.0)))], 1.0)
    assert (row.rate, row.shed, row.ran.count) == (0, 0, 0)


def rows() -> list[Row]:
    def row(event: str, rate: float, p99: float, shed: float) -> Row:
        return Row("s", "h", event, 1, rate, 0.0, shed, 0, 0, "", 0.0, 0, times(p99), Histogram())

    return [row("slow", 1, 3.0, 0), row("fast", 100, 0.1, 1), row("Shed", 10, 0.2, 50)]


@pytest.mark.parametrize(
    ("order", "first"),
    [("rate", "fast"), ("p99", "slow"), ("p50", "slow"), ("shed", "Shed"), ("name", "Shed")],
)
def test_rows_are_sorted_with_the_largest_first(order: Order, first: str) -> None:
    assert chosen(rows(), order, "")[0].event == first


def test_a_filter_looks_into_all_names_in_any_case() -> None:
    assert [row.event for row in chosen(rows(), "rate", "sHe")] == ["Shed"]
    assert len(chosen(rows(), "rate", "s.h")) == 3
    assert chosen(rows(), "rate", "nothing") == []


def test_sorting_goes_round_all_orders() -> None:
    order: Order = "rate"
    seen: list[Order] = []
    for _ in range(6):
        seen.append(order)
        order = next_order(order)
    assert order == "rate"
    assert len(set(seen)) == 6


# -- once, with processes


def test_once_tells_of_every_handler_with_its_rate_and_times(folder: Folder) -> None:
    folder.host("scores:scores")
    folder.host("ranks:ranks", "--replicas", "2", replicas=2)
    looking = subprocess.Popen(
        [sys.executable, "-m", "thence.cli", "top", "--once", "--json", "--seconds", "4"],
        cwd=folder.path, env=folder.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with looking:
        while looking.poll() is None:
            folder.run("emit", "scores:ClueFound", FOUND)
        assert looking.stdout is not None
        document = json.loads(looking.stdout.read())
    assert looking.returncode == 0
    assert document["schema"] == "thence.top/1"
    assert (document["complete"], document["silent"]) == (True, [])
    by_event = {row["event"]: row for row in document["rows"]}
    assert by_event.keys() == {"clue_found", "score_changed"}
    assert by_event["score_changed"]["nodes"] == 2
    for row in by_event.values():
        assert row["rate"] > 0
        assert row["ran"]["count"] > 0
        assert 0 < row["ran"]["p50"] <= row["ran"]["p99"] < 10
    text = folder.run("top", "--once", "--seconds", "0.1", "--filter", "rank").stdout
    assert "ranks.rank" in text
    assert "scores.award" not in text


@pytest.mark.parametrize("columns", ["80", "160"])
def test_once_fits_into_the_terminal(folder: Folder, columns: str) -> None:
    folder.host("scores:scores")
    folder.environment["COLUMNS"] = columns
    lines = folder.run("top", "--once", "--seconds", "0.1").stdout.splitlines()
    assert all(len(line) <= int(columns) for line in lines)
    assert "scores.award" in lines[2]


def test_where_nobody_is_it_says_so_with_code_5(folder: Folder) -> None:
    said = folder.run("top", "--once", "--seconds", "0.1")
    assert said.returncode == 5
    assert "nobody is on this mesh" in said.stderr


def test_a_node_that_is_held_up_is_named_with_code_4(folder: Folder) -> None:
    (folder.path / "blocked.py").write_text(
        "import time\nfrom pathlib import Path\nfrom thence import Service\nfrom scores import ClueFound\n"
        "blocked = Service('blocked')\n"
        "@blocked.on(ClueFound)\n"
        "async def block(found: ClueFound) -> None:\n"
        "    Path('blocking').touch()\n"
        "    while Path('blocking').exists():\n"
        "        time.sleep(0.01)\n"
    )
    folder.host("scores:scores")
    folder.host("blocked:blocked")
    folder.run("emit", "scores:ClueFound", FOUND)
    blocking = folder.path / "blocking"
    eventually(blocking.exists)
    said = folder.run("top", "--once", "--seconds", "0.1", "--json")
    blocking.unlink()
    assert said.returncode == 4
    document = json.loads(said.stdout)
    assert document["complete"] is False
    assert document["silent"][0].startswith("blocked-")
    assert [row["handler"] for row in document["rows"]] == ["award"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs a terminal: add --once"),
        (["--json"], "add --once"),
        (["--once", "--seconds", "0"], "above zero"),
        (["--once", "--sort", "size"], "sort"),
    ],
)
def test_what_can_not_be_shown_is_refused_with_what_to_change(
    folder: Folder, arguments: list[str], said: str
) -> None:
    ended = folder.run("top", *arguments)
    assert ended.returncode == 2
    assert said in (ended.stderr + ended.stdout)
    assert "Traceback" not in ended.stderr


def test_without_textual_a_terminal_is_told_what_to_install(folder: Folder) -> None:
    # A module that says of itself that it is not there.
    (folder.path / "textual.py").write_text("raise ModuleNotFoundError('no', name='textual')\n")
    ours, theirs = pty.openpty()
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "thence.cli", "top"],
            cwd=folder.path, env=folder.environment, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True,
            timeout=40, check=False,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    assert ended.returncode == 2
    assert "pip install 'thence[tui]'" in ended.stderr
    assert "--once" in ended.stderr


def test_in_a_real_terminal_it_is_live_traces_what_is_there_and_ends_with_q(folder: Folder) -> None:
    folder.host("scores:scores")
    assert folder.run("emit", "scores:ClueFound", FOUND).returncode == 0
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "thence.cli", "top"],
        cwd=folder.path, env={**folder.environment, "COLUMNS": "", "TERM": "xterm-256color"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    folder.started.append(process)  # type: ignore[arg-type]
    os.close(theirs)
    os.set_blocking(ours, False)
    said = bytearray()

    def says(text: bytes) -> bool:
        with suppress(BlockingIOError, OSError):
            said.extend(os.read(ours, 65536))
        return text in said

    eventually(lambda: says(b"scores.award"))
    os.write(ours, b"\r")
    # The tree that thence trace draws of it.
    eventually(lambda: says(b"1 of 1") or says(b"clue_found  "))
    # Back to the table, and out.
    os.write(ours, b"qq")

    def ended() -> bool:
        says(b"")
        return process.poll() is not None

    eventually(ended)
    os.close(ours)
    assert process.returncode == 0, said.decode(errors="replace")[-2000:]


def test_the_trace_of_a_row_is_what_the_command_says(folder: Folder) -> None:
    folder.host("scores:scores")
    assert folder.run("emit", "scores:ClueFound", FOUND).returncode == 0
    mesh = folder.environment["THENCE_MESH"]
    assert "scores" in asyncio.run(_traced("clue_found", mesh))
    assert "never_heard_of" in asyncio.run(_traced("never_heard_of", mesh))


# -- the live table


class Mesh:
    """Two handlers, whose counters go up each time that somebody asks."""

    def __init__(self) -> None:
        self.asked = 0
        self.times: list[float] = []
        self.traced: list[str] = []
        self.silent: list[str] = []

    async def ask(self) -> tuple[list[NodeReport], list[str]]:
        self.asked += 1
        self.times.append(asyncio.get_running_loop().time())
        number = self.asked
        slow = account("slow", number, times(*[2.0] * number))
        fast = account("fast", 50 * number, times(*[0.001] * number))
        return [hosting("1", slow, fast)], self.silent

    async def trace(self, event: str) -> str:
        self.traced.append(event)
        return f"the tree of [b]{event}[/b]"


def live(
    test: Callable[[TopScreen, Pilot[None], Mesh], Awaitable[None]],
    size: tuple[int, int] = (100, 24),
    text: str = "",
) -> None:
    async def main() -> None:
        mesh = Mesh()
        screen = TopScreen(mesh.ask, mesh.trace, "rate", text)
        async with screen.run_test(size=size) as pilot:
            await until(pilot, lambda: mesh.asked >= 2)
            await test(screen, pilot, mesh)

    asyncio.run(main())


async def until(pilot: Pilot[None], condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await pilot.pause(0.02)


def events(screen: TopScreen) -> list[str]:
    table = screen.query_one(DataTable)
    return [str(table.get_row_at(number)[0]) for number in range(table.row_count)]


def shown(screen: TopScreen, widget: str) -> str:
    return str(screen.screen.query_one(widget, Static).render())


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
def test_the_live_table_shows_a_row_for_each_and_all_columns(size: tuple[int, int]) -> None:
    async def test(screen: TopScreen, pilot: Pilot[None], mesh: Mesh) -> None:
        assert events(screen) == ["fast", "slow"]
        await until(pilot, lambda: "p99 2,0" in shown(screen, "#head"))
        table = screen.query_one(DataTable)
        assert table.virtual_size.width <= size[0]

    live(test, size)


def test_s_sorts_by_the_next_size_and_the_cursor_stays_with_its_row() -> None:
    async def test(screen: TopScreen, pilot: Pilot[None], mesh: Mesh) -> None:
        assert screen._row().event == "fast"  # type: ignore[union-attr]
        await pilot.press("s")
        assert "sorted by p50" in shown(screen, "#note")
        await until(pilot, lambda: events(screen) == ["slow", "fast"])
        assert screen._row().event == "fast"  # type: ignore[union-attr]

    live(test)


def test_a_filter_is_typed_kept_and_dropped() -> None:
    async def test(screen: TopScreen, pilot: Pilot[None], mesh: Mesh) -> None:
        await pilot.press("slash", "s", "l")
        assert events(screen) == ["slow"]
        await pilot.press("enter")
        assert events(screen) == ["slow"]
        assert not screen.query_one(Input).has_class("open")
        await pilot.press("slash", "q")
        assert events(screen) == []
        assert "none of 2 rows has 'slq' in a name" in shown(screen, "#note")
        await pilot.press("escape")
        assert events(screen) == ["fast", "slow"]

    live(test)


def test_the_filter_of_the_command_line_holds_at_once() -> None:
    async def test(screen: TopScreen, pilot: Pilot[None], mesh: Mesh) -> None:
        assert events(screen) == ["slow"]

    live(test, text="slow")


def test_while_it_is_paused_nobody_is_asked_and_it_says_so() -> None:
    async def test(screen: TopScreen, pilot: Pilot[None], mesh: Mesh) -> None:
        await pilot.press("p")
        assert "paused" in shown(screen, "#note")
        head, asked = shown(screen, "#head"), mesh.asked
        await pilot.pause(1.2)
        assert mesh.asked == asked
        assert shown(screen, "#head") == head
        await pilot.press("p")
        await until(pilot, lambda: mesh.asked > asked + 1)
        assert "paused" not in shown(screen, "#note")

    live(test)


def test_enter_traces_the_last_event_of_the_row_and_escape_comes_back() -> None:
    async def test(screen: TopScreen, pilot: Pilot[None], mesh: Mesh) -> None:
        await pilot.press("down", "enter")
        await until(pilot, lambda: "the tree of [b]slow[/b]" in shown(screen, "#text"))
        assert mesh.traced == ["slow"]
        await pilot.press("escape")
        assert screen.screen.query_one(DataTable).has_focus

    live(test)


def test_d_says_that_there_are_no_dead_letters_and_why() -> None:
    async def test(screen: TopScreen, pilot: Pilot[None], mesh: Mesh) -> None:
        await pilot.press("d")
        assert shown(screen, "#text") == NO_DEAD_LETTERS

    live(test)


def test_who_does_not_answer_is_named() -> None:
    async def test(screen: TopScreen, pilot: Pilot[None], mesh: Mesh) -> None:
        mesh.silent = ["ranks-7"]
        await until(pilot, lambda: "silent: ranks-7" in shown(screen, "#head"))

    live(test)


def test_nobody_there_is_said_with_what_to_start() -> None:
    async def nobody() -> tuple[list[NodeReport], list[str]]:
        return [], []

    async def main() -> None:
        screen = TopScreen(nobody, Mesh().trace, "rate", "")
        async with screen.run_test() as pilot:
            await until(pilot, lambda: "nobody is on this mesh" in shown(screen, "#note"))
            await pilot.press("enter", "q")
        assert screen.return_code == 0

    asyncio.run(main())


def test_it_asks_at_most_twice_a_second() -> None:
    async def test(screen: TopScreen, pilot: Pilot[None], mesh: Mesh) -> None:
        await until(pilot, lambda: mesh.asked >= 5)
        assert all(later - before > 0.49 for before, later in pairwise(mesh.times))

    live(test)
