"""The life of an item, as a table.

    planned ── submit ─▶ submitting ── accepted ─▶ accepted ── linked ─▶ ready ── saved ─▶ saved

is the way things should go. The others:

    from           when                        to
    submitting     not_taken                   planned         nothing was created: to be sent again
                   refused                     rejected        not charged
                   reply_lost, interrupted     unknown         may be charged: held
    rejected       submit                      submitting      in a later run
    unknown        resolved                    accepted        its task was found
                   resubmit                    resubmitting    the same idempotency key again
    resubmitting   accepted                    accepted
                   anything else               unknown
    accepted       failed                      failed          not charged
                   expired, lost               expired         charged, and nothing to fetch
    ready          linked                      ready           a fresh link
                   expired, lost               expired
    expired        linked                      ready           the provider has a living link after all
                   resolved, failed            accepted, failed
    failed         retry                       planned         another attempt, when asked for
    saved          file_lost                   accepted        ask for a fresh link

Money is at stake in two places. `submitting` is on disk before the request leaves, so whatever is found in it after a
crash may have been paid for: `interrupted`. And a resubmission is no fresh start: even when it is refused or throttled,
the first submission may have been accepted, so all ways from `resubmitting` but acceptance lead back to `unknown`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

from attrs import define

from wanasync.errors import JournalError

__all__ = ["PAID_STATES", "SETTLED_STATES", "TRANSITIONS", "ItemEvent", "ItemState", "TransitionError", "next_state"]


class ItemState(enum.StrEnum):
    """Where an item stands."""

    PLANNED = "planned"
    """Not submitted yet, or turned away before anything was created."""
    SUBMITTING = "submitting"
    """The submission may be on the wire."""
    ACCEPTED = "accepted"
    """The provider runs a task for it: it is paid for."""
    READY = "ready"
    """Finished; its links are known."""
    SAVED = "saved"
    """The video is on disk, whole and synced."""
    FAILED = "failed"
    """The provider could not make it; not charged."""
    REJECTED = "rejected"
    """Refused at submission; not charged."""
    UNKNOWN = "unknown"
    """Sent, and the reply was lost: may be paid for."""
    EXPIRED = "expired"
    """Paid for, but the provider no longer gives a living link, or knows the task."""
    RESUBMITTING = "resubmitting"
    """An unknown submission is being sent again with the same idempotency key."""


class ItemEvent(enum.StrEnum):
    """What can happen to an item."""

    SUBMIT = "submit"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOT_TAKEN = "not_taken"
    """Throttled, never sent, or refused for a reason that is not the item's: nothing was created."""
    REPLY_LOST = "reply_lost"
    INTERRUPTED = "interrupted"
    """The process died while the submission may have been on the wire."""
    RESOLVED = "resolved"
    """The task of an unknown submission was found, or an expired one is known to the provider again."""
    RESUBMIT = "resubmit"
    LINKED = "linked"
    """The task's links, or fresh ones, are known."""
    FAILED = "failed"
    LOST = "lost"
    """The provider no longer knows the task."""
    SAVED = "saved"
    EXPIRED = "expired"
    RETRY = "retry"
    """A run was asked to try a failed item again: a new task, to be paid for."""
    FILE_LOST = "file_lost"
    """The saved file is gone or was changed."""
    NOTED = "noted"
    """Something was learned that changes no state: a price, a failed download."""


_S, _E = ItemState, ItemEvent

TRANSITIONS: Mapping[tuple[ItemState, ItemEvent], ItemState] = MappingProxyType(
    {
        (_S.PLANNED, _E.SUBMIT): _S.SUBMITTING,
        (_S.SUBMITTING, _E.ACCEPTED): _S.ACCEPTED,
        (_S.SUBMITTING, _E.REFUSED): _S.REJECTED,
        (_S.SUBMITTING, _E.NOT_TAKEN): _S.PLANNED,
        (_S.SUBMITTING, _E.REPLY_LOST): _S.UNKNOWN,
        (_S.SUBMITTING, _E.INTERRUPTED): _S.UNKNOWN,
        (_S.UNKNOWN, _E.RESOLVED): _S.ACCEPTED,
        (_S.UNKNOWN, _E.RESUBMIT): _S.RESUBMITTING,
        (_S.UNKNOWN, _E.NOTED): _S.UNKNOWN,
        (_S.RESUBMITTING, _E.ACCEPTED): _S.ACCEPTED,
        (_S.RESUBMITTING, _E.REFUSED): _S.UNKNOWN,
        (_S.RESUBMITTING, _E.NOT_TAKEN): _S.UNKNOWN,
        (_S.RESUBMITTING, _E.REPLY_LOST): _S.UNKNOWN,
        (_S.RESUBMITTING, _E.INTERRUPTED): _S.UNKNOWN,
        (_S.ACCEPTED, _E.LINKED): _S.READY,
        (_S.ACCEPTED, _E.FAILED): _S.FAILED,
        (_S.ACCEPTED, _E.LOST): _S.EXPIRED,
        (_S.ACCEPTED, _E.EXPIRED): _S.EXPIRED,
        (_S.ACCEPTED, _E.NOTED): _S.ACCEPTED,
        (_S.READY, _E.LINKED): _S.READY,
        (_S.READY, _E.SAVED): _S.SAVED,
        (_S.READY, _E.LOST): _S.EXPIRED,
        (_S.READY, _E.EXPIRED): _S.EXPIRED,
        (_S.READY, _E.NOTED): _S.READY,
        (_S.SAVED, _E.FILE_LOST): _S.ACCEPTED,
        (_S.EXPIRED, _E.LINKED): _S.READY,
        (_S.EXPIRED, _E.RESOLVED): _S.ACCEPTED,
        (_S.EXPIRED, _E.FAILED): _S.FAILED,
        (_S.EXPIRED, _E.LOST): _S.EXPIRED,
        (_S.EXPIRED, _E.EXPIRED): _S.EXPIRED,
        (_S.REJECTED, _E.SUBMIT): _S.SUBMITTING,
        (_S.FAILED, _E.RETRY): _S.PLANNED,
    }
)

PAID_STATES = frozenset({_S.SUBMITTING, _S.RESUBMITTING, _S.UNKNOWN, _S.ACCEPTED, _S.READY, _S.SAVED, _S.EXPIRED})
"""Where money is spent, or may be: such an item is never let go of."""

SETTLED_STATES = frozenset({_S.SAVED, _S.FAILED, _S.REJECTED, _S.UNKNOWN, _S.EXPIRED})
"""Where a run is done with an item."""


@define(eq=False, slots=False)
class TransitionError(JournalError):
    """An event that can't happen to an item in this state; nothing was written."""

    state: ItemState | None = None
    event: ItemEvent | None = None


def next_state(state: ItemState, event: ItemEvent) -> ItemState:
    """The state that follows. Raises `TransitionError` for what is not in the table."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        message = f"an item that is {state} can't become {event}" if event in _DONE else f"{event}: the item is {state}"
        raise TransitionError(message, None, state, event) from None


_DONE = frozenset({_E.ACCEPTED, _E.SAVED, _E.EXPIRED, _E.FAILED, _E.LOST, _E.REFUSED})
