"""`Event`: the base class of everything that services tell one another.

At run time an event is a msgspec Struct. Type checkers are shown a plain class instead, with the
keywords of the class statement spelt out: they then refuse a misspelt keyword, a wrong argument and
an assignment to a field, which they can't do through a metaclass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, dataclass_transform

import msgspec

from thence.durations import Duration
from thence.errors import ConfigurationError
from thence.events.metaclass import EventMeta, EventStruct
from thence.events.policy import DEFAULT_MAX_BYTES
from thence.events.spec import EventSpec
from thence.limits import Limits

__all__ = ["Event", "spec_of"]

if TYPE_CHECKING:

    class _Root:
        __event__: ClassVar[EventSpec[Any]]

        def __init_subclass__(
            cls,
            *,
            name: str | None = None,
            key: str | None = None,
            max_bytes: int = DEFAULT_MAX_BYTES,
            private: tuple[str, ...] | list[str] = (),
            limit: Limits = None,
            overflow: Literal["reject", "latest"] = "reject",
            priority: Literal["high", "normal", "low"] = "normal",
            ttl: Duration | None = None,
            record: bool = False,
        ) -> None: ...

        def __replace__(self, /, **changes: Any) -> Self: ...

else:
    _Root = EventStruct


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Event(_Root):
    """An immutable, typed event: subclass it, and annotate its fields as in a dataclass.

        class ClueFound(Event, key="player"):
            hunt: str
            player: str
            clue: int

    The class statement takes these keywords:

    - `name`: the name on the wire; by default the class name in snake_case.
    - `key`: the field that orders events: a service handles those of equal value one at a time.
    - `max_bytes`: the most bytes that an encoded event may take; 65,536 unless told, at most 4 MiB.
    - `private`: fields never shown in repr, logs, traces, dead letters or the console.
    - `limit`: how many a node emits, as in "200/s", a `Limit`, or a list of them which must all hold.
    - `overflow`: what becomes of more: "reject" raises `RateLimited`; "latest" keeps the newest of each
      key, and emits it as soon as the limit lets it.
    - `priority`: "high", "normal" or "low"; low is shed first under overload.
    - `ttl`: an event older than this is not handled.
    - `record`: whether the flight recorder keeps the payload, its private fields apart; else it keeps none.

    A subclass of an event type takes over its fields and its policy, but not its name, and is an
    event type of its own: who subscribes to the one doesn't get the other. What a base keeps
    private stays private.

    Raises `ConfigurationError` at the class statement for anything that can't be kept.
    """


E = TypeVar("E", bound=Event)


def spec_of(event_type: type[E]) -> EventSpec[E]:
    """What Thence knows about `event_type`.

    Raises:
        ConfigurationError: it is no event type.
    """
    spec = event_type.__dict__.get("__event__") if isinstance(event_type, EventMeta) else None
    if spec is not None:
        return spec
    shown = getattr(event_type, "__qualname__", None) or repr(event_type)
    raise ConfigurationError(
        f"{shown} is no event type. Declare one, as in `class ClueFound(Event)`, and pass the "
        "class itself."
    )
