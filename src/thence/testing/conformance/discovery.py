"""What discovery promises, whatever it finds peers with."""

from __future__ import annotations

import asyncio
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

from msgspec import Struct

from thence.identifiers import new_node_id
from thence.mesh.discovery.contract import BlockLocks, Descriptor, Discovery
from thence.routing.replicas import BLOCKS
from thence.testing.conformance.waiting import eventually

__all__ = ["DiscoveryConformance", "Views"]


class Views(Struct, frozen=True):
    """How to make what is tested."""

    join: Callable[[str], Discovery]
    """The view of a new node with that id; all of them are of one mesh."""
    crash: Callable[[str, Discovery], Awaitable[None]]
    """Let that node end as if its process had been killed: it does nothing any more."""


class Member:
    """One node of a test's mesh."""

    def __init__(self, views: Views, name: str) -> None:
        self.node = new_node_id()
        self.discovery = views.join(self.node)
        self.descriptor = Descriptor(
            node=self.node,
            name=name,
            address=self.discovery.default_address(self.node),
            services=("scores", "Zähler/ü"),
            pid=os.getpid(),
        )
        self.changes = 0

    async def start(self) -> None:
        """Watch and be visible."""
        await self.discovery.open(self.changed)
        await self.discovery.announce(self.descriptor)

    def sees(self, other: Member) -> bool:
        """Whether that one is among the peers, as it described itself."""
        return other.descriptor in self.discovery.peers()

    def changed(self) -> None:
        """What discovery calls."""
        self.changes += 1


