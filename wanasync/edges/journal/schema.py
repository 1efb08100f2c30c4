"""How records lie in the database: rows to records and back. Its tables stand in `migrations`."""

from __future__ import annotations

import json
import math
import operator
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs

from wanasync.edges.journal.task_ids import long_id, short_id
from wanasync.models import PaceSample
from wanasync.rules.lifecycle import ItemState
from wanasync.rules.naming import is_inside, lasting_name
from wanasync.rules.records import ItemRecord, item_key_of
from wanasync.rules.wire import is_task_id

# On disk for ever: append, never renumber.
CODES: Mapping[ItemState, int] = MappingProxyType(
    {
        ItemState.PLANNED: 0,
        ItemState.SUBMITTING: 1,
        ItemState.ACCEPTED: 2,
        ItemState.READY: 3,
        ItemState.SAVED: 4,
        ItemState.FAILED: 5,
        ItemState.REJECTED: 6,
        ItemState.UNKNOWN: 7,
        ItemState.EXPIRED: 8,
        ItemState.RESUBMITTING: 9,
    }
)
STATES = {code: state for state, code in CODES.items()}
PLANNED, SAVED = CODES[ItemState.PLANNED], CODES[ItemState.SAVED]


_COLUMNS = (
    "item.key, progress.seq, item.idx, item.item_id, item.request, item.file, state, attempt, task_id, submitted_at, "
    "updated_after, estimated_time, credits_reserved, credits_used, links, deadline, bytes, sha256, error_code, "
    "error_message"
)
SELECT = f"SELECT {_COLUMNS} FROM progress LEFT JOIN item USING (seq) LEFT JOIN link USING (seq)"  # noqa: S608 - constants only
WITH_HASHES = f"{SELECT} WHERE progress.seq IN (SELECT seq FROM key WHERE hash IN (%s))"  # noqa: S608 - for marks
# Says in full that they are unsaved, so that SQLite sees that the index of those answers it.
UNSAVED = f"{SELECT} WHERE state = ? AND state <> {SAVED} AND progress.seq > ? ORDER BY progress.seq LIMIT ?"
REQUESTS = "SELECT first, requests FROM pack WHERE first <= ? ORDER BY first DESC LIMIT 1"

HASH_BITS = 32
"""An item is looked up by its key without these."""

# Each is followed by as many rows of values as there are, see `statements.put`.
PROGRESS = "REPLACE INTO progress VALUES"
BLANK = "INSERT INTO progress (seq, state, attempt) VALUES"
KEYS = "INSERT INTO key VALUES"
OWN = "REPLACE INTO item VALUES"
PACKS = "INSERT INTO pack VALUES"
KEEP_LINKS = "REPLACE INTO link VALUES"
DROP_LINKS = "DELETE FROM link WHERE seq IN (VALUES"
NAMES = "REPLACE INTO name VALUES"
TALLY = "INSERT INTO tally VALUES"
ADD_UP = (
    "ON CONFLICT (state) DO UPDATE SET items = items + excluded.items, "
    "credits_reserved = credits_reserved + excluded.credits_reserved, "
    "credits_used = credits_used + excluded.credits_used, committed = committed + excluded.committed"
)

KEEP_ATTEMPT = """
INSERT OR REPLACE INTO attempt
SELECT seq, attempt, task_id, submitted_at / 1000.0, error_code, error_message,
    (coalesce(submitted_at, 0) + updated_after) / 1000.0
FROM progress
WHERE seq = ? AND task_id IS NOT NULL
"""
# One pass over the table: an index of task ids would cost each record more than this rare question is worth.
KNOWN_TASKS = """
SELECT task_id, submitted_at / 1000.0 FROM progress WHERE task_id IN (%s)
UNION ALL
SELECT task_id, submitted_at FROM attempt WHERE task_id IN (%s)
"""

