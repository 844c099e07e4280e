from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thence.routing.lanes import Lanes

steps = st.lists(
    st.one_of(st.tuples(st.just("enter"), st.sampled_from("abc")), st.just(("leave", ""))),
    max_size=200,
)


@given(steps, st.randoms(use_true_random=False))
def test_one_item_a_key_goes_at_a_time_in_the_order_of_arrival_and_none_is_forgotten(steps, random):
    lanes: Lanes[tuple[str, int]] = Lanes()
    running: dict[str, tuple[str, int]] = {}
    entered: list[tuple[str, int]] = []
    went: list[tuple[str, int]] = []

    def begin(item: tuple[str, int]) -> None:
        assert item[0] not in running
        running[item[0]] = item
        went.append(item)

    def end_one() -> None:
        key = random.choice(sorted(running))
        del running[key]
        following = lanes.leave(key)
        if following is not None:
            begin(following)

    for what, key in steps:
        if what == "enter":
            item = (key, len(entered))
            entered.append(item)
            if lanes.enter(key, item):
                begin(item)
        elif running:
            end_one()
    while running:
        end_one()
    assert sorted(went) == sorted(entered)
    for key in "abc":
        assert [item for item in went if item[0] == key] == [
            item for item in entered if item[0] == key
        ]
    assert len(lanes) == 0


def test_a_lane_with_nothing_unfinished_takes_no_memory():
    lanes: Lanes[int] = Lanes()
    for number in range(1000):
        assert lanes.enter(number, number)
        assert number in lanes
        assert lanes.leave(number) is None
    assert len(lanes) == 0
