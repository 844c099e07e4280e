"""The live table of ``thence top``. Imported only for a terminal: it needs textual."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeAlias, cast

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

from thence.app.report import NodeReport
from thence.cli.exits import Exit
from thence.cli.top import empty_text
from thence.cli.top_rows import (
    COLUMNS,
    Order,
    Row,
    cells,
    chosen,
    headline,
    next_order,
    rows_of,
)
from thence.errors import ThenceError

__all__ = ["Panel", "TopScreen"]

Ask: TypeAlias = Callable[[], Awaitable[tuple[list[NodeReport], list[str]]]]
Trace: TypeAlias = Callable[[str], Awaitable[str]]

REFRESH = 0.5
"""Seconds from one refresh to the next, at least."""
WINDOW = 5
"""Rounds of reports, from the oldest of which rates are told."""
NO_DEAD_LETTERS = "there are none yet: no event is durable"


class Panel(ModalScreen[None]):
    """A text over the table, until it is left."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,enter,q", "dismiss", "back")]
    DEFAULT_CSS = """
    Panel { align: center middle; background: ansi_default; }
    Panel VerticalScroll { border: round ansi_blue; padding: 0 1; }
    """

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title = title
        self._body = Static(Text(text), id="text")

    def compose(self) -> ComposeResult:
        """The text, and how to leave it."""
        with VerticalScroll() as box:
            box.border_title = Text(self._title)
            box.border_subtitle = "esc: back"
            yield self._body
        yield Footer()

    def show(self, text: str) -> None:
        """Another text."""
        self._body.update(Text(text))


class TopScreen(App[None]):
    """The table.

    :param ask: the reports of all nodes, and who did not answer.
    :param trace: what there is to tell of the last event of a type.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        ("s", "sort", "sort"),
        ("slash", "filter", "filter"),
        ("p", "pause", "pause"),
        ("enter", "trace", "trace"),
        ("d", "dead_letters", "dead letters"),
        ("q", "quit", "quit"),
    ]
    CSS = """
    Screen { background: ansi_default; color: ansi_default; }
    #head, #note { height: auto; }
    Input { border: none; height: 1; display: none; padding: 0; }
    Input.open { display: block; }
    DataTable { height: 1fr; background: ansi_default; }
    DataTable > .datatable--cursor { background: ansi_default; color: ansi_default; text-style: reverse; }
    DataTable > .datatable--header { background: ansi_default; color: ansi_default; text-style: bold; }
    """
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, ask: Ask, trace: Trace, order: Order, text: str) -> None:
        super().__init__()
        self.theme = "ansi-dark"
        self._ask, self._trace = ask, trace
        self._order: Order = order
        self._text = text
        self._paused = False
        self._rounds: deque[tuple[float, list[NodeReport]]] = deque(maxlen=WINDOW)
        self._silent: list[str] = []
        self._every: list[Row] = []
        self._shown: list[Row] = []

    def compose(self) -> ComposeResult:
        """What is on the screen."""
        yield Static("asking the nodes …", id="head", markup=False)
        yield Input(
            placeholder="part of a name; enter keeps it, esc drops it",
            value=self._text,
            select_on_focus=False,
        )
        yield DataTable[str](cursor_type="row", id="table")
        yield Static("", id="note", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """The screen is there."""
        table = self._table
        for name in COLUMNS:
            table.add_column(name, key=name)
        table.focus()
        self._watch()

    @property
    def _table(self) -> DataTable[str]:
        return cast("DataTable[str]", self.query_one("#table"))

    # -- what it shows

    @work(exclusive=True)
    async def _watch(self) -> None:
        while True:
            began = time.monotonic()
            if not self._paused:
                try:
                    reports, self._silent = await self._ask()
                except ThenceError as error:
                    self.exit(return_code=Exit.FAILED, message=f"thence: {error}")
                    return
                if not self._paused:
                    self._rounds.append((time.monotonic(), reports))
                    self._count()
            await asyncio.sleep(max(0.05, REFRESH - (time.monotonic() - began)))

    def _count(self) -> None:
        (since, before), (now, after) = self._rounds[0], self._rounds[-1]
        self._every = rows_of(before, after, max(now - since, 1e-3))
        self._show()

    def _show(self) -> None:
        table, at = self._table, self._row()
        self._shown = chosen(self._every, self._order, self._text)
        table.clear()
        for row in self._shown:
            table.add_row(*(Text(cell) for cell in cells(row)))  # type: ignore[arg-type]
        if at is not None:
            places = [_place(row) for row in self._shown]
            if _place(at) in places:
                table.move_cursor(row=places.index(_place(at)))
        reports = self._rounds[-1][1] if self._rounds else []
        self.query_one("#head", Static).update(headline(self._every, reports, self._silent))
        self.query_one("#note", Static).update(self._note(reports))

    def _note(self, reports: list[NodeReport]) -> str:
        told = [f"sorted by {self._order}"]
        if self._text:
            told.append(f"filter {self._text!r}")
        if self._paused:
            told.append("paused: p goes on")
        if not reports and not self._silent:
            told.append("nobody is on this mesh: start a service with 'thence run MODULE:SERVICE'")
        elif not self._shown:
            told.append(empty_text(self._every, self._text))
        return " · ".join(told)

    def _row(self) -> Row | None:
        """Where the cursor is."""
        number = self._table.cursor_row
        return self._shown[number] if 0 <= number < len(self._shown) else None

    # -- keys

    def action_sort(self) -> None:
        """The next order."""
        self._order = next_order(self._order)
        self._show()

    def action_pause(self) -> None:
        """Stand still, or go on."""
        self._paused = not self._paused
        if not self._paused:
            # Rates over the pause would be those of long ago.
            self._rounds.clear()
        else:
            self._show()

    def action_filter(self) -> None:
        """Ask for a part of a name."""
        field = self.query_one(Input)
        field.add_class("open")
        field.focus()

    @on(Input.Changed)
    def _filter_changed(self, changed: Input.Changed) -> None:
        self._text = changed.value
        self._show()

    @on(Input.Submitted)
    def _filter_kept(self) -> None:
        self._leave_filter()

    def key_escape(self) -> None:
        """Drop the filter."""
        field = self.query_one(Input)
        if field.has_class("open"):
            field.value = ""
            self._leave_filter()

    def _leave_filter(self) -> None:
        self.query_one(Input).remove_class("open")
        self._table.focus()

    @on(DataTable.RowSelected)
    def _row_selected(self) -> None:
        self.action_trace()

    def action_trace(self) -> None:
        """The trace of the last event of the row."""
        row = self._row()
        if row is None:
            return
        panel = Panel(f"the last {row.event}", "asking the nodes …")
        self.push_screen(panel)
        self._fill(panel, row.event)

    @work(group="trace", exclusive=True)
    async def _fill(self, panel: Panel, event: str) -> None:
        try:
            text = await self._trace(event)
        except OSError as error:
            text = f"it can't be asked for: {error}"
        if panel.is_attached:
            panel.show(text)

    def action_dead_letters(self) -> None:
        """Events that were given up."""
        self.push_screen(Panel("dead letters", NO_DEAD_LETTERS))


def _place(row: Row) -> tuple[str, str, str]:
    return row.service, row.handler, row.event
