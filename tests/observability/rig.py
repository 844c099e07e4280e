"""A handler that keeps what it was given, and a node whose log it gets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from thence.observability import IdsFilter

__all__ = ["Kept", "listening"]


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def said(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    def of(self, logger: str) -> list[logging.LogRecord]:
        return [record for record in self.records if record.name == logger]


@contextmanager
def listening() -> Iterator[Kept]:
    """What is logged in the meantime, with the ids."""
    kept = Kept()
    kept.addFilter(IdsFilter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(kept)
    root.setLevel(logging.INFO)
    try:
        yield kept
    finally:
        root.removeHandler(kept)
        root.setLevel(level)
