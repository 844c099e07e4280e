"""What both checkers must reject about services, each line marked."""

from __future__ import annotations

from thence import Event, Node, Service


class ClueFound(Event, key="player"):
    player: str


class Hint(Event):
    text: str


scores = Service("scores")


@scores.on(ClueFound)  # rejected: the parameter is another event
async def another(event: Hint) -> None: ...


@scores.on(ClueFound, Hint)  # rejected: the parameter is only one of the two
async def only_one(event: Hint) -> None: ...


@scores.on(ClueFound)  # rejected: a number is no event
async def a_number(event: ClueFound) -> int:
    return 1


@scores.on(ClueFound, concurency=3)  # rejected: a misspelt policy
async def misspelt(event: ClueFound) -> None: ...


async def use(node: Node) -> None:
    await node.emit("clue found")  # rejected: a text is no event
    Service("scores", lifetime=None)  # rejected: a misspelt argument
