"""Nobody can tell that a handler was stepped by hand: the soundness suite of carriers.

Everything that libraries bind to the current task or its context must work in a handler as it does in a
task of its own, whether the handler began by hand on a carrier or in such a task.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import types
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.handling.rig import LOOPS, Ping, Rig, Step, eventually, run

from thence.delivery.hosted import PROBE_AFTER

pytestmark = pytest.mark.carriers

Scenario = Callable[[str], Coroutine[Any, Any, None]]

value: ContextVar[object] = ContextVar("value", default="nothing")


@pytest.fixture(params=list(LOOPS))
def loop(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["carrier", "task"])
def entry(request: pytest.FixtureRequest) -> str:
    return request.param


def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


# -- the current task


def test_the_current_task_is_the_same_before_and_after_every_suspension(
    loop: str, entry: str
) -> None:
    seen: list[set[asyncio.Task[Any]]] = []

    async def handler(ping: Ping) -> None:
        tasks = {this_task()}
        for pause in (0, 0.001, 0):
            await asyncio.sleep(pause)
            tasks.add(this_task())
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
        tasks.add(this_task())
        seen.append(tasks)

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(), Ping(), Ping())
            assert not rig.errors

    run(loop, main)
    assert [len(tasks) for tasks in seen] == [1, 1, 1]
    assert len(set.union(*seen)) == 3


def test_a_task_in_which_a_handler_has_suspended_is_never_seen_by_another_run(
    loop: str, entry: str
) -> None:
    ended: list[asyncio.Task[Any]] = []
    running: set[asyncio.Task[Any]] = set()

    async def handler(ping: Ping) -> None:
        me = this_task()
        assert me not in ended
        assert me not in running
        if ping.number % 3 == 0:
            running.add(me)
            await asyncio.sleep(0)
            assert this_task() is me
            running.remove(me)
            ended.append(me)

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            for _ in range(5):
                await rig.handle(*(Ping(number) for number in range(20)))
            assert not rig.errors

    run(loop, main)
    assert len(ended) == 35


def test_the_task_of_a_suspended_handler_is_found_among_all_tasks_and_its_end_ends_it(
    loop: str, entry: str
) -> None:
    async def main() -> None:
        released = asyncio.Event()
        tasks: list[asyncio.Task[Any]] = []

        async def handler(ping: Ping) -> None:
            tasks.append(this_task())
            await released.wait()

        async with Rig(handler, entry=entry) as rig:
            rig.feed(Ping())
            await eventually(lambda: tasks)
            await asyncio.sleep(0)
            assert tasks[0] in asyncio.all_tasks()
            released.set()
            await asyncio.wait(tasks)
            assert tasks[0].done()
            assert not tasks[0].cancelled()
            assert tasks[0].exception() is None
            await rig.settled()

    run(loop, main)


def test_there_is_no_current_task_left_over_after_a_batch(loop: str, entry: str) -> None:
    async def handler(ping: Ping) -> None:
        if ping.number == 1:
            raise ValueError
        if ping.number == 2:
            await asyncio.sleep(0)

    async def main() -> None:
        left: list[object] = []
        async with Rig(handler, entry=entry) as rig:
            rig.feed(*(Ping(number) for number in range(4)))
            asyncio.get_running_loop().call_soon(lambda: left.append(asyncio.current_task()))
            await rig.settled()
        assert left == [None]

    run(loop, main)


# -- timeouts


def test_a_timeout_that_expires_ends_its_block_and_nothing_else(loop: str, entry: str) -> None:
    after: list[tuple[int, int]] = []

    async def handler(ping: Ping) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.002):
                await asyncio.Event().wait()
        await asyncio.sleep(0)
        after.append((ping.number, this_task().cancelling()))

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(*(Ping(number) for number in range(4)))
            assert not rig.errors

    run(loop, main)
    assert sorted(after) == [(number, 0) for number in range(4)]


@pytest.mark.parametrize("length", [0, -1])
def test_a_timeout_that_has_expired_before_the_first_suspension_is_noticed_there(
    loop: str, entry: str, length: float
) -> None:
    after: list[int] = []

    async def handler(ping: Ping) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(length):
                await asyncio.Event().wait()
        after.append(this_task().cancelling())

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(), Ping())
            assert not rig.errors

    run(loop, main)
    assert after == [0, 0]


def test_a_timeout_that_does_not_expire_leaves_no_trace(loop: str, entry: str) -> None:
    after: list[int] = []

    async def handler(ping: Ping) -> None:
        async with asyncio.timeout(5):
            if ping.number % 2:
                await asyncio.sleep(0.001)
        after.append(this_task().cancelling())

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(*(Ping(number) for number in range(6)))
            assert not rig.errors

    run(loop, main)
    assert after == [0] * 6


def test_nested_timeouts_each_end_their_own_block(loop: str, entry: str) -> None:
    ended: list[str] = []

    async def handler(ping: Ping) -> None:
        try:
            async with asyncio.timeout(0.002):
                try:
                    async with asyncio.timeout(5):
                        await asyncio.Event().wait()
                except TimeoutError:
                    ended.append("inner")
        except TimeoutError:
            ended.append("outer")
        assert this_task().cancelling() == 0

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(), Ping())
            assert not rig.errors

    run(loop, main)
    assert ended == ["outer", "outer"]


def test_wait_for_times_out_and_cancels_what_it_waits_for(loop: str, entry: str) -> None:
    cancelled: list[bool] = []

    async def main() -> None:
        async def handler(ping: Ping) -> None:
            waited_for = asyncio.get_running_loop().create_future()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waited_for, 0.001)
            cancelled.append(waited_for.cancelled())

        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(), Ping(), Ping())
            assert not rig.errors

    run(loop, main)
    assert cancelled == [True] * 3


def test_the_policys_timeout_ends_a_run_that_suspends_too_long(loop: str, entry: str) -> None:
    async def main() -> None:
        cancelled: list[int] = []

        async def handler(ping: Ping) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(ping.number)
                raise

        async with Rig(handler, entry=entry, timeout=0.01) as rig:
            await rig.handle(Ping(1), Ping(2), Ping(3))
            assert sorted(cancelled) == [1, 2, 3]
            assert [type(error) for error in rig.errors] == [TimeoutError] * 3

    run(loop, main)


def test_a_run_that_swallows_its_timeout_and_ends_counts_as_handled(loop: str, entry: str) -> None:
    async def main() -> None:
        async def handler(ping: Ping) -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0)
            return "ended"

        async with Rig(handler, entry=entry, timeout=0.01) as rig:
            await rig.handle(Ping(), Ping())
            assert not rig.errors
            assert rig.results == ["ended", "ended"]

    run(loop, main)


# -- task groups


def test_a_task_group_waits_for_its_tasks(loop: str, entry: str) -> None:
    sums: list[int] = []

    async def part(number: int) -> int:
        await asyncio.sleep(0.001 * (number % 2))
        return number

    async def handler(ping: Ping) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part(number)) for number in range(4)]
        sums.append(sum(task.result() for task in tasks))

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(), Ping(), Ping())
            assert not rig.errors

    run(loop, main)
    assert sums == [6, 6, 6]


@pytest.mark.parametrize("pause", [None, 0, 0.002])
@pytest.mark.parametrize("own_work", [False, True])
def test_a_task_group_whose_task_fails_ends_the_handlers_block_and_nothing_else(
    loop: str, entry: str, pause: float | None, own_work: bool
) -> None:
    if loop == "asyncio-eager" and sys.version_info < (3, 13):
        pytest.skip(
            "a task group of Python 3.12 is confused by tasks that fail before it has noted them"
        )

    async def part() -> None:
        if pause is not None:
            await asyncio.sleep(pause)
        raise LookupError("part")

    async def body() -> int:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(part())
                if own_work:
                    await asyncio.sleep(60)
        except* LookupError:
            pass
        await asyncio.sleep(0)
        return this_task().cancelling()

    async def handler(ping: Ping) -> int:
        return await body()

    async def main() -> None:
        # Before Python 3.13 a task group that fails while it is being left forgets to take back its request.
        expected = await asyncio.create_task(body())
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(), Ping(), Ping())
            assert not rig.errors
            assert rig.results == [expected] * 3

    run(loop, main)


def test_a_task_group_that_fails_fails_only_its_own_handler(loop: str, entry: str) -> None:
    async def part() -> None:
        raise LookupError("part")

    async def handler(ping: Ping) -> None:
        async with asyncio.TaskGroup() as group:
            if ping.number == 1:
                group.create_task(part())
            await asyncio.sleep(0.001)

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(0), Ping(1), Ping(2))
            assert [type(error) for error in rig.errors] == [ExceptionGroup]
            assert sorted(rig.observer.handled_numbers) == [1, 3]

    run(loop, main)


# -- anyio


def test_anyio_cancel_scopes_end_their_own_block(loop: str, entry: str) -> None:
    seen: list[tuple[bool, bool, int]] = []

    async def handler(ping: Ping) -> None:
        with anyio.move_on_after(0.002) as expiring:
            await anyio.sleep(60)
        with anyio.move_on_after(60) as lasting:
            await anyio.sleep(0)
        with pytest.raises(TimeoutError), anyio.fail_after(0.001):
            await anyio.sleep(60)
        seen.append((expiring.cancelled_caught, lasting.cancelled_caught, this_task().cancelling()))

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(), Ping(), Ping())
            assert not rig.errors

    run(loop, main)
    assert seen == [(True, False, 0)] * 3


def test_an_anyio_scope_cancelled_before_the_first_suspension_is_noticed_there(
    loop: str, entry: str
) -> None:
    seen: list[tuple[bool, bool, int]] = []

    async def main() -> None:
        async def handler(ping: Ping) -> None:
            awaited = asyncio.get_running_loop().create_future()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await awaited
            seen.append((scope.cancelled_caught, awaited.cancelled(), this_task().cancelling()))

        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(), Ping())
            assert not rig.errors

    run(loop, main)
    assert seen == [(True, True, 0)] * 2


def test_an_anyio_scope_cancelled_without_any_suspension_harms_nobody(
    loop: str, entry: str
) -> None:
    async def handler(ping: Ping) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(*(Ping(number) for number in range(5)))
            assert not rig.errors
            assert len(rig.observer.handled_numbers) == 5

    run(loop, main)


def test_anyio_task_groups_succeed_and_fail_as_in_any_task(loop: str, entry: str) -> None:
    seen: list[str] = []

    async def part(number: int) -> None:
        await anyio.sleep(0)
        if number == 1:
            raise LookupError("part")

    async def handler(ping: Ping) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(part, ping.number)
                await anyio.sleep(0.002 if ping.number != 1 else 60)
        except* LookupError:
            seen.append("failed")
        else:
            seen.append("succeeded")
        assert this_task().cancelling() == 0

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(0), Ping(1), Ping(2))
            assert not rig.errors

    run(loop, main)
    assert sorted(seen) == ["failed", "succeeded", "succeeded"]


def test_anyio_shields_against_the_policys_timeout(loop: str, entry: str) -> None:
    async def main() -> None:
        released: list[int] = []

        async def handler(ping: Ping) -> None:
            try:
                await anyio.sleep(60)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.005)
                released.append(ping.number)

        async with Rig(handler, entry=entry, timeout=0.01) as rig:
            await rig.handle(Ping(1), Ping(2))
            assert sorted(released) == [1, 2]
            assert [type(error) for error in rig.errors] == [TimeoutError] * 2

    run(loop, main)


def test_anyio_runs_functions_in_threads_as_the_first_suspension(loop: str, entry: str) -> None:
    seen: list[tuple[bool, object, bool]] = []

    def in_thread() -> tuple[int, object]:
        return threading.get_ident(), value.get()

    async def handler(ping: Ping) -> None:
        value.set(ping.number)
        me = this_task()
        thread, found = await anyio.to_thread.run_sync(in_thread)
        seen.append((thread != threading.get_ident(), found, this_task() is me))

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(1), Ping(2), Ping(3))
            assert not rig.errors

    run(loop, main)
    assert sorted(seen, key=str) == [(True, number, True) for number in (1, 2, 3)]


# -- context variables


@pytest.mark.parametrize("pause", [None, 0, 0.001])
def test_what_a_handler_sets_is_seen_by_itself_only(
    loop: str, entry: str, pause: float | None
) -> None:
    seen: list[tuple[object, object]] = []

    async def handler(ping: Ping) -> None:
        before = value.get()
        value.set(ping.number)
        if pause is not None:
            await asyncio.sleep(pause)
        seen.append((before, value.get() == ping.number))

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(*(Ping(number) for number in range(6)))
            await rig.handle(*(Ping(number) for number in range(6)))
            assert not rig.errors

    run(loop, main)
    assert seen == [("nothing", True)] * 12


def test_what_a_failing_handler_has_set_is_seen_by_nobody_else(loop: str, entry: str) -> None:
    seen: list[object] = []

    async def handler(ping: Ping) -> None:
        seen.append(value.get())
        value.set(ping.number)
        raise ValueError

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(*(Ping(number) for number in range(4)))
            assert len(rig.errors) == 4

    run(loop, main)
    assert seen == ["nothing"] * 4


def test_a_token_can_be_reset_across_a_suspension(loop: str, entry: str) -> None:
    seen: list[tuple[object, object, object]] = []

    async def handler(ping: Ping) -> None:
        token = value.set("first")
        before = value.get()
        await asyncio.sleep(0.001 * (ping.number % 2))
        after = value.get()
        value.reset(token)
        seen.append((before, after, value.get()))

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(*(Ping(number) for number in range(6)))
            assert not rig.errors

    run(loop, main)
    assert seen == [("first", "first", "nothing")] * 6


def test_handlers_see_the_context_that_their_node_was_made_in(loop: str, entry: str) -> None:
    seen: list[object] = []

    async def handler(ping: Ping) -> None:
        seen.append(value.get())
        await asyncio.sleep(0)
        seen.append(value.get())
        value.set("handler's")

    async def main() -> None:
        value.set("node's")
        async with Rig(handler, entry=entry) as rig:
            value.set("later")
            await rig.handle(*(Ping(number) for number in range(4)))
            assert not rig.errors

    run(loop, main)
    assert seen == ["node's"] * 8


def test_tasks_of_a_handler_get_its_context_and_change_only_their_own(
    loop: str, entry: str
) -> None:
    seen: list[tuple[object, object]] = []

    async def child() -> object:
        inherited = value.get()
        value.set("child's")
        return inherited

    async def handler(ping: Ping) -> None:
        value.set(ping.number)
        inherited = await asyncio.create_task(child())
        seen.append((inherited == ping.number, value.get() == ping.number))

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(1), Ping(2), Ping(3))
            assert not rig.errors

    run(loop, main)
    assert seen == [(True, True)] * 3


def test_values_that_can_not_be_compared_harm_nobody(loop: str, entry: str) -> None:
    class Incomparable:
        def __eq__(self, other: object) -> bool:
            raise TypeError("an array has no truth value")

        __hash__ = None  # type: ignore[assignment]

    seen: list[object] = []
    mine = Incomparable()

    async def handler(ping: Ping) -> None:
        seen.append(value.get())
        value.set(Incomparable())

    async def main() -> None:
        value.set(mine)
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(*(Ping(number) for number in range(4)))
            assert not rig.errors

    run(loop, main)
    assert all(one is mine for one in seen)
    assert len(seen) == 4


def test_no_context_leaks_along_a_lane(loop: str, entry: str) -> None:
    """The end of one run lets the next of its key begin: in another context."""
    seen: list[tuple[int, object]] = []

    async def handler(step: Step) -> None:
        seen.append((step.number, value.get()))
        value.set(step.number)
        if step.number % 3:
            await asyncio.sleep(0)

    async def main() -> None:
        async with Rig(handler, event=Step, entry=entry) as rig:
            await rig.handle(*(Step("a", number) for number in range(30)))
            assert not rig.errors

    run(loop, main)
    assert seen == [(number, "nothing") for number in range(30)]


def test_no_context_leaks_along_a_line(loop: str, entry: str) -> None:
    seen: list[object] = []

    async def handler(ping: Ping) -> None:
        seen.append(value.get())
        value.set(ping.number)
        await asyncio.sleep(0)

    async def main() -> None:
        async with Rig(handler, entry=entry, concurrency=1) as rig:
            await rig.handle(*(Ping(number) for number in range(20)))
            assert not rig.errors

    run(loop, main)
    assert seen == ["nothing"] * 20


def test_no_context_leaks_from_whoever_makes_events_arrive(loop: str, entry: str) -> None:
    """Arrivals that find no carrier get tasks made in the emitter's callback."""
    seen: list[object] = []

    async def handler(ping: Ping) -> None:
        seen.append(value.get())
        await asyncio.sleep(0)

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:

            async def emit() -> None:
                value.set("the emitter's")
                await rig.handle(*(Ping(number) for number in range(12)))

            await asyncio.create_task(emit())
            assert not rig.errors

    run(loop, main)
    assert seen == ["nothing"] * 12


