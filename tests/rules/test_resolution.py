from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from wanasync.models import TaskSnapshot, TaskStatus
from wanasync.rules.resolution import QUIET, Listed, Lost, Resolution, Unanswered, objection, reach, resolve

MODEL = "wan2.5-text-to-video"
NOW = 1_800_000_000.0
OURS = (
    Listed("ours-1", MODEL, NOW - 299.0, is_ours=True, submitted_at=NOW - 300.0),
    Listed("ours-2", MODEL, NOW - 99.0, is_ours=True, submitted_at=NOW - 100.0),
)
LOST = Lost("a", MODEL, NOW, NOW + 3.0)
TASK = Listed("lost", MODEL, NOW + 1.0)


def match(*listed: Listed, lost: tuple[Lost, ...] = (LOST,), since: float | None = None) -> Resolution:
    return resolve(lost, [*OURS, *listed], since=since)


def test_the_only_stranger_of_its_time_is_the_lost_task() -> None:
    assert match(TASK).found == {"a": "lost"}


def test_without_a_stranger_nothing_is_known() -> None:
    assert match() == Resolution()


def test_two_strangers_are_candidates() -> None:
    resolution = match(TASK, evolve(TASK, task_id="other"))
    assert resolution.found == {}
    assert resolution.candidates == {"a": ("lost", "other")}


def test_two_submissions_at_once_are_not_told_apart() -> None:
    again = evolve(LOST, key="b")
    resolution = match(TASK, evolve(TASK, task_id="other"), lost=(LOST, again))
    assert resolution.found == {}
    assert resolution.candidates == {"a": ("lost", "other"), "b": ("lost", "other")}
    assert match(TASK, lost=(LOST, again)).found == {}


def test_submissions_apart_are_each_found() -> None:
    later = Lost("b", MODEL, NOW + 100.0, NOW + 101.0)
    assert match(TASK, Listed("late", MODEL, NOW + 101.0), lost=(LOST, later)).found == {"a": "lost", "b": "late"}


def test_another_model_is_none_of_ours() -> None:
    assert match(evolve(TASK, model="wan2.6")) == Resolution()


def test_a_key_that_others_use_concludes_nothing() -> None:
    for distance in (-QUIET / 2, QUIET / 2):
        resolution = match(TASK, Listed("somebody's", MODEL, TASK.created + distance))
        assert resolution.found == {}
        assert resolution.candidates == {"a": ("lost",)}
    assert match(TASK, Listed("long ago", MODEL, NOW - 2 * QUIET)).found == {"a": "lost"}


def test_a_list_that_does_not_reach_back_concludes_nothing() -> None:
    assert match(TASK, since=NOW - 1.0).found == {}
    assert match(TASK, since=reach([LOST])).found == {"a": "lost"}


def test_without_tasks_of_ours_clocks_can_not_be_compared() -> None:
    resolution = resolve([LOST], [TASK], since=None)
    assert resolution.found == {}
    assert resolution.candidates == {"a": ("lost",)}


@given(st.floats(-86_400, 86_400), st.floats(0, 2))
def test_clocks_may_be_apart(apart: float, jitter: float) -> None:
    ours = [evolve(task, created=task.created + apart) for task in OURS]
    assert resolve([LOST], [*ours, evolve(TASK, created=TASK.created + apart + jitter)], since=None).found == {
        "a": "lost"
    }


TASKS = st.lists(st.builds(Listed, st.uuids().map(str), st.just(MODEL), st.integers(-900, 900).map(lambda s: NOW + s)))
SUBMISSIONS = st.lists(
    st.builds(
        lambda key, sent, took: Lost(key, MODEL, NOW + sent, NOW + sent + took),
        st.uuids().map(str),
        st.integers(-900, 900),
        st.integers(0, 60),
    ),
    max_size=6,
)


@given(TASKS, SUBMISSIONS)
def test_no_task_is_given_twice_and_no_answer_is_both(tasks: list[Listed], lost: list[Lost]) -> None:
    resolution = resolve(lost, [*OURS, *tasks], since=None)
    assert len(set(resolution.found.values())) == len(resolution.found)
    assert not resolution.found.keys() & resolution.candidates.keys()
    assert set(resolution.found.values()) <= {task.task_id for task in tasks}


class TestCalledBack:
    UNANSWERED = Unanswered("wan-0123456789abcdef", "wan2.5-text-to-video", NOW)

    def found(self, **changes: Any) -> TaskSnapshot:
        fields: dict[str, Any] = {"model": "wan2.5-text-to-video", "created": NOW + 1} | changes
        return TaskSnapshot("task-1", TaskStatus.COMPLETED, **fields)

    @pytest.mark.parametrize("changes", [{}, {"model": None}, {"created": None}, {"created": NOW - 50}])
    def test_is_believed_where_nothing_speaks_against_it(self, changes: dict[str, Any]) -> None:
        assert objection(self.UNANSWERED, self.found(**changes), is_taken=False) is None
        assert objection(Unanswered("wan-0123456789abcdef"), self.found(**changes), is_taken=False) is None

    @pytest.mark.parametrize(
        ("changes", "reason"), [({"model": "wan2.5-image-to-video"}, "not for"), ({"created": NOW - 61}, "before that")]
    )
    def test_is_not_believed_where_the_task_is_another(self, changes: dict[str, Any], reason: str) -> None:
        assert reason in (objection(self.UNANSWERED, self.found(**changes), is_taken=False) or "")

    def test_is_not_believed_of_a_task_that_has_an_owner(self) -> None:
        assert "another" in (objection(self.UNANSWERED, self.found(), is_taken=True) or "")
