"""The handlers of a mesh under test, by whatever a test calls them, and the failures that are planted in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from thence.app.service import Service
from thence.errors import ConfigurationError
from thence.events import spec_of

__all__ = ["Faults", "HandlerName", "KnownHandlers"]

HandlerName = str | Callable[..., Any]
"""``"service.handler"``, or the function itself."""


class KnownHandlers:
    """Everything that these services declare."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._functions: dict[str, Callable[..., Any]] = {}
        self._by_name: dict[str, str] = {}
        self._wanted: dict[str, list[tuple[str, str]]] = {}
        for service in services:
            for handler in service.handlers:
                place = f"{service.name}.{handler.name}"
                self._functions[place] = handler.function
                self._by_name[handler.name] = place
                for event in handler.events:
                    self._wanted.setdefault(spec_of(event).name, []).append((service.name, place))

    def find(self, handler: HandlerName) -> list[str]:
        """The places, as ``service.handler``, that are meant. A function may stand at several.

        :raises ConfigurationError: there is none.
        """
        if isinstance(handler, str):
            found = [handler] if handler in self._functions else []
        else:
            found = [place for place, one in self._functions.items() if one == handler]
        if found:
            return found
        shown = handler if isinstance(handler, str) else getattr(handler, "__name__", str(handler))
        close = get_close_matches(shown, [*self._functions, *self._by_name], n=1)
        meant = [self._by_name.get(name, name) for name in close]
        hint = f" Did you mean {meant[0]!r}?" if meant else ""
        known = ", ".join(sorted(self._functions)) or "none: its services have no handlers"
        raise ConfigurationError(
            f"{shown!r} is no handler of this mesh.{hint} Give the decorated function itself, or one of {known}"
        )

    def wanting(self, event: str) -> Sequence[tuple[str, str]]:
        """The services that want events of that name, each with the place of a handler."""
        return self._wanted.get(event, ())


class Faults:
    """Failures that are still to come, by the place of the handler; the first that was planted comes first."""

    def __init__(self) -> None:
        self._planted: dict[str, list[_Fault]] = {}

    def plant(
        self, places: Sequence[str], times: int, error: Exception | type[Exception] | None
    ) -> None:
        """Have the next runs there raise an error, so many of them all together.

        :raises ConfigurationError: ``times`` or ``error`` can't be meant.
        """
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            raise ConfigurationError(f"times={times!r}: give how many runs fail, 1 or more")
        fault = _Fault(times, _raisable(error))
        for place in places:
            self._planted.setdefault(place, []).append(fault)

    def strike(self, place: str) -> None:
        """A run begins: raise what is planted there."""
        waiting = self._planted.get(place, [])
        while waiting and not waiting[0].left:
            waiting.pop(0)
        if waiting:
            waiting[0].left -= 1
            raise waiting[0].error


class _Fault:
    def __init__(self, left: int, error: Exception | type[Exception]) -> None:
        self.left = left
        self.error = error


def _raisable(error: Exception | type[Exception] | None) -> Exception | type[Exception]:
    if error is None:
        return RuntimeError("planted by mesh.fail")
    if isinstance(error, Exception):
        return error
    if isinstance(error, type) and issubclass(error, Exception):
        try:
            error()
        except Exception as refused:
            raise ConfigurationError(
                f"error={error.__name__}: it can't be made without arguments ({refused}); give an instance, as in "
                f'error={error.__name__}("...")'
            ) from refused
        return error
    raise ConfigurationError(
        f"error={error!r}: give an exception or its class, as in error=TimeoutError"
    )
