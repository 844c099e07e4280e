"""Services that declare one event differently: that type is refused, loudly, and everything else flows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from thence import Event, Node, SchemaMismatch, Service
from thence.testing import run


class Moved(Event, key="player"):
    player: str


class Found(Event, key="player", name="found"):
    player: str
    clue: int


class OtherFound(Event, key="player", name="found"):
    player: str
    clue: str


class LaterFound(Event, key="player", name="found"):
    player: str
    clue: int
    hunt: str = "h1"


def listener(name: str, heard: list[Any], *types: type[Event]) -> Service:
    service = Service(name)
    for number, kind in enumerate(types):

        @service.on(kind, name=f"note-{number}")
        async def note(event: Event) -> None:
            heard.append(event)

    return service


def test_an_event_that_nobody_can_understand_raises_and_other_types_flow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> list[Any]:
        heard: list[Any] = []
        clues = listener("clues", heard, OtherFound, Moved)
        async with Node(clues, mesh="memory:clash", name="clues-node"):
            sender = Service("players")
            async with Node(sender, mesh="memory:clash", name="players-node") as node:
                with pytest.raises(SchemaMismatch, match=r"clue") as caught:
                    await node.emit(Found(player="ana", clue=1))
                for part in ("found", "clue", "players-node", "'clues'"):
                    assert part in str(caught.value)
                await node.emit(Moved(player="ana"))
                await asyncio.sleep(0.1)
        return heard

    assert run(main()) == [Moved(player="ana")]
    sender, receiver, summary = (record.getMessage() for record in caplog.records)
    assert summary == "players-node: 1 event: found not sent to clues: schema"
    assert "is not sent from players-node to service 'clues'" in sender
    assert receiver.startswith("clues-node: <Link to players-node> does not send")
    for line in (sender, receiver):
        assert "event 'found'" in line
        assert "field 'clue'" in line


def test_who_understands_an_event_gets_it_and_the_receipt_names_who_does_not() -> None:
    async def main() -> None:
        heard: list[Any] = []
        clues = listener("clues", heard, OtherFound)
        hunts = listener("hunts", heard, Found)
        async with (
            Node(clues, mesh="memory:half"),
            Node(hunts, mesh="memory:half"),
            Node(mesh="memory:half") as node,
        ):
            receipt = await node.emit(Found(player="ana", clue=1))
            await asyncio.sleep(0.1)
            assert receipt.targets == ("hunts",)
            (refusal,) = receipt.refused
            assert refusal.service == "clues"
            assert "clue" in refusal.reason
        assert heard == [Found(player="ana", clue=1)]

    run(main())


def test_a_field_with_a_default_may_be_appended_by_readers_and_by_writers() -> None:
    async def main() -> None:
        heard: list[Any] = []
        old = listener("old", heard, Found)
        new = listener("new", heard, LaterFound)
        async with (
            Node(old, mesh="memory:later"),
            Node(new, mesh="memory:later"),
            Node(mesh="memory:later") as node,
            Node(mesh="memory:later") as later,
        ):
            await node.emit(Found(player="ana", clue=1))
            await later.emit(LaterFound(player="bo", clue=2, hunt="h2"))
            await asyncio.sleep(0.1)
        assert sorted(heard, key=repr) == [
            Found(player="ana", clue=1),
            Found(player="bo", clue=2),
            LaterFound(player="ana", clue=1, hunt="h1"),
            LaterFound(player="bo", clue=2, hunt="h2"),
        ]

    run(main())
