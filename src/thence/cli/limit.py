"""``thence limit``: change a limit on live nodes."""

from __future__ import annotations

import getpass
import json as json_module
import os
import socket
from collections import Counter
from typing import Annotated

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
    4: a replica did not answer or could not do it, and is named; 5: nobody answered.
    """
    parse_limits(rate)
    return run_loop(_limit(handler, rate, mesh, json))


async def _limit(handler: str, rate: str, mesh: str | None, as_json: bool) -> int:
    async with Node(mesh=mesh, name="thence limit") as node:
        reports, silent = await node.ask_peers()
        place = _place(handler, reports, silent)
        by = f"{_user()}@{socket.gethostname()}"
        replies, silent = await node.set_limit(place, rate, by=by)
    changes = [reply for reply in replies if not reply.refused]
    refusals = [reply for reply in replies if reply.refused]
    if not replies:
        raise CommandError(
            f"nobody answered, and perhaps nothing changed: {_names(silent)}", Exit.NOBODY
        )
    if as_json:
        document = {
            "schema": "thence.limit/1",
            "place": place,
            "limit": rate,
            "by": by,
            "changes": [
                {"node": one.node, "place": one.place, "before": one.before, "after": one.after}
                for one in changes
            ],
            "refused": [{"node": one.node, "reason": one.refused} for one in refusals],
            "silent": silent,
        }
        print(json_module.dumps(document))
    else:
        for line in _lines(place, changes):
            print(line)
        for one in refusals:
            print(f"refused by {one.node}: {one.refused}")
        if silent:
            print(f"silent, and perhaps unchanged: {_names(silent)}")
    return Exit.PARTIAL if silent or refusals else Exit.DONE


def _user() -> str:
    """Who does this, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In containers user ids often have no name.
        return f"uid {os.getuid()}"


def _names(silent: list[str]) -> str:
    return ", ".join(silent)


def _place(handler: str, reports: list[NodeReport], silent: list[str]) -> str:
    """The full name of what was named."""
    if not reports and silent:
        raise CommandError(f"nobody answered in time: {_names(silent)}", Exit.NOBODY)
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
    if silent:
        raise CommandError(
            f"nobody who answered has a handler or service {handler!r}, and nothing was changed; silent: "
            f"{_names(silent)}",
            Exit.PARTIAL,
        )
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
