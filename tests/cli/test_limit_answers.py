"""What ``thence limit`` says, and how it ends, when not everybody answers or can do what was asked."""

from __future__ import annotations

import getpass
import json
import os
from typing import Any

import pytest

from thence import ConfigurationError, Event, Node, Service
from thence.cli.exits import CommandError, Exit
from thence.cli.limit import _limit, _user
from thence.testing import MemoryMesh, run

NAME = "answers"
MESH = f"memory:{NAME}"


class Asked(Event):
    number: int


class AskedAgain(Event, name="asked"):
    """The next version of it."""

    number: int
    team: str = ""


class Other(Event):
    number: int


def hints(event: Any = Asked, name: str = "hints") -> Service:
    service = Service(name)

    @service.on(event, limit="9/s", name="offer")
    async def offer(asked: Any) -> None:
        pass

    return service


def limits(node: Node) -> tuple[str, ...]:
    (handler,) = node.report().handlers
    return handler.limits


async def ending(handler: str, rate: str, *, as_json: bool = False) -> tuple[int, str]:
    """The exit code, and what is said on stderr."""
    try:
        return await _limit(handler, rate, MESH, as_json), ""
    except CommandError as error:
        return error.code, str(error)


def test_when_nobody_answers_those_who_are_silent_are_named() -> None:
    async def main() -> tuple[int, str]:
        async with Node(hints(), mesh=MESH, name="one") as one:
            MemoryMesh.named(NAME).stop("one")
            ended = await ending("hints.offer", "5/s")
            MemoryMesh.named(NAME).resume("one")
            assert limits(one) == ("9/s",)
        return ended

    code, said = run(main())
    assert code == Exit.NOBODY
    assert "one" in said
    assert "thence run" not in said


def test_a_handler_that_may_be_with_who_is_silent_is_not_said_to_be_nowhere() -> None:
    async def main() -> tuple[int, str]:
        async with (
            Node(hints(), mesh=MESH, name="one"),
            Node(hints(Other, "other"), mesh=MESH, name="two"),
        ):
            MemoryMesh.named(NAME).stop("one")
            ended = await ending("hints.offer", "5/s")
            MemoryMesh.named(NAME).resume("one")
        return ended

    code, said = run(main())
    assert code == Exit.PARTIAL
    assert "silent: one" in said


def test_a_replica_that_is_silent_is_named_beside_those_that_changed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main() -> tuple[int, str]:
        async with (
            Node(hints(), mesh=MESH, name="one"),
            Node(hints(), mesh=MESH, name="two") as two,
        ):
            MemoryMesh.named(NAME).stop("one")
            ended = await ending("hints.offer", "5/s")
            MemoryMesh.named(NAME).resume("one")
            assert limits(two) == ("5/s",)
        return ended

    assert run(main()) == (Exit.PARTIAL, "")
    assert capsys.readouterr().out.splitlines() == [
        "hints.offer: 9/s → 5/s on 1 replica",
        "silent, and perhaps unchanged: one",
    ]


def test_what_one_version_can_not_keep_is_told_beside_what_the_others_changed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main() -> None:
        async with (
            Node(hints(AskedAgain), mesh=MESH, name="new") as new,
            Node(hints(), mesh=MESH, name="old") as old,
        ):
            for as_json in (False, True):
                assert await ending("hints.offer", "5/s per team", as_json=as_json) == (
                    Exit.PARTIAL,
                    "",
                )
                assert (limits(new), limits(old)) == (("5/s per team",), ("9/s",))

    run(main())
    first, second, document = capsys.readouterr().out.splitlines()
    assert first == "hints.offer: 9/s → 5/s per team on 1 replica"
    assert second.startswith("refused by old: limit for 'hints.offer'")
    assert "Asked has no such field" in second
    told = json.loads(document)
    assert [change["node"] for change in told["changes"]] == ["new"]
    assert [refusal["node"] for refusal in told["refused"]] == ["old"]


@pytest.mark.parametrize("who", ["new", "old", "operator"])
def test_whoever_asks_hears_of_every_change_and_every_refusal(who: str) -> None:
    async def main() -> None:
        async with (
            Node(hints(AskedAgain), mesh=MESH, name="new") as new,
            Node(hints(), mesh=MESH, name="old") as old,
            Node(mesh=MESH, name="operator") as operator,
        ):
            asking = {"new": new, "old": old, "operator": operator}[who]
            changes, silent = await asking.set_limit("hints.offer", "5/s per team", by="ana")
            assert silent == []
            assert {(c.node, c.before, c.after, bool(c.refused)) for c in changes} == {
                ("new", "9/s", "5/s per team", False),
                ("old", "", "", True),
            }

    run(main())


def test_what_nobody_can_keep_is_an_error_that_names_the_fix() -> None:
    async def main() -> None:
        async with (
            Node(hints(), mesh=MESH, name="one"),
            Node(hints(), mesh=MESH, name="two") as two,
        ):
            with pytest.raises(ConfigurationError, match="no such field: its fields are number"):
                await two.set_limit("hints.offer", "5/s per team", by="ana")

    run(main())


@pytest.mark.parametrize("error", [KeyError("uid not found"), OSError("No username set")])
def test_who_changed_it_is_told_for_users_without_a_name_too(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def getuser() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", getuser)
    assert _user() == f"uid {os.getuid()}"


def test_nobody_there_at_all_is_told_with_what_to_do() -> None:
    code, said = run(ending("hints.offer", "5/s"))
    assert code == Exit.NOBODY
    assert "thence run" in said
