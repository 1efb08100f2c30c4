from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanasync.rules.lane import KEY_REFUSALS, OUTAGE_FAILURES, PAUSE_CAP, PollBudget, PollLane


def lane(per_second: float = 10.0, in_flight: int = 4) -> PollLane:
    return PollLane(per_second, in_flight, Random(1))


# --- budget


def test_a_seconds_worth_may_go_at_once_and_the_rest_at_the_rate() -> None:
    budget, at, gone = PollBudget(10.0), 100.0, []
    for _ in range(40):
        at += budget.wait(at)
        budget.take(at)
        gone.append(at - 100)
    assert gone[9] == 0
    assert gone[-1] == pytest.approx(3.0)


@given(st.floats(0.05, 100), st.lists(st.floats(0, 5), max_size=60))
def test_no_window_holds_more_than_rate_and_burst(rate: float, gaps: list[float]) -> None:
    budget, at, taken = PollBudget(rate), 0.0, []
    for gap in gaps:
        at += gap
        at += budget.wait(at)
        budget.take(at)
        taken.append(at)
    for index, start in enumerate(taken):
        for count, end in enumerate(taken[index:], start=1):
            assert count <= max(rate, 1) + rate * (end - start) + 1.001


@given(st.floats(0.05, 1000), st.floats(0, 1e9))
def test_after_its_wait_there_is_a_token(rate: float, at: float) -> None:
    budget = PollBudget(rate)
    for _ in range(3):
        at += budget.wait(at)
        assert budget.wait(at) < 1e-6
        budget.take(at)


def test_a_refusal_halves_the_rate_and_answers_win_it_back() -> None:
    budget = PollBudget(10.0)
    budget.refused()
    budget.take(0.0)
    assert budget.wait(0.0) == pytest.approx(0.2)
    for _ in range(50):
        budget.passed()
    assert budget.wait(0.0) == pytest.approx(0.1)


def test_refusals_never_bring_the_rate_to_nothing() -> None:
    budget = PollBudget(10.0)
    for _ in range(100):
        budget.refused()
    budget.take(0.0)
    assert budget.wait(0.0) <= 5


# --- pauses


def test_a_throttled_look_pauses_for_as_long_as_it_says() -> None:
    looks = lane()
    assert looks.throttled(asked_at=9.0, now=10.0, retry_after=42.0)
    assert looks.paused_for(10.0) == 42
    assert looks.wait(30.0) == 22
    assert looks.paused_for(52.0) == 0


def test_after_a_pause_one_look_goes_alone_until_it_has_passed() -> None:
    looks = lane()
    looks.throttled(9.0, 10.0, 5.0)
    assert looks.limit() == 1
    looks.passed(asked_at=9.5, now=10.1)
    assert looks.limit() == 1
    looks.passed(asked_at=15.0, now=15.1)
    assert looks.limit() == 4


def test_looks_asked_before_the_pause_are_its_echo() -> None:
    looks = lane()
    assert looks.throttled(9.0, 10.0, 5.0)
    assert not looks.throttled(9.5, 10.2, 500.0)
    looks.failed(9.5, 10.2, 500.0)
    assert not any(looks.key_refused(9.5, 10.2) for _ in range(10))
    assert looks.paused_for(10.2) == pytest.approx(4.8)


def test_without_a_hint_the_pauses_double_up_to_a_minute() -> None:
    looks, now, pauses = lane(), 0.0, []
    for _ in range(8):
        looks.throttled(now, now, None)
        pauses.append(looks.paused_for(now))
        now += pauses[-1]
    assert pauses[:4] == [5, 10, 20, 40]
    assert pauses[-1] == PAUSE_CAP


def test_single_failures_pause_nothing() -> None:
    looks = lane()
    for number in range(100):
        looks.failed(number, number)
        looks.passed(number, number)
    assert looks.paused_for(100) == 0
    assert looks.limit() == 4


def test_an_outage_pauses_for_longer_and_longer_but_at_most_a_minute() -> None:
    looks, now = lane(), 0.0
    for _ in range(OUTAGE_FAILURES - 1):
        looks.failed(now, now)
    assert looks.paused_for(now) == 0
    pauses = []
    for _ in range(20):
        looks.failed(now, now)
        pauses.append(looks.paused_for(now))
        now += pauses[-1]
    assert 0 < pauses[0] <= 1
    assert PAUSE_CAP / 2 <= pauses[-1] <= PAUSE_CAP


def test_a_hint_of_an_unavailable_provider_is_obeyed() -> None:
    looks = lane()
    looks.failed(0.0, 0.0, retry_after=30.0)
    assert looks.paused_for(0.0) == 30


def test_a_refused_key_is_believed_when_it_lasts() -> None:
    looks, now, answers = lane(), 0.0, []
    for _ in range(KEY_REFUSALS):
        answers.append(looks.key_refused(now, now))
        now += looks.paused_for(now)
    assert answers == [False] * (KEY_REFUSALS - 1) + [True]


def test_an_answer_in_between_makes_the_key_good_again() -> None:
    looks, now = lane(), 0.0
    for _ in range(10):
        assert not looks.key_refused(now, now)
        now += looks.paused_for(now)
        looks.passed(now, now)
