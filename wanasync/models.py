"""The records that flow through wanasync: requests, tasks, videos, outcomes and figures.

All are frozen and hold immutable fields only, so that they can be shared between coroutines, kept and pickled.
Times are unix seconds, waits are seconds, sizes bytes, money is the provider's credits.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from wanasync.errors import RequestValidationError, WanError
from wanasync.jsonobject import JSONObject
from wanasync.rules import catalog

__all__ = [
    "BatchItem",
    "BatchProgress",
    "BatchStatus",
    "Credits",
    "Delivery",
    "DownloadStatistics",
    "Forecast",
    "GateStatistics",
    "ItemChanges",
    "ItemStatus",
    "JSONObject",
    "Limits",
    "ListProblem",
    "Outcome",
    "OutcomeState",
    "PaceSample",
    "PollerStatistics",
    "SavedVideo",
    "Statistics",
    "TaskFailure",
    "TaskSnapshot",
    "TaskStatus",
    "VideoRequest",
]


_EMPTY = JSONObject()


def _as_json_object(value: Mapping[str, Any]) -> JSONObject:
    # One that is frozen already is shared, not copied: snapshots are made thousands of times a second.
    return value if type(value) is JSONObject else JSONObject(value)


def _checked_json_object(value: Mapping[str, Any]) -> JSONObject:
    if type(value) is JSONObject and not value:
        return value
    if not isinstance(value, Mapping):
        raise RequestValidationError("extra", value, "must be an object of further API fields")
    try:
        json.dumps(value)
        return JSONObject(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestValidationError("extra", value, f"must be writable as JSON: {error}") from error


def _as_tuple(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise RequestValidationError("image_urls", value, "must be a list of links, not one string")
    return tuple(value)


@frozen
class VideoRequest:
    """What is asked for: one video.

    Each rule of the model's document is checked here, so a request that exists is one the provider accepts.
    Fields left at None take the provider's default (see `wanasync.rules.catalog` for each model's fields and values).

    `extra` holds further API fields; they are sent untouched and unchecked. Raises `RequestValidationError`.
    """

    prompt: str
    quality: str | None = field(default=None, kw_only=True)
    aspect_ratio: str | None = field(default=None, kw_only=True)
    duration: int | None = field(default=None, kw_only=True)
    prompt_extend: bool | None = field(default=None, kw_only=True)
    model: str = field(default=catalog.DEFAULT_MODEL, kw_only=True)
    image_urls: tuple[str, ...] = field(default=(), kw_only=True, converter=_as_tuple)
    callback_url: str | None = field(default=None, kw_only=True)
    extra: JSONObject = field(default=_EMPTY, kw_only=True, converter=_checked_json_object)

    def __attrs_post_init__(self) -> None:
        catalog.check(self.model, self.fields(), self.extra)

    def fields(self) -> dict[str, Any]:
        """The typed fields that were given, as the API names them, without `model` and `extra`."""
        given = {
            "prompt": self.prompt,
            "quality": self.quality,
            "aspect_ratio": self.aspect_ratio,
            "duration": self.duration,
            "prompt_extend": self.prompt_extend,
            "image_urls": self.image_urls or None,
            "callback_url": self.callback_url,
        }
        return {name: value for name, value in given.items() if value is not None}


def as_request(request: VideoRequest | str) -> VideoRequest:
    """A request from what users give for one. Raises `RequestValidationError`."""
    if isinstance(request, VideoRequest):
        return request
    if isinstance(request, str):
        return VideoRequest(request)
    hint = "; VideoRequest(**fields) makes one of a dict" if isinstance(request, dict) else ""
    raise RequestValidationError("request", request, "must be a VideoRequest or a prompt" + hint)


class TaskStatus(enum.StrEnum):
    """Where a task stands. The provider's set is open: what we don't know is UNKNOWN, and is polled on."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})


@frozen
class TaskFailure:
    """Why the provider could not make the video. `code` is an open set; `message` is cleaned server text."""

    code: str | None = None
    message: str = ""
    type: str | None = None


def _unsigned(links: tuple[str, ...]) -> str:
    """How links are shown where a snapshot is logged: who has their queries may fetch the video."""
    return repr(tuple(link.partition("?")[0] for link in links))


@frozen
class TaskSnapshot:
    """One look at a task.

    `said_status` is the provider's own spelling. `progress` (0–100) may fall again. `links` are where the finished
    video can be fetched, for 24 hours from generation. `task_seconds` is how long the task took, not the clip's
    length. `created` is the provider's clock. `extra` holds the reply's fields that have no name here.
    """

    id: str
    status: TaskStatus
    progress: int | None = None
    links: tuple[str, ...] = field(default=(), repr=_unsigned)
    failure: TaskFailure | None = None
    model: str | None = None
    created: float | None = None
    estimated_time: float | None = None
    task_seconds: float | None = None
    credits_reserved: float | None = None
    credits_used: float | None = None
    said_status: str = ""
    extra: JSONObject = field(default=_EMPTY, converter=_as_json_object, repr=False)

    @property
    def is_final(self) -> bool:
        """Nothing more will come: failed, cancelled, or completed with a link (some hosts send links seconds later)."""
        return self.status.is_final and (self.status is not TaskStatus.COMPLETED or bool(self.links))