# -- cancellation from inside


async def _as_in_a_task(body: Callable[[], Coroutine[Any, Any, object]]) -> object:
    """What that body does in a task of its own: the model for a handler."""
    try:
        return await asyncio.get_running_loop().create_task(body())
    except asyncio.CancelledError:
        return "cancelled"


async def _future_cancelled() -> object:
    awaited = asyncio.get_running_loop().create_future()
    this_task().cancel()
    try:
        await awaited
    except asyncio.CancelledError:
        return ("caught", awaited.cancelled(), this_task().cancelling())
    return "went on"


async def _child_cancelled() -> object:
    child = asyncio.ensure_future(asyncio.sleep(60))
    this_task().cancel("why")
    try:
        await child
    except asyncio.CancelledError as error:
        return ("caught", child.cancelled(), error.args, this_task().cancelling())
    return "went on"


async def _bare_yield() -> object:
    this_task().cancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return ("caught", this_task().cancelling())
    return "went on"


async def _done_future() -> object:
    awaited = asyncio.get_running_loop().create_future()
    awaited.set_result("result")
    this_task().cancel()
    result = await awaited
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return (result, "caught")
    return "went on"


async def _finished_while_waited_for() -> object:
    awaited = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: awaited.done() or awaited.set_result("result"))
    this_task().cancel()
    try:
        await awaited
    except asyncio.CancelledError:
        return ("caught", awaited.cancelled())
    return "went on"


