from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable

import pytest
from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st

from wanasync.emulator import (
    AllOf,
    ConcurrentTasks,
    FixedWindow,
    Hint,
    Limiter,
    Scheduled,
    SharedKey,
    SlidingWindow,
    TokenBucket,
)

START = 1_800_000_000.0


@define
class Tasks:
    """So many under way, the first of which ends at a known time or not."""

    count: int = 0
    end: float | None = None

    def under_way(self, now: float) -> int:
        return self.count

    def next_end(self, now: float) -> float | None:
        return self.end


NONE = Tasks()


def send(limiter: Limiter, now: float) -> float:
    """The wait, after booking what passes."""
    wait = limiter.wait(now, NONE)
    if wait <= 0:
        limiter.take(now)
    return wait


def accepted(limiter: Limiter, times: list[float]) -> list[float]:
    return [now for now in times if send(limiter, now) == 0]


def test_a_fixed_window_gives_all_slots_back_at_once() -> None:
    limiter = FixedWindow(3, per=60)
    assert [send(limiter, START + second) for second in (0, 10, 20, 30, 59)] == [0, 0, 0, 30, 1]
    assert [send(limiter, START + second) for second in (60, 61, 62, 63)] == [0, 0, 0, 57]


def test_a_fixed_window_may_be_anchored() -> None:
    limiter = FixedWindow(1, per=60, anchor=START - 50)
    assert [send(limiter, START + second) for second in (0, 1, 10)] == [0, 9, 0]


def test_a_sliding_window_gives_each_slot_back_on_its_own() -> None:
    limiter = SlidingWindow(2, per=60)
    assert [send(limiter, START + second) for second in (0, 30, 31, 60, 61, 90)] == [0, 0, 29, 0, 29, 0]


def test_a_bucket_gives_a_burst_and_then_a_trickle() -> None:
    limiter = TokenBucket(rate=0.5, burst=3)
    waits = [send(limiter, START + second) for second in (0, 0, 0, 0, 1, 2, 2)]
    assert waits == pytest.approx([0, 0, 0, 2, 1, 0, 2])


def test_a_bucket_holds_no_more_than_its_burst() -> None:
    limiter = TokenBucket(rate=1, burst=2)
    send(limiter, START)
    assert [send(limiter, START + 1000) for _ in range(3)] == pytest.approx([0, 0, 1])


def test_a_quota_counts_tasks_and_knows_when_the_first_ends() -> None:
    limiter = ConcurrentTasks(20)
    assert limiter.wait(START, Tasks(19)) == 0
    assert limiter.wait(START, Tasks(20, START + 42)) == 42
    assert limiter.wait(START, Tasks(20)) == 1.0
    assert limiter.wait(START, Tasks(20, math.inf)) == 1.0


def test_several_limits_must_all_agree_and_the_longest_wait_counts() -> None:
    limiter = AllOf(SlidingWindow(1, per=60), SlidingWindow(2, per=3600))
    assert [send(limiter, START + second) for second in (0, 1, 60, 121)] == [0, 59, 0, 3479]
    assert AllOf().wait(START, NONE) == 0


def test_a_schedule_changes_the_limit_while_it_runs() -> None:
    limiter = Scheduled((600, SlidingWindow(1)), (0, SlidingWindow(2)))
    assert [send(limiter, START + second) for second in (0, 0, 0, 600, 600)] == [0, 0, 60, 0, 60]


def test_a_schedule_needs_a_plan() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Scheduled()


def test_a_shared_key_leaves_what_the_other_client_does_not_take() -> None:
    limiter = SharedKey(SlidingWindow(60, per=60), rate=1 / 3)
    polite = accepted(limiter, [START + second * 1.5 for second in range(400)])
    assert (len(polite), limiter.taken) == (400, 200)


def test_who_takes_all_that_a_shared_key_gives_takes_it_from_the_other() -> None:
    limiter = SharedKey(FixedWindow(60, per=60), rate=1 / 3)
    mine = accepted(limiter, [START + second / 4 for second in range(4 * 600)])
    assert len(mine) + limiter.taken == 600
    assert limiter.taken < 100


@given(st.lists(st.floats(0, 40), min_size=1, max_size=60), st.integers(1, 5), st.floats(0.5, 60))
@settings(max_examples=60, deadline=None)
def test_no_window_is_ever_overfull(gaps: list[float], limit: int, per: float) -> None:
    times = [START]
    for gap in gaps:
        times.append(times[-1] + gap)
    passed = accepted(SlidingWindow(limit, per), times)
    for place, end in enumerate(passed):
        # Two that are a whole window apart are not in the same one.
        assert place + 1 - bisect_right([time + per for time in passed], end) <= limit


@given(
    st.sampled_from([lambda: FixedWindow(3, 60), lambda: SlidingWindow(3, 60), lambda: TokenBucket(0.05, 3)]),
    st.lists(st.floats(0, 90), max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_who_waits_as_told_is_let_in(make: Callable[[], Limiter], gaps: list[float]) -> None:
    limiter, now = make(), START
    for gap in gaps:
        now += gap
        wait = send(limiter, now)
        if wait > 0:
            # A microsecond covers the rounding of unix seconds.
            now += wait + 1e-6
            assert send(limiter, now) == 0


def test_a_hint_is_whole_seconds_of_the_true_wait_or_what_it_was_told_to_say() -> None:
    assert Hint().told(0.2) == 1
    assert Hint().told(41.3) == 42
    assert Hint(factor=0.5).told(40) == 20
    assert Hint(seconds=60).told(3) == 60


def test_an_unknown_hint_is_refused() -> None:
    with pytest.raises(ValueError, match="text, header"):
        Hint("pigeon")
