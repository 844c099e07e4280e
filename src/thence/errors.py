"""Everything Thence raises on purpose, in one tree, so that one `except` can hold it all.

    ThenceError
    ├── ConfigurationError       a declaration or a setting contradicts itself
    ├── InvalidEvent             field values don't fit their declared types (also a ValueError)
    ├── PayloadTooLarge          an encoded event is over its type's byte budget
    ├── RateLimited              a limit refused the event, and its policy says to tell the emitter
    ├── CascadeLimit             a cascade has used up its budget of events, hops or loops
    ├── UndeclaredEvent          a handler emits a type that its declaration doesn't name
    ├── SchemaMismatch           two services declare one event in ways that can't meet
    ├── OutboxFull               no room to keep a durable event, so it wasn't accepted
    ├── NodeClosed               the node isn't running: not started, draining or closed
    └── SettleTimeout            a cascade outlasted the wait for its end (also a TimeoutError)

Where a standard exception says the same thing, the class is one of those too: code that knows
nothing of Thence still handles it. Errors of other libraries are translated at the edge where they
arise, with the original as `__cause__`, unless that would show the value of a private field.

Every message says what happened, where, and what to change.
"""

from __future__ import annotations

__all__ = [
    "CascadeLimit",
    "ConfigurationError",
    "InvalidEvent",
    "NodeClosed",
    "OutboxFull",
    "PayloadTooLarge",
    "RateLimited",
    "SchemaMismatch",
    "SettleTimeout",
    "ThenceError",
    "UndeclaredEvent",
]


class ThenceError(Exception):
    """The root of everything Thence raises on purpose."""


class ConfigurationError(ThenceError):
    """A declaration or a setting is wrong; raised where it is written, before anything runs."""


class InvalidEvent(ThenceError, ValueError):
    """An event's field values don't fit the types it declares, naive datetimes included."""


class PayloadTooLarge(ThenceError):
    """An encoded event is over `max_bytes`; the message names its largest fields."""


class RateLimited(ThenceError):
    """A limit with `overflow="reject"`, or an event type's emission limit, refused an event.

    `retry_after` says in how many seconds it may be emitted again.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CascadeLimit(ThenceError):
    """A cascade reached the end of its budget, or a loop its declared number of rounds."""


class UndeclaredEvent(ThenceError):
    """A handler emitted a type that neither its return annotation nor `emits` declares."""


class SchemaMismatch(ThenceError):
    """A reader can't rightly understand what a writer writes; only that event type is refused."""


class OutboxFull(ThenceError):
    """A durable event found no room in the outbox; it was not accepted and may be emitted again."""


class NodeClosed(ThenceError):
    """A node was used before it started, while it drained or after it closed."""


class SettleTimeout(ThenceError, TimeoutError):
    """A cascade hadn't ended within the time given to `settled`; it goes on regardless.

    `report` is the `CascadeReport` of what is known so far, or None.
    """

    def __init__(self, message: str, report: object = None) -> None:
        super().__init__(message)
        self.report = report