async def _reluctant_child() -> object:
    async def reluctant() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "its result"

    child = asyncio.ensure_future(reluctant())
    await asyncio.wait([child], timeout=0)
    this_task().cancel()
    return (await child, this_task().cancelling())


async def _reluctant_child_at_once() -> object:
    started = asyncio.get_running_loop().create_future()

    async def reluctant() -> str:
        try:
            started.set_result(None)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "its result"

    child = asyncio.ensure_future(reluctant())
    this_task().cancel()
    try:
        return (await child, this_task().cancelling())
    except asyncio.CancelledError:
        return "caught"


async def _taken_back() -> object:
    this_task().cancel()
    left = this_task().uncancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return ("caught", left)
    return ("went on", left)


async def _twice() -> object:
    this_task().cancel()
    this_task().cancel()
    caught = 0
    for _ in range(3):
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            caught += 1
    return (caught, this_task().cancelling())


async def _caught_and_on() -> object:
    this_task().cancel()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        this_task().uncancel()
    await asyncio.sleep(0.001)
    async with asyncio.timeout(1):
        await asyncio.sleep(0)
    return ("went on", this_task().cancelling())


async def _shielded() -> object:
    inner = asyncio.get_running_loop().create_future()
    this_task().cancel()
    try:
        await asyncio.shield(inner)
    except asyncio.CancelledError:
        return ("caught", inner.cancelled())
    return "went on"


