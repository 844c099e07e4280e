"""How a log record is written: as JSON for programs, pretty for people at a terminal, or plain.

All three show the same: the message, where it comes from, what event it is about. None of them raises, shows a
secret or a private field, or lets what was logged write to the terminal behind its back. They go into any logging
set-up, and do without the filters of :mod:`thence.observability.logs`: what is not known is left out.
"""

from __future__ import annotations

import json
import logging
import re
import time
from datetime import UTC, datetime
from typing import Any

from thence.delivery.about import ATTRIBUTES
from thence.observability.texts import (
    clean,
    extras_of,
    message_of,
    plain_value,
    stack_of,
    type_and_text,
)

__all__ = ["JsonFormatter", "PlainFormatter", "PrettyFormatter"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class _SafeFormatter(logging.Formatter):
    """Writes something of every record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text, without a line break at its end."""
        try:
            return self.write(record, clean(message_of(record), record))
        except Exception as error:
            return self.write_bare(record, type(error).__name__)

    def write(self, record: logging.LogRecord, message: str) -> str:
        """The record as text, with this message."""
        raise NotImplementedError

    def write_bare(self, record: logging.LogRecord, trouble: str) -> str:
        """A record that defies being written."""
        return f"{record.levelname} {record.name}: a record from line {record.lineno} can't be written ({trouble})"


class JsonFormatter(_SafeFormatter):
    """One JSON object a line.

    ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``; as far as they are known ``event_id``,
    ``root_id``, ``cause_id``, ``event``, ``service``, ``handler``, ``batch``, ``error_type``; for a summary of repeats their number,
    ``repeats``, and in how many seconds, ``window``; ``exception`` with ``type``, ``message`` and ``stack``;
    ``stack`` if one was asked for; and under ``extra`` what else the record was given.
    """

    def write(self, record: logging.LogRecord, message: str) -> str:
        """The record as one line of JSON."""
        known = record.__dict__
        shown: dict[str, Any] = {
            "time": _moment(record),
            "level": record.levelname,
            "logger": clean(record.name, record),
            "message": message,
        }
        for name in (*ATTRIBUTES, "error_type", "repeats", "window"):
            value = known.get(name)
            if value is not None:
                shown[name] = plain_value(value, record)
        described, stack = type_and_text(record), clean(stack_of(record), record)
        if described is not None:
            kind, text = described
            shown["exception"] = {"type": kind, "message": clean(text, record), "stack": stack}
        elif stack:
            shown["stack"] = stack
        extras = extras_of(record)
        if extras:
            shown["extra"] = extras
        return json.dumps(shown, ensure_ascii=False)

    def write_bare(self, record: logging.LogRecord, trouble: str) -> str:
        """The same for a record that defies being written."""
        message = super().write_bare(record, trouble)
        return json.dumps(
            {"level": str(record.levelname), "logger": str(record.name), "message": message}
        )


class PlainFormatter(_SafeFormatter):
    """Date, level, logger and message, without colours."""

    def write(self, record: logging.LogRecord, message: str) -> str:
        """The record as a line, and its traceback below."""
        name = escaped(clean(record.name, record))
        line = f"{self.formatTime(record)} {record.levelname:7} {name}: {_indented(message)}"
        return _with_stack(line, record)


class PrettyFormatter(_SafeFormatter):
    """Time, level, service and handler, message; then, dimmed, those ids that the message does not name.

    :param colours: whether to colour it, for a terminal.
    """

    def __init__(self, *, colours: bool = False) -> None:
        super().__init__()
        self._colours = colours

    def write(self, record: logging.LogRecord, message: str) -> str:
        """The record as a line, and its traceback below."""
        known = record.__dict__
        places = [
            known[name] for name in ("service", "handler") if isinstance(known.get(name), str)
        ]
        place = clean(".".join(places) or record.name, record)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        ids = clean(" ".join(_ids_beside(message, known)), record)
        line = " ".join(
            (
                self._painted(f"{clock}.{int(record.msecs):03}", "2"),
                self._painted(f"{record.levelname:7}", _COLOURS.get(record.levelno, "")),
                self._painted(escaped(place), "1"),
                _indented(message),
            )
        )
        if ids:
            line += f" {self._painted(escaped(ids), '2')}"
        return _with_stack(line, record)

    def _painted(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours and code else text


_COLOURS = {
    logging.DEBUG: "2",
    logging.INFO: "32",
    logging.WARNING: "33",
    logging.ERROR: "31",
    logging.CRITICAL: "1;31",
}


def escaped(text: str) -> str:
    """The text with control characters, line breaks and tabs aside, written out."""
    return _CONTROL.sub(lambda found: repr(found.group())[1:-1], text)


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _ids_beside(message: str, known: dict[str, Any]) -> list[str]:
    event_id, root_id = known.get("event_id"), known.get("root_id")
    shown = [("event", event_id), ("root", root_id if root_id != event_id else None)]
    return [
        f"{word} {value}"
        for word, value in shown
        if isinstance(value, str) and value not in message
    ]


def _indented(message: str) -> str:
    """What comes after a line break can't be taken for a record of its own."""
    return escaped(message).replace("\n", "\n    ")


def _with_stack(line: str, record: logging.LogRecord) -> str:
    stack = stack_of(record)
    return f"{line}\n{escaped(clean(stack, record))}" if stack else line
