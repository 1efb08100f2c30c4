"""From journal rows to what the user is told, and what a new run does with each row it finds."""

from __future__ import annotations

import enum
from pathlib import Path

from wanasync.errors import (
    APIError,
    LinkExpiredError,
    RequestValidationError,
    SubmissionUnknownError,
    TaskFailedError,
    WanError,
)
from wanasync.models import ItemStatus, Outcome, OutcomeState, SavedVideo, TaskFailure, VideoRequest
from wanasync.rules.lifecycle import ItemState
from wanasync.rules.records import ItemRecord

__all__ = ["Next", "item_status", "next_step", "outcome", "states_of", "unknown_reason"]


class Next(enum.Enum):
    """What a run does with an item it finds in the journal."""

    SUBMIT = "submit"
    RESUBMIT = "resubmit"
    """The same idempotency key again, since the user chose so."""
    LOOK_UP = "look up"
    """May be paid for: does the provider's list of tasks tell? If not, tell the outcome."""
    FOLLOW = "follow"
    """Paid for: ask the provider, which also renews the link."""
    SAVE = "save"
    REPORT = "report"
    """Nothing is to be done; tell the outcome."""


_STEPS = {
    ItemState.PLANNED: Next.SUBMIT,
    # Refused items were never paid; the account or the provider may have changed since.
    ItemState.REJECTED: Next.SUBMIT,
    # Only after a crash, which the journal turns into UNKNOWN when it is opened.
    ItemState.SUBMITTING: Next.REPORT,
    ItemState.RESUBMITTING: Next.REPORT,
    ItemState.ACCEPTED: Next.FOLLOW,
    ItemState.READY: Next.SAVE,
    # A host may give a fresh link after the first one died (seen in public client code).
    ItemState.EXPIRED: Next.FOLLOW,
    ItemState.SAVED: Next.REPORT,
    ItemState.FAILED: Next.REPORT,
}


def next_step(state: ItemState, on_unknown: str) -> Next:
    if state is ItemState.UNKNOWN:
        return Next.LOOK_UP if on_unknown == "hold" else Next.RESUBMIT
    return _STEPS[state]


_TOLD = {
    ItemState.PLANNED: OutcomeState.NOT_STARTED,
    ItemState.SUBMITTING: OutcomeState.UNKNOWN,
    ItemState.RESUBMITTING: OutcomeState.UNKNOWN,
    ItemState.UNKNOWN: OutcomeState.UNKNOWN,
    ItemState.ACCEPTED: OutcomeState.PENDING,
    ItemState.READY: OutcomeState.PENDING,
    ItemState.SAVED: OutcomeState.SAVED,
    ItemState.FAILED: OutcomeState.FAILED,
    ItemState.REJECTED: OutcomeState.REJECTED,
    ItemState.EXPIRED: OutcomeState.EXPIRED,
}


def states_of(told: OutcomeState) -> list[ItemState]:
    """The journal's states that are told as `told`."""
    return [state for state, outcome_state in _TOLD.items() if outcome_state is told]


def outcome(
    record: ItemRecord,
    directory: Path,
    *,
    state: OutcomeState | None = None,
    error: WanError | None = None,
    video: SavedVideo | None = None,
    resumed: bool = False,
) -> Outcome:
    """What to tell of an item. What is given is this run's own knowledge; for the rest the row speaks."""
    return Outcome(
        id=record.item_id or record.key,
        index=record.index,
        request=record.request,
        state=state or _TOLD[record.state],
        task_id=record.task_id,
        video=video or _video(record, directory),
        credits=record.credits_used if record.credits_used is not None else record.credits_reserved,
        error=error or _error(record),
        resumed=resumed,
    )


def _video(record: ItemRecord, directory: Path) -> SavedVideo | None:
    if record.state is not ItemState.SAVED or record.bytes is None or record.sha256 is None:
        return None
    return SavedVideo(
        path=directory / record.file,
        bytes=record.bytes,
        sha256=record.sha256,
        task_id=record.task_id or "",
        credits=record.credits_used,
    )


def unknown_reason(record: ItemRecord) -> str:
    return record.error_message or _NO_REASON


_NO_REASON = "no reason was kept"


def _error(record: ItemRecord) -> WanError | None:
    words = record.error_message or _NO_REASON
    match record.state:
        case ItemState.FAILED:
            failure = TaskFailure(record.error_code, record.error_message or "")
            return TaskFailedError(words, record.task_id or "", failure)
        case ItemState.REJECTED:
            return APIError(words, 0, record.error_code)
        case ItemState.UNKNOWN | ItemState.SUBMITTING | ItemState.RESUBMITTING:
            return SubmissionUnknownError(words, record.idempotency_key)
        case ItemState.EXPIRED:
            return LinkExpiredError(words, record.task_id or "")
        case _:
            return None


_STANDS = {
    **{state: state.value for state in ItemState},
    ItemState.RESUBMITTING: "submitting",
    ItemState.ACCEPTED: "following",
    ItemState.READY: "saving",
}


def item_status(record: ItemRecord) -> ItemStatus:
    """The row for those who look on."""
    return ItemStatus(
        number=record.seq,
        index=record.index,
        id=record.item_id or record.key,
        state=_STANDS[record.state],
        file=record.file,
        request=_readable(record),
        task_id=record.task_id,
        attempt=record.attempt,
        bytes=record.bytes,
        sha256=record.sha256,
        credits=record.credits_reserved if record.credits_used is None else record.credits_used,
        error_code=record.error_code,
        error_message=record.error_message,
        submitted_at=record.submitted_at,
        estimated_time=record.estimated_time,
        link_deadline=record.link_deadline,
        updated_at=record.updated_at,
    )


def _readable(record: ItemRecord) -> VideoRequest | None:
    try:
        return record.request
    except RequestValidationError:
        return None