async def _gathered() -> object:
    children = [asyncio.ensure_future(asyncio.sleep(60)) for _ in range(3)]
    this_task().cancel()
    try:
        await asyncio.gather(*children)
    except asyncio.CancelledError:
        await asyncio.wait(children)
        return ("caught", [child.cancelled() for child in children])
    return "went on"


async def _in_a_group() -> object:
    try:
        async with asyncio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(60))
            this_task().cancel()
    except asyncio.CancelledError:
        return ("caught", child.cancelled(), this_task().cancelling())
    return "went on"


async def _in_a_timeout() -> object:
    try:
        async with asyncio.timeout(60):
            this_task().cancel()
            await asyncio.sleep(60)
    except asyncio.CancelledError:
        return ("caught", this_task().cancelling())
    return "went on"


async def _queue() -> object:
    queue: asyncio.Queue[int] = asyncio.Queue()
    asyncio.get_running_loop().call_soon(queue.put_nowait, 1)
    this_task().cancel()
    try:
        await queue.get()
    except asyncio.CancelledError:
        this_task().uncancel()
        await asyncio.sleep(0)
        return ("caught", queue.qsize())
    return "went on"


async def _not_caught() -> object:
    this_task().cancel()
    await asyncio.sleep(60)
    return "went on"


SELF_CANCELLING = [
    _future_cancelled,
    _child_cancelled,
    _bare_yield,
    _done_future,
    _finished_while_waited_for,
    _reluctant_child,
    _reluctant_child_at_once,
    _taken_back,
    _twice,
    _caught_and_on,
    _shielded,
    _gathered,
    _in_a_group,
    _in_a_timeout,
    _queue,
    _not_caught,
]


