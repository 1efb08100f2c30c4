"""How records lie in the tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from wanasync.edges.journal.schema import CODES, STATES, key_number
from wanasync.errors import JournalError
from wanasync.models import PaceSample
from wanasync.rules.claims import Row
from wanasync.rules.lifecycle import ItemState
from wanasync.rules.naming import is_inside
from wanasync.rules.records import ItemRecord
from wanasync.rules.wire import is_task_id

__all__ = [
    "ADD_ITEMS",
    "ADD_PROGRESS",
    "CHANGED",
    "FIND",
    "FIND_FILES",
    "FIND_NAMES",
    "FIND_ROW",
    "FIND_ROWS",
    "KEEP_ATTEMPTS",
    "KEEP_SAMPLE",
    "LOCK",
    "LOCK_OVERDUE",
    "MARK",
    "SAMPLES",
    "UPDATE",
    "attempt_values",
    "check_snapshot",
    "columns",
    "item_line",
    "progress_values",
    "read_row",
    "sample_values",
    "slice_query",
]

_COLUMNS = (
    "item.key, item.seq, item.idx, item.item_id, item.request, item.file, state, attempt, task_id, submitted_at, "
    "estimated_time, credits_reserved, credits_used, links, link_deadline, bytes, sha256, error_code, error_message, "
    "updated_at, claim"
)
_SELECT = f"SELECT {_COLUMNS} FROM wanasync.item JOIN wanasync.progress USING (batch, seq) WHERE batch = %s"  # noqa: S608

# Items by key, one look at each index for each: written so that no plan is a matter of statistics, which a table that
# was filled a moment ago has none of. Takes the keys and the batch. Rows are locked as the keys are sorted, which is
# one order for all, so that no two processes wait for each other.
_FIND = f"""
SELECT {_COLUMNS} FROM unnest(%s::bigint[]) AS wanted(key)
CROSS JOIN LATERAL (SELECT * FROM wanasync.item WHERE batch = %s AND key = wanted.key OFFSET 0) AS item
CROSS JOIN LATERAL (SELECT * FROM wanasync.progress WHERE batch = item.batch AND seq = item.seq OFFSET 0 {{locked}})
    AS progress
