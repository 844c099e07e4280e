"""``thence run --metrics``: imported only when that is asked for."""

from __future__ import annotations

from collections.abc import Callable

from thence.app.metrics_server import MetricsServer
from thence.app.report import NodeReport
from thence.app.settings import Settings
from thence.cli.exits import CommandError, Exit
from thence.errors import ConfigurationError

__all__ = ["serve"]


def serve(report: Callable[[], NodeReport], place: str) -> MetricsServer:
    """Let Prometheus read there what a node of this loop reports.

    :raises CommandError: that can't be.
    """
    host_and_port = Settings(metrics=place).metrics_place()
    if host_and_port is None:
        raise ConfigurationError("--metrics: give host and port")
    try:
        return MetricsServer(report, *host_and_port)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise CommandError(
            f"--metrics {place}: can't listen there ({why}); choose another port, or 0 for any free one",
            Exit.USAGE,
        ) from error
