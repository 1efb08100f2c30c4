"""What a session tells while it works, as frozen records; `at` is unix seconds. See `WanSession(on_event=…)`.

Events of one request belong together by their ids. `idempotency_key` stands in all events of a submission, each try of
it; `SubmissionAccepted` brings the `task_id` to it, which stands in all that come later. `item_id` is the item of a
batch, and only unique within it.

    generate   GenerateStarted  Submission… WaitStarted TaskChanged … WaitEnded SaveStarted VideoSaved  GenerateEnded
    a batch    ItemStarted      the same for each item                                                  ItemFinished
    by hand    submit: Submission…     wait: WaitStarted … WaitEnded     save: SaveStarted … VideoSaved or SaveFailed

A *listener* is a function of one event, sync or async. Sync ones are called on the loop, in order, at once: they must
be quick. Those of the caller's own steps (`GenerateStarted`, `SubmissionStarted`, `WaitStarted`, `SaveStarted`) come
within the caller's context (`contextvars`), the others in whichever is at hand.

An async listener is awaited for one event after the other, in order, beside the work, which never waits for it. Up to
`EVENTS_HELD` events wait for it; what comes while these are too many is dropped, and `EventsDropped` tells how many
once there is room. Closing the session waits `LISTENER_SECONDS` for what is left, then cancels the listener.

What a listener raises goes to the loop's exception handler, costs nothing else and doesn't end the listening.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from attrs import field, frozen

from wanasync.models import Outcome, SavedVideo, Statistics, TaskSnapshot, VideoRequest

__all__ = [
    "EVENTS_HELD",
    "LISTENER_SECONDS",
    "Event",
    "EventsDropped",
    "GatePaused",
    "GenerateEnded",
    "GenerateStarted",
    "ItemFinished",
    "ItemRetried",
    "ItemStarted",
    "LinkRenewed",
    "LinksExpiring",
    "Listener",
    "PollFailed",
    "SaveFailed",
    "SaveStarted",
    "SessionClosed",
    "SessionOpened",
    "SubmissionAccepted",
    "SubmissionFound",
    "SubmissionNotSent",
    "SubmissionRefused",
    "SubmissionStarted",
    "SubmissionUnknown",
    "TaskChanged",
    "VideoSaved",
    "WaitEnded",
    "WaitStarted",
]

EVENTS_HELD = 10_000
"""Events that wait for one async listener at most."""
LISTENER_SECONDS = 5.0
"""How long closing a session waits for async listeners, all together."""


@frozen(kw_only=True)
class Event:
    """Base of all events."""

    at: float


Listener: TypeAlias = Callable[[Event], Awaitable[None] | None]
"""What `WanSession(on_event=…)` takes, one or several."""


@frozen(kw_only=True)
class SessionOpened(Event):
    """The first event of a session.

    `session` is its number in this process. `gate` numbers the gate it shares with the sessions of the same base URL
    and key, whose figures are the same. `statistics` gives the session's figures until `SessionClosed`.
    """

    session: int
    gate: int
    base_url: str
    statistics: Callable[[], Statistics] = field(repr=False)


@frozen(kw_only=True)
class SessionClosed(Event):
    """The last event of a session, with its last figures."""

    session: int
    statistics: Statistics


@frozen(kw_only=True)
class EventsDropped(Event):
    """The async listener that is told this was too slow: so many events before this one are lost to it."""

    count: int


@frozen(kw_only=True)
class GenerateStarted(Event):
    """`WanSession.generate` was called."""

    idempotency_key: str
    request: VideoRequest


@frozen(kw_only=True)
class GenerateEnded(Event):
    """`WanSession.generate` returned, with a `video`, or raised: `error`, or neither where it was cancelled."""

    idempotency_key: str
    video: SavedVideo | None = None
    error: Exception | None = None


@frozen(kw_only=True)
class ItemStarted(Event):
    """A batch begins with an item: takes it to the gate, or, with a `task_id`, goes on with an earlier run's task."""

    idempotency_key: str
    item_id: str
    request: VideoRequest
    directory: Path
    task_id: str | None = None