@pytest.mark.parametrize("body", SELF_CANCELLING, ids=lambda body: body.__name__.strip("_"))
def test_a_handler_that_cancels_itself_fares_as_any_task_would(
    loop: str, entry: str, body: Callable[[], Coroutine[Any, Any, object]]
) -> None:
    async def main() -> None:
        async def handler(ping: Ping) -> object:
            return await body() if ping.number == 1 else (this_task().cancelling(), value.get())

        expected = await _as_in_a_task(body)
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(0), Ping(1), Ping(2), Ping(3))
            outcome: object = next((r for r in rig.results if r != (0, "nothing")), "cancelled")
            assert outcome == expected
            assert rig.results.count((0, "nothing")) == 3
            assert [type(error) for error in rig.errors] == [asyncio.CancelledError] * (
                expected == "cancelled"
            )

    run(loop, main)


def test_a_handler_that_cancels_itself_and_never_suspends_has_succeeded(
    loop: str, entry: str
) -> None:
    async def handler(ping: Ping) -> int:
        assert this_task().cancelling() == 0
        if ping.number % 2:
            this_task().cancel()
        return ping.number

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            for _ in range(3):
                await rig.handle(*(Ping(number) for number in range(8)))
            assert not rig.errors
            assert rig.results == [*range(8)] * 3

    run(loop, main)


def test_no_handler_begins_with_a_request_to_be_cancelled(loop: str, entry: str) -> None:
    seen: list[int] = []

    async def handler(ping: Ping) -> None:
        seen.append(this_task().cancelling())
        if ping.number % 4 == 0:
            this_task().cancel()
        if ping.number % 4 == 1:
            this_task().cancel()
            await asyncio.sleep(0)
        if ping.number % 4 == 2:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anyio.sleep(0)

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            for _ in range(4):
                await rig.handle(*(Ping(number) for number in range(12)))
            assert [type(error) for error in rig.errors] == [asyncio.CancelledError] * 12

    run(loop, main)
    assert seen == [0] * 48


# -- cancellation from outside


@pytest.mark.parametrize("ends", ["not", "before", "after"])
@pytest.mark.parametrize("ticks", range(4))
def test_a_handler_cancelled_from_outside_is_cancelled_where_it_waits(
    loop: str, entry: str, ticks: int, ends: str
) -> None:
    """Also in the ticks between its hand-over to the task and the task's going on with it."""

    async def main() -> None:
        tasks: list[asyncio.Task[Any]] = []
        awaited = asyncio.get_running_loop().create_future()
        caught: list[tuple[bool, int]] = []

        async def handler(ping: Ping) -> None:
            if ping.number == 0:
                tasks.append(this_task())
                try:
                    await awaited
                except asyncio.CancelledError:
                    caught.append((awaited.cancelled(), this_task().cancelling()))
                    raise

        async with Rig(handler, entry=entry) as rig:
            rig.feed(Ping(0), Ping(1))
            await eventually(lambda: tasks)
            # Now it has begun, at most a tick or two ago.
            for _ in range(ticks):
                await asyncio.sleep(0)
            if ends == "before":
                awaited.set_result(None)
            tasks[0].cancel()
            if ends == "after" and not awaited.done():
                awaited.set_result(None)
            await rig.settled()
            assert len(rig.observer.handled_numbers) == 1
            assert [type(error) for error in rig.errors] == [asyncio.CancelledError]
            assert [cancelling for _, cancelling in caught] == [1]
            if ends == "not":
                assert caught == [(True, 1)]

    run(loop, main)


@pytest.mark.parametrize("ticks", range(4))
def test_a_handler_cancelled_from_outside_can_go_on(loop: str, entry: str, ticks: int) -> None:
    async def main() -> None:
        tasks: list[asyncio.Task[Any]] = []

        async def handler(ping: Ping) -> str:
            tasks.append(this_task())
            inner = asyncio.ensure_future(asyncio.sleep(60))
            try:
                await inner
            except asyncio.CancelledError:
                this_task().uncancel()
            await asyncio.sleep(0.001)
            async with asyncio.timeout(1):
                await asyncio.sleep(0.001)
            return f"{inner.cancelled()} {this_task().cancelling()}"

        async with Rig(handler, entry=entry) as rig:
            rig.feed(Ping())
            await eventually(lambda: tasks)
            for _ in range(ticks):
                await asyncio.sleep(0)
            tasks[0].cancel()
            await rig.settled()
            assert not rig.errors
            assert rig.results == ["True 0"]

    run(loop, main)


