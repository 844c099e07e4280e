"""Which cascades a node exports as spans of OpenTelemetry: what is set, apart from all that is needed to do it."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["MODES", "Export"]

MODES = ("off", "all", "anomalous")


class Export(Struct, frozen=True):
    """What is exported."""

    everything: bool
    """Whether all cascades are; else those that failed, were cut, or were slow."""
    slower: float
    """The seconds that a cascade may take."""
