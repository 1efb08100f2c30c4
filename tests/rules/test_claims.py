"""Claims: one may send, whoever is taken for dead may still answer."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanasync.models import VideoRequest
from wanasync.rules.claims import (
    FRESH_SECONDS,
    Claim,
    Row,
    StrayTaskError,
    answered,
    claim_event,
    claimed,
    interrupted,
    is_stale,
)
from wanasync.rules.lifecycle import ItemEvent, ItemState, TransitionError
from wanasync.rules.records import ItemRecord, PlannedItem

NOW = 1_800_000_000.0
TASK = {"task_id": "task-unified-1"}
OURS, THEIRS = uuid4(), uuid4()


def record(state: ItemState = ItemState.PLANNED, **fields: Any) -> ItemRecord:
    item = PlannedItem(0, VideoRequest("a cat"))
    planned = ItemRecord("journal", item.key, 1, 0, None, item.request_json, "cat.mp4")
    return attrs.evolve(planned, state=state, **fields)


def claimed_by(token: UUID, row: Row | None = None) -> Row:
    row = row or Row(record())
    return claimed(row, row.record, token, submitted_at=NOW, now=NOW)


def test_a_claim_can_be_made_again_by_its_maker_and_by_nobody_else() -> None:
    first = claimed_by(OURS)
    assert first.record.state is ItemState.SUBMITTING
    assert claimed(first, record(), OURS, submitted_at=NOW + 1, now=NOW + 1) == first
    with pytest.raises(TransitionError, match="another process was faster; the item is submitting"):
        claimed(first, record(), THEIRS, submitted_at=NOW, now=NOW)


def test_an_answered_claim_can_not_be_made_again() -> None:
    accepted = answered(claimed_by(OURS), Claim(OURS, ItemState.SUBMITTING), ItemEvent.ACCEPTED, TASK, now=NOW)
    with pytest.raises(TransitionError):
        claimed(accepted, record(), OURS, submitted_at=NOW, now=NOW)


def test_an_old_sight_of_an_item_gives_no_claim_on_its_next_attempt() -> None:
    with pytest.raises(TransitionError):
        claimed(Row(record(attempt=2)), record(attempt=1), OURS, submitted_at=NOW, now=NOW)


def test_what_is_unknown_is_resubmitted_and_the_rest_submitted() -> None:
    assert {state: claim_event(record(state)) for state in ItemState if state is ItemState.UNKNOWN} == {
        ItemState.UNKNOWN: ItemEvent.RESUBMIT
    }
    assert claim_event(record(ItemState.REJECTED)) is ItemEvent.SUBMIT


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (ItemEvent.ACCEPTED, ItemState.ACCEPTED),
        (ItemEvent.NOT_TAKEN, ItemState.PLANNED),
        (ItemEvent.REFUSED, ItemState.REJECTED),
        (ItemEvent.REPLY_LOST, ItemState.UNKNOWN),
    ],
)
def test_an_answer_counts_as_though_its_maker_had_never_been_taken_for_dead(event: ItemEvent, state: ItemState) -> None:
    claim = Claim(OURS, ItemState.SUBMITTING)
    changes = TASK if event is ItemEvent.ACCEPTED else {}
    in_time = answered(claimed_by(OURS), claim, event, changes, now=NOW)
    late = answered(interrupted(claimed_by(OURS), now=NOW), claim, event, changes, now=NOW)
    assert late == in_time
    assert late.record.state is state


def test_a_late_refusal_of_a_second_submission_says_nothing_of_the_first() -> None:
    again = claimed_by(THEIRS, interrupted(claimed_by(OURS), now=NOW))
    assert again.record.state is ItemState.RESUBMITTING
    late = answered(interrupted(again, now=NOW), Claim(THEIRS, ItemState.RESUBMITTING), ItemEvent.REFUSED, {}, now=NOW)
    assert late.record.state is ItemState.UNKNOWN


def test_a_second_task_is_stray() -> None:
    again = claimed_by(THEIRS, interrupted(claimed_by(OURS), now=NOW))
    with pytest.raises(StrayTaskError) as caught:
        answered(again, Claim(OURS, ItemState.SUBMITTING), ItemEvent.ACCEPTED, TASK, now=NOW)
    assert caught.value.task_id == TASK["task_id"]


def test_a_claim_is_used_at_once_or_not_at_all() -> None:
    assert not is_stale(FRESH_SECONDS)
    assert is_stale(FRESH_SECONDS + 0.001)


@given(st.lists(st.tuples(st.sampled_from(["claim", "answer", "dead"]), st.integers(0, 2), st.booleans()), max_size=30))
def test_whatever_happens_in_which_order_each_task_is_the_items_or_known_as_stray(
    steps: list[tuple[str, int, bool]],
) -> None:
    """Three processes; each sends only on a claim that it got, and every submission sent is accepted in the end."""
    row, held, kept, tasks = Row(record()), dict[int, Claim](), set[str](), 0
    for number, (step, process, is_taken) in enumerate(steps):
        if step == "dead":
            if row.record.state in (ItemState.SUBMITTING, ItemState.RESUBMITTING):
                row = interrupted(row, now=NOW)
        elif step == "claim" and process not in held:
            token = UUID(int=number)
            try:
                row = claimed(row, row.record, token, submitted_at=NOW, now=NOW)
            except TransitionError:
                continue
            held[process] = Claim(token, row.record.state)
        elif step == "answer" and process in held:
            claim, task = held.pop(process), {"task_id": f"task-unified-{number}"}
            event = ItemEvent.ACCEPTED if is_taken else ItemEvent.REPLY_LOST
            tasks += is_taken
            try:
                row = answered(row, claim, event, task if is_taken else {}, now=NOW)
            except StrayTaskError as stray:
                kept.add(stray.task_id)
            except TransitionError:
                continue
    own = {row.record.task_id} - {None}
    assert len(own | kept) == tasks
