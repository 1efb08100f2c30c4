"""How records lie in the database."""

from __future__ import annotations

import json
import math
import operator
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs

from wanasync.models import PaceSample
from wanasync.rules.lifecycle import ItemState
from wanasync.rules.naming import is_inside, lasting_name
from wanasync.rules.records import ItemRecord
from wanasync.rules.wire import is_task_id

APPLICATION_ID = 0x77616E61
"""Tells our databases from others' ("wana")."""

# An item's request never changes and is long; its progress changes often and is short. Kept apart, an update rewrites a
# page of forty items instead of ten, and the long rows stay packed.
_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE item (
        seq INTEGER PRIMARY KEY,
        key INTEGER NOT NULL UNIQUE,
        idx INTEGER NOT NULL,            -- place in the list, from 0
        item_id TEXT,
        request TEXT NOT NULL,           -- canonical JSON
        file TEXT NOT NULL               -- relative to the directory above .wanasync
    )
    """,
    # Of item.file, folded: a file is one item's.
    "CREATE TABLE name (hash INTEGER PRIMARY KEY, seq INTEGER NOT NULL)",
    """
    CREATE TABLE progress (
        seq INTEGER PRIMARY KEY,
        state INTEGER NOT NULL,          -- see the table state
        attempt INTEGER NOT NULL,
        task_id TEXT,
        submitted_at REAL,               -- unix seconds, as all times
        estimated_time REAL,
        credits_reserved REAL,
        credits_used REAL,
        bytes INTEGER,
        sha256 BLOB,
        error_code TEXT,
        error_message TEXT,
        updated_at REAL
    )
    """,
    # Of finished videos that are not saved yet. In their rows of progress they would leave holes of their size behind.
    """
    CREATE TABLE link (
        seq INTEGER PRIMARY KEY,
        links TEXT NOT NULL,             -- JSON array
        deadline REAL
    )
    """,
    "CREATE INDEX progress_unsaved ON progress(state) WHERE state <> 4",
    "CREATE TABLE state (code INTEGER PRIMARY KEY, name TEXT NOT NULL)",
    """
    CREATE TABLE tally (
        state INTEGER PRIMARY KEY,
        items INTEGER NOT NULL,
        credits_reserved REAL NOT NULL,
        credits_used REAL NOT NULL,
        committed REAL NOT NULL
    )
    """,
)

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


def _create(db: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        db.execute(statement)
    db.executemany("INSERT INTO state VALUES (?, ?)", [(code, state.value) for state, code in CODES.items()])
    db.executemany("INSERT INTO tally VALUES (?, 0, 0, 0, 0)", [(code,) for code in STATES])
    db.execute("INSERT INTO meta VALUES ('journal_id', ?)", (secrets.token_hex(16),))


def _keep_attempts(db: sqlite3.Connection) -> None:
    # Tasks that failed and were followed by another one for the same item.
    db.execute(
        """
        CREATE TABLE attempt (
            seq INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            task_id TEXT NOT NULL,
            submitted_at REAL,
            error_code TEXT,
            error_message TEXT,
            failed_at REAL,
            PRIMARY KEY (seq, attempt)
        ) WITHOUT ROWID
        """
    )


# What a column can't say by its type is told in a shorter way: a million rows of 130 bytes become 90. From here on
# item.request may be packed too (a BLOB, see packing.py), and an empty item.file stands for the name that the row's
# number and its prompt make, which has no entry in name.
_SHORT_ROWS = (
    "CREATE TABLE dictionary (number INTEGER PRIMARY KEY, words BLOB NOT NULL)",
    "DROP INDEX progress_unsaved",
    "ALTER TABLE progress RENAME TO long_progress",
    """
    CREATE TABLE progress (
        seq INTEGER PRIMARY KEY,
        state INTEGER NOT NULL,          -- see the table state
        attempt INTEGER NOT NULL,
        task_id TEXT,                    -- a leading space stands for task-unified-
        submitted_at INTEGER,            -- unix milliseconds
        updated_after INTEGER,           -- milliseconds since submitted_at; unix milliseconds where that is NULL
        estimated_time REAL,
        credits_reserved,                -- INTEGER: millionths; REAL: credits
        credits_used,
        bytes INTEGER,
        sha256 BLOB,
        error_code TEXT,
        error_message TEXT
    )
    """,
    """
    INSERT INTO progress
    SELECT
        seq, state, attempt,
        CASE WHEN substr(task_id, 1, 13) = 'task-unified-' THEN ' ' || substr(task_id, 14) ELSE task_id END,
        CAST(round(submitted_at * 1000) AS INTEGER),
        CAST(round(updated_at * 1000) AS INTEGER) - coalesce(CAST(round(submitted_at * 1000) AS INTEGER), 0),
        estimated_time, credits_reserved, credits_used, bytes, sha256, error_code, error_message
    FROM long_progress
    """,
    "DROP TABLE long_progress",
    "CREATE INDEX progress_unsaved ON progress(state) WHERE state <> 4",
)


def _shorten(db: sqlite3.Connection) -> None:
    for statement in _SHORT_ROWS:
        db.execute(statement)


def _sample_pace(db: sqlite3.Connection) -> None:
    # What a running batch tells now and then of its pace: for those who look on, and for nobody else.
    db.execute(
        """
        CREATE TABLE pace_sample (
            at REAL PRIMARY KEY,
            run REAL NOT NULL,           -- when the run began
            accepted INTEGER NOT NULL,
            refused INTEGER NOT NULL,
            unknown INTEGER NOT NULL,
            saved INTEGER NOT NULL,
            following INTEGER NOT NULL,
            saving INTEGER NOT NULL,
            paused_until REAL,
            why TEXT NOT NULL,
            requests INTEGER,
            per REAL,
            concurrent INTEGER,
            credits_reserved REAL NOT NULL,
            credits_used REAL NOT NULL
        ) WITHOUT ROWID
        """
    )


# Each brings a database from its place in the tuple to the next version.
MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_create, _keep_attempts, _shorten, _sample_pace)

_COLUMNS = (
    "item.key, item.seq, item.idx, item.item_id, item.request, item.file, state, attempt, task_id, submitted_at, "
    "updated_after, estimated_time, credits_reserved, credits_used, links, deadline, bytes, sha256, error_code, "
    "error_message"
)
SELECT = f"SELECT {_COLUMNS} FROM item JOIN progress USING (seq) LEFT JOIN link USING (seq)"  # noqa: S608 - constants only
# Says in full that they are unsaved, so that SQLite sees that the index of those answers it.
UNSAVED = f"{SELECT} WHERE state = ? AND state <> {SAVED} AND progress.seq > ? ORDER BY progress.seq LIMIT ?"
UPDATE = (
    "UPDATE progress SET state = ?, attempt = ?, task_id = ?, submitted_at = ?, updated_after = ?, estimated_time = ?, "
    "credits_reserved = ?, credits_used = ?, bytes = ?, sha256 = ?, error_code = ?, error_message = ? "
    "WHERE seq = ? AND state = ?"
)
KEEP_LINKS = "INSERT OR REPLACE INTO link VALUES (?, ?, ?)"
DROP_LINKS = "DELETE FROM link WHERE seq = ?"
TALLY = (
    "UPDATE tally SET items = items + ?, credits_reserved = credits_reserved + ?, credits_used = credits_used + ?, "
    "committed = committed + ? WHERE state = ?"
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
SELECT task_id, submitted_at / 1000.0 FROM progress WHERE task_id IN (SELECT value FROM json_each(:ids))
UNION ALL
SELECT task_id, submitted_at FROM attempt WHERE task_id IN (SELECT value FROM json_each(:ids))
"""