"""  # noqa: S608 - constants only
FIND = _FIND.format(locked="")
LOCK = _FIND.format(locked="FOR UPDATE")
FIND_NAMES = """
SELECT name.hash, name.seq FROM unnest(%s::bigint[]) AS wanted(hash)
CROSS JOIN LATERAL (SELECT hash, seq FROM wanasync.name WHERE batch = %s AND hash = wanted.hash OFFSET 0) AS name
"""
FIND_FILES = """
SELECT item.seq, item.file FROM unnest(%s::bigint[]) AS wanted(seq)
CROSS JOIN LATERAL (SELECT seq, file FROM wanasync.item WHERE batch = %s AND seq = wanted.seq OFFSET 0) AS item
"""
FIND_ROW = f"{_SELECT} AND seq = %s"
# Rows of progress, chosen by themselves first, with their items.
_WITH_ITEMS = f"""
SELECT {_COLUMNS} FROM (SELECT * FROM wanasync.progress WHERE batch = %s {{chosen}}) AS progress
CROSS JOIN LATERAL (SELECT * FROM wanasync.item WHERE batch = progress.batch AND seq = progress.seq OFFSET 0) AS item
ORDER BY progress.seq
"""  # noqa: S608 - constants only
FIND_ROWS = _WITH_ITEMS.format(chosen="AND seq BETWEEN %s AND %s")
# By the server's clock, which is one for all. What another has in hand just now is no longer overdue. Takes the batch,
# the states, the writer who asks, and seconds.
LOCK_OVERDUE = _WITH_ITEMS.format(
    chosen="AND state = ANY(%s) AND owner IS DISTINCT FROM %s "
    "AND claimed_at <= clock_timestamp() - make_interval(secs => %s) ORDER BY seq FOR UPDATE SKIP LOCKED"
)
# Tells a writer whose connection breaks at the commit whether that took place.
MARK = """
INSERT INTO wanasync.writer (id, batch, name, pid, commits) VALUES (%s, %s, %s, pg_backend_pid(), %s)
ON CONFLICT (id) DO UPDATE SET commits = excluded.commits, pid = excluded.pid, seen_at = clock_timestamp()
"""

# What a snapshot of the server does not show yet: the transactions that wrote these rows had not ended then. Whoever
# reads on from the next snapshot sees each change once, whatever the clocks of the writers say. Rows of another server,
# restored here, may bear transactions that are still to come; those are older than the snapshot, too.
CHANGED = _WITH_ITEMS.format(
    chosen="AND seq > %s AND tx >= pg_snapshot_xmin(%s) AND NOT pg_visible_in_snapshot(tx, %s) "
    "AND tx < pg_snapshot_xmax(%s) ORDER BY seq LIMIT %s"
)
_SNAPSHOT = re.compile(r"([0-9]{1,18}):([0-9]{1,18}):((?:[0-9]{1,18},)*[0-9]{1,18})?", re.ASCII)

_SAMPLED = ", ".join(attribute.name for attribute in attrs.fields(PaceSample))
KEEP_SAMPLE = (
    f"INSERT INTO wanasync.pace_sample (batch, {_SAMPLED}) VALUES ({', '.join(['%s'] * 16)}) ON CONFLICT DO NOTHING"  # noqa: S608 - constants only
)
SAMPLES = f"SELECT {_SAMPLED} FROM wanasync.pace_sample WHERE batch = %s AND at > %s ORDER BY at"  # noqa: S608

ADD_ITEMS = "COPY wanasync.item (batch, seq, key, idx, item_id, request, file) FROM STDIN"
# Takes the batch, the state, the first row and the last one.
ADD_PROGRESS = """
INSERT INTO wanasync.progress (batch, state, seq, attempt)
SELECT %s, %s, seq, 1 FROM generate_series(%s::bigint, %s::bigint) AS seq
"""

_WRITTEN = {
    "seq": "bigint",
    "state": "smallint",
    "attempt": "integer",
    "task_id": "text",
    "submitted_at": "float8",
    "estimated_time": "float8",
    "credits_reserved": "float8",
    "credits_used": "float8",
    "links": "text",
    "link_deadline": "float8",
    "bytes": "bigint",
    "sha256": "bytea",
    "error_code": "text",
    "error_message": "text",
    "updated_at": "float8",
    "claim": "uuid",
}
_CLAIM_CHANGES = "progress.claim IS DISTINCT FROM excluded.claim"
_ASSIGNED = ", ".join(f"{name} = excluded.{name}" for name in _WRITTEN if name != "seq")
# One statement, however many rows, which are all there: an upsert goes by the key, whatever the planner thinks of the
# table. Takes the batch, the writer, and an array for each of `_WRITTEN`.
UPDATE = f"""
INSERT INTO wanasync.progress AS progress (batch, owner, claimed_at, {", ".join(_WRITTEN)})
SELECT %s, %s, clock_timestamp(), * FROM unnest({", ".join(f"%s::{kind}[]" for kind in _WRITTEN.values())})
ON CONFLICT (batch, seq) DO UPDATE SET {_ASSIGNED}, tx = excluded.tx,
    owner = CASE WHEN {_CLAIM_CHANGES} THEN excluded.owner ELSE progress.owner END,
    claimed_at = CASE WHEN {_CLAIM_CHANGES} THEN excluded.claimed_at ELSE progress.claimed_at END
