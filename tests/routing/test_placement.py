"""The order of every key, with an emitter, its old and new owners, and joins, leaves and deaths at random."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from thence.routing.placement import Hold, Placement
from thence.routing.replicas import block_of

KEYS = [f"player-{number}" for number in range(12)]


@dataclass
class Parcel:
    key: str
    number: int
    block: int = 0


@dataclass
class World:
    """One emitter, and replicas that each take from their stream in order whenever they please."""

    streams: dict[str, deque[Parcel | Hold[Parcel]]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    handled: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    lost: list[Parcel] = field(default_factory=list)
    given_back: set[tuple[str, int]] = field(default_factory=set)
    """What follows an event that was given back goes back too, up to the fence."""
    held_up: list[Hold[Parcel]] = field(default_factory=list)
    """What waits for room at its new owner."""
    emitted: int = 0

    def __post_init__(self) -> None:
        self.placement: Placement[Parcel] = Placement(
            "scores",
            outstanding=lambda node: any(isinstance(one, Parcel) for one in self.streams[node]),
            fence=lambda hold: self.streams[hold.old_owner].append(hold),
            changed=lambda: None,
        )

    def emit(self, key: str) -> None:
        self.emitted += 1
        parcel = Parcel(key, self.emitted)
        parcel.block, hold = self.placement.hold_for(key)
        if hold is not None:
            hold.waiting.append(parcel)
        else:
            self.send(parcel)

    def send(self, parcel: Parcel) -> None:
        owner = self.placement.owner_of(parcel.block)
        if owner is None:
            self.lost.append(parcel)
        else:
            self.streams[owner].append(parcel)

    def work(self, node: str, *, unwilling: bool = False) -> None:
        """The replica ends the next thing in its stream, or gives it back if it is not its own any more.

        Or is ``unwilling``: it thinks so, as it has not heard yet of replicas that have come or gone.
        """
        if not self.streams[node]:
            return
        one = self.streams[node].popleft()
        if isinstance(one, Hold):
            self.given_back -= {(node, block) for block in one.blocks}
            self.release(one)
        elif (node, one.block) in self.given_back:
            self.placement.give_back(one, node, self.placement.owner_of(one.block) or "")
        elif not unwilling and self.placement.owner_of(one.block) in {node, None}:
            self.handled[one.key].append(one.number)
        else:
            self.given_back.add((node, one.block))
            self.placement.give_back(one, node, self.placement.owner_of(one.block) or "")

    def release(self, hold: Hold[Parcel]) -> None:
        """There is room for only two at a time."""
        hold.fenced = True
        for _ in range(2):
            if waiting := hold.returned or hold.waiting:
                self.send(waiting.popleft())
        if hold:
            self.held_up.append(hold)
        else:
            self.placement.release(hold)

    def go_on(self) -> None:
        """There is room again."""
        held_up, self.held_up = self.held_up, []
        for hold in held_up:
            self.release(hold)

    def die(self, node: str) -> None:
        stream = self.streams.pop(node, deque())
        self.lost += [one for one in stream if isinstance(one, Parcel)]
        self.placement.update(self.placement.nodes - {node}, dead=node)
        for hold in [one for one in stream if isinstance(one, Hold)]:
            self.release(hold)


moves = st.one_of(
    st.tuples(st.just("emit"), st.sampled_from(KEYS)),
    st.tuples(st.just("work"), st.sampled_from("abcd")),
    st.tuples(st.just("refuse"), st.sampled_from("abcd")),
    st.tuples(st.just("go on"), st.just("")),
    st.tuples(st.just("join"), st.sampled_from("abcd")),
    st.tuples(st.just("leave"), st.sampled_from("abcd")),
    st.tuples(st.just("die"), st.sampled_from("abcd")),
)


OWNER_CHANGES_WHILE_HELD_UP = [
    ("emit", "player-0"),
    ("join", "c"),
    *[("emit", "player-0")] * 3,
    ("join", "b"),
    ("die", "a"),
    ("leave", "c"),
]
"""Two of those that waited were sent on to c, the third would go to b before c has ended or given them back."""


@settings(max_examples=400)
@given(st.lists(moves, max_size=120))
@example(OWNER_CHANGES_WHILE_HELD_UP)
def test_each_key_keeps_its_order_and_no_event_is_handled_twice_or_forgotten(script):
    world = World()
    dead: set[str] = set()
    world.placement.update({"a"})
    for move, argument in script:
        nodes = world.placement.nodes
        if argument in dead:
            continue
        if move == "emit":
            world.emit(argument)
        elif move == "work":
            world.work(argument)
        elif move == "refuse":
            world.work(argument, unwilling=True)
        elif move == "go on":
            world.go_on()
        elif move == "join":
            world.placement.update(nodes | {argument})
        elif move == "leave":
            world.placement.update(nodes - {argument})
        elif move == "die" and argument in nodes:
            dead.add(argument)
            world.die(argument)
    while any(world.streams.values()) or world.held_up:
        world.go_on()
        for node in list(world.streams):
            world.work(node)
    for numbers in world.handled.values():
        assert numbers == sorted(numbers)
        assert len(set(numbers)) == len(numbers)
    handled = sum(map(len, world.handled.values()))
    assert handled + len(world.lost) == world.emitted
    assert not world.placement.holds


def test_only_blocks_that_move_are_held_and_only_while_something_is_on_its_way():
    world = World()
    world.placement.update({"a"})
    world.placement.update({"a", "b"})
    assert not world.placement.holds
    world.emit("player-1")
    world.placement.update({"a"})
    world.placement.update({"a", "b", "c"})
    moved = {block for block in range(256) if world.placement.owner_of(block) != "a"}
    assert set(world.placement.holds) <= moved | {block_of("player-1")}


def test_what_comes_back_after_it_was_sent_on_goes_again_before_what_still_waited_for_room():
    world = World()
    world.placement.update({"a"})
    replicas = Placement("scores", outstanding=bool, fence=id, changed=list)
    replicas.update({"a", "b"})
    key = next(key for key in KEYS if replicas.owner_of(block_of(key)) == "b")
    for _ in range(4):
        world.emit(key)
    world.placement.update({"a", "b"})
    for _ in range(5):
        world.work("a")
    assert len(world.held_up) == 1
    world.work("b", unwilling=True)
    while any(world.streams.values()) or world.held_up:
        world.go_on()
        world.work("b")
    assert world.handled == {key: [1, 2, 3, 4]}
    assert not world.placement.holds
