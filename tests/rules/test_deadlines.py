from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wanasync.rules.deadlines import MARKS, Deadlines

HOUR = 3600.0


def test_each_mark_is_crossed_once() -> None:
    deadlines = Deadlines()
    deadlines.add("a", 24 * HOUR)
    assert deadlines.next_at() == 18 * HOUR
    assert deadlines.crossed(17 * HOUR) == []
    (near,) = deadlines.crossed(18 * HOUR)
    assert (near.count, near.left, near.first) == (1, 6 * HOUR, 24 * HOUR)
    assert deadlines.crossed(22 * HOUR) == []
    assert deadlines.next_at() == 23 * HOUR
    assert [near.left for near in deadlines.crossed(25 * HOUR)] == [HOUR]
    assert deadlines.next_at() is None


def test_what_comes_late_is_told_at_once() -> None:
    deadlines = Deadlines()
    for number in range(3):
        deadlines.add(str(number), HOUR / 2 + number)
    assert [(near.count, near.left, near.first) for near in deadlines.crossed(0.0)] == [
        (3, 6 * HOUR, HOUR / 2),
        (3, HOUR, HOUR / 2),
    ]


def test_what_was_saved_is_not_told() -> None:
    deadlines = Deadlines()
    deadlines.add("a", 24 * HOUR)
    deadlines.add("b", 25 * HOUR)
    deadlines.remove("a")
    assert deadlines.next_at() == 19 * HOUR
    assert [near.count for near in deadlines.crossed(19 * HOUR)] == [1]


def test_a_later_deadline_replaces_the_first() -> None:
    deadlines = Deadlines()
    deadlines.add("a", 10 * HOUR)
    deadlines.add("a", 30 * HOUR)
    assert deadlines.next_at() == 24 * HOUR


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1e6)), st.lists(st.floats(0, 1e6)))
def test_every_unsaved_video_is_told_once_at_each_mark(videos: dict[str, float], looks: list[float]) -> None:
    deadlines = Deadlines()
    for key, deadline in videos.items():
        deadlines.add(key, deadline)
    told = [near for now in sorted(looks) for near in deadlines.crossed(now)]
    last = max(looks, default=-1.0)
    for mark in MARKS:
        count = sum(near.count for near in told if near.left == mark)
        assert count == sum(deadline - mark <= last for deadline in videos.values() if looks)
