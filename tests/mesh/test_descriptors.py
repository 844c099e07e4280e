"""A stream that ends while it begins closes its own descriptor, and no other."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path
from typing import cast

import pytest
import uvloop

from thence.mesh.wires.socket import SocketWire

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Quitter(asyncio.Protocol):
    """Ends the connection as soon as there is one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("cancels", [False, True], ids=["aborted", "cancelled"])
def test_a_dial_that_ends_at_once_closes_nobody_elses_file(
    loop: str, cancels: bool, tmp_path: Path
) -> None:
    async def main() -> None:
        wire = SocketWire()
        address = await wire.listen(f"unix:{tmp_path / 'socket'}", asyncio.Protocol)
        for _ in range(10):
            if cancels:
                dial = asyncio.create_task(wire.dial(address, asyncio.Protocol()))
                await asyncio.sleep(0)
                dial.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await dial
            else:
                await wire.dial(address, Quitter())
            files = [(tmp_path / "file").open("w") for _ in range(5)]
            await asyncio.sleep(0)
            gc.collect()
            await asyncio.sleep(0)
            for file in files:
                os.fstat(file.fileno())
                file.close()
        await wire.close()

    # What was there before is nobody's business here, and to look through it would take long.
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(main())
    finally:
        gc.unfreeze()