# All the rows are looked at: an index of times would cost each record more than those who look on are worth.
_UPDATED_AT = "updated_after + coalesce(submitted_at, 0)"
CHANGED = (
    f"{SELECT} WHERE ({_UPDATED_AT} >= :since OR progress.seq > :known) AND progress.seq > :after "
    "ORDER BY progress.seq LIMIT :most"
)
LATEST = f"SELECT coalesce(max({_UPDATED_AT}), 0), coalesce(max(seq), 0) FROM progress"  # noqa: S608 - constants only
KEEP_SAMPLE = "INSERT OR REPLACE INTO pace_sample VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
SAMPLES = "SELECT * FROM pace_sample WHERE at > ? ORDER BY at"


def key_number(key: str) -> int:
    return int(key, 16)


def own_values(record: ItemRecord, request: str | None, key: str, file: str | None) -> tuple[Any, ...] | None:
    """The columns of `item`, in their order; None where the item needs no row there.

    `request` is None where its pack has it; `key` and `file` are those that follow from the rest.
    """
    number = None if record.key == key else key_number(record.key)
    index = None if record.index == record.seq - 1 else record.index
    own = number, index, record.item_id, request, None if record.file == file else record.file
    return None if own == _NOTHING_OWN else (record.seq, *own)


_NOTHING_OWN = (None,) * 5