def test_whoever_cancels_every_task_of_the_loop_stops_no_later_handler(
    loop: str, entry: str
) -> None:
    """Idle carriers are tasks too; so are those that have not taken their first step."""

    async def handler(ping: Ping) -> str:
        if ping.number % 2:
            await asyncio.sleep(0.001)
        return "handled"

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            for ticks in (0, 1, 2, 3):
                await rig.handle(Ping(1), Ping(0))
                for _ in range(ticks):
                    await asyncio.sleep(0)
                for task in asyncio.all_tasks() - {this_task()}:
                    if task.get_name() == "thence carrier":
                        task.cancel()
                await rig.handle(*(Ping(number) for number in range(6)))
            assert not rig.errors
            assert rig.results == ["handled"] * 32

    run(loop, main)


def test_a_run_whose_task_is_cancelled_before_its_first_step_is_not_forgotten(loop: str) -> None:
    """Nothing of it ever runs; its timeout is what ends it in the books."""

    async def handler(ping: Ping) -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        async with Rig(handler, entry="task", timeout=0.01) as rig:
            rig.feed(Ping(1), Ping(2))
            for _ in range(3):
                for pending in rig.dispatcher._runs:
                    pending.task.cancel()
                await asyncio.sleep(0)
            await rig.settled()
            assert {type(error) for error in rig.errors} <= {asyncio.CancelledError}

    run(loop, main)


# -- futures


def test_a_future_shared_by_handlers_wakes_all_of_them(loop: str, entry: str) -> None:
    async def main() -> None:
        shared = asyncio.get_running_loop().create_future()

        async def handler(ping: Ping) -> object:
            return await shared

        async with Rig(handler, entry=entry) as rig:

            async def other() -> object:
                return await shared

            others = [asyncio.ensure_future(other()) for _ in range(2)]
            rig.feed(*(Ping(number) for number in range(6)))
            await eventually(lambda: rig.handler.in_flight == 6)
            shared.set_result("shared")
            await rig.settled()
            assert rig.results == ["shared"] * 6
            assert await asyncio.gather(*others) == ["shared"] * 2

    run(loop, main)


def test_an_error_in_a_future_shared_by_handlers_reaches_all_of_them(loop: str, entry: str) -> None:
    async def main() -> None:
        shared = asyncio.get_running_loop().create_future()

        async def handler(ping: Ping) -> object:
            return await shared

        async with Rig(handler, entry=entry) as rig:
            rig.feed(*(Ping(number) for number in range(4)))
            await eventually(lambda: rig.handler.in_flight == 4)
            shared.set_exception(LookupError("shared"))
            await rig.settled()
            assert [type(error) for error in rig.errors] == [LookupError] * 4

    run(loop, main)


def test_a_future_that_is_done_already_needs_no_suspension(loop: str) -> None:
    async def main() -> None:
        done = asyncio.get_running_loop().create_future()
        done.set_result("done")
        failed = asyncio.get_running_loop().create_future()
        failed.set_exception(LookupError("failed"))

        async def handler(ping: Ping) -> object:
            return await (failed if ping.number == 1 else done)

        async with Rig(handler) as rig:
            await rig.handle(Ping(0), Ping(1), Ping(2))
            assert rig.results == ["done", "done"]
            assert [type(error) for error in rig.errors] == [LookupError]
            assert rig.handler.streak == 0

    run(loop, main)


def test_a_future_done_in_the_tick_of_the_hand_over_is_not_missed(loop: str, entry: str) -> None:
    async def main() -> None:
        async def handler(ping: Ping) -> object:
            soon = asyncio.get_running_loop().create_future()
            if ping.number:
                asyncio.get_running_loop().call_soon(soon.set_exception, LookupError("soon"))
            else:
                asyncio.get_running_loop().call_soon(soon.set_result, "soon")
            return await soon

        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(0), Ping(1), Ping(0))
            assert rig.results == ["soon", "soon"]
            assert [type(error) for error in rig.errors] == [LookupError]

    run(loop, main)


def test_sleeping_for_no_time_lets_the_loop_go_round(loop: str, entry: str) -> None:
    async def main() -> None:
        ticks: list[int] = []

        async def handler(ping: Ping) -> int:
            before = len(ticks)
            for _ in range(3):
                asyncio.get_running_loop().call_soon(ticks.append, 1)
                await asyncio.sleep(0)
            return len(ticks) - before

        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping())
            assert rig.results == [3]

    run(loop, main)


def test_a_shielded_future_outlives_a_cancelled_handler(loop: str, entry: str) -> None:
    async def main() -> None:
        inner = asyncio.get_running_loop().create_future()

        async def handler(ping: Ping) -> object:
            return await asyncio.shield(inner)

        async with Rig(handler, entry=entry, timeout=0.01) as rig:
            await rig.handle(Ping(), Ping())
            assert [type(error) for error in rig.errors] == [TimeoutError] * 2
            assert not inner.done()
            inner.set_result("later")
            await rig.handle(Ping())
            assert rig.results == ["later"]

    run(loop, main)