@frozen(kw_only=True)
class ItemRetried(Event):
    """The item whose task `task_id` failed is tried again with another task, under another `idempotency_key`."""

    task_id: str | None
    idempotency_key: str
    item_id: str


@frozen(kw_only=True)
class SubmissionStarted(Event):
    """A request has passed the gate, where it `waited` so many seconds, and is being sent. Told for each try."""

    idempotency_key: str
    request: VideoRequest
    waited: float
    item_id: str | None = None


@frozen(kw_only=True)
class SubmissionAccepted(Event):
    """The provider took a request and made a task of it."""

    snapshot: TaskSnapshot
    idempotency_key: str
    item_id: str | None = None


@frozen(kw_only=True)
class SubmissionRefused(Event):
    """The provider refused a submission; `again` tells that it goes back to the gate and is sent later."""

    status: int
    message: str
    again: bool
    idempotency_key: str
    code: str | int | None = None
    item_id: str | None = None


@frozen(kw_only=True)
class SubmissionNotSent(Event):
    """The provider was not reached: nothing was sent. It is tried again, a few times at least."""

    reason: str
    idempotency_key: str
    item_id: str | None = None


@frozen(kw_only=True)
class SubmissionUnknown(Event):
    """A submission was sent and its reply lost."""

    reason: str
    idempotency_key: str
    item_id: str | None = None


@frozen(kw_only=True)
class SubmissionFound(Event):
    """The task of a submission whose reply was lost was found.

    `by` is "list" (in the provider's list: by its time, as the only one) or "callback" (it named the task, and a query
    confirmed it).
    """

    task_id: str
    idempotency_key: str
    item_id: str | None = None
    by: str = "list"


@frozen(kw_only=True)
class GatePaused(Event):
    """The provider has put submissions off: all of this key wait for about `seconds`. Told once for each pause."""

    seconds: float
    why: str


@frozen(kw_only=True)
class TaskChanged(Event):
    """A task's status, progress or links changed."""

    snapshot: TaskSnapshot


@frozen(kw_only=True)
class WaitStarted(Event):
    """Somebody begins to wait for a task; there may be several at once."""

    task_id: str
    item_id: str | None = None


@frozen(kw_only=True)
class WaitEnded(Event):
    """One of those who waited for a task does so no more.

    `snapshot` is the task's last one, where it ended; `error` says why there will be none; neither stands where
    the waiting was given up or cancelled, while the task goes on.
    """

    task_id: str
    snapshot: TaskSnapshot | None = None
    error: Exception | None = None


@frozen(kw_only=True)
class PollFailed(Event):
    """A query failed; the task, or for a query of many this one first, is polled again later."""

    task_id: str
    message: str


@frozen(kw_only=True)
class LinkRenewed(Event):
    """A dead link was asked for anew, for the video that is being saved to `path`."""

    task_id: str
    path: Path


@frozen(kw_only=True)
class LinksExpiring(Event):
    """So many finished videos are not saved yet and have less than `left` seconds; the first dies at `first`."""

    count: int
    left: float
    first: float


@frozen(kw_only=True)
class SaveStarted(Event):
    """A finished video has `waited` so many seconds for its turn, and is being fetched to `path`."""

    task_id: str
    path: Path
    waited: float


@frozen(kw_only=True)
class VideoSaved(Event):
    """A video stands on disk under its final name; its fetching took `seconds`."""

    video: SavedVideo
    seconds: float


@frozen(kw_only=True)
class SaveFailed(Event):
    """A video was not saved: `error` says why, None where the saving was cancelled. What was received is kept."""

    task_id: str
    path: Path
    error: Exception | None = None


@frozen(kw_only=True)
class ItemFinished(Event):
    """An item of a batch has its outcome. `idempotency_key` is None where it never got as far as having one."""

    outcome: Outcome
    idempotency_key: str | None = None
