"""What a session tells while it works, as frozen records; `at` is unix seconds. See `WanSession(on_event=…)`."""

from __future__ import annotations

from attrs import frozen

from wanasync.models import Outcome, SavedVideo, TaskSnapshot

__all__ = [
    "Event",
    "GatePaused",
    "ItemFinished",
    "LinkRenewed",
    "LinksExpiring",
    "PollFailed",
    "SubmissionAccepted",
    "SubmissionFound",
    "SubmissionRefused",
    "SubmissionUnknown",
    "TaskChanged",
    "VideoSaved",
]


@frozen(kw_only=True)
class Event:
    """Base of all events."""

    at: float


@frozen(kw_only=True)
class SubmissionAccepted(Event):
    """The provider took a request and made a task of it."""

    snapshot: TaskSnapshot
    item_id: str | None = None


@frozen(kw_only=True)
class SubmissionRefused(Event):
    """The provider refused a submission; `again` tells that it goes back to the gate and is sent later."""

    status: int
    message: str
    again: bool
    item_id: str | None = None


@frozen(kw_only=True)
class SubmissionUnknown(Event):
    """A submission was sent and its reply lost."""

    reason: str
    idempotency_key: str
    item_id: str | None = None


@frozen(kw_only=True)
class SubmissionFound(Event):
    """The task of a submission whose reply was lost was found in the provider's list: by its time, as the only one."""

    task_id: str
    item_id: str | None = None


@frozen(kw_only=True)
class GatePaused(Event):
    """All submissions wait for `seconds`."""

    seconds: float
    why: str


@frozen(kw_only=True)
class TaskChanged(Event):
    """A task's status, progress or links changed."""

    snapshot: TaskSnapshot


@frozen(kw_only=True)
class PollFailed(Event):
    """A query failed; the task is polled again later."""

    task_id: str
    message: str


@frozen(kw_only=True)
class LinkRenewed(Event):
    """A dead link was asked for anew."""

    task_id: str


@frozen(kw_only=True)
class LinksExpiring(Event):
    """So many finished videos are not saved yet and have less than `left` seconds; the first dies at `first`."""

    count: int
    left: float
    first: float


@frozen(kw_only=True)
class VideoSaved(Event):
    """A video stands on disk under its final name."""

    video: SavedVideo


@frozen(kw_only=True)
class ItemFinished(Event):
    """An item of a batch has its outcome."""

    outcome: Outcome
