"""What type checkers must reject of events, line by line."""

from __future__ import annotations

from thence.events import Event, spec_of


class ClueFound(Event, key="player"):
    player: str
    clue: int = 0


class Misspelt(Event, kee="player"):  # rejected: a misspelt policy keyword
    player: str


class MisspeltBelow(ClueFound, max_byte=3):  # rejected: a misspelt keyword on a subclass
    more: int = 0


class WrongPolicy(Event, max_bytes="1k"):  # rejected: a policy value of the wrong type
    player: str


class BarePrivate(Event, private="player"):  # rejected: a text where field names are listed
    player: str


found = ClueFound("ana")
found.clue = 3  # rejected: assignment to a field
found.colour = "red"  # rejected: assignment to no field
print(found.colour)  # rejected: a field that doesn't exist
ClueFound(3)  # rejected: a wrong argument by position
ClueFound(player="ana", clue="3")  # rejected: a wrong argument by name
ClueFound("ana", 3, 4)  # rejected: an argument too many
ClueFound("ana", colour="red")  # rejected: an argument that is no field
ClueFound()  # rejected: a missing argument


class Disordered(Event):
    number: int = 0
    text: str  # rejected: a required field after one with a default


class NoEvent:
    player: str


spec_of(NoEvent)  # rejected: a class that is no event
spec_of(found)  # rejected: an event where its type is needed
spec_of(ClueFound).seal("ana")  # rejected: something else to seal
number: int = spec_of(ClueFound).decode(b"").player  # rejected: a field of another type
