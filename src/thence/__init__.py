"""Thence: events go straight from the service where they happen to the services that handle them.

General layout, ground floor first; a module imports only from floors below it.

- ``limits``, ``budget``: what a limit and a budget say.
- ``events``: typed events, their encoding, their ancestry.
- ``handling``: one handler, run on a carrier.
- ``flow``: how much is let in: pure policies.
- ``cascade``: how far events spread, and when that has ended: credits, loops, settlement, the static check.
- ``routing``: whose key is it, and whose turn: pure decisions.
- ``mesh``: peers, links and frames; ``discovery`` (who is there) and ``wires`` (bytes to them).
- ``delivery``: from ``emit`` to the outlets, and from an arrival to the end of its handlers.
- ``observability``: what a mesh tells about itself: logs that name their event and can't drown.
- ``app``: services, nodes, settings: what users write against.
- ``testing``: virtual time, the mesh in memory, conformance suites.
- ``cli``: the command line.
"""

from thence.app.context import Context
from thence.app.node import Node
from thence.app.service import Handlers, Service
from thence.budget import Budget
from thence.cascade.settlement import Failure, Step
from thence.delivery.receipts import CascadeReport, Receipt, Refusal
from thence.errors import (
    CascadeLimit,
    ConfigurationError,
    InvalidEvent,
    NodeClosed,
    OutboxFull,
    PayloadTooLarge,
    RateLimited,
    SchemaMismatch,
    SettleTimeout,
    ThenceError,
    UndeclaredEvent,
)
from thence.events import Event
from thence.handling.batch import Batch
from thence.limits import Limit

__all__ = [
    "Batch",
    "Budget",
    "CascadeLimit",
    "CascadeReport",
    "ConfigurationError",
    "Context",
    "Event",
    "Failure",
    "Handlers",
    "InvalidEvent",
    "Limit",
    "Node",
    "NodeClosed",
    "OutboxFull",
    "PayloadTooLarge",
    "RateLimited",
    "Receipt",
    "Refusal",
    "SchemaMismatch",
    "Service",
    "SettleTimeout",
    "Step",
    "ThenceError",
    "UndeclaredEvent",
]
