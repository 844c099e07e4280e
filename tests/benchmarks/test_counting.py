"""Receivers account for every event of a round."""

import asyncio

import pytest
from benchmarks.contestants import contract
from benchmarks.contestants.contract import Place, Receiver

PLACE = Place(directory="/nowhere", token="test")


def receive(receiver: Receiver, events: int) -> None:
    """Do what every contestant's handler does."""
    for _ in range(events):
        receiver.tally.count += 1
        if receiver.tally.count >= receiver.tally.expected:
            receiver.tally.finish()


def test_a_round_ends_with_its_last_event() -> None:
    async def scenario() -> contract.Handled:
        receiver = Receiver(PLACE)
        await receiver.expect(3)
        asyncio.get_running_loop().call_soon(receive, receiver, 3)
        return await receiver.handled()

    assert asyncio.run(scenario()).handled == 3


def test_a_round_that_loses_events_ends_too_and_says_how_many_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contract, "STALL_SECONDS", 0.001)

    async def scenario() -> contract.Handled:
        receiver = Receiver(PLACE)
        await receiver.expect(3)
        receive(receiver, 2)
        return await receiver.handled()

    assert asyncio.run(scenario()).handled == 2


def test_events_that_come_twice_are_told_with_the_next_round() -> None:
    async def scenario() -> contract.Handled:
        receiver = Receiver(PLACE)
        await receiver.expect(3)
        receive(receiver, 4)
        await receiver.handled()
        await receiver.expect(1)
        receive(receiver, 1)
        return await receiver.handled()

    assert asyncio.run(scenario()).surplus == 1
