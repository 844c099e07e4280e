from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.cli.processes import Folder, eventually

from thence.app.report import EmittedReport, HandlerReport, NodeReport, RouteReport
from thence.cli.demo.accounts import account, total
from thence.cli.demo.cascades import Cascades
from thence.cli.demo.curse import curse_in
from thence.cli.demo.facts import Bulletin, Cut, Ending
from thence.cli.demo.periods import Periods
from thence.cli.demo.tally import Count, tally

GPX = """<?xml version="1.0"?>
<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>
{points}
</trkseg></trk></gpx>"""


def test_the_demo_accounts_for_every_event_over_more_than_eight_processes(folder: Folder) -> None:
    said = folder.run("demo", "--seconds", "3", "--players", "10", "--json")
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    assert document["schema"] == "thence.demo/1"
    assert document["processes"] > 8
    assert document["balanced"] is True
    assert document["account"]["handled"] > 100
    assert document["account"]["failed"] == document["account"]["lost"] == 0
    assert document["events"]["claim_decided"] > 0
    assert document["cascades"] > 10
    assert document["stampede"] is None
    assert document["curse"] is None
    assert {limit["place"] for limit in document["limits"]} == {
        "player_moved",
        "hints.offer",
        "notifications.tell",
    }


def test_a_stampede_is_shed_where_it_should_be_and_everything_is_accounted_for(
    folder: Folder,
) -> None:
    said = folder.run(
        "demo", "--seconds", "3", "--players", "10", "--stampede-seconds", "2", "--json"
    )
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    account = document["account"]
    parts = document["stampede"]
    quiet, stampede = parts["quiet"], parts["stampede"]

    assert document["balanced"] is True
    # The map's own count: 31 steps before and after, 20 in the stampede, of 10 players.
    moves = 10 * (31 + 20 * 50)
    assert quiet["moves_tried"] + stampede["moves_tried"] == moves
    assert document["events"]["player_moved"] + total(account["held_back"]) == moves
    assert stampede["moves_left"] < stampede["moves_tried"] / 10
    assert set(account["held_back"]) == {"player_moved"}
    assert account["tried"] == account["emitted"] + total(account["held_back"])
    assert account["due"] == account["sent"] + total(account["not_sent"])
    assert account["sent"] == account["handled"] + total(account["shed_at"])
    assert account["shed_at"]["hints.offer"]
    claims = account["claims"]
    assert claims["claimed"] == claims["decided"] > 0
    assert claims["due"] == claims["handled"] == 3 * claims["claimed"]
    assert claims["shed"] == claims["not_sent"] == 0
    assert quiet["cascades"] + stampede["cascades"] == document["cascades"]


def test_the_last_screen_of_a_stampede_says_what_was_used_of_limits_and_what_was_kept_out(
    folder: Folder,
) -> None:
    said = folder.run("demo", "--seconds", "2", "--players", "4", "--stampede-seconds", "1")
    assert said.returncode == 0, said.stderr
    for line in (
        "player_moved of 25/s per player",
        "replaced by a newer one",
        "hints.offer of 1/s",
    ):
        assert line in said.stdout
    assert "≠" not in said.stdout
    assert "thence.losses" not in said.stderr


def test_a_curse_is_cut_where_it_comes_back_and_everything_is_accounted_for(folder: Folder) -> None:
    said = folder.run("demo", "--curse", "--seconds", "3", "--players", "10", "--json")
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    account, curse = document["account"], document["curse"]
    assert document["balanced"] is True
    assert document["processes"] == 15
    assert curse["cascades"] > 0
    assert curse["loop"] == ["charms.lift", "curses.move_on", "charms.lift"]
    # The bound: each handler of the loop once, in each cascade.
    assert curse["starts_max"] == 2
    assert curse["starts"] == 2 * curse["cascades"]
    assert curse["cuts"] == {"charms.lift in round 1: loop, max_loops=0": account["cut"]}
    assert account["cut_at"] == {"charms.lift": {"loop": account["cut"]}}
    assert account["cut"] >= curse["cascades"]
    assert account["cut_off"] == {}
    assert account["due"] == account["sent"] + total(account["not_sent"])
    assert account["sent"] == account["handled"] + account["cut"] + account["shed"]
    assert account["failed"] == account["lost"] == 0
    assert account["claims"]["claimed"] == account["claims"]["decided"] > 0
    others = curse["before"]["cascades"] + curse["since"]["cascades"]
    assert others == document["cascades"] - curse["cascades"]
    assert curse["since"]["seconds_p99"] > 0


