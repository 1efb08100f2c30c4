"""Windows: how many fit, how long they are, and refusals that they can't explain."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from wanasync.rules.window import ROUND_PERIODS, Disputes, Past, Period, Window


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=80), st.integers(1, 10))
def test_a_window_never_lets_more_through_than_it_says(waits: list[float], requests: int) -> None:
    window, now, sent = Window(requests=requests), 0.0, list[float]()
    for wait in waits:
        now = max(now + wait, window.earliest(now + wait, 0))
        sent.append(now)
        window.log.append(now)
    for early, late in zip(sent, sent[requests:], strict=False):
        assert late - early >= 60.0 - 1e-5


def test_a_window_counts_what_is_on_the_wire() -> None:
    window = Window(requests=2)
    assert window.earliest(0.0, 1) == 0.0
    assert window.earliest(0.0, 2) == math.inf
    window.log.append(1.0)
    assert window.earliest(2.0, 1) == 61.0


def test_an_unknown_window_lets_all_through() -> None:
    assert Window().earliest(5.0, 1000) == 5.0


def test_refusals_take_places_where_the_provider_counts_them() -> None:
    window = Window(requests=2)
    window.log.append(1.0)
    window.refusals.append(3.0)
    assert window.earliest(4.0, 0) == 4.0
    window.counts_refusals = True
    assert window.earliest(4.0, 0) == 61.0


def test_a_climb_to_twice_the_limit_is_believed_the_second_time() -> None:
    window, now = Window(requests=10), 100.0
    for expected in (10, 20):
        window.log.clear()
        window.log.extend([now] * 11)
        window.climb(now)
        window.log.extend([now] * 9)
        window.climb(now)
        window.climbed(now)
        assert window.requests == expected


def test_a_climb_that_proves_wrong_is_taken_back() -> None:
    window, now = Window(requests=10), 100.0
    window.log.extend([now] * 11)
    window.climb(now)
    window.log.extend([now] * 22)
    window.climb(now)
    assert window.climbed(now)
    assert window.requests == 33
    window.log.clear()
    window.log.extend([now + 60] * 10)
    window.fall(now + 60)
    assert window.requests == 10


# ---- how long a window is


def test_the_longest_round_length_that_is_possible_is_tried() -> None:
    period = Period()
    period.outlasted(2.9)
    period.ended(13.1)
    assert period.seconds == 10.0
    period.kept()
    assert period.shorter() == 5.0
    period.outlasted(5.2)
    assert period.shorter() is None
    period.kept()
    assert period.settled


def test_a_window_that_outlasts_all_that_was_tried_is_longer() -> None:
    period = Period()
    period.outlasted(61.0)
    assert period.seconds == 120.0
    period.outlasted(480.0)
    period.ended(605.0)
    assert period.seconds == 600.0


def test_a_length_that_proves_too_short_is_taken_back() -> None:
    period = Period()
    period.outlasted(1.0)
    period.ended(20.0)
    assert period.seconds == 20.0
    period.outlasted(20.5)
    assert period.seconds == 60.0


def test_a_settled_length_stays() -> None:
    period = Period(60.0, settled=True)
    period.outlasted(4000.0)
    period.ended(1.0)
    assert period.seconds == 60.0
    assert period.shorter() is None


@given(st.sampled_from(ROUND_PERIODS), st.lists(st.floats(0.01, 2.0), min_size=1, max_size=30))
def test_looks_narrow_a_window_down_to_its_length(true: float, looks: list[float]) -> None:
    period = Period()
    for look in looks:
        seconds = look * true
        if seconds < true:
            period.outlasted(seconds)
        else:
            period.ended(seconds)
    assert period.low < true
    period.measured(true * 1.01)
    assert period.settled
    assert period.seconds == true


def test_places_that_seemed_free_are_taken_while_the_window_is_found_to_be_longer() -> None:
    window = Window(requests=2)
    window.take(0.0)
    window.take(1.0)
    assert window.taken(70.0) == 0
    window.outlasted(70.0)
    assert window.taken(70.0) == 2


# ---- refusals although a place should be free


def disputes(*counts: tuple[int, int]) -> Disputes:
    window = Window(requests=60)
    for number, (taken, since_opened) in enumerate(counts):
        window.since_opened = since_opened
        window.disputed(taken, 60.0 * number)
    return window.disputes


def test_as_many_in_each_window_whatever_was_before_are_a_fixed_windows_new_limit() -> None:
    assert disputes((55, 52), (44, 30), (39, 30)).same_since_opened()
    assert not disputes((58, 58), (58, 58), (57, 57)).same_since_opened()
    assert not disputes((44, 30)).same_since_opened()


def test_places_missing_again_and_again_are_taken_by_others() -> None:
    assert disputes((58, 58), (58, 58), (57, 57)).go_on(0.0)
    assert not disputes((58, 58), (58, 58)).go_on(0.0)
    assert not disputes((58, 58), (50, 50), (30, 30)).go_on(0.0)
    assert not disputes((58, 58), (58, 58), (57, 57)).go_on(60.0)


def test_a_climb_that_nobody_began_leaves_a_place() -> None:
    window = Window(requests=1)
    window.log.append(0.0)
    assert window.climbed(100.0)
    assert window.requests == 1


def test_a_window_that_fell_in_a_climb_climbs_no_more() -> None:
    window = Window(requests=5)
    window.log.extend([0.0] * 6)
    window.climb(1.0)
    assert window.climbing
    window.fall(1.0)
    assert not window.climbing


def test_a_climb_ends_when_places_get_free_meanwhile() -> None:
    window = Window(requests=5)
    window.log.extend([0.0] * 6)
    window.climb(1.0)
    window.log.clear()
    window.log.append(70.0)
    window.climb(70.0)
    assert not window.climbing
    assert window.requests == 5


def test_places_that_are_over_are_kept_in_little_space_and_none_seems_older_than_it_is() -> None:
    past = Past()
    for second in range(20_000):
        past.add(float(second))
    assert len(past.runs) < 500
    assert past.count == 10_000
    assert past.runs[-1][0] == 19_999.0
    times = past.take_back()
    assert len(times) == 10_000
    assert times == sorted(times)
    assert all(at >= 20_000 - number for number, at in enumerate(reversed(times), 1))
    assert past.take_back() == []
