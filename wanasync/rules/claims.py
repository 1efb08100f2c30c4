"""Claims: who may send an item's submission, where several processes work on one batch.

A submission may be sent only by the one whose claim is in the item's row: the step to `submitting` (or `resubmitting`)
carries a token that nobody else has. The rest follows from it:

- the same claim may be made twice, for where the answer to the first was lost on the way;
- a claim that took long to come back is not used: its maker may have been frozen, and be taken for dead by now;
- one whose maker is taken for dead turns `unknown`, and the maker's late answer wins over that: it alone knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import attrs
from attrs import define, frozen

from wanasync.errors import JournalError
from wanasync.rules.lifecycle import ItemEvent, ItemState, TransitionError
from wanasync.rules.records import ItemRecord, advance

__all__ = [
    "ANSWERS",
    "FRESH_SECONDS",
    "ON_THE_WIRE",
    "Claim",
    "Row",
    "StaleClaimError",
    "StrayTaskError",
    "answered",
    "claim_event",
    "claimed",
    "interrupted",
    "is_stale",
]

FRESH_SECONDS = 5.0
"""How old a claim may be when its submission is sent."""

ON_THE_WIRE = frozenset({ItemState.SUBMITTING, ItemState.RESUBMITTING})
ANSWERS = frozenset({ItemEvent.ACCEPTED, ItemEvent.REFUSED, ItemEvent.NOT_TAKEN, ItemEvent.REPLY_LOST})
"""What only the maker of a claim can know of it."""

INTERRUPTED = {"error_code": "interrupted", "error_message": "the run ended before the reply came"}


@define(eq=False, slots=False)
class StaleClaimError(JournalError):
    """The claim took too long: nothing may be sent on it. It was given back, and the item can be claimed again."""


@define(eq=False, slots=False)
class StrayTaskError(JournalError):
    """A task was accepted for an item that has another one by now; it is kept among the item's attempts."""

    task_id: str = ""


@frozen
class Row:
    """An item's record, and the claim its submission was, or is being, sent under."""

    record: ItemRecord
    claim: UUID | None = None


@frozen
class Claim:
    """A claim as its maker keeps it, until it is answered; `state` is what it brought the item to."""

    token: UUID
    state: ItemState


def claim_event(record: ItemRecord) -> ItemEvent:
    """What submitting means for an item that stands where this record says."""
    return ItemEvent.RESUBMIT if record.state is ItemState.UNKNOWN else ItemEvent.SUBMIT


def claimed(row: Row, seen: ItemRecord, token: UUID, *, submitted_at: float, now: float) -> Row:
    """The row after a claim by one who has `seen` it. Raises `TransitionError` where somebody was faster."""
    if row.claim == token and row.record.state in ON_THE_WIRE:
        return row
    event = claim_event(seen)
    if (row.record.state, row.record.attempt) != (seen.state, seen.attempt):
        state = row.record.state
        raise TransitionError(f"{event}: another process was faster; the item is {state}", None, state, event)
    return Row(advance(row.record, event, {"submitted_at": submitted_at}, now=now), token)


def answered(row: Row, claim: Claim, event: ItemEvent, changes: Mapping[str, Any], *, now: float) -> Row:
    """The row after the answer to `claim`, however late.

    Raises `StrayTaskError` for a task that the item can't have as well, and `TransitionError` for other news of a claim
    that is no longer the item's.
    """
    is_own = row.claim == claim.token
    if is_own and row.record.state in (claim.state, ItemState.UNKNOWN):
        as_claimed = attrs.evolve(row.record, state=claim.state, error_code=None, error_message=None)
        return Row(advance(as_claimed, event, changes, now=now), row.claim)
    if event is ItemEvent.ACCEPTED:
        task_id = changes["task_id"]
        if task_id == row.record.task_id:
            return row  # found meanwhile by somebody who asked the provider
        raise StrayTaskError(f"the item has another task by now; task {task_id} is kept beside it", None, task_id)
    raise TransitionError(f"{event}: the claim was taken over; the item is {row.record.state}", None, None, event)


def interrupted(row: Row, *, now: float) -> Row:
    """The row after its claim's maker was taken for dead. The claim stays, for a late answer."""
    return Row(advance(row.record, ItemEvent.INTERRUPTED, INTERRUPTED, now=now), row.claim)


def is_stale(seconds: float) -> bool:
    """Whether a claim that took so long is too old to be used."""
    return seconds > FRESH_SECONDS