def test_where_loops_are_only_observed_the_budget_cuts_the_curse_and_the_screen_says_so(
    folder: Folder,
) -> None:
    folder.environment["THENCE_LOOPS"] = "observe"
    said = folder.run("demo", "--curse", "--seconds", "2", "--players", "10")
    assert said.returncode == 0, said.stderr
    assert "≠" not in said.stdout
    assert "the curse: charms.lift → curses.move_on → charms.lift, for ever" in said.stdout
    starts = re.search(r"(\S+) handler starts .* at most (\S+) a cascade", said.stdout)
    assert starts is not None
    # Round after round, until the 16 hops of the default budget or its 1,000 starts are used up.
    assert 14 <= int(starts[2].replace(",", "")) <= 1000
    assert re.search(r"cut at \w+ for (charms|curses) in round \d+: cascade budget: ", said.stdout)
    assert re.search(
        r"deliveries = \S+ sent \+ 0 not sent \+ [1-9]\S* cut$", said.stdout, re.MULTILINE
    )


def test_a_curse_and_a_stampede_come_together(folder: Folder) -> None:
    said = folder.run(
        "demo", "--curse", "--seconds", "2", "--players", "10", "--stampede-seconds", "1"
    )
    assert said.returncode == 0, said.stderr
    assert "≠" not in said.stdout
    for line in (
        "stampede: 50 times the moves",
        "cut at charms.lift in round 1: loop, max_loops=0",
        "a cursed cascade:",
        "─✂ player_cursed  charms  cut: loop, charms.lift → curses.move_on → charms.lift",
    ):
        assert line in said.stdout
    assert "loop: " not in said.stderr, "it would tear the table"


def test_a_stampede_shorter_than_its_figures_can_tell_is_refused(folder: Folder) -> None:
    said = folder.run("demo", "--stampede-seconds", "0.1")
    assert said.returncode == 2
    assert "--stampede-seconds" in said.stderr


def test_whoever_interrupts_a_stampede_ends_all_its_processes(folder: Folder) -> None:
    mesh = folder.environment["THENCE_MESH"]
    demo = folder.start("demo", "--stampede", "--seconds", "1", "--players", "5", "--mesh", mesh)

    def nodes() -> list[dict[str, Any]]:
        said = folder.run("map", "--seconds", "0.1", "--json")
        return json.loads(said.stdout)["nodes"] if said.stdout else []

    def stampedes() -> bool:
        return any(
            reason == "replaced by a newer one"
            for node in nodes()
            for _, _, reason, _ in node["lost"]
        )

    eventually(stampedes, within=30)
    pids = [node["pid"] for node in nodes()]
    assert len(pids) == 13
    demo.send_signal(signal.SIGINT)
    assert demo.wait(15) == 130
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), within=5)


def test_the_demo_replays_recordings_and_finds_clues_on_them(
    folder: Folder, tmp_path: Path
) -> None:
    points = "\n".join(
        f'<trkpt lat="{46 + step / 1000}" lon="{14 + step / 1500}"></trkpt>' for step in range(30)
    )
    (tmp_path / "tracks").mkdir()
    (tmp_path / "tracks" / "walk.gpx").write_text(GPX.format(points=points))
    said = folder.run("demo", "--seconds", "2", "--tracks", str(tmp_path / "tracks"), "--json")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["events"]["clue_found"] == 6


def test_a_demo_may_be_looked_at_from_another_terminal(folder: Folder) -> None:
    mesh = folder.environment["THENCE_MESH"]
    folder.start("demo", "--seconds", "60", "--players", "5", "--mesh", mesh)

    def services() -> set[str]:
        said = folder.run("map", "--seconds", "0.1", "--json")
        nodes = json.loads(said.stdout)["nodes"] if said.stdout else []
        return {service for node in nodes for service in node["services"]}

    eventually(lambda: len(services()) == 9, within=40)


def test_a_broken_recording_is_named(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "walk.gpx").write_text("<gpx")
    said = folder.run("demo", "--tracks", str(tmp_path))
    assert said.returncode == 1
    assert "walk.gpx" in said.stderr
    assert "Traceback" not in said.stderr


def report(
    *,
    handlers: tuple[HandlerReport, ...] = (),
    emitted: tuple[EmittedReport, ...] = (),
    routes: tuple[RouteReport, ...] = (),
    lost: tuple[tuple[str, str, str, int], ...] = (),
) -> NodeReport:
    return NodeReport(
        "n", "node", 1, "", True, (), (), handlers, emitted, routes, lost, {}, {}, bytes_written=0
    )


def handler(place: str, event: str, handled: int, shed: dict[str, int]) -> HandlerReport:
    service, _, name = place.partition(".")
    return HandlerReport(service, name, (event,), (), handled, 0, shed, 0, 0)


