"""The services of the treasure hunt are plain functions of an event and a state."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from pathlib import Path

import msgspec
import pytest

from thence import Budget, CascadeReport, Node, Service
from thence.cascade.check import check
from thence.events import spec_of
from thence.testing import Mesh, context, in_virtual_time, run
from treasure_hunt import (
    badges,
    charms,
    clues,
    curses,
    hints,
    hunts,
    leagues,
    notifications,
    players,
    ranks,
    scores,
    treasures,
)
from treasure_hunt.events import (
    BadgeEarned,
    ClaimDecided,
    ClueFound,
    CurseLifted,
    HintAsked,
    HintOffered,
    HuntCompleted,
    PlayerCursed,
    PlayerMoved,
    RankChanged,
    ScoreChanged,
    TreasureClaimed,
)
from treasure_hunt.world import Clue, World

LJUBLJANA = World(
    clues=(Clue("river", 0, 46.05, 14.5), Clue("river", 1, 46.06, 14.5)), walks=(), reach=10.0
)


def test_a_clue_is_found_by_whoever_walks_past_it_between_two_positions() -> None:
    ctx = context(state=clues.Hidden(LJUBLJANA))
    south = PlayerMoved(player="ana", latitude=46.045, longitude=14.5)
    north = PlayerMoved(player="ana", latitude=46.055, longitude=14.5)
    assert run(clues.look_around(south, ctx)) == []
    assert run(clues.look_around(north, ctx)) == [ClueFound(player="ana", hunt="river", clue=0)]


def test_a_player_finds_a_clue_once_and_each_player_finds_it() -> None:
    ctx = context(state=clues.Hidden(LJUBLJANA))
    for player in ("ana", "bo"):
        there = PlayerMoved(player=player, latitude=46.06, longitude=14.5)
        found = ClueFound(player=player, hunt="river", clue=1)
        assert run(clues.look_around(there, ctx)) == [found]
        assert run(clues.look_around(there, ctx)) == []


def test_a_hint_tells_how_far_the_nearest_clue_is_that_the_player_has_not_found() -> None:
    ctx = context(state=hints.Missing(LJUBLJANA))
    asked = HintAsked(player="ana", latitude=46.051, longitude=14.5)
    assert run(hints.offer(asked, ctx)) == HintOffered(player="ana", hunt="river", metres=111)
    run(hints.cross_off(ClueFound(player="ana", hunt="river", clue=0), ctx))
    run(hints.cross_off(ClueFound(player="bo", hunt="river", clue=1), ctx))
    assert run(hints.offer(asked, ctx)) == HintOffered(player="ana", hunt="river", metres=1001)
    run(hints.cross_off(ClueFound(player="ana", hunt="river", clue=1), ctx))
    assert run(hints.offer(asked, ctx)) is None


def test_a_hunt_is_completed_by_its_last_clue_for_that_player_alone() -> None:
    ctx = context(state=hunts.Progress(LJUBLJANA))
    assert run(hunts.tick_off(ClueFound(player="ana", hunt="river", clue=1), ctx)) is None
    assert run(hunts.tick_off(ClueFound(player="bo", hunt="river", clue=0), ctx)) is None
    assert run(hunts.tick_off(ClueFound(player="ana", hunt="river", clue=0), ctx)) == HuntCompleted(
        player="ana", hunt="river"
    )


def test_who_completes_a_hunt_claims_its_treasure() -> None:
    claim = run(players.claim(HuntCompleted(player="ana", hunt="river")))
    assert claim == TreasureClaimed(hunt="river", player="ana")


def test_only_the_first_claim_of_a_treasure_is_accepted() -> None:
    ctx = context(state={})
    decided = [
        (run(treasures.decide(TreasureClaimed(hunt=hunt, player=player), ctx))).accepted
        for hunt, player in [("river", "bo"), ("river", "ana"), ("castle", "ana"), ("river", "bo")]
    ]
    assert decided == [True, False, True, True]


def test_clues_give_ten_points_and_accepted_claims_a_hundred() -> None:
    ctx = context(state=Counter())
    found = ClueFound(player="ana", hunt="river", clue=0)
    won = ClaimDecided(player="ana", hunt="river", accepted=True)
    lost = ClaimDecided(player="ana", hunt="castle", accepted=False)
    assert run(scores.award(found, ctx)) == ScoreChanged(player="ana", points=10)
    assert run(scores.reward(won, ctx)) == ScoreChanged(player="ana", points=110)
    assert run(scores.reward(lost, ctx)) is None


def test_a_rank_is_told_to_whoever_moved_up_and_to_whoever_was_overtaken() -> None:
    ctx = context(state={})
    first = run(ranks.rank(ScoreChanged(player="ana", points=10), ctx))
    assert first == [RankChanged(player="ana", rank=1)]
    overtaking = run(ranks.rank(ScoreChanged(player="bo", points=20), ctx))
    assert overtaking == [RankChanged(player="ana", rank=2), RankChanged(player="bo", rank=1)]
    assert run(ranks.rank(ScoreChanged(player="bo", points=30), ctx)) == []


def test_players_with_equal_points_share_a_place() -> None:
    assert ranks.places({"ana": 10, "bo": 30, "cy": 10}) == {"bo": 1, "ana": 2, "cy": 2}


def test_a_badge_is_earned_once_and_none_is_skipped() -> None:
    ctx = context(state=set())
    assert [b.badge for b in run(badges.reward(ScoreChanged(player="ana", points=60), ctx))] == [
        "first find",
        "scout",
    ]
    later = run(badges.reward(ScoreChanged(player="ana", points=100), ctx))
    assert later == [BadgeEarned(player="ana", badge="ranger")]


def test_players_are_told_what_concerns_them() -> None:
    messages: deque[str] = deque()
    ctx = context(state=messages)
    for event in (
        RankChanged(player="ana", rank=2),
        BadgeEarned(player="bo", badge="scout"),
        HintOffered(player="bo", hunt="river", metres=120),
    ):
        run(notifications.tell(event, ctx))
    for accepted, player in ((True, "ana"), (False, "bo")):
        decided = ClaimDecided(player=player, hunt="river", accepted=accepted)
        run(notifications.announce(decided, ctx))
    assert list(messages) == [
        "ana: you are number 2",
        "bo: you are a scout now",
        "bo: it is 120 m to a clue of river",
        "ana: the treasure is yours",
        "bo: somebody was faster",
    ]


CURSED = World(
    clues=(Clue("river", 0, 46.05, 14.5), Clue("river", 1, 46.06, 14.5, cursed=True)), walks=()
)


def test_who_finds_a_cursed_clue_is_cursed() -> None:
    ctx = context(state=curses.Haunted(CURSED))
    assert run(curses.strike(ClueFound(player="ana", hunt="river", clue=0), ctx)) is None
    cursed = run(curses.strike(ClueFound(player="ana", hunt="river", clue=1), ctx))
    assert cursed == PlayerCursed(player="ana")


def test_a_curse_that_was_lifted_goes_on_to_the_two_who_were_at_a_clue_last() -> None:
    ctx = context(state=curses.Haunted(CURSED))
    lifted = CurseLifted(player="ana")
    assert run(charms.lift(PlayerCursed(player="ana"))) == lifted
    assert run(curses.move_on(lifted, ctx)) == [PlayerCursed(player="ana")]
    for player in ("bo", "cy", "dee", "ana", "cy"):
        run(curses.strike(ClueFound(player=player, hunt="river", clue=0), ctx))
    assert run(curses.move_on(lifted, ctx)) == [
        PlayerCursed(player="cy"),
        PlayerCursed(player="dee"),
    ]


def test_the_curse_is_a_loop_that_is_found_before_it_runs_and_cut_in_its_first_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "map.json").write_bytes(msgspec.json.encode(CURSED))
    monkeypatch.setenv("TREASURE_HUNT_WORLD", str(tmp_path / "map.json"))
    services = {service.name: service.handlers for service in (charms.charms, curses.curses)}
    (finding,) = check(services, budget=Budget()).findings
    assert (finding.level, finding.code) == ("error", "undeclared-loop")

    async def play() -> CascadeReport:
        async with Node(charms.charms, curses.curses, mesh="memory:curse") as node:
            receipt = await node.emit(ClueFound(player="ana", hunt="river", clue=1))
            return await receipt.settled("5s")

    report = run(play())
    # strike, lift, move_on; ana alone is near, so the curse comes back to her, and to lift.
    assert (report.events, report.cut, report.complete) == (3, 1, True)
    assert "charms.lift → curses.move_on → charms.lift" in report.failures[0].error


@in_virtual_time
async def test_the_last_clue_of_a_hunt_brings_its_treasure_with_points_rank_and_badges() -> None:
    messages: deque[str] = deque()
    hidden = World(clues=(Clue("river", 0, 46.05, 14.5),), walks=(), reach=10.0)
    async with Mesh(
        *(clues.clues, hunts.hunts, players.players, treasures.treasures),
        *(scores.scores, ranks.ranks, badges.badges, notifications.notifications),
        state={
            "clues": clues.Hidden(hidden),
            "hunts": hunts.Progress(hidden),
            "players": None,
            "notifications": messages,
        },
    ) as mesh:
        cascade = await mesh.emit(PlayerMoved(player="ana", latitude=46.05, longitude=14.5))
        assert cascade.complete
        assert not cascade.failed
        assert cascade.caused(HuntCompleted) == [TreasureClaimed(hunt="river", player="ana")]
        assert [change.points for change in cascade.handled(ScoreChanged)] == [10, 110]
        assert {badge.badge for badge in cascade.emitted(BadgeEarned)} == {
            "first find",
            "scout",
            "ranger",
        }
        assert "ana: the treasure is yours" in messages


@in_virtual_time
async def test_ranks_are_told_while_badges_fail() -> None:
    services = (scores.scores, ranks.ranks, badges.badges)
    async with Mesh(*services) as mesh:
        mesh.fail(badges.reward)
        cascade = await mesh.emit(ClueFound(player="ana", hunt="river", clue=0))
        assert cascade.emitted(RankChanged) == [RankChanged(player="ana", rank=1)]
        assert [failed.handler for failed in cascade.failed] == ["badges.reward"]


def test_claims_are_never_limited_and_come_before_everything_else() -> None:
    claims = (TreasureClaimed, ClaimDecided)
    for event in claims:
        policy = spec_of(event).policy
        assert (policy.priority, policy.limit, policy.ttl) == ("high", (), None)
    services = (badges, clues, hints, hunts, notifications, players, ranks, scores, treasures)
    handlers = [
        handler
        for module in services
        for handler in getattr(module, module.__name__.rpartition(".")[2]).handlers
        if set(handler.events) & set(claims)
    ]
    assert len(handlers) == 3
    for handler in handlers:
        assert set(handler.events) <= set(claims), "its counters would not be those of claims alone"
        assert not handler.policy.limits
        assert handler.policy.queue_target is None


def test_a_player_who_tells_of_far_too_many_moves_sends_the_newest_at_most_25_times_a_second() -> (
    None
):
    arrived: list[tuple[float, float]] = []
    watcher = Service("watcher")

    @watcher.on(PlayerMoved)
    async def note(moved: PlayerMoved) -> None:
        arrived.append((asyncio.get_running_loop().time(), moved.latitude))

    async def play() -> None:
        async with Node(watcher, mesh="memory:moves") as node:
            for number in range(1000):
                await node.emit(PlayerMoved(player="ana", latitude=number, longitude=0.0))
                await asyncio.sleep(0.002)
            await asyncio.sleep(0.1)

    run(play())
    times = [at for at, _ in arrived]
    assert arrived[-1][1] == 999, "the newest is never the one that gives way"
    for first, at in enumerate(times):
        assert sum(at <= other < at + 1 for other in times[first:]) <= 25 + 3
    assert len(times) > 45


def test_a_league_counts_a_players_points_and_fails_on_a_name_without_a_number() -> None:
    ctx = context(state={league: {} for league in leagues.LEAGUES})
    run(leagues.count(ScoreChanged(player="player-3", points=10), ctx))
    run(leagues.count(ScoreChanged(player="player-4", points=20), ctx))
    assert ctx.state == {"river": {"player-4": 20}, "forest": {"player-3": 10}}
    with pytest.raises(ValueError, match="phone-5"):
        run(leagues.count(ScoreChanged(player="phone-5", points=10), ctx))
