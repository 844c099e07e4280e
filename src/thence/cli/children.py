"""What asyncio leaves to be desired of child processes."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

__all__ = ["send_signal"]


def send_signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Send a signal to a child, if it has not ended.

    Before Python 3.13 asyncio's own way may reap a child that has just ended, and whoever awaits its exit
    code gets 255 (https://github.com/python/cpython/issues/87744).
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