def game(
    *,
    moves_left: int = 3,
    asked: int = 5,
    sent: int = 4,
    stopped: int = 1,
    offered: int = 3,
    cut_off: int = 2,
    looped: int = 3,
) -> list[NodeReport]:
    """Ten moves are tried, of which seven are replaced, and five hints; two services want moves.

    Of six curses two are beyond the budget, and three come back.
    """
    return [
        report(
            emitted=(
                EmittedReport("player_moved", moves_left, 0),
                EmittedReport("hint_asked", asked, 0),
                EmittedReport("player_cursed", 6, 0),
            ),
            routes=(
                RouteReport("player_moved", "clues", "a", 3, 0),
                RouteReport("player_moved", "map", "b", 2, 0),
                RouteReport("hint_asked", "hints", "a", sent, 0),
                RouteReport("player_cursed", "charms", "a", 4, 0),
            ),
            lost=(
                ("player_moved", "", "replaced", 7),
                ("player_moved", "map", "connection lost", 1),
                ("player_moved", "map", "no room", 1),
                ("hint_asked", "hints", "stopped", stopped),
                ("player_cursed", "charms", "cascade budget: depth", cut_off),
            ),
        ),
        report(
            handlers=(
                handler("clues.look", "player_moved", 3, {}),
                handler("map.draw", "player_moved", 1, {}),
                handler("hints.offer", "hint_asked", offered, {"limit": 1}),
                handler("charms.lift", "player_cursed", 1, {"loop": looped}),
            )
        ),
    ]


def test_an_account_follows_every_event_from_the_attempt_to_its_end() -> None:
    told = account(game(), moves=10)
    assert told.balanced
    assert (told.tried, told.emitted, told.held_back) == (
        21,
        14,
        {"player_moved": {"replaced": 7}},
    )
    assert (told.due, told.sent) == (17, 13)
    assert told.not_sent == {
        "player_moved for map": {"no room": 1},
        "hint_asked for hints": {"stopped": 1},
    }
    assert told.cut_off == {"player_cursed for charms": {"cascade budget: depth": 2}}
    assert (told.handled, told.shed, told.cut, told.lost) == (8, 1, 3, 1)
    assert told.shed_at == {"hints.offer": {"limit": 1}}
    assert told.cut_at == {"charms.lift": {"loop": 3}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"moves_left": 2},
        {"asked": 6},
        {"sent": 5},
        {"stopped": 0},
        {"offered": 2},
        {"cut_off": 1},
        {"looped": 2},
    ],
    ids=str,
)
def test_an_account_does_not_balance_if_anything_is_missing(wrong: dict[str, int]) -> None:
    assert not account(game(**wrong), moves=10).balanced


def test_an_account_does_not_balance_if_the_map_has_more_moves_than_were_tried() -> None:
    assert not account(game(), moves=11).balanced


def test_a_stampede_is_what_was_counted_between_its_first_move_and_its_last() -> None:
    periods = Periods(30, (10, 20))
    rush = periods.stampede
    assert rush is not None
    moved = Count("emitted", "player_moved")
    for at, moves in enumerate((0, 5, 10, 12, 19, 23, 30, 30), start=100):
        counts = tally([report(emitted=(EmittedReport("player_moved", moves, 0),))])
        periods.note(at, moves, lambda counts=counts: counts)
        assert rush.running == (12 <= moves < 20)
    assert (rush.began, rush.ended, rush.counts[moved]) == (102, 105, 13)
    assert (periods.walk.began, periods.walk.ended, periods.walk.counts[moved]) == (100, 106, 30)


LOOP = ("charms.lift", "curses.move_on", "charms.lift")


def told(began: float, rounds: int, *, cut: bool) -> Bulletin:
    """A cascade that goes round so often, a second each time, and is cut then or not."""
    root = f"root-{began:g}"
    endings = [
        Ending(f"{root}-{number}", root, root, 1, "cursed", *handler.split("."), began + number)
        for number, handler in enumerate(["curses.strike", *LOOP[:2] * rounds])
    ]
    cuts = [Cut(root, root, root, "cursed", "charms", "lift", "loop", began, LOOP, rounds)]
    return Bulletin(report(), [(root, "moved", began)], endings, began, cuts if cut else [])


def test_a_curse_costs_the_handler_starts_of_its_loop_and_the_others_are_told_apart_in_time() -> (
    None
):
    cascades = Cascades()
    for bulletin in (
        told(9, 1, cut=True),
        told(1, 1, cut=False),
        told(3, 2, cut=True),
        told(5, 3, cut=False),
        told(4, 1, cut=False),
    ):
        cascades.add(bulletin)
    curse = curse_in(cascades.complete())
    assert (curse.cascades, curse.cut, curse.loop) == (2, 2, LOOP)
    assert (curse.starts, curse.starts_max) == (2 + 4, 4)
    assert curse.cuts == {
        "charms.lift in round 1: loop, max_loops=0": 1,
        "charms.lift in round 2: loop, max_loops=1": 1,
    }
    assert (curse.before.cascades, curse.before.seconds_p99) == (1, 2)
    assert (curse.since.cascades, curse.since.seconds_p99) == (2, 6)


def test_without_a_cut_there_is_no_curse_to_tell_of() -> None:
    cascades = Cascades()
    cascades.add(told(1, 1, cut=False))
    curse = curse_in(cascades.complete())
    assert (curse.cascades, curse.cut, curse.loop, curse.starts) == (0, 0, (), 0)
    assert (curse.before.cascades, curse.since.cascades) == (1, 0)