# All the rows are looked at: an index of times would cost each record more than those who look on are worth.
_UPDATED_AT = "updated_after + coalesce(submitted_at, 0)"
CHANGED = f"{SELECT} WHERE ({_UPDATED_AT} >= :since OR seq > :known) AND seq > :after ORDER BY seq LIMIT :most"
LATEST = f"SELECT coalesce(max({_UPDATED_AT}), 0), coalesce(max(seq), 0) FROM progress"  # noqa: S608 - constants only
KEEP_SAMPLE = "INSERT OR REPLACE INTO pace_sample VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
SAMPLES = "SELECT * FROM pace_sample WHERE at > ? ORDER BY at"


def key_number(key: str) -> int:
    return int(key, 16)


def item_values(record: ItemRecord, request: str | bytes) -> tuple[Any, ...]:
    """The columns of `item`, in their order; `request` as it is to be kept."""
    return record.seq, key_number(record.key), record.index, record.item_id, request, file_value(record)


def file_value(record: ItemRecord) -> str:
    return "" if is_derived(record) else record.file


def is_derived(record: ItemRecord) -> bool:
    """Whether the record's file has the name that its number and its prompt make."""
    return record.item_id is None and record.file == derived_file(record.request_json, record.seq)


def derived_file(request_json: str, seq: int) -> str | None:
    """The name that an item's number and its prompt make; None where another version might make another one."""
    try:
        prompt = json.loads(request_json)["prompt"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return lasting_name(prompt, seq - 1) if isinstance(prompt, str) else None


def progress_values(record: ItemRecord) -> tuple[Any, ...]:
    """The columns of `progress` after `seq`, in their order."""
    submitted = _milliseconds(record.submitted_at)
    updated = _milliseconds(record.updated_at)
    return (
        CODES[record.state],
        record.attempt,
        short_id(record.task_id) if record.task_id is not None else None,
        submitted,
        updated - (submitted or 0) if updated is not None else None,
        record.estimated_time,
        _credits_value(record.credits_reserved),
        _credits_value(record.credits_used),
        record.bytes,
        bytes.fromhex(record.sha256) if record.sha256 is not None else None,
        _writable(record.error_code),
        _writable(record.error_message),
    )


_USUAL = "task-unified-"


def short_id(task_id: str) -> str:
    # No task's id has a space in it.
    return f" {task_id[len(_USUAL) :]}" if task_id.startswith(_USUAL) else task_id


def long_id(short: str) -> str:
    return _USUAL + short[1:] if short.startswith(" ") else short


def _milliseconds(moment: float | None) -> int | None:
    return None if moment is None else round(moment * 1000)


def _credits_value(amount: float | None) -> int | float | None:
    if amount is None or not abs(amount) <= _MOST_CREDITS:
        return amount
    millionths = round(amount * 1e6)
    return millionths if millionths / 1e6 == amount else float(amount)


def _credits(value: int | float | None) -> float | None:
    return value / 1e6 if isinstance(value, int) else value


_MOST_CREDITS = 1e9


def link_values(record: ItemRecord) -> tuple[Any, ...]:
    """The columns of `link`, in their order."""
    return record.seq, json.dumps(record.links), record.link_deadline


def sample_values(sample: PaceSample) -> tuple[Any, ...]:
    """The columns of `pace_sample`, in their order."""
    return attrs.astuple(attrs.evolve(sample, why=_writable(sample.why) or ""))


def read_sample(row: Sequence[Any]) -> PaceSample:
    """As `read_record`, of a row of `SAMPLES`."""
    figures = [value for value in row if isinstance(value, float | int)]
    if not all(map(operator.contains, _SAMPLE_TYPES, map(type, row))) or not math.isfinite(sum(figures)):
        raise sqlite3.DatabaseError("malformed pace_sample")
    return PaceSample(*row)


def _writable(text: str | None) -> str | None:
    # Half a surrogate pair in somebody's error text must not cost the record of a paid task.
    return text.encode(errors="replace").decode() if text is not None else None


def read_record(row: Sequence[Any], journal_id: str, unpack: Callable[[bytes], str]) -> ItemRecord:
    """The record in a row of `SELECT`.

    SQLite keeps any type in any column, and the directory may be a stranger's: a row that no run of ours can have
    written, above all one whose file lies elsewhere, is a damaged database.
    """
    key, seq, index, item_id, packed, named, state, attempt, task_id, submitted, updated, *rest = row
    estimated_time, reserved, used, links, deadline, size, sha256, code, message = rest
    if not _is_sound(row):
        raise sqlite3.DatabaseError(f"malformed row {seq}")
    request = unpacked(packed, seq, unpack)
    file = named or (derived_file(request, seq) if item_id is None else None)
    if file is None or not is_inside(file):
        raise sqlite3.DatabaseError(f"malformed row {seq}")
    return ItemRecord(
        journal_id,
        f"{key:016x}",
        seq,
        index,
        item_id,
        request,
        file,
        STATES[state],
        attempt,
        None if task_id is None else long_id(task_id),
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


def unpacked(request: str | bytes, seq: int, unpack: Callable[[bytes], str]) -> str:
    if isinstance(request, str):
        return request
    try:
        return unpack(request)
    except ValueError as error:
        raise sqlite3.DatabaseError(f"malformed row {seq}") from error


_NONE = type(None)
_TEXT, _TEXT_OR_NONE = (str,), (str, _NONE)
_COUNT, _COUNT_OR_NONE = (int,), (int, _NONE)
_FIGURE, _CREDITS = (float, _NONE), (int, float, _NONE)
_TYPES = (
    *(_COUNT, _COUNT, _COUNT, _TEXT_OR_NONE, (str, bytes), _TEXT, _COUNT, _COUNT, _TEXT_OR_NONE),
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

_STATE, _TASK_ID, _SHA256 = 6, 8, 17
_figures = operator.itemgetter(9, 10, 11, 12, 13, 15)


def _is_sound(row: Sequence[Any]) -> bool:
    types = tuple(map(type, row))
    if types not in _sound_types:
        if not all(map(operator.contains, _TYPES, types)):
            return False
        _sound_types.add(types)
    return (
        row[_STATE] in STATES
        and (row[_TASK_ID] is None or is_task_id(long_id(row[_TASK_ID])))
        and (row[_SHA256] is None or len(row[_SHA256]) == 32)
        and math.isfinite(sum(filter(None, _figures(row))))
    )


def _links(text: str, seq: int) -> tuple[str, ...]:
    try:
        links = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise sqlite3.DatabaseError(f"malformed row {seq}") from error
    if not isinstance(links, list) or not all(isinstance(link, str) for link in links):
        raise sqlite3.DatabaseError(f"malformed row {seq}")
    return tuple(links)
