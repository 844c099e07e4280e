"""One replica: what ``thence run`` starts in each of its child processes.

It ends when it gets SIGTERM or SIGINT, and when its standard input is closed: the supervisor holds the
other end and nobody else does, so no replica outlives a supervisor that was killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress

from thence.app.node import Node
from thence.app.service import Service
from thence.cli.exits import CommandError, Exit
from thence.cli.loading import load
from thence.cli.logs import set_up_logs
from thence.cli.supervisor import tell
from thence.delivery.about import EACH
from thence.errors import ThenceError
from thence.observability.repeats import tell_all

__all__ = ["end_with_parent", "host", "main", "services_of", "stop_on_signals"]

logger = logging.getLogger("thence.run")

OUT_WITHIN = 4.9
"""Seconds after the first signal at which the process ends, whatever its handlers do."""
LAST_WORDS = 4.5
"""Seconds after the first signal at which what the log has counted is told, should that happen."""


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set ``stop`` at the first SIGTERM or SIGINT; see that the process ends even if the loop is stuck."""
    loop = asyncio.get_running_loop()
    stopping = False

    def stopped(number: int, _frame: object) -> None:
        nonlocal stopping
        if stopping:
            return
        stopping = True
        for seconds, function, arguments in (
            (OUT_WITHIN, os._exit, (Exit.FAILED,)),
            (LAST_WORDS, tell_all, ()),
        ):
            timer = threading.Timer(seconds, function, arguments)
            timer.daemon = True
            timer.start()
        with suppress(RuntimeError):  # the loop is closed: it ends anyhow
            loop.call_soon_threadsafe(stop.set)

    signal.signal(signal.SIGTERM, stopped)
    signal.signal(signal.SIGINT, stopped)


async def host(
    services: Sequence[Service],
    mesh: str | None,
    listen: str | None,
    metrics: str | None,
    as_json: bool,
    recorder: str | None = None,
) -> None:
    """Host these services until told to stop."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    end_with_parent()
    async with AsyncExitStack() as stack:
        node, served = Node(*services, mesh=mesh, listen=listen), None
        if recorder is not None:
            node.record_to(recorder)
        if metrics:
            from thence.cli.metrics import serve

            # Before the node starts, so that it ends after that: how a node drains is of interest.
            served = serve(node.report, metrics)
            stack.push_async_callback(served.close)
        await stack.enter_async_context(node)
        report = node.report()
        where = f"; metrics at http://{served.address}/metrics" if served is not None else ""
        logger.info("%s is ready: %d peers%s", node.name, len(report.peers), where, extra=EACH)
        if as_json:
            tell(
                "ready",
                pid=report.pid,
                name=report.name,
                node=report.node,
                address=report.address,
                services=report.services,
                **({} if served is None else {"metrics": served.address}),
            )
        await stop.wait()
        logger.info("%s is draining", node.name)


def end_with_parent() -> None:
    """End this process, as SIGTERM would, when whoever holds the other end of standard input has gone."""
    loop = asyncio.get_running_loop()
    standard_input = sys.stdin.fileno()

    def readable() -> None:
        if not os.read(standard_input, 1024):
            loop.remove_reader(standard_input)
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(standard_input, readable)


def services_of(specifications: Sequence[str]) -> list[Service]:
    """The services that the command line names.

    :raises CommandError: one of them is not there, or is no service.
    """
    services: list[Service] = []
    for specification in specifications:
        service = load(specification, "service")
        if not isinstance(service, Service):
            raise CommandError(
                f"{specification} is a {type(service).__name__}, not a Service", Exit.USAGE
            )
        services.append(service)
    return services


def main(arguments: Sequence[str]) -> int:
    """Only to be started by ``thence run``.

    ``--mesh MESH --listen ADDRESS --json LINES --logs FORMAT --window SECONDS --metrics PLACE --debug YES
    --recorder FILE MODULE:SERVICE...``
    """
    from thence.cli.options import run_loop

    options = dict(zip(arguments[0:16:2], arguments[1:16:2], strict=True))
    set_up_logs(options["--logs"], float(options["--window"]), debug=bool(options["--debug"]))
    try:
        services = services_of(arguments[16:])
        run_loop(
            host(
                services,
                options["--mesh"] or None,
                options["--listen"] or None,
                options["--metrics"] or None,
                as_json=bool(options["--json"]),
                recorder=options["--recorder"] or None,
            )
        )
    except (CommandError, ThenceError) as error:
        logger.debug("it was raised here", exc_info=error)
        print(f"thence: {error}", file=sys.stderr)
        return error.code if isinstance(error, CommandError) else Exit.USAGE
    return Exit.DONE


if __name__ == "__main__":
    code = main(sys.argv[1:])
    tell_all()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # there is none, or nobody reads it
            stream.flush()
    # A thread with a plain handler that never returns must not keep the process.
    os._exit(code)