def test_locks_queues_and_conditions_pass_from_handler_to_handler(loop: str, entry: str) -> None:
    async def main() -> None:
        lock, queue, condition = asyncio.Lock(), asyncio.Queue[int](), asyncio.Condition()
        inside = 0
        got: list[int] = []

        async def handler(ping: Ping) -> None:
            nonlocal inside
            async with lock:
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                inside -= 1
            if ping.number < 3:
                got.append(await queue.get())
            else:
                await queue.put(ping.number)
            async with condition:
                condition.notify_all()
                if ping.number == 0:
                    await condition.wait_for(lambda: len(got) == 3)

        async with Rig(handler, entry=entry) as rig:
            await rig.handle(*(Ping(number) for number in range(6)))
            assert not rig.errors
        assert sorted(got) == [3, 4, 5]

    run(loop, main)


def test_what_no_task_may_await_fails_as_in_a_task(loop: str, entry: str) -> None:
    @types.coroutine
    def odd() -> Any:
        yield "no future"

    async def main() -> None:
        elsewhere = asyncio.new_event_loop()

        async def handler(ping: Ping) -> None:
            if ping.number == 0:
                await odd()
            elif ping.number == 1:
                await this_task()
            else:
                await elsewhere.create_future()

        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(0), Ping(1), Ping(2))
            assert [type(error) for error in rig.errors] == [RuntimeError] * 3
        elsewhere.close()

    run(loop, main)


def test_executors_and_gather_work_as_the_first_suspension(loop: str, entry: str) -> None:
    async def part(number: int) -> int:
        await asyncio.sleep(0)
        return number

    async def handler(ping: Ping) -> tuple[int, list[int], int]:
        in_thread = await asyncio.to_thread(lambda: ping.number)
        gathered = await asyncio.gather(part(1), part(2))
        first = (
            await anext(aiter(asyncio.as_completed([part(3)])))
            if sys.version_info >= (3, 13)
            else 3
        )
        return in_thread, gathered, first if isinstance(first, int) else await first

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(7), Ping(7))
            assert not rig.errors
            assert rig.results == [(7, [1, 2], 3)] * 2

    run(loop, main)


# -- what handlers raise


class Odd(BaseException):
    """Neither an Exception nor one of those that end a program."""


@pytest.mark.parametrize("pause", [None, 0, 0.001])
@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ValueError, ValueError),
        (Odd, Odd),
        (asyncio.CancelledError, asyncio.CancelledError),
        (GeneratorExit, GeneratorExit),
        (StopIteration, RuntimeError),
        (StopAsyncIteration, RuntimeError),
        (TimeoutError, TimeoutError),
    ],
)
def test_whatever_a_handler_raises_is_counted_and_harms_nobody_else(
    loop: str,
    entry: str,
    pause: float | None,
    raised: type[BaseException],
    told: type[BaseException],
) -> None:
    async def handler(ping: Ping) -> int:
        if pause is not None:
            await asyncio.sleep(pause)
        if ping.number == 1:
            raise raised
        return ping.number

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(0), Ping(1), Ping(2))
            if raised is StopAsyncIteration and not rig.errors[0].__cause__:
                assert type(rig.errors[0]) is StopAsyncIteration
            else:
                assert [type(error) for error in rig.errors] == [told]
            assert sorted(rig.results) == [0, 2]
            assert (rig.handler.handled, rig.handler.failed) == (2, 1)
            await rig.handle(Ping(3))
            assert sorted(rig.results) == [0, 2, 3]

    run(loop, main)


@pytest.mark.parametrize("pause", [None, 0])
@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_ends_a_program_ends_it_and_leaves_the_books_in_order(
    loop: str, entry: str, pause: float | None, raised: type[BaseException]
) -> None:
    rigs: list[Rig] = []

    async def handler(ping: Ping) -> None:
        if pause is not None:
            await asyncio.sleep(pause)
        raise raised

    async def main() -> None:
        rig = Rig(handler, entry=entry)
        rigs.append(rig)
        await asyncio.sleep(0)
        await rig.handle(Ping())

    with pytest.raises(raised):
        run(loop, main)
    assert rigs[0].handler.failed == 1
    assert not rigs[0].service.unfinished
    assert rigs[0].source.ended[0] == 1


# -- generators


def test_async_generators_are_collected_and_closed(loop: str, entry: str) -> None:
    async def main() -> None:
        closed: list[int] = []

        async def handler(ping: Ping) -> Any:
            try:
                for number in range(3):
                    if ping.number:
                        await asyncio.sleep(0)
                    yield number
            finally:
                closed.append(ping.number)

        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(0), Ping(1), Ping(0))
            assert rig.results == [[0, 1, 2]] * 3
            assert sorted(closed) == [0, 0, 1]

    run(loop, main)


def test_an_async_generator_left_early_inside_a_handler_is_finalised(loop: str, entry: str) -> None:
    async def main() -> None:
        finalised: list[bool] = []

        async def numbers() -> Any:
            try:
                for number in range(9):
                    yield number
                    await asyncio.sleep(0)
            finally:
                await asyncio.sleep(0)
                finalised.append(True)

        async def handler(ping: Ping) -> None:
            async for number in numbers():
                if number == ping.number:
                    break

        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(0), Ping(1), Ping(2))
            assert not rig.errors
            await eventually(lambda: len(finalised) == 3)

    run(loop, main)


