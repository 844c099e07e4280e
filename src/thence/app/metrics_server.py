"""The page that Prometheus reads, on a port of its own.

It is served by threads, so that a scrape ends in time while the node's loop is held up; only what is told on it is
asked of the loop, when somebody reads it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from socketserver import TCPServer
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from thence.app.metrics import families
from thence.app.report import NodeReport

__all__ = ["MetricsServer"]

_page_of: Callable[[CollectorRegistry], Callable[..., Iterable[bytes]]] = cast(
    "Any", exposition
).make_wsgi_app

logger = logging.getLogger("thence.metrics")

WITHIN = 2.0
"""Seconds after which a scrape ends without an answer of the node."""
READ_WITHIN = 5.0
"""Seconds that a client may take to ask."""
AT_ONCE = 8
"""Scrapes at a time; others find the connection closed."""


class MetricsServer:
    """Serves what a node reports, from its making to :meth:`close`.

    To be made on the node's loop.

    :param report: asked on that loop.
    :raises OSError: it can't listen there.
    """

    def __init__(self, report: Callable[[], NodeReport], host: str, port: int) -> None:
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._server = _Server(host, port, self._answer)
        self.port: int = self._server.server_address[1]
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{shown}:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="thence metrics", daemon=True
        )
        self._thread.start()

    async def close(self) -> None:
        """Listen no more."""
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()

    def _answer(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """In a thread: one request."""
        registry = CollectorRegistry(auto_describe=False)
        if environ["REQUEST_METHOD"] == "GET":
            try:
                report = self._ask()
            except Exception as error:
                start_response(
                    "503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")]
                )
                return [f"{_objection(error)}\n".encode(errors="replace")]
            registry.register(_Reported(report))
        return _page_of(registry)(environ, start_response)

    def _ask(self) -> NodeReport:
        answer: Future[NodeReport] = Future()

        def report() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(self._report())
                except Exception as error:
                    answer.set_exception(error)

        self._loop.call_soon_threadsafe(report)
        try:
            return answer.result(WITHIN)
        finally:
            answer.cancel()


def _objection(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return (
            f"the node did not answer within {WITHIN:g} s: a handler keeps its event loop from going on; make it "
            "a plain 'def', which is run in a thread"
        )
    return f"the node can't tell: {error}"


class _Reported(Collector):
    """One report."""

    def __init__(self, report: NodeReport) -> None:
        self._report = report

    def collect(self) -> Iterable[Metric]:
        """Its metrics."""
        return families(self._report)


class _Server(ThreadingWSGIServer):
    """A thread for each request, up to a number."""

    def __init__(self, host: str, port: int, application: Callable[..., Iterable[bytes]]) -> None:
        self._free = threading.BoundedSemaphore(AT_ONCE)
        self.address_family, _, _, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        super().__init__((str(place[0]), port), _Request)
        self.set_app(application)

    def server_bind(self) -> None:
        """As ever, but without asking a name server what this host is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, if one is free."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has gone, most likely."""
        logger.debug("a scrape from %s failed", client_address)


class _Request(WSGIRequestHandler):
    timeout = READ_WITHIN

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Scrapes come every few seconds."""
