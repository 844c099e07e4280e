"""Root emits that wait for room, first come first served.

A waiting emit goes on in the very moment in which room comes, not when its task gets its turn: whoever
emits meanwhile would overtake it. It takes room at one outlet after the other, keeping what it has, and
is sent to all of them when it has room at the last. All emits of a type take room in the same order of
services, so none waits for one that waits for it, and those of one key never pass each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from thence.delivery.outlets import EMIT_PATIENCE, Outlet
from thence.delivery.targets import Target

__all__ = ["Choice", "GivenUp", "PatientEmit"]

Choice: TypeAlias = Sequence[tuple[Target, Outlet]]
"""Who is to get an event, and through which outlet."""

GivenUp: TypeAlias = dict[Target | Outlet, str]
"""Who does not get it, and why: a whole service, or one replica of a broadcast."""

R = TypeVar("R")


class PatientEmit(Generic[R]):
    """One event that waits. ``sent`` is done with what ``send(choice, given_up)`` returned.

    ``choose(given_up)`` tells who is to get it as things are now.
    """

    __slots__ = (
        "_choose",
        "_given_up",
        "_patience",
        "_place",
        "_reserved",
        "_send",
        "_timer",
        "sent",
    )

    def __init__(
        self, choose: Callable[[GivenUp], Choice], send: Callable[[Choice, GivenUp], R]
    ) -> None:
        loop = asyncio.get_running_loop()
        self.sent: asyncio.Future[R] = loop.create_future()
        self._choose = choose
        self._send = send
        self._given_up: GivenUp = {}
        self._reserved: list[Outlet] = []
        """Where room has been taken for it."""
        self._place: tuple[Target, Outlet] | None = None
        """Where it stands in line."""
        self._patience = min([EMIT_PATIENCE, *(o.patience for _, o in choose({}))])
        self._timer: asyncio.TimerHandle | None = loop.call_later(
            self._patience, self._lose_patience
        )
        self._go_on()

    def withdraw(self) -> None:
        """Nobody wants it sent any more: let go of its place and its room."""
        if self._place is not None:
            self._place[1].leave_line(self._told)
        self._end()

    def _go_on(self) -> None:
        while True:
            choice = self._choose(self._given_up)
            full = next((one for one in choice if not self._has_room(one[1])), None)
            if full is None:
                break
            if self._timer is not None:
                self._place = full
                full[1].when_room(self._told)
                return
            self._give_up(*full)
        # What is reserved becomes room again in the moment in which it is used.
        for outlet in [outlet for _, outlet in choice if outlet in self._reserved]:
            self._reserved.remove(outlet)
            outlet.reserved -= 1
            outlet.room += 1
        try:
            receipt = self._send(choice, self._given_up)
        except BaseException as error:
            self.sent.set_exception(error)
        else:
            self.sent.set_result(receipt)
        self._end()

    def _told(self, room: bool) -> bool:
        assert self._place is not None
        (target, outlet), self._place = self._place, None
        if self.sent.done():
            # Cancelled; whoever awaited it withdraws it in the next tick.
            return False
        if room:
            self._reserve(outlet)
        elif not outlet.closed:
            self._given_up[target] = "too many events wait for their key to move"
        self._go_on()
        return True

    def _has_room(self, outlet: Outlet) -> bool:
        """Whether there is room for it at that outlet, which is then taken."""
        if outlet in self._reserved:
            return True
        if outlet.room <= 0:
            return False
        outlet.room -= 1
        self._reserve(outlet)
        return True

    def _reserve(self, outlet: Outlet) -> None:
        self._reserved.append(outlet)
        outlet.reserved += 1

    def _lose_patience(self) -> None:
        self._timer = None
        if self._place is not None:
            target, outlet = self._place
            self._place = None
            outlet.leave_line(self._told)
            self._give_up(target, outlet)
            self._go_on()

    def _give_up(self, target: Target, outlet: Outlet) -> None:
        # One replica that does not keep up takes nothing away from the others of a broadcast.
        one: Any = outlet if target.broadcast else target
        self._given_up[one] = f"no room within {self._patience:g} s"

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        reserved, self._reserved = self._reserved, []
        for outlet in reserved:
            outlet.reserved -= 1
            outlet.free(1)
