"""Asking all nodes of a mesh what they remember."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Struct

from thence.app.runtime import Runtime
from thence.mesh.link import Link
from thence.mesh.peers import NoAnswer
from thence.observability.accounts import Account, Question, decode_account
from thence.observability.clocks import Heard

__all__ = ["Answers", "ask_all", "ask_peers_for"]

T = TypeVar("T")


class Answers(Struct):
    """What was heard."""

    heard: list[Heard]
    silent: list[str]
    """The names of nodes that are there and did not answer."""
    strange: list[str]
    """The names of those that did, but not in a way that is understood here."""


async def ask_all(runtime: Runtime, question: Question, timeout: float) -> Answers:
    """Ask this node and all others."""
    links = list(runtime.peers.links.values())
    argument = msgspec.msgpack.encode(question)
    told = await asyncio.gather(*(_ask(runtime, link, argument, timeout) for link in links))
    own = Heard(await runtime.witness.account(question))
    answers = Answers([own, *_former(own)], runtime.unlinked(), [])
    for link, one in zip(links, told, strict=True):
        name = link.peer.name if link.peer is not None else link.node
        if isinstance(one, Heard):
            answers.heard += [one, *_former(one)]
        elif isinstance(one, NoAnswer):
            answers.silent.append(name)
        else:
            answers.strange.append(name)
    answers.silent.sort()
    answers.strange.sort()
    return answers


def _former(heard: Heard) -> list[Heard]:
    """What runs before that one left, by the same clock."""
    return [Heard(former, heard.ahead, heard.error) for former in heard.account.former]


async def _ask(
    runtime: Runtime, link: Link, argument: bytes, timeout: float
) -> Heard | NoAnswer | ValueError:
    """The peer's account, or why there is none."""
    began = runtime.peers.now()
    try:
        answer = await runtime.peers.ask(link, "account", argument, timeout=timeout)
        ended = runtime.peers.now()
        account: Account = decode_account(answer)
        if account.node != link.node:
            raise ValueError("an account in the name of another node")
    except (NoAnswer, ValueError) as error:
        return error
    took = min(max(account.took, 0.0), ended - began)
    return Heard(account, (began + took + ended) / 2 - account.clock, (ended - began - took) / 2)


async def ask_peers_for(
    runtime: Runtime,
    question: str,
    argument: bytes,
    decode: Callable[[bytes], T],
    timeout: float,
) -> tuple[list[T], list[str]]:
    """What all peers answer, and the names of those that did not, or not in a way that is understood here."""
    links = list(runtime.peers.links.values())
    silent = runtime.unlinked()

    async def ask(link: Link) -> T | None:
        try:
            return decode(await runtime.peers.ask(link, question, argument, timeout=timeout))
        except (NoAnswer, ValueError):
            return None

    told = await asyncio.gather(*map(ask, links))
    for link, one in zip(links, told, strict=True):
        if one is None:
            silent.append(link.peer.name if link.peer is not None else link.node)
    return [one for one in told if one is not None], sorted(silent)
