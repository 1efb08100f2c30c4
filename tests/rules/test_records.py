"""What an item is known by, and what each event makes of its record."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanasync.errors import RequestValidationError
from wanasync.models import VideoRequest
from wanasync.rules.lifecycle import ItemEvent, ItemState, TransitionError
from wanasync.rules.records import (
    ItemRecord,
    PlannedItem,
    advance,
    check_changes,
    identity_json,
    identity_of,
    item_key,
    keep_at_hand,
    replanned,
)

CAT = VideoRequest("A cat playing piano", quality="1080p")


def a_record(state: ItemState = ItemState.PLANNED, **changes: Any) -> ItemRecord:
    item = PlannedItem(0, CAT)
    record = ItemRecord("journal", item.key, 1, 0, None, item.request_json, "0001-a-cat.mp4", state)
    return attrs.evolve(record, **changes)


def test_keys_never_change_or_journals_would_be_paid_for_again() -> None:
    assert item_key(CAT) == "51cbd49a6f398a9c"
    assert item_key(CAT, None, 2) == "3ab743a4446296aa"
    assert item_key(CAT, "cat") == "3c0104a503c7ced1"
    assert (
        attrs.evolve(a_record(), journal_id="j", key="0f").idempotency_key
        == "wan-65b426253a246c8ac98701d012abc9450318f8fc532698f8b4284f5dbda13e34"
    )


def test_an_id_is_the_identity_whatever_is_asked_for() -> None:
    dog = VideoRequest("A dog")
    assert item_key(CAT, "1") == item_key(dog, "1") != item_key(CAT, "2")


def test_without_an_id_the_content_and_the_repetition_are_the_identity() -> None:
    keys = {item_key(CAT), item_key(CAT, None, 2), item_key(attrs.evolve(CAT, quality="720p")), item_key(CAT, "1")}
    assert len(keys) == 4
    assert item_key(CAT) == item_key(VideoRequest("A cat playing piano", quality="1080p"))


def test_whom_to_call_back_is_no_part_of_the_identity() -> None:
    called = attrs.evolve(CAT, callback_url="https://example.com/hook")
    assert item_key(called) == item_key(CAT)
    assert identity_json(called) == identity_json(CAT)
    prompt = VideoRequest('say "callback_url": and mean it', extra={"callback_urls": 1})
    assert identity_of(PlannedItem(0, prompt).request_json) == PlannedItem(0, prompt).request_json


@given(st.text(min_size=1).filter(lambda text: text.strip() and text.isprintable()), st.none() | st.just("7"))
def test_a_planned_item_knows_its_key(prompt: str, item_id: str | None) -> None:
    try:
        request = VideoRequest(prompt)
    except RequestValidationError:
        return
    key = PlannedItem(3, request, item_id).key
    assert key == item_key(request, item_id)
    assert re.fullmatch("[0-7][0-9a-f]{15}", key)


@pytest.mark.parametrize("bad", ["", "half a pair \ud800"])
def test_an_id_that_cannot_be_written_down_is_refused(bad: str) -> None:
    with pytest.raises(RequestValidationError, match="id="):
        PlannedItem(0, CAT, bad)


def test_the_idempotency_key_stays_for_an_attempt_and_changes_with_it() -> None:
    record = a_record(ItemState.UNKNOWN)
    again = advance(record, ItemEvent.RESUBMIT, {}, now=5.0)
    assert again.idempotency_key == record.idempotency_key
    assert re.fullmatch(r"[A-Za-z0-9._-]{16,96}", record.idempotency_key)
    failed = a_record(ItemState.FAILED, task_id="task-1", credits_reserved=3.0, error_message="no")
    retried = advance(failed, ItemEvent.RETRY, {}, now=5.0)
    assert (retried.attempt, retried.task_id, retried.credits_reserved, retried.error_message) == (2, None, None, None)
    assert retried.idempotency_key != failed.idempotency_key
    assert attrs.evolve(record, journal_id="another").idempotency_key != record.idempotency_key


def test_a_request_kept_at_hand_is_not_read_again_and_the_others_are_for_a_while() -> None:
    record = a_record(request_json=PlannedItem(0, VideoRequest("kept at hand")).request_json)
    kept = VideoRequest("kept at hand")
    keep_at_hand(record.request_json, kept)
    assert record.request is kept
    for number in range(5000):
        keep_at_hand(str(number), kept)
    again = record.request
    assert again == kept
    assert again is not kept, "a million at rest would fill the memory"
    assert record.request is again


def test_the_good_way_gathers_what_is_known() -> None:
    record = advance(a_record(error_message="throttled"), ItemEvent.SUBMIT, {}, now=10.0)
    assert (record.state, record.submitted_at, record.error_message) == (ItemState.SUBMITTING, 10.0, None)
    record = advance(record, ItemEvent.ACCEPTED, {"task_id": "task-1", "credits_reserved": 4.5}, now=11.0)
    record = advance(record, ItemEvent.LINKED, {"links": ["https://v/1"], "link_deadline": 99.0}, now=12.0)
    assert record.links == ("https://v/1",)
    record = advance(record, ItemEvent.SAVED, {"bytes": 8, "sha256": "ab"}, now=13.0)
    assert (record.links, record.link_deadline, record.bytes) == ((), None, 8)
    assert (record.task_id, record.committed, record.updated_at) == ("task-1", 4.5, 13.0)
    gone = advance(record, ItemEvent.FILE_LOST, {}, now=14.0)
    assert (gone.state, gone.bytes, gone.sha256, gone.task_id) == (ItemState.ACCEPTED, None, None, "task-1")


def test_an_impossible_event_is_refused() -> None:
    with pytest.raises(TransitionError):
        advance(a_record(ItemState.SAVED), ItemEvent.SUBMIT, {}, now=1.0)


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        (ItemEvent.SAVED, {"bytes": 1}),
        (ItemEvent.LINKED, {}),
        (ItemEvent.SUBMIT, {"state": ItemState.SAVED}),
        (ItemEvent.SUBMIT, {"file": "../else.mp4"}),
        (ItemEvent.NOTED, {"attempt": 7}),
    ],
)
def test_changes_that_do_not_fit_the_event_are_a_mistake(event: ItemEvent, changes: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=event):
        check_changes(event, changes)


def test_nothing_is_accepted_without_its_task() -> None:
    with pytest.raises(TypeError, match="task_id"):
        advance(a_record(ItemState.SUBMITTING), ItemEvent.ACCEPTED, {}, now=1.0)


@pytest.mark.parametrize(
    ("state", "reserved", "used", "committed"),
    [
        (ItemState.ACCEPTED, 5.0, None, 5.0),
        (ItemState.SAVED, 5.0, 4.0, 4.0),
        (ItemState.SAVED, 5.0, 0.0, 0.0),
        (ItemState.UNKNOWN, None, None, 0.0),
        (ItemState.FAILED, 5.0, None, 0.0),
        (ItemState.REJECTED, 5.0, 5.0, 0.0),
    ],
)
def test_credits_are_committed_unless_the_task_failed_or_was_refused(
    state: ItemState, reserved: float | None, used: float | None, committed: float
) -> None:
    assert a_record(state, credits_reserved=reserved, credits_used=used).committed == committed


@pytest.mark.parametrize("state", [ItemState.PLANNED, ItemState.REJECTED, ItemState.FAILED])
def test_an_id_may_get_another_request_while_nothing_is_paid(state: ItemState) -> None:
    other = PlannedItem(0, VideoRequest("A dog")).request_json
    sent = a_record(state, submitted_at=3.0, task_id="task-1", error_message="no")
    changed = replanned(sent, other)
    assert (changed.state, changed.request.prompt, changed.attempt) == (ItemState.PLANNED, "A dog", 2)
    assert (changed.task_id, changed.submitted_at, changed.error_message) == (None, None, None)
    fresh = replanned(a_record(), other)
    assert (fresh.attempt, fresh.request.prompt) == (1, "A dog")


@pytest.mark.parametrize("state", [ItemState.UNKNOWN, ItemState.ACCEPTED, ItemState.SAVED, ItemState.EXPIRED])
def test_an_id_keeps_the_request_that_was_paid_for(state: ItemState) -> None:
    with pytest.raises(RequestValidationError, match="give the changed item a new id"):
        replanned(a_record(state, item_id="cat"), "{}")
