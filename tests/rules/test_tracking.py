from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanasync.errors import TaskError, TaskFailedError, WanError
from wanasync.models import TaskSnapshot, TaskStatus
from wanasync.rules.tracking import LOST_AFTER_SECONDS, Look, TaskTrack

GRACE = 120.0
LIFETIME = 86_400.0
LINK = "https://files.example/v.mp4"


def track(since: float | None = None) -> TaskTrack:
    return TaskTrack("task-1", since)


def snapshot(
    status: TaskStatus = TaskStatus.PROCESSING,
    progress: int | None = None,
    links: tuple[str, ...] = (),
    said_status: str = "",
    created: float | None = None,
) -> TaskSnapshot:
    return TaskSnapshot(
        "task-1", status, progress=progress, links=links, said_status=said_status or status, created=created
    )


PROCESSING = snapshot()
COMPLETED = snapshot(TaskStatus.COMPLETED, 100, (LINK,))
EMPTY = snapshot(TaskStatus.COMPLETED, 50)
FAILED = snapshot(TaskStatus.FAILED, 0)
CANCELLED = snapshot(TaskStatus.CANCELLED)


def test_the_first_look_and_each_change_are_news() -> None:
    task = track()
    steps = [
        snapshot(TaskStatus.PENDING),
        snapshot(progress=0),
        snapshot(progress=40),
        snapshot(progress=20),
        snapshot(TaskStatus.UNKNOWN, 20, said_status="archiving"),
        snapshot(TaskStatus.UNKNOWN, 20, said_status="moving"),
        snapshot(progress=20, links=("https://files.example/preview.mp4",)),
    ]
    for at, step in enumerate(steps):
        assert task.look(step, float(at), GRACE) == Look(step)
        assert task.look(step, at + 0.5, GRACE) == Look()
    assert not task.is_final


@pytest.mark.parametrize("end", [COMPLETED, FAILED, CANCELLED])
def test_the_end_is_told_once(end: TaskSnapshot) -> None:
    task = track()
    task.look(PROCESSING, 1.0, GRACE)
    assert task.look(end, 2.0, GRACE) == Look(end, final=True)
    assert task.is_final
    for late in (PROCESSING, COMPLETED, FAILED, EMPTY):
        assert task.look(late, 3.0, GRACE) == Look(final=True)
    assert task.missing(4.0) == Look(final=True)


def test_a_task_may_be_over_at_the_first_look() -> None:
    assert track().look(COMPLETED, 1.0, GRACE) == Look(COMPLETED, final=True)


def test_the_host_s_own_id_for_a_task_does_not_matter() -> None:
    other = TaskSnapshot("upstream-7", TaskStatus.COMPLETED, links=(LINK,))
    assert track().look(other, 1.0, GRACE) == Look(other, final=True)


# Completed without links


def test_a_completed_task_is_not_told_before_its_links_are_there() -> None:
    task = track()
    assert task.look(EMPTY, 10.0, GRACE) == Look()
    assert task.look(EMPTY, 10.0 + GRACE - 1, GRACE) == Look()
    assert task.look(COMPLETED, 10.0 + GRACE, GRACE) == Look(COMPLETED, final=True)


def test_a_completed_task_without_links_is_given_up_after_the_grace() -> None:
    task = track()
    task.look(EMPTY, 10.0, GRACE)
    look = task.look(EMPTY, 10.0 + GRACE, GRACE)
    assert isinstance(look.news, TaskFailedError)
    assert (look.final, look.news.task_id) == (True, "task-1")
    assert "completed without results" in str(look.news)
    assert task.look(COMPLETED, 11.0 + GRACE, GRACE) == Look(final=True)


def test_a_look_that_was_overtaken_neither_tells_nor_ends_the_grace() -> None:
    task = track(since=0.0)
    task.look(EMPTY, 10.0, GRACE)
    assert task.look(snapshot(progress=90), 9.0, GRACE) == Look()
    assert isinstance(task.look(EMPTY, 10.0 + GRACE, GRACE).news, TaskFailedError)


def test_a_task_that_goes_on_after_all_gets_a_new_grace() -> None:
    task = track()
    task.look(EMPTY, 10.0, GRACE)
    assert task.look(PROCESSING, 20.0, GRACE) == Look(PROCESSING)
    assert task.look(EMPTY, 10.0 + GRACE, GRACE) == Look()
    assert task.look(EMPTY, 10.0 + 2 * GRACE, GRACE).final


# Lost


