"""Asking all nodes of a mesh about an event."""

from __future__ import annotations

import asyncio

import msgspec
from msgspec import Struct

from thence.app.runtime import Runtime
from thence.mesh.link import Link
from thence.mesh.peers import NoAnswer
from thence.observability.accounts import Account, Question, decode_account
from thence.observability.assembly import Heard

__all__ = ["Answers", "ask_all"]


class Answers(Struct):
    """What was heard."""

    heard: list[Heard]
    silent: list[str]
    """The names of nodes that are there and did not answer, or not in a way that is understood here."""


async def ask_all(runtime: Runtime, question: Question, timeout: float) -> Answers:
    """Ask this node and all others."""
    links = list(runtime.peers.links.values())
    argument = msgspec.msgpack.encode(question)
    told = await asyncio.gather(*(_ask(runtime, link, argument, timeout) for link in links))
    own = Heard(await runtime.witness.account(question))
    answers = Answers([own, *_former(own)], runtime.unlinked())
    for link, one in zip(links, told, strict=True):
        if one is not None:
            answers.heard += [one, *_former(one)]
        else:
            answers.silent.append(link.peer.name if link.peer is not None else link.node)
    answers.silent.sort()
    return answers


def _former(heard: Heard) -> list[Heard]:
    """What runs before that one left, by the same clock."""
    return [Heard(former, heard.ahead, heard.error) for former in heard.account.former]


async def _ask(runtime: Runtime, link: Link, argument: bytes, timeout: float) -> Heard | None:
    """The peer's account; None if it tells none that can be understood."""
    began = runtime.peers.now()
    try:
        answer = await runtime.peers.ask(link, "account", argument, timeout=timeout)
        ended = runtime.peers.now()
        account: Account = decode_account(answer)
    except (NoAnswer, msgspec.MsgspecError, ValueError):
        return None
    return Heard(account, (began + ended) / 2 - account.clock, (ended - began) / 2)