@frozen
class SavedVideo:
    """A finished video: whole, checked and synced.

    `bytes` is its size, `sha256` its hex digest, `resumed_from` how many bytes an earlier attempt had left. `url` is
    set for a video in an object store, such as ``s3://bucket/prefix/cat.mp4``: it passed through `path`, and is no
    longer there. `location` is where it is, in both cases.
    """

    path: Path
    bytes: int
    sha256: str
    task_id: str
    credits: float | None = None
    resumed_from: int = 0
    url: str | None = None

    @property
    def location(self) -> str:
        return self.url or str(self.path)


@frozen
class Delivery:
    """A callback that came to the URL of one of our submissions, and was proved to.

    `idempotency_key` is the submission's, by the URL. `task_id` is what the body says, and so a hint: whoever has the
    URL can have written it. `received_at` is unix seconds.
    """

    idempotency_key: str
    task_id: str
    received_at: float


class OutcomeState(enum.StrEnum):
    """What became of an item."""

    SAVED = "saved"
    FAILED = "failed"
    """The provider could not make it; not charged."""
    REJECTED = "rejected"
    """Refused at submission; not charged."""
    UNKNOWN = "unknown"
    """Sent, reply lost: may be billed."""
    EXPIRED = "expired"
    """Made and paid, but its link died before it was saved."""
    NOT_STARTED = "not_started"
    """Not submitted: budget, limit or stopped. Running again goes on with it."""
    PENDING = "pending"
    """Submitted, but not saved in this run: stopped, disk full, link unreachable. Running again goes on with it."""


@frozen
class Outcome:
    """What became of one item of a batch. Exactly one is given for each item of the list.

    `id` is the item's id in the list, or one made from its content. `index` counts the list's items from 0.
    `request` is None where the list's item could not be made into one. `error` says why there is no video. `resumed`
    is true where an earlier run had already settled the item.
    """

    id: str
    index: int
    request: VideoRequest | None
    state: OutcomeState
    task_id: str | None = None
    video: SavedVideo | None = None
    credits: float | None = None
    error: WanError | None = None
    resumed: bool = False

    @property
    def path(self) -> Path | None:
        return self.video.path if self.video else None


@frozen
class BatchItem:
    """One item of a batch, for those who name theirs.

    `id` is the item's identity from run to run (without it, identity comes from the request's content); `file` is
    where its video goes, relative to the batch's directory.
    """

    request: VideoRequest
    id: str | None = None
    file: str | None = None


@frozen
class ListProblem:
    """What is wrong with one line of a list. `line` counts from 1; `field` is None where the whole line is meant."""

    line: int
    field: str | None
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.field}: {self.reason}" if self.field else f"line {self.line}: {self.reason}"


@frozen
class BatchProgress:
    """Where a batch stands.

    `total` is None while the list is still being read. `planned` to `saving` count items under way, the rest are
    outcomes; `resumed` tells how many of those an earlier run had settled. `stopped` says why submissions stopped.
    `retried` counts further tasks asked for after failed ones. Once the list is read, `added` counts the items that
    the journal did not know, `unlisted` those it knows that are not in the list any more.
    """

    total: int | None = None
    planned: int = 0
    submitting: int = 0
    following: int = 0
    saving: int = 0
    saved: int = 0
    failed: int = 0
    rejected: int = 0
    unknown: int = 0
    expired: int = 0
    pending: int = 0
    not_started: int = 0
    resumed: int = 0
    retried: int = 0
    added: int = 0
    unlisted: int = 0
    credits_reserved: float = 0.0
    credits_used: float = 0.0
    eta_seconds: float | None = None
    stopped: str | None = None


@frozen
class BatchStatus:
    """What the journal of a directory says, also while another process works on it.

    `planned` to `expired` count items by where they stand (see `wanasync.rules.lifecycle`); `unknown` includes
    submissions on the wire of a process that is gone. `credits_committed` is what was used, or reserved where that is
    not known yet. `running` names the process that works on it now, None for nobody. `budget` (credits) and `limit`
    (submissions) are those of a batch that was handed in to workers with one, and `stopped` says which is reached.
    """

    directory: Path
    items: int = 0
    planned: int = 0
    submitting: int = 0
    following: int = 0
    saving: int = 0
    saved: int = 0
    failed: int = 0
    rejected: int = 0
    unknown: int = 0
    expired: int = 0
    credits_reserved: float = 0.0
    credits_used: float = 0.0
    credits_committed: float = 0.0
    running: str | None = None
    budget: float | None = None
    limit: int | None = None
    stopped: str | None = None


