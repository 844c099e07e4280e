from __future__ import annotations

import asyncio
import threading
import time

import pytest

from thence.testing import Deadlock, VirtualTimeLoop, run


@pytest.mark.parametrize("debug", [False, True])
def test_an_hour_of_sleep_passes_at_once(debug):
    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run(main(), start=5.0, debug=debug) == pytest.approx(3605.0)
    assert time.monotonic() - began < 60


def test_timers_fire_in_their_order_however_close_they_are():
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        fired: list[int] = []
        for number in (3, 1, 2, 0):
            loop.call_later(100_000 + number * 1e-6, fired.append, number)
        await asyncio.sleep(100_001)
        return fired

    assert run(main(), limit=1e6) == [0, 1, 2, 3]


def test_timeouts_expire_in_virtual_time():
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(30)


def test_time_stands_still_while_a_thread_works():
    async def main() -> tuple[str, float]:
        release = threading.Event()
        loop = asyncio.get_running_loop()
        working = asyncio.create_task(asyncio.to_thread(lambda: release.wait(20) and "done"))
        ticking = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
        threading.Timer(0.05, release.set).start()
        said = await working
        ticking.cancel()
        return said, loop.time()

    assert run(main()) == ("done", 0.0)


def test_waiting_for_what_never_comes_is_reported_with_its_place():
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match=r"nothing is left.*test_virtual_time\.py"):
        run(main())


def test_ticking_for_ever_while_nothing_comes_is_reported():
    async def tick() -> None:
        while True:
            await asyncio.sleep(1)

    async def main() -> None:
        ticking = asyncio.create_task(tick(), name="heartbeat")
        try:
            await asyncio.Event().wait()
        finally:
            ticking.cancel()

    with pytest.raises(Deadlock, match="virtual seconds.*heartbeat"):
        run(main(), limit=100)


def test_calls_from_other_threads_are_heard():
    async def main() -> str:
        loop = asyncio.get_running_loop()
        said: asyncio.Future[str] = loop.create_future()
        await asyncio.to_thread(loop.call_soon_threadsafe, said.set_result, "heard")
        return await said

    assert run(main()) == "heard"


def test_it_is_an_ordinary_loop_otherwise():
    loop = VirtualTimeLoop()
    try:
        assert loop.run_until_complete(asyncio.sleep(10, "slept")) == "slept"
    finally:
        loop.close()