"""  # noqa: S608 - constants only
KEEP_ATTEMPTS = """
INSERT INTO wanasync.attempt (batch, seq, attempt, task_id, submitted_at, error_code, error_message, ended_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""


def check_snapshot(text: str) -> None:
    """Raises `ValueError` for what the server would not take for a snapshot."""
    found = _SNAPSHOT.fullmatch(text)
    first, end = (int(found[1]), int(found[2])) if found else (0, 0)
    running = [int(number) for number in found[3].split(",")] if found and found[3] else []
    if not (0 < first <= end and running == sorted(running) and all(first <= number < end for number in running)):
        raise ValueError(f"{text!r} is no mark")


def slice_query(state: ItemState | None) -> str:
    """The next rows behind one; takes the batch, the row and how many."""
    # The state's code stands in the text, so that the planner sees which index holds those rows.
    chosen = "" if state is None else f"AND state = {CODES[state]} "
    return _WITH_ITEMS.format(chosen=f"{chosen}AND seq > %s ORDER BY seq LIMIT %s")


def item_line(batch: int, record: ItemRecord) -> str:
    """A line of `ADD_ITEMS`, as COPY reads it."""
    item_id = "\\N" if record.item_id is None else record.item_id.translate(_ESCAPES)
    # Neither JSON nor a file's name has a control character in it.
    texts = f"{item_id}\t{_doubled(record.request_json)}\t{_doubled(record.file)}"
    return f"{batch}\t{record.seq}\t{key_number(record.key)}\t{record.index}\t{texts}\n"


def _doubled(text: str) -> str:
    return text.replace("\\", "\\\\")


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def progress_values(row: Row) -> tuple[Any, ...]:
    """In the order of `_WRITTEN`."""
    record = row.record
    return (
        record.seq,
        CODES[record.state],
        record.attempt,
        record.task_id,
        record.submitted_at,
        record.estimated_time,
        record.credits_reserved,
        record.credits_used,
        json.dumps(record.links) if record.links else None,
        record.link_deadline,
        record.bytes,
        bytes.fromhex(record.sha256) if record.sha256 is not None else None,
        _writable(record.error_code),
        _writable(record.error_message),
        record.updated_at,
        row.claim,
    )


def columns(rows: Iterable[Row]) -> list[list[Any]]:
    """The rows' values as the arrays of `UPDATE`."""
    return [list(column) for column in zip(*map(progress_values, rows), strict=True)]


def attempt_values(batch: int, record: ItemRecord, task_id: str | None = None) -> tuple[Any, ...]:
    """A task that is no longer, or never was, the item's own."""
    return (
        *(batch, record.seq, record.attempt, task_id or record.task_id, record.submitted_at),
        *(_writable(record.error_code), _writable(record.error_message), record.updated_at),
    )


def sample_values(batch: int, sample: PaceSample) -> tuple[Any, ...]:
    return batch, *attrs.astuple(attrs.evolve(sample, why=_writable(sample.why) or ""))


def _writable(text: str | None) -> str | None:
    # Neither half a surrogate pair nor a NUL in somebody's error text must cost the record of a paid task.
    return text.encode(errors="replace").decode().replace("\0", "") if text is not None else None


def read_row(values: Sequence[Any], journal_id: str) -> Row:
    """The row in a result of the queries above. Raises `JournalError` for one that no run of ours can have written."""
    key, seq, index, item_id, request, file, state, attempt, task_id, *rest = values
    submitted_at, estimated_time, reserved, used, links, deadline, size, sha256, code, message, updated_at, claim = rest
    if state not in STATES or not is_inside(file) or not (task_id is None or is_task_id(task_id)):
        raise JournalError(f"the journal is damaged: row {seq} is not one of wanasync's")
    record = ItemRecord(
        journal_id,
        f"{key:016x}",
        seq,
        index,
        item_id,
        request,
        file,
        STATES[state],
        attempt,
        task_id,
        submitted_at,
        estimated_time,
        reserved,
        used,
        tuple(json.loads(links)) if links else (),
        deadline,
        size,
        sha256.hex() if sha256 is not None else None,
        code,
        message,
        updated_at,
    )
    return Row(record, claim)
