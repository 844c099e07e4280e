"""An event's annotations as real types, with the rule on timezones written into them.

msgspec reads a class's annotations whenever a decoder is made for it. Once they are resolved and
`datetime` in them stands for a datetime with a timezone, every decoder anybody makes for the event
type refuses naive datetimes in C, at no cost.
"""

from __future__ import annotations

import sys
from collections import ChainMap
from collections.abc import Mapping
from datetime import datetime
from functools import reduce
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from thence.errors import ConfigurationError

__all__ = ["UnresolvedAnnotation", "settle_annotations"]

_AWARE = msgspec.Meta(tz=True)


class UnresolvedAnnotation(ConfigurationError):
    """An annotation names something that doesn't exist yet, or never will at run time."""

    @classmethod
    def of(cls, event_type: type, error: NameError) -> UnresolvedAnnotation:
        """The error to raise for the name that Python didn't find."""
        return cls(
            f"{event_type.__qualname__}: {error} in module {event_type.__module__}, where one of "
            "its field annotations uses it. Define or import it there at module level, and not "
            "under `if TYPE_CHECKING`: field types are needed at run time."
        )


def settle_annotations(event_type: type, surroundings: Mapping[str, object]) -> dict[str, Any]:
    """Replace the annotations that `event_type` itself declares by what they mean.

    Returns those of its bases too, which are settled already. Names are looked up in
    `surroundings` (the local names of the function that declares the class, if any), then in its
    module, then in the class itself.

    Raises:
        UnresolvedAnnotation: a name is unknown; it may be defined later.
    """
    module = getattr(sys.modules.get(event_type.__module__), "__dict__", {})
    local_names = ChainMap({**surroundings}, module) if surroundings else module
    class_names = {event_type.__name__: event_type, **vars(event_type)}
    try:
        hints = get_type_hints(event_type, class_names, local_names, include_extras=True)
    except NameError as error:
        raise UnresolvedAnnotation.of(event_type, error) from error
    settled = {name: _aware(hint) for name, hint in hints.items()}
    own_names = event_type.__dict__.get("__annotations__", ())
    event_type.__annotations__ = {name: settled[name] for name in own_names}
    return settled


def _aware(annotation: Any) -> Any:
    """`annotation` with each `datetime` in it marked as having a timezone."""
    if annotation is datetime:
        return Annotated[datetime, _AWARE]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None or origin is Literal:
        return annotation
    if origin is Annotated:
        kept, *notes = arguments
        return Annotated[(_aware(kept), *notes)]
    marked = tuple(_aware(argument) for argument in arguments)
    if all(new is old for new, old in zip(marked, arguments, strict=True)):
        return annotation
    if origin in (Union, UnionType):
        return reduce(lambda union, choice: union | choice, marked)
    return origin[marked[0] if len(marked) == 1 else marked]
