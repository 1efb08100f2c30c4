from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from wanasync import LinkExpiredError, OutcomeState, SubmissionUnknownError, TaskFailedError, VideoRequest
from wanasync.errors import APIError
from wanasync.rules import outcomes
from wanasync.rules.lifecycle import PAID_STATES, ItemState
from wanasync.rules.outcomes import Next, next_step, outcome, states_of
from wanasync.rules.records import ItemRecord
from wanasync.rules.wire import request_to_json

DIRECTORY = Path("videos")
REQUEST = VideoRequest("A cat playing piano")
ROW = ItemRecord(
    "journal", "00ff", 1, 3, None, request_to_json(REQUEST), "0004-a-cat.mp4", task_id="task-unified-1-abc"
)


def row(state: ItemState, **fields: object) -> ItemRecord:
    return attrs.evolve(ROW, state=state, **fields)  # type: ignore[arg-type]


def test_each_state_stands_in_each_table() -> None:
    """Where a new state is missing: what a run does with it, and what users are told of it."""
    for table in (outcomes._STEPS, outcomes._TOLD, outcomes._STANDS):
        assert set(ItemState) - set(table) - {ItemState.UNKNOWN} == set()


@pytest.mark.parametrize("state", ItemState)
@pytest.mark.parametrize("on_unknown", ["hold", "replay", "resubmit"])
def test_nothing_that_may_be_paid_is_submitted_as_new(state: ItemState, on_unknown: str) -> None:
    step = next_step(state, on_unknown)
    if state in PAID_STATES:
        assert step is not Next.SUBMIT
    assert (step is Next.RESUBMIT) == (state is ItemState.UNKNOWN and on_unknown != "hold")


@pytest.mark.parametrize("state", ItemState)
def test_each_state_is_told_as_one_outcome(state: ItemState) -> None:
    told = outcome(row(state, bytes=7, sha256="00"), DIRECTORY)
    assert (told.id, told.index, told.request, told.task_id) == ("00ff", 3, REQUEST, "task-unified-1-abc")
    assert state in states_of(told.state)
    assert (told.video is not None) == (state is ItemState.SAVED)


def test_every_outcome_but_not_started_comes_from_a_state() -> None:
    assert {told for told in OutcomeState if not states_of(told)} == set()


def test_a_saved_row_names_its_file() -> None:
    told = outcome(row(ItemState.SAVED, bytes=7, sha256="00", credits_used=5.0), DIRECTORY)
    assert told.path == DIRECTORY / "0004-a-cat.mp4"
    assert told.credits == 5.0
    assert told.error is None


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (ItemState.FAILED, TaskFailedError),
        (ItemState.REJECTED, APIError),
        (ItemState.UNKNOWN, SubmissionUnknownError),
        (ItemState.SUBMITTING, SubmissionUnknownError),
        (ItemState.EXPIRED, LinkExpiredError),
    ],
)
def test_an_earlier_runs_trouble_is_told_again(state: ItemState, kind: type[Exception]) -> None:
    told = outcome(row(state, error_code="service_error", error_message="try later"), DIRECTORY)
    assert type(told.error) is kind
    assert "try later" in str(told.error)
    assert isinstance(outcome(row(state), DIRECTORY).error, kind)


def test_what_this_run_knows_goes_first() -> None:
    error = LinkExpiredError("dead", "task-unified-1-abc")
    told = outcome(row(ItemState.PLANNED), DIRECTORY, state=OutcomeState.REJECTED, error=error)
    assert told.state is OutcomeState.REJECTED
    assert told.error is error