@frozen
class ItemStatus:
    """One item of a batch as its journal knows it, see `BatchHistory.items`.

    `number` is the journal's, from 1, and stays the item's own; `index` is its place in the list, from 0. `state` is
    one of the counts of `BatchStatus`: planned, submitting, following, saving, saved, failed, rejected, unknown or
    expired; a submission on the wire of a process that is gone is submitting here. `file` is relative to the batch's
    directory, and there once the item is saved. `request` is None where its model's rules have changed since. Times
    are unix seconds: `link_deadline` is when its links die, `updated_at` the last change, None while nothing has
    happened. `credits` is what was used, or reserved where that is not known yet. `attempt` counts the tasks asked for.
    """

    number: int
    index: int
    id: str
    state: str
    file: str
    request: VideoRequest | None = None
    task_id: str | None = None
    attempt: int = 1
    bytes: int | None = None
    sha256: str | None = None
    credits: float | None = None
    error_code: str | None = None
    error_message: str | None = None
    submitted_at: float | None = None
    estimated_time: float | None = None
    link_deadline: float | None = None
    updated_at: float | None = None


@frozen
class ItemChanges:
    """Items that changed since a mark, as they stand now, and the mark to ask with next. See `BatchHistory.changes`."""

    items: tuple[ItemStatus, ...]
    mark: str


@frozen
class PaceSample:
    """How fast a batch went, as it wrote down every few seconds while it ran. See `BatchHistory.pace`.

    `at` and `run` are unix seconds, `run` that of the run's beginning: counts are sums since then. `accepted` and
    `refused` (429) are of all submissions of the run's process with its key, `unknown` and `saved` the batch's own.
    `following` and `saving` are how many there were at once. `paused_until` is when a pause of submissions was to end,
    `why` its reason. `requests` in `per` seconds and `concurrent` tasks are what was found out of the limit.
    """

    at: float
    run: float
    accepted: int = 0
    refused: int = 0
    unknown: int = 0
    saved: int = 0
    following: int = 0
    saving: int = 0
    paused_until: float | None = None
    why: str = ""
    requests: int | None = None
    per: float | None = None
    concurrent: int | None = None
    credits_reserved: float = 0.0
    credits_used: float = 0.0


@frozen
class Forecast:
    """What a run with a list would come to, see `BatchHistory.forecast`.

    `submissions` would be sent, new ones and earlier ones that were turned away; `under_way` are paid for and not
    saved, `unknown` may be and would stay held, `settled` need nothing. `credits` is what the submissions are expected
    to reserve, by what replies to such requests have said before; `unpriced` of them are of a kind not seen yet, and
    not in it.
    """

    submissions: int = 0
    under_way: int = 0
    unknown: int = 0
    settled: int = 0
    credits: float = 0.0
    unpriced: int = 0


@frozen
class Limits:
    """Known limits of the provider, for those who were told them; a limit left at None is found from replies.

    `requests` submissions are let through in any `per` seconds; `concurrent` tasks may be unfinished at once.
    """

    requests: int | None = None
    per: float = 60.0
    concurrent: int | None = None


@frozen
class Credits:
    """The account's balance. `used` is what the key or account has spent so far; None where not told."""

    remaining: float | None
    used: float | None = None
    unlimited: bool = False


@frozen
class GateStatistics:
    """The submission gate. Counts are of this process, for this base URL and key.

    `state` is open, paused or probing; `paused_for` is the seconds left of a pause; `why` is one sentence for a user;
    `kind`, `requests`, `per`, `concurrent` and `rate` (per second) are what has been found out of the limit.
    """

    state: str = "open"
    why: str = ""
    paused_for: float = 0.0
    waiting: int = 0
    in_flight: int = 0
    submitted: int = 0
    accepted: int = 0
    refused: int = 0
    pauses: int = 0
    kind: str = "unknown"
    requests: int | None = None
    per: float | None = None
    rate: float | None = None
    concurrent: int | None = None


@frozen
class PollerStatistics:
    """The poller of one session. `expected_seconds` is the median duration learned so far."""

    following: int = 0
    polls: int = 0
    polls_failed: int = 0
    batch_polls: int = 0
    finished: int = 0
    paused_for: float = 0.0
    expected_seconds: float | None = None


@frozen
class DownloadStatistics:
    """The download queue of one session. `waiting` are finished videos not yet begun."""

    waiting: int = 0
    active: int = 0
    saved: int = 0
    failed: int = 0
    bytes: int = 0
    resumed_bytes: int = 0
    links_renewed: int = 0


@frozen
class Statistics:
    """A snapshot of one session's figures; `credits_*` are sums of what the provider's replies said."""

    gate: GateStatistics = GateStatistics()
    poller: PollerStatistics = PollerStatistics()
    downloads: DownloadStatistics = DownloadStatistics()
    credits_reserved: float = 0.0
    credits_used: float = 0.0
    unknown_submissions: int = 0
