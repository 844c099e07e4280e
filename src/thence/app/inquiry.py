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
from thence.observability.assembly import Heard

__all__ = ["Answers", "ask_all", "ask_peers_for"]

T = TypeVar("T")


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
    answers = Answers([Heard(await runtime.witness.account(question))], runtime.unlinked())
    for link, one in zip(links, told, strict=True):
        if one is not None:
            answers.heard.append(one)
        else:
            answers.silent.append(link.peer.name if link.peer is not None else link.node)
    answers.silent.sort()
    return answers


async def _ask(runtime: Runtime, link: Link, argument: bytes, timeout: float) -> Heard | None:
    """The peer's account; None if it tells none that can be understood."""
    began = runtime.peers.now()
    try:
        answer = await runtime.peers.ask(link, "account", argument, timeout=timeout)
        ended = runtime.peers.now()
        account: Account = decode_account(answer)
    except (NoAnswer, msgspec.DecodeError):
        return None
    return Heard(account, (began + ended) / 2 - account.clock, (ended - began) / 2)


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
        except (NoAnswer, msgspec.DecodeError):
            return None

    told = await asyncio.gather(*map(ask, links))
    for link, one in zip(links, told, strict=True):
        if one is None:
            silent.append(link.peer.name if link.peer is not None else link.node)
    return [one for one in told if one is not None], sorted(silent)