def derived_file(request_json: str, seq: int) -> str | None:
    """The name that an item's number and its prompt make; None where another version might make another one."""
    try:
        prompt = json.loads(request_json)["prompt"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return lasting_name(prompt, seq - 1) if isinstance(prompt, str) else None


def progress_values(record: ItemRecord) -> tuple[Any, ...]:
    """The columns of `progress`, in their order."""
    submitted, updated = record.submitted_at, record.updated_at
    if submitted is not None:
        submitted = round(submitted * 1000)
    if updated is not None:
        updated = round(updated * 1000) - (submitted or 0)
    return (
        record.seq,
        CODES[record.state],
        record.attempt,
        None if record.task_id is None else short_id(record.task_id),
        submitted,
        updated,
        record.estimated_time,
        None if record.credits_reserved is None else _credits_value(record.credits_reserved),
        None if record.credits_used is None else _credits_value(record.credits_used),
        record.bytes,
        None if record.sha256 is None else bytes.fromhex(record.sha256),
        record.error_code,
        record.error_message,
    )


def _credits_value(amount: float) -> int | float:
    if not abs(amount) <= _MOST_CREDITS:
        return amount
    millionths = round(amount * 1e6)
    return millionths if millionths / 1e6 == amount else float(amount)


def _credits(value: int | float | None) -> float | None:
    return value / 1e6 if isinstance(value, int) else value


_MOST_CREDITS = 1e9


def link_values(record: ItemRecord) -> tuple[Any, ...]:
    """The columns of `link`, in their order."""
    return record.seq, _to_json(record.links), record.link_deadline


_to_json = json.JSONEncoder().encode


def sample_values(sample: PaceSample) -> tuple[Any, ...]:
    """The columns of `pace_sample`, in their order."""
    return attrs.astuple(attrs.evolve(sample, why=_encodable(sample.why)))


def read_sample(row: Sequence[Any]) -> PaceSample:
    """As `read_record`, of a row of `SAMPLES`."""
    figures = [value for value in row if isinstance(value, float | int)]
    if not all(map(operator.contains, _SAMPLE_TYPES, map(type, row))) or not math.isfinite(sum(figures)):
        raise sqlite3.DatabaseError("malformed pace_sample")
    return PaceSample(*row)


def writable(changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The changes as the database can hold them."""
    if not changes.keys() & _FOREIGN:
        return changes
    return {name: _encodable(value) if name in _FOREIGN and value else value for name, value in changes.items()}


_FOREIGN = frozenset({"error_code", "error_message"})


def _encodable(text: str) -> str:
    # Half a surrogate pair in somebody's error text must not cost the record of a paid task.
    return text.encode(errors="replace").decode()


def read_record(
    row: Sequence[Any], journal_id: str, request_of: Callable[[int, str | bytes | None], str]
) -> ItemRecord:
    """The record in a row of `SELECT`; `request_of` gives a row's request, from what its column `request` holds.

    SQLite keeps any type in any column, and the directory may be a stranger's: a row that no run of ours can have
    written, above all one whose file lies elsewhere, is a damaged database.
    """
    number, seq, index, item_id, own, named, state, attempt, short, submitted, updated, *rest = row
    estimated_time, reserved, used, links, deadline, size, sha256, code, message = rest
    try:
        task_id = None if short is None else long_id(short)
        _check(row, task_id)
        request = request_of(seq, own)
        key = item_key_of(request, item_id) if number is None else f"{number:016x}"
    except (ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"malformed row {seq}") from error
    file = named or (derived_file(request, seq) if item_id is None else None)
    if file is None or not is_inside(file):
        raise sqlite3.DatabaseError(f"malformed row {seq}")
    return ItemRecord(
        journal_id,
        key,
        seq,
        seq - 1 if index is None else index,
        item_id,
        request,
        file,
        STATES[state],
        attempt,
        task_id,
        None if submitted is None else submitted / 1000,
        estimated_time,
        _credits(reserved),
        _credits(used),
        _links(links, seq) if links is not None else (),
        deadline,
        size,
        sha256.hex() if sha256 is not None else None,
        code,
        message,
        None if updated is None else (updated + (submitted or 0)) / 1000,
    )


_NONE = type(None)
_TEXT, _TEXT_OR_NONE = (str,), (str, _NONE)
_COUNT, _COUNT_OR_NONE = (int,), (int, _NONE)
_FIGURE, _CREDITS, _PACKED = (float, _NONE), (int, float, _NONE), (str, bytes, _NONE)
_TYPES = (
    *(_COUNT_OR_NONE, _COUNT, _COUNT_OR_NONE, _TEXT_OR_NONE, _PACKED, _TEXT_OR_NONE, _COUNT, _COUNT, _PACKED),
    *(_COUNT_OR_NONE, _COUNT_OR_NONE, _FIGURE, _CREDITS, _CREDITS, _TEXT_OR_NONE, _FIGURE),
    *(_COUNT_OR_NONE, (bytes, _NONE), _TEXT_OR_NONE, _TEXT_OR_NONE),
)
"""What each column of `SELECT` may hold, exactly."""

_SAMPLE_TYPES = (
    *((float,), (float,), *[_COUNT] * 6, _FIGURE, _TEXT),
    *(_COUNT_OR_NONE, _FIGURE, _COUNT_OR_NONE, (float,), (float,)),
)

_sound_types: set[tuple[type, ...]] = set()
"""Rows come in few kinds, and by the million: each kind is judged once."""

_STATE, _SHA256 = 6, 17
_figures = operator.itemgetter(9, 10, 11, 12, 13, 15)


def _check(row: Sequence[Any], task_id: str | None) -> None:
    """Raises `ValueError` for a row that holds something of another kind."""
    types = tuple(map(type, row))
    if types not in _sound_types:
        if not all(map(operator.contains, _TYPES, types)):
            raise ValueError(f"{types} are not the types of a row")
        _sound_types.add(types)
    if (
        row[_STATE] not in STATES
        or (task_id is not None and not is_task_id(task_id))
        or (row[_SHA256] is not None and len(row[_SHA256]) != 32)
        or not math.isfinite(sum(filter(None, _figures(row))))
    ):
        raise ValueError("a value that no run can have written")


def _links(text: str, seq: int) -> tuple[str, ...]:
    try:
        links = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise sqlite3.DatabaseError(f"malformed row {seq}") from error
    if not isinstance(links, list) or not all(isinstance(link, str) for link in links):
        raise sqlite3.DatabaseError(f"malformed row {seq}")
    return tuple(links)
