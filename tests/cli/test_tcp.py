"""Services that listen on TCP rather than on a Unix socket."""

from __future__ import annotations

import json
import socket

from tests.cli.processes import Folder, eventually

FOUND = '{"hunt": "h1", "player": "ana", "clue": 3}'
ANY = "tcp://127.0.0.1:0"


def port_of(folder: Folder, service: str) -> int:
    document = json.loads(folder.run("map", "--seconds", "0.1", "--json").stdout)
    node = next(node for node in document["nodes"] if node["services"] == [service])
    assert node["address"].startswith("tcp://127.0.0.1:")
    return int(node["address"].rpartition(":")[2])


def test_events_flow_between_services_that_listen_on_tcp(folder: Folder) -> None:
    folder.host("scores:scores", "--listen", ANY)
    folder.host("ranks:ranks", "--listen", ANY)
    assert folder.run("emit", "scores:ClueFound", FOUND).returncode == 0
    eventually(folder.ledger)
    assert folder.ledger()[0][0] == "ana"


def test_a_busy_port_is_named_and_ends_the_command(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        said = folder.run("run", "scores:scores", "--listen", address)
    assert said.returncode == 2
    assert address in said.stderr
    assert "Traceback" not in said.stderr


def test_garbage_on_the_port_is_counted_and_disturbs_nobody(folder: Folder) -> None:
    folder.host("scores:scores", "--listen", ANY)
    folder.host("ranks:ranks")
    with socket.create_connection(("127.0.0.1", port_of(folder, "scores")), 10) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        stranger.settimeout(20)
        while stranger.recv(4096):
            pass
    assert folder.run("emit", "scores:ClueFound", FOUND).returncode == 0
    eventually(folder.ledger)
    document = json.loads(folder.run("map", "--seconds", "0.1", "--json").stdout)
    assert len(document["nodes"]) == 2