def test_asynchronous_comprehensions_and_context_managers_span_suspensions(
    loop: str, entry: str
) -> None:
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def scope() -> Any:
        token = value.set("inside")
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(5):
                yield
        finally:
            value.reset(token)

    async def handler(ping: Ping) -> list[object]:
        async def one(number: int) -> object:
            await asyncio.sleep(0)
            return (number, value.get())

        async with scope():
            found = [await one(number) for number in range(2)]
        return [*found, value.get()]

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(), Ping())
            assert not rig.errors
            assert rig.results == [[(0, "inside"), (1, "inside"), "nothing"]] * 2

    run(loop, main)


# -- many, and how it adapts


def test_a_batch_may_suspend_far_more_often_than_there_are_carriers(loop: str, entry: str) -> None:
    async def main() -> None:
        released = asyncio.Event()
        together: list[int] = []

        async def handler(ping: Ping) -> int:
            together.append(ping.number)
            if ping.number % 5:
                await released.wait()
            return ping.number

        async with Rig(handler, entry=entry) as rig:
            rig.handler.concurrency = 1000
            rig.feed(*(Ping(number) for number in range(300)))
            await eventually(lambda: len(together) == 300)
            released.set()
            await rig.settled()
            assert sorted(rig.results) == [*range(300)]
            assert sorted(together) == [*range(300)]

    run(loop, main)


def test_handlers_that_only_suspend_now_and_then_keep_their_order(loop: str) -> None:
    began: list[int] = []

    async def handler(ping: Ping) -> None:
        began.append(ping.number)
        if ping.number % 7 == 3:
            await asyncio.sleep(0)

    async def main() -> None:
        async with Rig(handler, event=Ping) as rig:
            for batch in range(10):
                await rig.handle(*(Ping(batch * 20 + number) for number in range(20)))

    run(loop, main)
    assert began == [*range(200)]


def test_after_four_suspensions_in_a_row_runs_get_a_task_from_the_start(loop: str) -> None:
    if loop == "asyncio-eager":
        pytest.skip("an eager task gets its name after its first step")

    async def main() -> None:
        names: list[str] = []

        async def handler(ping: Ping) -> None:
            names.append(this_task().get_name())
            await asyncio.sleep(0)

        async with Rig(handler) as rig:
            for _ in range(PROBE_AFTER):
                await rig.handle(Ping())
            assert names == ["thence carrier"] * PROBE_AFTER
            names.clear()
            for _ in range(63):
                await rig.handle(Ping())
            assert names == ["thence handler"] * 63
            names.clear()
            await rig.handle(Ping())
            assert names == ["thence carrier"]
            assert rig.subscription.direct is None

    run(loop, main)


def test_a_handler_that_suspends_no_more_goes_back_to_the_short_way(loop: str) -> None:
    async def main() -> None:
        suspending = True
        names: list[str] = []

        async def handler(ping: Ping) -> None:
            names.append(this_task().get_name())
            if suspending:
                await asyncio.sleep(0)

        async with Rig(handler) as rig:
            for _ in range(PROBE_AFTER):
                await rig.handle(Ping())
            suspending = False
            for _ in range(64):
                await rig.handle(Ping())
            assert names[-1] == "thence carrier"
            assert rig.handler.streak == 0
            assert rig.subscription.direct is rig.handler
            names.clear()
            await rig.handle(*(Ping() for _ in range(10)))
            assert names == ["thence carrier"] * 10

    run(loop, main)


def test_one_run_that_goes_through_ends_a_row_of_suspensions(loop: str) -> None:
    async def main() -> None:
        async def handler(ping: Ping) -> None:
            if ping.number:
                await asyncio.sleep(0)

        async with Rig(handler) as rig:
            for number in (1, 1, 1, 0, 1, 1, 1, 0):
                await rig.handle(Ping(number))
                assert rig.subscription.direct is rig.handler
            assert rig.handler.streak == 0

    run(loop, main)


def test_handlers_that_never_suspend_share_one_task_and_make_none(loop: str) -> None:
    async def main() -> None:
        tasks: set[asyncio.Task[Any]] = set()

        async def handler(ping: Ping) -> None:
            tasks.add(this_task())

        async with Rig(handler) as rig:
            before = asyncio.all_tasks()
            for _ in range(10):
                await rig.handle(*(Ping() for _ in range(50)))
            assert len(tasks) == 1
            assert asyncio.all_tasks() == before

    run(loop, main)


def test_no_task_is_left_after_the_end(loop: str, entry: str) -> None:
    async def main() -> None:
        async def handler(ping: Ping) -> None:
            if ping.number % 2:
                await asyncio.sleep(0)
            if ping.number % 3:
                value.set(ping.number)

        before = asyncio.all_tasks()
        async with Rig(handler, entry=entry) as rig:
            for _ in range(5):
                await rig.handle(*(Ping(number) for number in range(12)))
        await eventually(lambda: asyncio.all_tasks() == before)

    run(loop, main)


def test_a_context_made_by_hand_inside_a_handler_stays_apart(loop: str, entry: str) -> None:
    seen: list[object] = []

    async def handler(ping: Ping) -> None:
        contextvars.copy_context().run(value.set, "elsewhere")
        seen.append(value.get())
        await asyncio.sleep(0)
        seen.append(value.get())

    async def main() -> None:
        async with Rig(handler, entry=entry) as rig:
            await rig.handle(Ping(), Ping())

    run(loop, main)
    assert seen == ["nothing"] * 4
