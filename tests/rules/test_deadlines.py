from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wanasync.rules.deadlines import MARKS, PATIENCE, Deadlines

HOUR = 3600.0


def test_each_mark_is_crossed_once() -> None:
    deadlines = Deadlines()
    deadlines.add("a", 24 * HOUR, 0.0)
    assert deadlines.next_at() == 18 * HOUR
    assert deadlines.crossed(17 * HOUR) == []
    (near,) = deadlines.crossed(18 * HOUR)
    assert (near.count, near.left, near.first) == (1, 6 * HOUR, 24 * HOUR)
    assert deadlines.crossed(22 * HOUR) == []
    assert deadlines.next_at() == 23 * HOUR
    assert [near.left for near in deadlines.crossed(25 * HOUR)] == [HOUR]
    assert deadlines.next_at() is None


def test_what_is_found_late_is_told_soon_and_once() -> None:
    deadlines = Deadlines()
    for number in range(3):
        deadlines.add(str(number), HOUR / 2 + number, 0.0)
    assert deadlines.crossed(0.0) == []
    assert deadlines.next_at() == PATIENCE
    (near,) = deadlines.crossed(PATIENCE)
    assert (near.count, near.left, near.first) == (3, HOUR, HOUR / 2)


def test_what_was_saved_is_not_told() -> None:
    deadlines = Deadlines()
    deadlines.add("a", 24 * HOUR, 0.0)
    deadlines.add("b", 25 * HOUR, 0.0)
    deadlines.remove("a")
    assert deadlines.next_at() == 19 * HOUR
    assert [near.count for near in deadlines.crossed(19 * HOUR)] == [1]


def test_a_later_deadline_replaces_the_first() -> None:
    deadlines = Deadlines()
    deadlines.add("a", 10 * HOUR, 0.0)
    deadlines.add("a", 30 * HOUR, 0.0)
    assert deadlines.next_at() == 24 * HOUR


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1e6)), st.lists(st.floats(0, 1e6), min_size=1))
def test_every_unsaved_video_is_told_at_least_once_and_once_a_mark_at_most(
    videos: dict[str, float], looks: list[float]
) -> None:
    deadlines = Deadlines()
    for key, deadline in videos.items():
        deadlines.add(key, deadline, 0.0)
    told = [near for now in sorted(looks) for near in deadlines.crossed(now)]
    last = max(looks)
    due = {mark: sum(max(deadline - mark, PATIENCE) <= last for deadline in videos.values()) for mark in MARKS}
    counts = {mark: sum(near.count for near in told if near.left == mark) for mark in MARKS}
    assert counts[MARKS[0]] == due[MARKS[0]]
    assert counts[MARKS[1]] <= due[MARKS[1]] <= sum(counts.values())