class DiscoveryConformance(ABC):
    """Subclass, and implement :meth:`views`."""

    within = 10.0
    """Seconds in which everybody has to notice a change."""

    @abstractmethod
    def views(self) -> AbstractAsyncContextManager[Views]:
        """A new mesh without nodes; cleaned up at the end."""

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run one test. Override to use another event loop."""
        asyncio.run(main)

    # -- who is there

    def test_everybody_announced_earlier_is_found(self) -> None:
        """At once, and exactly as they described themselves."""

        async def main(mesh: _Mesh) -> None:
            earlier = [await mesh.member() for _ in range(20)]
            newcomer = await mesh.member()
            found = list(newcomer.discovery.peers())
            assert len(found) == 20, f"found {len(found)} of 20"
            assert all(newcomer.sees(member) for member in earlier)

        self._run(main)

    def test_of_two_that_announce_at_once_one_finds_the_other(self) -> None:
        """So a knock is enough to bring everybody together."""

        async def main(mesh: _Mesh) -> None:
            for _ in range(20):
                one, other = mesh.newcomer(), mesh.newcomer()
                await asyncio.gather(one.start(), other.start())
                assert one.sees(other) or other.sees(one), "they missed each other"

        self._run(main)

    def test_nobody_finds_themselves(self) -> None:
        """A peer is somebody else."""

        async def main(mesh: _Mesh) -> None:
            member = await mesh.member()
            assert not list(member.discovery.peers())

        self._run(main)

    def test_newcomers_are_noticed(self) -> None:
        """By those who were there first, who are told."""

        async def main(mesh: _Mesh) -> None:
            first = await mesh.member()
            assert not first.discovery.peers()
            newcomer = await mesh.member()
            await eventually(lambda: first.changes, within=self.within, what="a call of changed")
            assert first.sees(newcomer)

        self._run(main)

    def test_one_who_only_watches_sees_and_is_not_seen(self) -> None:
        """For tools that look at a mesh without being part of it."""

        async def main(mesh: _Mesh) -> None:
            member = await mesh.member()
            watcher = mesh.newcomer()
            await watcher.discovery.open(watcher.changed)
            assert watcher.sees(member)
            assert not member.discovery.peers()

        self._run(main)

    def test_default_addresses_differ(self) -> None:
        """Each node gets one of its own, always the same."""

        async def main(mesh: _Mesh) -> None:
            members = [mesh.newcomer() for _ in range(10)]
            assert len({member.descriptor.address for member in members}) == 10
            again = members[0].discovery.default_address(members[0].node)
            assert again == members[0].descriptor.address

        self._run(main)

    # -- who is dead

    def test_one_who_lives_is_not_dead(self) -> None:
        """Neither for others nor for itself."""

        async def main(mesh: _Mesh) -> None:
            one, other = await mesh.member(), await mesh.member()
            assert not one.discovery.is_dead(other.node)
            assert not other.discovery.is_dead(one.node)
            assert not one.discovery.is_dead(one.node)

        self._run(main)

    def test_one_who_has_withdrawn_is_invisible_yet_not_dead(self) -> None:
        """And keeps its locks: it is still finishing its work."""

        async def main(mesh: _Mesh) -> None:
            one, other = await mesh.member(), await mesh.member()
            assert one.sees(other)
            assert other.discovery.block_locks("scores").acquire([7]) == {7}
            await other.discovery.withdraw()
            await eventually(lambda: not one.sees(other), within=self.within)
            assert not (await mesh.member()).sees(other), "a newcomer still finds it"
            assert not one.discovery.is_dead(other.node)
            assert one.discovery.block_locks("scores").acquire([7]) == set()
            await other.discovery.close()
            assert one.discovery.is_dead(other.node)

        self._run(main)

    def test_one_who_has_closed_is_dead_and_invisible(self) -> None:
        """At once for who asks; the others are told."""

        async def main(mesh: _Mesh) -> None:
            one, other = await mesh.member(), await mesh.member()
            assert one.sees(other)
            await eventually(lambda: one.changes, within=self.within)
            one.changes = 0
            await other.discovery.close()
            assert one.discovery.is_dead(other.node)
            await eventually(lambda: one.changes, within=self.within, what="a call of changed")
            assert not one.sees(other)

        self._run(main)

    def test_one_who_has_crashed_is_dead_and_invisible(self) -> None:
        """Also for newcomers, and although it removed nothing."""

        async def main(mesh: _Mesh) -> None:
            one, other = await mesh.member(), await mesh.member()
            assert one.sees(other)
            await mesh.crash(other)
            await eventually(lambda: one.discovery.is_dead(other.node), within=self.within)
            await eventually(lambda: not one.sees(other), within=self.within)
            assert not (await mesh.member()).sees(other), "a newcomer still finds it"
            assert one.discovery.is_dead(other.node), "who is dead stays dead"

        self._run(main)

    def test_a_crash_is_noticed_by_those_who_do_not_ask(self) -> None:
        """Somebody looks from time to time, and tells."""

        async def main(mesh: _Mesh) -> None:
            members = [await mesh.member() for _ in range(12)]
            crashing = members[3:9]
            for member in crashing:
                await mesh.crash(member)
            rest = members[:3] + members[9:]
            for member in rest:
                await eventually(
                    lambda member=member: not any(map(member.sees, crashing)),  # type: ignore[misc]
                    within=self.within,
                    what="the disappearance of the dead",
                )
                assert all(member.sees(other) for other in rest if other is not member)

        self._run(main)

    def test_a_stranger_is_dead(self) -> None:
        """Also one whose id is nonsense, as it may come from a stranger too."""

        async def main(mesh: _Mesh) -> None:
            member = await mesh.member()
            assert member.discovery.is_dead(new_node_id())
            for nonsense in ("", "../../etc/passwd", "a" * 1000, "\0", "ü"):
                assert member.discovery.is_dead(nonsense)

        self._run(main)

    def test_close_is_idempotent_and_possible_at_any_time(self) -> None:
        """Before open, before announce, twice."""

        async def main(mesh: _Mesh) -> None:
            other = await mesh.member()
            unopened, unannounced = mesh.newcomer(), mesh.newcomer()
            await unannounced.discovery.open(unannounced.changed)
            for member in (unopened, unannounced, other):
                await member.discovery.close()
                await member.discovery.close()

        self._run(main)

    # -- locks

    def test_a_lock_is_held_by_one(self) -> None:
        """The second one gets nothing, until the first gives back."""

        async def main(mesh: _Mesh) -> None:
            one, other = await mesh.locks(), await mesh.locks()
            assert one.acquire([3, 4, 5]) == {3, 4, 5}
            assert other.acquire([5, 6]) == {6}
            assert other.acquire([3]) == set()
            assert one.acquire([3, 4, 5, 6]) == {3, 4, 5}, "what is held counts as acquired"
            one.release([4, 5])
            assert other.acquire([3, 4, 5, 6]) == {4, 5, 6}
            assert one.acquire([4]) == set()

        self._run(main)

    def test_all_blocks_can_be_held_and_given_back(self) -> None:
        """Together, and in any pattern."""

        async def main(mesh: _Mesh) -> None:
            one, other = await mesh.locks(), await mesh.locks()
            everything = set(range(BLOCKS))
            assert one.acquire(everything) == everything
            assert other.acquire(everything) == set()
            odd = {block for block in everything if block % 2}
            one.release(odd)
            assert other.acquire(everything) == odd
            one.release(everything)
            assert one.acquire(everything) == everything - odd
            other.release(odd)
            assert one.acquire(everything) == everything

        self._run(main)

    def test_giving_back_what_is_not_held_changes_nothing(self) -> None:
        """Least of all for who holds it."""

        async def main(mesh: _Mesh) -> None:
            one, other, third = await mesh.locks(), await mesh.locks(), await mesh.locks()
            assert one.acquire([10]) == {10}
            other.release([10, 11])
            assert third.acquire([10]) == set()
            assert other.acquire([9, 12]) == {9, 12}
            other.release(range(BLOCKS))
            assert third.acquire([9, 10, 12]) == {9, 12}

        self._run(main)

    def test_services_do_not_share_locks(self) -> None:
        """Whatever their names."""

        async def main(mesh: _Mesh) -> None:
            one, other = await mesh.member(), await mesh.member()
            names = ("scores", "Scores", "a/b", "a%2fb", "ü", "..", "x" * 300, "x" * 301)
            for name in names:
                assert one.discovery.block_locks(name).acquire([0]) == {0}, name
            for name in names:
                assert other.discovery.block_locks(name).acquire([0, 1]) == {1}, name

        self._run(main)

    def test_a_service_s_locks_are_the_same_wherever_they_are_asked_for(self) -> None:
        """One node holds a lock as one, not once for each call of block_locks."""

        async def main(mesh: _Mesh) -> None:
            member = await mesh.member()
            assert member.discovery.block_locks("scores").acquire([1]) == {1}
            assert member.discovery.block_locks("scores").acquire([1]) == {1}
            member.discovery.block_locks("scores").release([1])
            assert (await mesh.locks()).acquire([1]) == {1}

        self._run(main)

    def test_closing_frees_locks_and_takes_no_more(self) -> None:
        """At once."""

        async def main(mesh: _Mesh) -> None:
            one, other = await mesh.member(), await mesh.member()
            locks = one.discovery.block_locks("scores")
            assert locks.acquire([1, 2]) == {1, 2}
            await one.discovery.close()
            assert other.discovery.block_locks("scores").acquire([1, 2]) == {1, 2}
            other.discovery.block_locks("scores").release([1, 2])
            assert locks.acquire([1, 2]) == set()
            locks.release([1, 2])

        self._run(main)

    def test_a_death_frees_locks(self) -> None:
        """Certainly, and without anybody's help."""

        async def main(mesh: _Mesh) -> None:
            one, other = await mesh.member(), await mesh.member()
            everything = set(range(BLOCKS))
            assert one.discovery.block_locks("scores").acquire(everything) == everything
            locks = other.discovery.block_locks("scores")
            assert locks.acquire(everything) == set()
            await mesh.crash(one)
            await eventually(lambda: locks.acquire(everything) == everything, within=self.within)

        self._run(main)

    def test_no_lock_is_ever_held_by_two(self) -> None:
        """Whatever they do, and they come and go."""

        async def main(mesh: _Mesh) -> None:
            chance = random.Random(5)
            members = [await mesh.member() for _ in range(4)]
            held: dict[str, set[int]] = {member.node: set() for member in members}
            for _ in range(600):
                turn = chance.randrange(len(members))
                member = members[turn]
                mine = held[member.node]
                others = set[int]().union(*(held[m.node] for m in members if m is not member))
                locks = member.discovery.block_locks("scores")
                blocks = chance.sample(range(40), chance.randrange(1, 40))
                action = chance.random()
                if action < 0.6:
                    got = locks.acquire(blocks)
                    assert got == set(blocks) - others, "what is free is given, and nothing else"
                    mine |= got
                elif action < 0.95:
                    locks.release(blocks)
                    mine -= set(blocks)
                else:
                    await (mesh.crash(member) if action < 0.97 else member.discovery.close())
                    members[turn] = await mesh.member()
                    held[members[turn].node] = set()

        self._run(main)

    def _run(self, test: Callable[[_Mesh], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with self.views() as views:
                mesh = _Mesh(views)
                try:
                    await test(mesh)
                finally:
                    await mesh.close()

        self.run(main())


class _Mesh:
    """The nodes of one test."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._members: list[Member] = []
        self._crashed: set[str] = set()

    def newcomer(self) -> Member:
        """A node that has not started."""
        member = Member(self._views, f"member-{len(self._members)}")
        self._members.append(member)
        return member

    async def member(self) -> Member:
        """A node that has started."""
        member = self.newcomer()
        await member.start()
        return member

    async def locks(self) -> BlockLocks:
        """A new node's locks on one service."""
        return (await self.member()).discovery.block_locks("scores")

    async def crash(self, member: Member) -> None:
        """Let that node end without a word."""
        self._crashed.add(member.node)
        await self._views.crash(member.node, member.discovery)

    async def close(self) -> None:
        """End everybody who has not ended."""
        for member in self._members:
            if member.node not in self._crashed:
                await member.discovery.close()
