"""What a mesh tells about itself while it runs, bounded, so that what matters is not buried.

- ``logs``: which event a log record is about; ``repeats``: one line for many alike; how to use both.
- ``log_formats``: JSON, pretty, plain; ``texts``: making texts of anything; ``masking``: no secrets in them.
- ``fingerprints``: what makes two errors the same.
"""

from __future__ import annotations

from thence.observability.fingerprints import Fingerprint, fingerprint_of
from thence.observability.log_formats import JsonFormatter, PlainFormatter, PrettyFormatter
from thence.observability.logs import IdsFilter
from thence.observability.repeats import RepeatsFilter

__all__ = [
    "Fingerprint",
    "IdsFilter",
    "JsonFormatter",
    "PlainFormatter",
    "PrettyFormatter",
    "RepeatsFilter",
    "fingerprint_of",
]
