"""The measured process: serves one contestant to the harness over standard input and output.

A request is a JSON line ``{"call": METHOD, "arguments": {...}}``, the answer a JSON line with
``result``, or with ``error`` and whether that means the contestant is merely ``missing``. The
process says ``ready`` once its contestant is imported and ends when standard input does, so that
none outlives a harness that was killed.
"""

import argparse
import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec

from benchmarks.contestants.contract import Place, Unavailable

__all__ = ["main"]


def main() -> None:
    """Run a worker; the harness gives the arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker")
    parser.add_argument("contestant", help="MODULE:CLASS")
    parser.add_argument("--place", required=True, help="a Place as JSON")
    parser.add_argument("--processor", type=int, help="pin this process to a processor")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the harness decides when this process ends
    if arguments.processor is not None:
        os.sched_setaffinity(0, {arguments.processor})
    answers = _private_output()
    try:
        place = msgspec.json.decode(arguments.place, type=Place)
        loop_factory = _loop_factory(arguments.loop)
        contestant = _load(arguments.contestant)(place)
    except Exception as error:
        _answer(answers, _failure(error))
        return
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(contestant, answers))


def _private_output() -> BinaryIO:
    """Keep standard output for answers; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return answers


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]


def _load(name: str) -> Callable[[Place], Any]:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]


async def _serve(contestant: Any, answers: BinaryIO) -> None:
    requests = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(requests), sys.stdin
    )
    _answer(answers, {"result": "ready"})
    while line := await requests.readline():
        request = msgspec.json.decode(line)
        try:
            result = await getattr(contestant, request["call"])(**request["arguments"])
        except Exception as error:
            _answer(answers, _failure(error))
        else:
            _answer(answers, {"result": result})
    os._exit(0)  # the harness is gone or done: no library's task may hold this process back


def _failure(error: Exception) -> dict[str, Any]:
    text = str(error) or type(error).__name__
    if isinstance(error, Unavailable):
        return {"error": text, "missing": True}
    return {
        "error": f"{type(error).__name__}: {text}",
        "missing": isinstance(error, ImportError),
    }


def _answer(answers: BinaryIO, answer: dict[str, Any]) -> None:
    answers.write(msgspec.json.encode(answer) + b"\n")


if __name__ == "__main__":
    main()
