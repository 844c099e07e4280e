"""What ``thence trace`` and ``thence why`` say where somebody answers nonsense, or the question is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import pytest
from tests.delivery.cascading import running

from thence import Event, Node, Service
from thence.cli.exits import CommandError, Exit
from thence.cli.trace import _trace
from thence.cli.why import _why
from thence.observability.accounts import Account
from thence.testing import run

_meshes = count()


class Clue(Event, key="player"):
    player: str


class Lost(Event):
    text: str


async def ending(
    mesh: str,
    event: str | None = None,
    *,
    last: str | None = None,
    failed: bool = False,
    as_json: bool = False,
    why: bool = False,
    timeline: bool = False,
) -> tuple[int, str]:
    """The exit code, and what is said on stderr."""
    try:
        if why:
            return await _why(event, last, failed, mesh, as_json), ""
        return await _trace(event, last, failed, False, timeline, mesh, as_json), ""
    except CommandError as error:
        return error.code, str(error)


def answering(node: Node, question: str, answer: Callable[[Any], Any]) -> None:
    """Have a node answer like that, as if it were of another version, or hostile."""
    assert node._runtime is not None
    traffic = node._runtime.traffic
    traffic._answers = {**traffic._answers, question: answer}


def odd_answers(node: str) -> dict[str, Callable[[Any], Any]]:
    account = Account(node, "odd", 1.0, 0.0, 0.0)
    newer = msgspec.to_builtins(account)
    fact = ["swallowed", [node, 1], "clue"]
    return {
        "garbage": lambda _: b"\xc1\xff",
        "no account": lambda _: msgspec.msgpack.encode([1, 2]),
        "a fact of a newer version": lambda _: msgspec.msgpack.encode({**newer, "facts": [fact]}),
        "another's name": lambda _: Account("0" * 20, "odd", 1.0, 0.0, 0.0).encode(),
        "no moments": lambda _: Account(node, "odd", float("nan"), 0.0, 0.0).encode(),
    }


@pytest.mark.parametrize("why", [False, True])
@pytest.mark.parametrize("odd", sorted(odd_answers("")))
def test_who_answers_in_a_way_that_is_not_understood_is_named(
    odd: str, why: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        mesh = f"memory:odd-{next(_meshes)}"
        good, strange = Node(mesh=mesh, name="good"), Node(mesh=mesh, name="odd")
        async with running(good, strange):
            await good.emit(Clue("ana"))
            answering(strange, "account", odd_answers(strange.report().node)[odd])
            assert await ending(mesh, last="clue", why=why) == (Exit.PARTIAL, "")
            assert "odd is not understood here" in capsys.readouterr().out
            assert await ending(mesh, last="clue", why=why, as_json=True) == (Exit.PARTIAL, "")
            assert json.loads(capsys.readouterr().out)["not_understood"] == ["odd"]
            code, said = await ending(mesh, "player=nobody", why=why)
            assert code == Exit.PARTIAL
            assert "odd in a way that is not understood here" in said
            await good.close()
            code, said = await ending(mesh, last="clue", why=why)
            assert code == Exit.NOBODY
            assert "odd in a way that is not understood here" in said

    run(main())


def test_fields_that_a_newer_version_has_added_are_passed_over() -> None:
    async def main() -> None:
        mesh = f"memory:odd-{next(_meshes)}"
        good, newer = Node(mesh=mesh, name="good"), Node(mesh=mesh, name="newer")
        async with running(good, newer):
            await good.emit(Clue("ana"))
            account = Account(newer.report().node, "newer", 1.0, 0.0, 0.0)
            more = {**msgspec.to_builtins(account), "mood": "fine"}
            answering(newer, "account", lambda _: msgspec.msgpack.encode(more))
            assert await ending(mesh, last="clue") == (Exit.DONE, "")

    run(main())


def test_who_does_not_know_the_question_is_silent() -> None:
    async def main() -> None:
        mesh = f"memory:odd-{next(_meshes)}"
        good, older = Node(mesh=mesh, name="good"), Node(mesh=mesh, name="older")
        async with running(good, older):
            await good.emit(Clue("ana"))
            answering(older, "account", lambda _: None)
            assert (await ending(mesh, last="clue"))[0] == Exit.PARTIAL

    run(main())


def test_a_report_that_is_none_is_no_trouble_where_nothing_is_found() -> None:
    async def main() -> None:
        mesh = f"memory:odd-{next(_meshes)}"
        good, strange = Node(mesh=mesh, name="good"), Node(mesh=mesh, name="odd")
        async with running(good, strange):
            await good.emit(Clue("ana"))
            answering(strange, "report", lambda _: b"\xc1")
            code, said = await ending(mesh, last="cleu")
            assert code == Exit.NOT_FOUND
            assert "'clue'" in said

    run(main())


@pytest.mark.parametrize("why", [False, True])
@pytest.mark.parametrize(
    ("question", "told"),
    [
        ({}, "say which event"),
        ({"event": ""}, "say which event"),
        ({"event": "player=ana", "last": "clue"}, "say which event"),
        ({"event": "player=ana", "failed": True}, "say which event"),
        ({"event": "clue_found"}, "--last clue_found"),
        ({"event": "…"}, "is no identifier"),
        ({"event": "=ana"}, "write KEY=VALUE"),
        ({"event": "player="}, "write KEY=VALUE"),
        ({"event": "0" * 33}, "is no identifier"),
    ],
)
def test_what_can_not_be_meant_is_wrong_usage(
    why: bool, question: dict[str, Any], told: str
) -> None:
    async def main() -> None:
        code, said = await ending(f"memory:odd-{next(_meshes)}", why=why, **question)
        assert code == Exit.USAGE
        assert told in said

    run(main())


def test_texts_from_others_move_no_cursor_and_break_no_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    service = Service("finders")

    @service.on(Lost)
    async def find(lost: Lost) -> None:
        raise ValueError(lost.text)

    async def main() -> None:
        mesh = f"memory:odd-{next(_meshes)}"
        async with Node(service, mesh=mesh, name="sly\x1b[2J\nnode") as node:
            await node.emit(Lost("one\ntwo\x1b[31m three\r\x07[bold]four[/bold]"))
            for why in (False, True):
                assert await ending(mesh, failed=True, why=why) == (Exit.DONE, "")
            assert await ending(mesh, failed=True, timeline=True) == (Exit.DONE, "")
            shown = capsys.readouterr().out
            assert not {"\x1b", "\r", "\x07"} & set(shown)
            assert "one two" in shown
            assert "[bold]four[/bold]" in shown

    run(main())