def test_a_task_is_lost_when_it_is_missing_three_times_over_ten_minutes() -> None:
    task = track()
    assert task.missing(0.0) == Look()
    assert task.missing(LOST_AFTER_SECONDS / 2) == Look()
    look = task.missing(LOST_AFTER_SECONDS)
    assert isinstance(look.news, TaskError)
    assert (look.final, look.news.task_id, task.is_final) == (True, "task-1", True)
    assert "not found 3 times over 10 minutes" in str(look.news)


def test_many_misses_in_a_short_time_are_not_enough() -> None:
    task = track()
    assert all(task.missing(float(at)) == Look() for at in range(599))


def test_two_misses_are_not_enough_however_far_apart() -> None:
    task = track()
    assert task.missing(0.0) == Look()
    assert task.missing(100 * LOST_AFTER_SECONDS) == Look()


def test_a_look_that_finds_the_task_starts_the_count_anew() -> None:
    task = track()
    task.missing(0.0)
    task.missing(LOST_AFTER_SECONDS / 2)
    task.look(PROCESSING, LOST_AFTER_SECONDS - 1, GRACE)
    assert task.missing(LOST_AFTER_SECONDS) == Look()
    assert task.missing(LOST_AFTER_SECONDS * 2) == Look()
    assert task.missing(LOST_AFTER_SECONDS * 2 + 1).final


# How long links live


def test_links_live_from_the_last_look_that_found_the_task_unfinished() -> None:
    task = track(since=100.0)
    task.look(PROCESSING, 200.0, GRACE)
    task.look(PROCESSING, 150.0, GRACE)
    task.look(COMPLETED, 300.0, GRACE)
    assert task.link_deadline(COMPLETED, 300.0, LIFETIME) == 200.0 + LIFETIME


def test_links_of_a_task_that_came_late_live_from_the_first_completed_look_at_the_most() -> None:
    task = track(since=100.0)
    task.look(EMPTY, 200.0, GRACE)
    task.look(COMPLETED, 260.0, GRACE)
    assert task.link_deadline(COMPLETED, 260.0, LIFETIME) == 100.0 + LIFETIME


def test_links_of_a_task_that_was_never_seen_unfinished_live_from_its_creation() -> None:
    end = snapshot(TaskStatus.COMPLETED, 100, (LINK,), created=50.0)
    assert track().link_deadline(end, 300.0, LIFETIME) == 50.0 + LIFETIME
    assert track(since=100.0).link_deadline(end, 300.0, LIFETIME) == 100.0 + LIFETIME


def test_a_provider_s_clock_that_is_ahead_does_not_prolong_a_link_s_life() -> None:
    end = snapshot(TaskStatus.COMPLETED, 100, (LINK,), created=9999.0)
    assert track().link_deadline(end, 300.0, LIFETIME) == 300.0 + LIFETIME


def test_where_nothing_is_known_links_live_from_now() -> None:
    assert track().link_deadline(COMPLETED, 300.0, LIFETIME) == 300.0 + LIFETIME


# Any course of events

looks = st.one_of(
    st.builds(
        snapshot,
        st.sampled_from(TaskStatus),
        st.none() | st.integers(0, 100),
        st.sampled_from([(), (LINK,)]),
    ),
    st.none(),
)


@given(st.lists(st.tuples(looks, st.floats(0, 400)), max_size=30))
def test_a_listener_is_told_changes_only_and_one_end(course: list[tuple[TaskSnapshot | None, float]]) -> None:
    task, now, told, ends = track(since=0.0), 0.0, list[TaskSnapshot | WanError](), 0
    for seen, pause in course:
        now += pause
        was_final = task.is_final
        look = task.missing(now) if seen is None else task.look(seen, now, GRACE)
        assert look.final == task.is_final
        if was_final:
            assert look.news is None
        if look.news is not None:
            told.append(look.news)
        ends += look.final and not was_final
        # A listener takes a completed snapshot for one that can be saved.
        if isinstance(look.news, TaskSnapshot) and look.news.status.is_final:
            assert look.final
            assert look.news.links or look.news.status is not TaskStatus.COMPLETED
        assert LIFETIME <= task.link_deadline(COMPLETED, now, LIFETIME) <= now + LIFETIME
    assert ends <= 1
    if task.is_final:
        last = told[-1]
        assert isinstance(last, TaskError) or (isinstance(last, TaskSnapshot) and last.is_final)


def test_a_track_is_small() -> None:
    assert not hasattr(track(), "__dict__")
    assert sys.getsizeof(track()) <= 128
