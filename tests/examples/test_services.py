"""The services of the treasure hunt are plain functions of an event and a state."""

from __future__ import annotations

from collections import Counter, deque

from thence.testing import context, run
from treasure_hunt import badges, clues, hunts, notifications, players, ranks, scores, treasures
from treasure_hunt.events import (
    BadgeEarned,
    ClaimDecided,
    ClueFound,
    HuntCompleted,
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
        ClaimDecided(player="ana", hunt="river", accepted=True),
        ClaimDecided(player="bo", hunt="river", accepted=False),
    ):
        run(notifications.tell(event, ctx))
    assert list(messages) == [
        "ana: you are number 2",
        "bo: you are a scout now",
        "ana: the treasure is yours",
        "bo: somebody was faster",
    ]
