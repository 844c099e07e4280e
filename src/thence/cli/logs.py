"""How ``thence run`` logs, in the supervisor and in each replica."""

from __future__ import annotations

import logging
import os
import sys
from typing import Literal, TextIO, TypeAlias

from thence.observability import (
    IdsFilter,
    JsonFormatter,
    PlainFormatter,
    PrettyFormatter,
    RepeatsFilter,
)

__all__ = ["LineHandler", "LogFormat", "format_for", "set_up_logs"]

LogFormat: TypeAlias = Literal["json", "pretty", "plain"]


def format_for(setting: str | None, stream: TextIO | None) -> str:
    """What is set, or else what suits the stream: pretty for a terminal, JSON for anything else."""
    return setting or ("pretty" if _is_terminal(stream) else "json")


def set_up_logs(form: str, window: float, *, debug: bool) -> None:
    """Log on standard error, in place of what has been set up before.

    :param form: "json", "pretty" or "plain".
    :param window: for how many seconds repeats are counted; 0 to write each.
    :param debug: also what is only of interest to those who look for a fault.
    """
    handler = LineHandler(sys.stderr)
    handler.addFilter(IdsFilter())
    handler.addFilter(RepeatsFilter(window))
    handler.setFormatter(_formatter(form, sys.stderr))
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO, handlers=[handler], force=True
    )


def _formatter(form: str, stream: TextIO | None) -> logging.Formatter:
    if form == "json":
        return JsonFormatter()
    if form == "plain":
        return PlainFormatter()
    colours = (
        _is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )
    return PrettyFormatter(colours=colours)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


class LineHandler(logging.Handler):
    """Writes each record at once, so that processes which share a stream don't write into each other's lines.

    What can't be written, as the stream is closed or its disk full, is counted, and told of once it can again.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        try:
            self._write(record)
        except Exception:
            self._lost += 1
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self.emit(
                logging.LogRecord(
                    "thence.run", logging.ERROR, __file__, 0,
                    "%d log records could not be written here", (lost,), None,
                )
            )  # fmt: skip

    def _write(self, record: logging.LogRecord) -> None:
        stream = self._stream
        if stream is None:
            raise ValueError("there is no standard error")
        line = self.format(record) + "\n"
        binary = getattr(stream, "buffer", None)
        if binary is None:
            stream.write(line)
            stream.flush()
            return
        encoding = "utf-8" if isinstance(self.formatter, JsonFormatter) else stream.encoding
        stream.flush()
        binary.write(line.encode(encoding, "backslashreplace"))
        binary.flush()
