"""An event loop whose time jumps to the next timer whenever nothing else is left to do.

Code under test keeps its timeouts, heartbeats and backoffs as they are, and a test of them takes
milliseconds and always the same course. It is made for what happens within one process, above all for the
memory mesh: time knows nothing of bytes that are still on their way through a real socket.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from thence.errors import ThenceError

__all__ = ["Deadlock", "VirtualTimeLoop", "in_virtual_time", "run"]

P = ParamSpec("P")
T = TypeVar("T")

DAY = 86_400.0
THREAD_PATIENCE = 30.0
"""Real seconds to wait for a thread that does not end."""


class Deadlock(ThenceError):
    """Nothing can happen any more, or nothing that anybody waits for: the message names who waits where."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio loop with virtual time.

    :param start: what :meth:`time` says at first, in seconds.
    :param limit: virtual seconds after which a test counts as stuck: something ticks for ever while what is
        waited for never comes.
    """

    def __init__(self, *, start: float = 0.0, limit: float = DAY) -> None:
        self._now = start
        self._end = start + limit
        self._threads = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def monotonic(self) -> float:
        """The same, for whoever measures; see :func:`thence.clock.stopwatch`."""
        return self._now

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """As ever, but time stands still until the thread has ended."""
        running: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        self._threads += 1
        running.add_done_callback(self._thread_ended)
        return running

    async def shutdown_default_executor(self, *args: Any) -> None:
        """As ever; this too waits for a thread."""
        self._threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._threads -= 1

    def _thread_ended(self, _: asyncio.Future[Any]) -> None:
        self._threads -= 1

    def _pass_time(self, timeout: float | None) -> float | None:
        """Nothing is ready: jump ahead and return None, or how long to wait in real time."""
        if self._threads:
            return THREAD_PATIENCE
        if timeout is None:
            raise Deadlock(f"nothing is left that could happen; waiting: {self._waiting()}")
        self._now += timeout
        if self._now > self._end:
            raise Deadlock(
                f"{self._now:,.0f} virtual seconds have passed; waiting: {self._waiting()}"
            )
        return None

    def _waiting(self) -> str:
        places: list[str] = []
        for task in asyncio.all_tasks(self):
            frames = task.get_stack(limit=1)
            place = (
                f"{frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else "nowhere"
            )
            places.append(f"{task.get_name()} at {place}")
        return "; ".join(sorted(places)) or "no task"


class _JumpingSelector(selectors.BaseSelector):
    """Looks at real files without waiting for them."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        wait = self._loop._pass_time(timeout)
        if wait is None:
            return []
        ready = self._real.select(wait)
        if not ready:
            raise Deadlock(f"a thread has not ended within {wait:g} s of real time")
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def run(
    main: Coroutine[Any, Any, T],
    *,
    start: float = 0.0,
    limit: float = DAY,
    debug: bool | None = None,
) -> T:
    """Run a coroutine in virtual time, as :func:`asyncio.run` does in real time.

    :raises Deadlock: it waits for what can't come.
    """
    with asyncio.Runner(
        debug=debug, loop_factory=lambda: VirtualTimeLoop(start=start, limit=limit)
    ) as runner:
        return runner.run(main)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Make of an ``async def`` test a plain one, which :func:`run` runs: no plugin is needed."""

    @wraps(test)
    def run_test(*arguments: P.args, **keywords: P.kwargs) -> T:
        return run(test(*arguments, **keywords))

    return run_test
