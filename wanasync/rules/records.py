"""The journal's records: what is planned, and what has become of it."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

import attrs
from attrs import Factory, field, frozen

from wanasync.errors import RequestValidationError
from wanasync.models import VideoRequest
from wanasync.rules import calls
from wanasync.rules.lifecycle import PAID_STATES, ItemEvent, ItemState, next_state
from wanasync.rules.wire import request_from_json, request_to_json

__all__ = [
    "ItemRecord",
    "PlannedItem",
    "Totals",
    "advance",
    "check_changes",
    "identity_json",
    "identity_of",
    "item_key",
    "item_key_of",
    "keep_at_hand",
    "replanned",
]


def _check_id(_: object, __: object, value: str | None) -> None:
    if value is not None and not _is_encodable(value):
        raise RequestValidationError("id", value, "must be text that can be written as UTF-8, and not empty")


@frozen
class PlannedItem:
    """One item of the list as it is read, before the journal is asked about it.

    `index` counts from 0; `file` is the name the user wants, relative to the batch's directory; `wish` the one that a
    template makes for an item that wants none, and that it has for ever once it is written down. `key` is `item_key` of
    the first such item in the list: repetitions are counted by the journal, which sees the whole list.
    Raises `RequestValidationError` for an id that can't be written down.
    """

    index: int
    request: VideoRequest
    item_id: str | None = field(default=None, validator=_check_id)
    file: str | None = None
    wish: str | None = None
    request_json: str = field(init=False, default=Factory(lambda item: request_to_json(item.request), takes_self=True))
    key: str = field(
        init=False, default=Factory(lambda item: item_key_of(item.request_json, item.item_id), takes_self=True)
    )


def _is_encodable(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def item_key(request: VideoRequest, item_id: str | None = None, occurrence: int = 1) -> str:
    """What an item is known by from run to run: 16 hex digits.

    With an id it is the id's, whatever the request. Without, it is the content's: moving lines about changes nothing,
    an edited line is a new item, and equal lines are told apart by which `occurrence` (from 1) they are. Whom to call
    back is no part of the content: a receiver that moved must not make anybody pay again.
    """
    return _key(identity_json(request), item_id, occurrence)


def item_key_of(request_json: str, item_id: str | None) -> str:
    """As `item_key`, of the first item with this request as the journal keeps it."""
    return _key(identity_of(request_json), item_id, 1)


def identity_json(request: VideoRequest) -> str:
    """The part of a request that decides what the video will be."""
    return identity_of(request_to_json(request))


def identity_of(request_json: str) -> str:
    """As `identity_json`, of a request as the journal keeps it, which later rules may no longer accept."""
    if '"callback_url":' not in request_json:
        return request_json
    try:
        fields = dict(json.loads(request_json))
    except (ValueError, TypeError, RecursionError) as error:
        raise RequestValidationError("request", request_json, f"is damaged in the journal: {error}") from error
    fields.pop("callback_url", None)
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _key(identity: str, item_id: str | None, occurrence: int) -> str:
    # This must stay as it is for ever: a journal whose items are no longer recognised is a batch paid for twice.
    # 63 bits, since SQLite's integers are signed: two of a million items share a key once in 20 million batches, and
    # then count as repetitions of each other.
    name = f"id\0{item_id}" if item_id is not None else f"content\0{occurrence}\0{identity}"
    digest = blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()
    return f"{int.from_bytes(digest, 'big') >> 1:016x}"


@frozen
class ItemRecord:
    """One row of the journal.

    `seq` counts the rows from 1; `index` is the item's place in the list it was last planned from; `file` is where
    its video is saved, relative to the batch's directory. `attempt` counts the tasks asked for (from 1). Times are
    unix seconds: `submitted_at` is when the submission went out, `link_deadline` when the links die, `updated_at`
    the last change (None while nothing has happened). `bytes` and `sha256` are the saved video's. `error_code` and
    `error_message` tell the last trouble.
    """

    journal_id: str = field(repr=False)
    key: str
    seq: int
    index: int
    item_id: str | None
    request_json: str
    file: str
    state: ItemState = ItemState.PLANNED
    attempt: int = 1
    task_id: str | None = None
    submitted_at: float | None = None
    estimated_time: float | None = None
    credits_reserved: float | None = None
    credits_used: float | None = None
    links: tuple[str, ...] = ()
    link_deadline: float | None = None
    bytes: int | None = None
    sha256: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    updated_at: float | None = None

    @property
    def request(self) -> VideoRequest:
        """The request. Raises `RequestValidationError` if its model's rules were changed since it was written."""
        return _request(self.request_json)

    @property
    def idempotency_key(self) -> str:
        """What goes with each submission of this attempt: the same one for ever."""
        return calls.idempotency_key(self.journal_id, self.key, str(self.attempt))

    @property
    def committed(self) -> float:
        """Credits spent on the item as far as is known; failed and refused tasks are not charged."""
        if self.state in _NOT_COMMITTED:
            return 0.0
        return (self.credits_reserved if self.credits_used is None else self.credits_used) or 0.0


@frozen
class Totals:
    """Sums over all items, in credits. `committed` is what was used, or reserved where that isn't known yet."""

    reserved: float = 0.0
    used: float = 0.0
    committed: float = 0.0


# An item on its way is asked for its request several times; a million at rest are not kept in memory.
_MOST_AT_HAND = 2048
_at_hand: dict[str, VideoRequest] = {}


def keep_at_hand(request_json: str, request: VideoRequest) -> None:
    """Soon a record will be asked for its request: it need not be read from its JSON then."""
    # Each step is one for all threads, and the clearing costs a reading of each anew, once in a long while.
    if len(_at_hand) >= _MOST_AT_HAND:
        _at_hand.clear()
    _at_hand[request_json] = request


