"""``thence limit``: change a limit on live nodes."""

from __future__ import annotations

import getpass
import json as json_module
import socket
from collections import Counter
from typing import Annotated

import msgspec
from cyclopts import Parameter

from thence.app.limits import LimitChange, parse_limits
from thence.app.node import Node
from thence.app.report import NodeReport
from thence.cli.exits import CommandError, Exit
from thence.cli.options import Debug, Json, Mesh, run_loop
from thence.events.suggestions import did_you_mean

__all__ = ["limit"]


def limit(
    handler: Annotated[
        str,
        Parameter(help="SERVICE.HANDLER, or SERVICE for all its handlers together."),
    ],
    rate: Annotated[
        str,
        Parameter(help='As in "20/s", "10/min burst 3", "5/s per player"; "off" for none.'),
    ],
    /,
    *,
    mesh: Mesh = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Change a limit on all live replicas of a service.

    ``thence limit hints.offer "20/s"`` holds until a replica ends; to keep it, write it into the code or
    ``thence.toml``. Every replica answers, and logs who changed what. Exit code 3: there is no such handler;
    4: a replica did not answer, and is named.
    """
    parse_limits(rate)
    return run_loop(_limit(handler, rate, mesh, json))


async def _limit(handler: str, rate: str, mesh: str | None, as_json: bool) -> int:
    async with Node(mesh=mesh, name="thence limit") as node:
        reports, _ = await node.ask_peers()
        place = _place(handler, reports)
        by = f"{getpass.getuser()}@{socket.gethostname()}"
        changes, silent = await node.set_limit(place, rate, by=by)
    if as_json:
        document = {
            "schema": "thence.limit/1",
            "place": place,
            "limit": rate,
            "by": by,
            "changes": [msgspec.to_builtins(change) for change in changes],
            "silent": silent,
        }
        print(json_module.dumps(document))
    else:
        print("\n".join(_lines(place, changes)))
        if silent:
            print(f"silent, and perhaps unchanged: {', '.join(silent)}")
    return Exit.PARTIAL if silent else Exit.DONE


def _place(handler: str, reports: list[NodeReport]) -> str:
    """The full name of what was named."""
    if not reports:
        raise CommandError(
            "nobody is on this mesh: start a service with 'thence run MODULE:SERVICE', or name another mesh "
            "with --mesh",
            Exit.NOBODY,
        )
    known = {f"{h.service}.{h.handler}" for report in reports for h in report.handlers}
    known |= {service for report in reports for service in report.services}
    if handler in known:
        return handler
    ends = sorted(place for place in known if place.endswith(f".{handler}"))
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise CommandError(f"{handler!r} may be {' or '.join(ends)}: name one", Exit.USAGE)
    raise CommandError(
        f"nobody here has a handler or service {handler!r}.{did_you_mean(handler, known)} There is "
        f"{', '.join(sorted(known))}",
        Exit.NOT_FOUND,
    )


def _lines(place: str, changes: list[LimitChange]) -> list[str]:
    alike = Counter((change.before, change.after) for change in changes)
    return [
        f"{place}: {before} → {after} on {count} replica{'s' * (count > 1)}"
        for (before, after), count in alike.items()
    ]
