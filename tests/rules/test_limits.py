from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanasync.rules.limits import Bucket, Hints, Probing, Quota


def test_a_bucket_measures_its_rate_between_its_empty_moments() -> None:
    bucket = Bucket(rate=3.0, burst=10, fallback=10, anchor=0.0, taken=0, empty_at=0.0, at=0.0)
    for second in range(1, 101):
        bucket.accepted(float(second))
    bucket.emptied(100.0)
    assert bucket.rate == pytest.approx(1.0)
    assert bucket.earliest(100.0) == pytest.approx(101.0, abs=0.05)


def test_a_bucket_that_gives_more_than_it_can_is_measured_anew() -> None:
    bucket = Bucket(rate=1.0, burst=2, fallback=2, anchor=0.0, taken=100, empty_at=100.0, at=100.0, doubt=0.0)
    for tick in range(400):
        bucket.accepted(100.0 + tick / 4)
    assert bucket.rate > 2.0


@given(st.lists(st.tuples(st.floats(0.0, 10.0), st.booleans()), max_size=60))
def test_a_bucket_never_gets_ahead_of_its_burst(steps: list[tuple[float, bool]]) -> None:
    bucket, now, sent = Bucket(rate=1.0, burst=5, fallback=5, anchor=0.0, taken=1000, empty_at=0.0, doubt=0.0), 0.0, 0
    bucket.steady = 1e9
    for wait, give_back in steps:
        now = max(now + wait, bucket.earliest(now + wait))
        bucket.take(now)
        sent += 1
        if give_back:
            bucket.give_back(now)
            sent -= 1
    assert sent <= now + 5 + 1e-6


def test_a_quota_is_what_repeats_while_tasks_end() -> None:
    quota = Quota()
    quota.refused(20, finished=0)
    quota.refused(21, finished=4)
    assert quota.repeats(2)
    assert quota.least_met() == 20


@pytest.mark.parametrize(("tasks", "finished"), [(30, 5), (20, 0)])
def test_other_numbers_or_no_ended_task_prove_no_quota(tasks: int, finished: int) -> None:
    quota = Quota()
    quota.refused(20, finished=0)
    quota.refused(tasks, finished)
    assert not quota.repeats(2)


def test_refusals_at_fewer_and_fewer_tasks_are_no_quotas() -> None:
    quota = Quota()
    for tasks in (79, 76, 74):
        assert not quota.recedes()
        quota.refused(tasks, finished=0)
    assert quota.recedes()


def test_a_quota_that_was_ruled_out_is_not_suspected_for_a_while() -> None:
    quota = Quota()
    quota.reached(20, 0.0)
    quota.refused(20, finished=3)
    assert quota.suspected(20, 1.0)
    quota.rule_out(1.0)
    assert not quota.suspected(20, 2.0)
    assert quota.suspected(20, 2000.0)


def test_gaps_between_probes_grow_to_their_cap_and_start_small_after_a_change() -> None:
    probing = Probing(gap=60.0, longest=360.0, shortest=60.0)
    gaps = []
    for _ in range(5):
        probing.refused(0.0)
        gaps.append(probing.at)
    assert gaps == [60.0, 120.0, 240.0, 360.0, 360.0]
    probing.changed(0.0)
    assert probing.at == 60.0
    probing.refused(0.0)
    probing.refused(0.0)
    assert probing.at == pytest.approx(78.0)


@pytest.mark.parametrize(
    ("first", "second", "wait"),
    [
        pytest.param(60.0, 50.0, 50.0, id="true"),
        pytest.param(30.0, 25.0, 50.0, id="too short by half"),
        pytest.param(90.0, 75.0, 50.0, id="too long by half"),
        pytest.param(60.0, 60.0, None, id="a fixed phrase"),
        pytest.param(60.0, None, None, id="absent the second time"),
    ],
)
def test_hints_that_count_down_tell_the_true_wait(first: float, second: float | None, wait: float | None) -> None:
    hints = Hints()
    hints.heard(first, 0.0)
    hints.heard(second, 10.0)
    assert hints.true(second) == (None if wait is None else pytest.approx(wait))


def test_a_hint_alone_tells_nothing_certain() -> None:
    hints = Hints()
    hints.heard(60.0, 0.0)
    assert hints.true(60.0) is None
    hints.episode_over()
    hints.heard(55.0, 5.0)
    assert hints.true(55.0) is None