def _request(request_json: str) -> VideoRequest:
    request = _at_hand.get(request_json)
    if request is None:
        request = request_from_json(request_json)
        keep_at_hand(request_json, request)
    return request


_NOT_COMMITTED = frozenset({ItemState.PLANNED, ItemState.REJECTED, ItemState.FAILED})

_NO_ERROR: Mapping[str, Any] = {"error_code": None, "error_message": None}
_NO_LINKS: Mapping[str, Any] = {"links": (), "link_deadline": None}
_NO_FILE: Mapping[str, Any] = {"bytes": None, "sha256": None}
_NO_TASK: Mapping[str, Any] = {
    "task_id": None,
    "submitted_at": None,
    "estimated_time": None,
    "credits_reserved": None,
    "credits_used": None,
}

# What an event makes of the fields it says nothing about.
_EFFECTS: Mapping[ItemEvent, Mapping[str, Any]] = MappingProxyType(
    {
        ItemEvent.SUBMIT: _NO_ERROR,
        ItemEvent.RESUBMIT: _NO_ERROR,
        ItemEvent.ACCEPTED: _NO_ERROR,
        ItemEvent.RESOLVED: {**_NO_ERROR, **_NO_LINKS},
        ItemEvent.LINKED: _NO_ERROR,
        # A saved video's links die unused; dropping them keeps the journal small.
        ItemEvent.SAVED: {**_NO_ERROR, **_NO_LINKS},
        ItemEvent.FAILED: _NO_LINKS,
        ItemEvent.FILE_LOST: {**_NO_LINKS, **_NO_FILE},
        ItemEvent.RETRY: {**_NO_TASK, **_NO_LINKS, **_NO_FILE, **_NO_ERROR},
    }
)

_NEEDED: Mapping[ItemEvent, frozenset[str]] = MappingProxyType(
    {
        ItemEvent.LINKED: frozenset({"links"}),
        ItemEvent.SAVED: frozenset({"bytes", "sha256"}),
    }
)

_SETTABLE = frozenset(
    {
        "task_id",
        "submitted_at",
        "estimated_time",
        "credits_reserved",
        "credits_used",
        "links",
        "link_deadline",
        "bytes",
        "sha256",
        "error_code",
        "error_message",
    }
)


def check_changes(event: ItemEvent, changes: Mapping[str, Any]) -> None:
    """Raises `TypeError` for changes that don't fit the event; a mistake of the caller's, never of the provider's."""
    if not changes.keys() <= _SETTABLE:
        raise TypeError(f"{event} can't set {', '.join(sorted(changes.keys() - _SETTABLE))}")
    needed = _NEEDED.get(event, frozenset())
    if not changes.keys() >= needed:
        raise TypeError(f"{event} needs {', '.join(sorted(needed - changes.keys()))}")


_NAMES = list(attrs.fields_dict(ItemRecord))
_VALUES = operator.attrgetter(*_NAMES)
_PLACES = {name: place for place, name in enumerate(_NAMES)}


def advance(record: ItemRecord, event: ItemEvent, changes: Mapping[str, Any], *, now: float) -> ItemRecord:
    """The record after `event`, its times to the millisecond. Raises `TransitionError` where the table has no such
    step."""
    # `attrs.evolve` takes 10 µs for a record of this size, four times for each video; this takes 3.
    values = list(_VALUES(record))
    values[_STATE] = state = next_state(record.state, event)
    for place, value in _BLANKS.get(event, ()):
        values[place] = value
    for name, value in changes.items():
        values[_PLACES[name]] = value if name != "links" else tuple(value)
    values[_UPDATED_AT] = round(now, 3)
    if event in (ItemEvent.SUBMIT, ItemEvent.RESUBMIT):
        values[_SUBMITTED_AT] = round(changes.get("submitted_at") or now, 3)
    if event is ItemEvent.RETRY:
        # A new task is wanted, so a host that honours the key must not answer with the failed one.
        values[_ATTEMPT] = record.attempt + 1
    if state is ItemState.ACCEPTED and values[_TASK_ID] is None:
        raise TypeError(f"{event} needs task_id")
    return ItemRecord(*values)


_STATE, _UPDATED_AT, _SUBMITTED_AT = _PLACES["state"], _PLACES["updated_at"], _PLACES["submitted_at"]
_ATTEMPT, _TASK_ID = _PLACES["attempt"], _PLACES["task_id"]
_BLANKS: Mapping[ItemEvent, tuple[tuple[int, Any], ...]] = MappingProxyType(
    {event: tuple((_PLACES[name], value) for name, value in effects.items()) for event, effects in _EFFECTS.items()}
)


def replanned(record: ItemRecord, request_json: str) -> ItemRecord:
    """The record of an item whose id now stands for another request, where nothing was paid for the old one.

    Raises `RequestValidationError` where something was, or may have been: the id would hide what the money was for.
    """
    if record.state in PAID_STATES:
        reason = f"was submitted with another request before (it is {record.state}); give the changed item a new id"
        raise RequestValidationError("id", record.item_id, reason)
    if record.submitted_at is None and record.state is ItemState.PLANNED:
        return attrs.evolve(record, request_json=request_json)
    # Another request under the old idempotency key would be refused by a host that honours it.
    fresh = {**_EFFECTS[ItemEvent.RETRY], "state": ItemState.PLANNED, "attempt": record.attempt + 1}
    return attrs.evolve(record, request_json=request_json, **fresh)
