"""The database of a journal, for one thread: nothing here waits for anything but the disk."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from wanasync.edges.durable import sync_directory
from wanasync.edges.journal.opening import (
    FAILURES,
    check_ours,
    check_whole,
    connect_to_read,
    connect_to_write,
    make_folder,
    migrate,
    reason,
)
from wanasync.edges.journal.packing import MOST, Packing
from wanasync.edges.journal.packs import Pack, Packs
from wanasync.edges.journal.pending import Pending
from wanasync.edges.journal.planning import Planning
from wanasync.edges.journal.schema import (
    BLANK,
    CHANGED,
    CODES,
    HASH_BITS,
    KEEP_ATTEMPT,
    KEEP_SAMPLE,
    KEYS,
    KNOWN_TASKS,
    LATEST,
    NAMES,
    OWN,
    PACKS,
    PLANNED,
    REQUESTS,
    SAMPLES,
    SAVED,
    SELECT,
    STATES,
    UNSAVED,
    WITH_HASHES,
    derived_file,
    key_number,
    own_values,
    read_record,
    read_sample,
    sample_values,
    writable,
)
from wanasync.edges.journal.statements import marks, put
from wanasync.edges.journal.task_ids import forms, long_id
from wanasync.edges.lock import DirectoryLock, holder_of
from wanasync.errors import JournalError
from wanasync.models import PaceSample
from wanasync.rules.lifecycle import TRANSITIONS, ItemEvent, ItemState
from wanasync.rules.naming import leading_number, name_key
from wanasync.rules.records import ItemRecord, PlannedItem, Totals, advance, item_key_of
from wanasync.rules.samples import superfluous

__all__ = ["CHUNK", "DATABASE", "FOLDER", "Store", "has_files"]

FOLDER = ".wanasync"
DATABASE = "journal.db"
LOCK = "lock"

CHUNK = 500
"""Items planned, or read, in one step of the writer: some milliseconds, so that submissions don't wait for a list."""

NEXT = f"{SELECT} WHERE progress.seq > ? ORDER BY progress.seq LIMIT {CHUNK}"
NEXT_SAVED = f"{SELECT} WHERE state = {SAVED} AND progress.seq > ? ORDER BY progress.seq LIMIT {CHUNK}"

ASKED = 100
"""Tasks asked for by one statement."""
_MAX_REPETITIONS = 10_000
_MAX_ROWS_A_PAGE = 4096
_MAX_RECENT = 5_000


class Store:
    """The journal of one directory. Between `open` and `close`, operations are carried out by `run`."""

    def __init__(self, directory: Path, read_only: bool) -> None:
        self.directory = directory
        self.path: Path = directory / FOLDER / DATABASE
        self.interrupted: int = 0
        self.journal_id: str = ""
        self.last_seq: int = 0
        self.repetitions: dict[int, int] = {}
        self._read_only = read_only
        self._lock_path = directory / FOLDER / LOCK
        self._lock = DirectoryLock(self._lock_path)
        self._connection: sqlite3.Connection | None = None
        self._broken: JournalError | None = None
        self._pending = Pending()
        self._first_new_seq = 1
        self._listed = bytearray()
        self._has_files = False
        self._files: list[int] = []
        # What was planned or written last, so that an item's next step needn't read it again: as long as nobody else
        # writes, who would have gone past the lock.
        self._recent: dict[str, ItemRecord] = {}
        self._version = 0
        self._packing = Packing(self._words)
        self._packs = Packs(self._packing, self._pack_of)

    # Opening and closing

    def open(self, now: float) -> None:
        try:
            self._open(now)
        except FAILURES as error:
            self.close()
            raise self._error("can't be opened", error) from error
        except BaseException:
            self.close()
            raise

    def _open(self, now: float) -> None:
        if self._read_only:
            self._connection = connect_to_read(self.path)
        else:
            make_folder(self.path.parent)
            self._has_files = has_files(self.directory)
            self._lock.acquire()
            self._connection = connect_to_write(self.path)
        check_ours(self._db, self.path, read_only=self._read_only)
        check_whole(self._db, self.path)
        if not self._read_only:
            with self._transaction():
                migrate(self._db)
                self._settle_interrupted(now)
            # The names of the database and its log: SQLite leaves them to chance where it was built without.
            sync_directory(self.path.parent)
            self._files = _file_numbers(self.path)
        self.journal_id = self._identity()
        self.last_seq = self._last_seq()
        self._packing.use(self._last_dictionary())
        self._first_new_seq = self.last_seq + 1
        self._listed = bytearray(self.last_seq // 8 + 1)

    def _identity(self) -> str:
        # Without it, the idempotency keys of two journals would be the same.
        journal_id = self.get_meta("journal_id")
        if not journal_id:
            raise sqlite3.DatabaseError("malformed: journal_id is missing")
        return journal_id

    def _last_seq(self) -> int:
        last: int = self._db.execute("SELECT coalesce(max(seq), 0) FROM progress").fetchone()[0]
        # A row takes some bytes at least; memory is taken for each, so a made-up number must not pass.
        if not 0 <= last <= self._db.execute("PRAGMA page_count").fetchone()[0] * _MAX_ROWS_A_PAGE:
            raise sqlite3.DatabaseError(f"malformed: row {last}")
        return last

    def _last_dictionary(self) -> int:
        last: int = self._db.execute("SELECT coalesce(max(number), 0) FROM dictionary").fetchone()[0]
        if not 0 <= last <= MOST:
            raise sqlite3.DatabaseError(f"malformed dictionary {last}")
        return last

    def _words(self, number: int) -> bytes | None:
        row = self._db.execute("SELECT words FROM dictionary WHERE number = ?", (number,)).fetchone()
        if row is not None and not isinstance(row[0], bytes):
            raise sqlite3.DatabaseError(f"malformed dictionary {number}")
        return row[0] if row else None

    def _pack_of(self, seq: int) -> Pack | None:
        found: Pack | None = self._db.execute(REQUESTS, (seq,)).fetchone()
        if found is not None and not isinstance(found[1], str | bytes):
            raise sqlite3.DatabaseError(f"malformed pack {found[0]}")
        return found

    def _settle_interrupted(self, now: float) -> None:
        cut_off = [state for state, event in TRANSITIONS if event is ItemEvent.INTERRUPTED]
        words = {"error_code": "interrupted", "error_message": "the run ended before the reply came"}
        for state in cut_off:
            for row in self._db.execute(UNSAVED, (CODES[state], 0, -1)).fetchall():
                record = self._read(row)
                self._pending.add(record, advance(record, ItemEvent.INTERRUPTED, words, now=now))
                self.interrupted += 1

    def close(self) -> None:
        """Let everything go; harmless in any state, twice too."""
        try:
            if self._connection is not None and not self._read_only and not self._broken:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._disconnect()
        finally:
            self._lock.release()

    def holder(self) -> str | None:
        return holder_of(self._lock_path)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    @property
    def _db(self) -> sqlite3.Connection:
        """The connection, for statements that are to see all that was asked for before them."""
        if self._connection is None:
            raise JournalError("the journal is closed", str(self.path))
        self._pending.write(self._connection)
        return self._connection

    def _error(self, what: str, error: Exception) -> JournalError:
        return JournalError(f"the journal {what}: {reason(error)}", str(self.path))

    # Transactions

    def run(self, operations: Sequence[Callable[[], Any]]) -> list[Any]:
        """Carry out the operations in one transaction, and give what each returned or why it was refused.

        An operation that is refused has changed nothing and doesn't disturb the others. Where the database itself
        fails, none of them has happened, and none will any more.
        """
        if self._broken:
            raise JournalError(self._broken.message, self._broken.path) from self._broken
        try:
            with self._transaction():
                answers = [_attempt(operation) for operation in operations]
                self._check_in_place()
                return answers
        except FAILURES as error:
            failure = self._error("could not be read" if self._read_only else "could not be written", error)
            self._broken = None if self._read_only else failure
            raise failure from error

    def _check_in_place(self) -> None:
        """SQLite would go on writing into files that were removed, or replaced by a copy: a journal nobody can find."""
        if self._files and _file_numbers(self.path) != self._files:
            raise FileNotFoundError(errno.ENOENT, "its files were removed or replaced while the run used them")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN" if self._read_only else "BEGIN IMMEDIATE")
        try:
            self._see_others()
            yield
            self._pending.write_all(self._db)
            self._db.execute("COMMIT")
        except BaseException:
            self._recent.clear()
            self._packs.forget()
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        finally:
            self._pending.clear()

    def _see_others(self) -> None:
        version = self._data_version()
        if version != self._version:
            self._version = version
            self._recent.clear()

    def _data_version(self) -> int:
        """Another number whenever somebody else has written."""
        version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        return version

    # Operations

    def record(self, key: str, event: ItemEvent, changes: Mapping[str, Any], now: float) -> ItemRecord:
        before = self._recent.pop(key, None) or self.get(key)
        after = advance(before, event, writable(changes), now=now)
        if event is ItemEvent.RETRY:
            self._db.execute(KEEP_ATTEMPT, (before.seq,))
        self._pending.add(before, after)
        if after.state is not ItemState.SAVED:
            self._remember(after)
        return after

    def _remember(self, record: ItemRecord) -> None:
        self._recent[record.key] = record
        if len(self._recent) > _MAX_RECENT:
            del self._recent[next(iter(self._recent))]

    def get(self, key: str) -> ItemRecord:
        found = self._recent.get(key) or self.find([number := key_number(key)]).get(number)
        if found is None:
            raise JournalError(f"there is no item {key} in the journal", str(self.path))
        return found

    def slice(self, state: ItemState | None, after: int) -> list[ItemRecord]:
        """The next items behind row `after`, at most `CHUNK`."""
        if state is None:
            rows = self._db.execute(NEXT, (after,))
        elif state is ItemState.SAVED:
            rows = self._db.execute(NEXT_SAVED, (after,))
        else:
            rows = self._db.execute(UNSAVED, (CODES[state], after, CHUNK))
        return [self._read(row) for row in rows]

    # For those who look on

    def version(self) -> str:
        return str(self._data_version())

    def latest(self) -> tuple[float, int]:
        """The time of the last change, and the last row."""
        at, seq = self._db.execute(LATEST).fetchone()
        if type(at) is not int:
            raise sqlite3.DatabaseError("malformed updated_after")
        return at / 1000, seq

    def changed(self, since: float, known: int, after: int) -> list[ItemRecord]:
        """The next items behind row `after` that changed at `since` or later, or were added behind row `known`."""
        where = {"since": math.floor(since * 1000), "known": known, "after": after, "most": CHUNK}
        return [self._read(row) for row in self._db.execute(CHANGED, where)]

    def row(self, seq: int) -> ItemRecord | None:
        row = self._db.execute(f"{SELECT} WHERE progress.seq = ?", (seq,)).fetchone()
        return None if row is None else self._read(row)

    def add_sample(self, sample: PaceSample, *, thin: bool) -> None:
        self._db.execute(KEEP_SAMPLE, sample_values(sample))
        if thin:
            kept = self._db.execute("SELECT at, run FROM pace_sample ORDER BY at").fetchall()
            dropped = superfluous(kept, sample.at)
            self._db.executemany("DELETE FROM pace_sample WHERE at = ?", [(at,) for at in dropped])

    def samples(self, after: float) -> list[PaceSample]:
        return [read_sample(row) for row in self._db.execute(SAMPLES, (after,))]

    def known_tasks(self, task_ids: Sequence[str]) -> dict[str, float | None]:
        known: dict[str, float | None] = {}
        for start in range(0, len(task_ids), ASKED):
            ids = [form for task_id in task_ids[start : start + ASKED] for form in forms(task_id)]
            rows = self._db.execute(KNOWN_TASKS % (marks(ids), marks(ids)), [*ids, *ids])
            known |= {long_id(found): at for found, at in rows}
        return known

    def counts(self) -> Mapping[ItemState, int]:
        rows = self._db.execute("SELECT state, items FROM tally").fetchall()
        if not all(code in STATES and type(items) is int for code, items in rows):
            raise sqlite3.DatabaseError("malformed tally")
        return MappingProxyType(dict.fromkeys(ItemState, 0) | {STATES[code]: items for code, items in rows})

    def totals(self) -> Totals:
        sums = "SELECT total(credits_reserved), total(credits_used), total(committed) FROM tally"
        # Adding and taking away fractions leaves dust, which nobody wants to read in a report.
        return Totals(*(round(value, 6) + 0.0 for value in self._db.execute(sums).fetchone()))

    def get_meta(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        if row is not None and not isinstance(row[0], str):
            raise sqlite3.DatabaseError(f"malformed meta {name}")
        return row[0] if row else None

    def set_meta(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def _read(self, row: Sequence[Any]) -> ItemRecord:
        return read_record(row, self.journal_id, self._request)

    def _request(self, seq: int, own: str | bytes | None) -> str:
        try:
            if own is None:
                return self._packs.request(seq)
            return own if isinstance(own, str) else self._packing.unpack(own)
        except (ValueError, TypeError) as error:
            raise sqlite3.DatabaseError(f"malformed request of row {seq}") from error

    # Planning

    def plan(self, items: Sequence[PlannedItem]) -> list[ItemRecord]:
        counted = self._pending.counted()
        self._db.execute("SAVEPOINT plan")
        try:
            planning = Planning(self, items)
            records = planning.run()
        except BaseException:
            self._pending.recount(counted)
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK TO plan")
                self._db.execute("RELEASE plan")
                self._packing.use(self._last_dictionary())
                self._packs.forget()
            raise
        self._db.execute("RELEASE plan")
        self._keep(planning)
        return records

    def _keep(self, planning: Planning) -> None:
        self.last_seq += len(planning.added)
        for record in planning.added:
            self._remember(record)
        for seq in planning.listed:
            if seq < self._first_new_seq:
                self._listed[seq >> 3] |= 1 << (seq & 7)
        self.repetitions.update(planning.repetitions)
        if len(self.repetitions) > _MAX_REPETITIONS:
            self.repetitions.clear()

    def is_listed(self, seq: int) -> bool:
        # A bit for each item of earlier runs; those added since were added because they were listed.
        return seq >= self._first_new_seq or bool(self._listed[seq >> 3] & 1 << (seq & 7))

    def list_all(self) -> None:
        self._listed = bytearray(b"\xff" * len(self._listed))

    def unlisted(self) -> frozenset[int]:
        return frozenset(seq for seq in range(1, self._first_new_seq) if not self.is_listed(seq))

    def find(self, keys: Sequence[int]) -> dict[int, ItemRecord]:
        hashes = [key >> HASH_BITS for key in keys]
        rows = self._db.execute(WITH_HASHES % marks(hashes), hashes).fetchall()
        found = {key_number(record.key): record for record in map(self._read, rows)}
        return {key: found[key] for key in keys if key in found}

    def find_row(self, seq: int) -> ItemRecord:
        record = self.row(seq)
        if record is None:
            raise sqlite3.DatabaseError(f"malformed: row {seq} is missing")
        return record

    def name_owners(self, hashes: Sequence[int]) -> dict[int, int]:
        rows = self._db.execute(f"SELECT hash, seq FROM name WHERE hash IN ({marks(hashes)})", hashes)  # noqa: S608
        owners = dict(rows.fetchall())
        for name_hash in hashes:
            seq = leading_number(name_hash)
            if name_hash not in owners and seq and seq <= self.last_seq and self._makes(seq, name_hash):
                owners[name_hash] = seq
        return owners

    def _makes(self, seq: int, name_hash: int) -> bool:
        """Whether the row's file has the name that its number makes, and that is the one."""
        row = self._db.execute("SELECT request, file FROM item WHERE seq = ?", (seq,)).fetchone()
        own, named = row or (None, None)
        if named is not None:
            return False
        made = derived_file(self._request(seq, own), seq)
        return made is not None and name_key(made) == name_hash

    def is_owned(self, name: str) -> bool:
        """Whether the name is, or was, given to an item."""
        return bool(self.name_owners([name_key(name)]))

    def is_strange(self, name: str) -> bool:
        """Whether a file of this name lies in the directory. None does in a new one, which saves a million looks."""
        return self._has_files and os.path.lexists(self.directory / name)

    def add(self, records: Sequence[ItemRecord], made: Sequence[tuple[str, str | None]]) -> None:
        """`made` are the key and the file that follow from each one's id, request and number."""
        if not records:
            return
        put(self._db, BLANK, [(record.seq, PLANNED, record.attempt) for record in records])
        put(self._db, KEYS, sorted((key_number(record.key) >> HASH_BITS, record.seq) for record in records))
        own = (own_values(record, None, *follows) for record, follows in zip(records, made, strict=True))
        put(self._db, OWN, [values for values in own if values is not None])
        put(self._db, PACKS, self._packed(records[0].seq, [record.request_json for record in records]))
        for record in records:
            self._pending.count(record)

    def _packed(self, first: int, requests: Sequence[str]) -> list[Pack]:
        packs = self._packs.packed(first, requests)
        words = self._packing.new_words(requests, [packed for _, packed in packs])
        if words is None:
            return packs
        number = self._last_dictionary() + 1
        self._db.execute("INSERT INTO dictionary VALUES (?, ?)", (number, words))
        self._packing.use(number)
        return self._packs.packed(first, requests)

    def change(self, before: ItemRecord, after: ItemRecord) -> None:
        self._db.execute("DELETE FROM item WHERE seq = ?", (after.seq,))
        made = derived_file(after.request_json, after.seq) if after.item_id is None else None
        key = item_key_of(after.request_json, after.item_id)
        own = own_values(after, self._own_request(after), key, made)
        put(self._db, OWN, [own] if own is not None else [])
        if after.attempt != before.attempt:
            self._db.execute(KEEP_ATTEMPT, (before.seq,))
        self._recent.pop(after.key, None)
        if (after.state, after.attempt) != (before.state, before.attempt):
            self._pending.add(before, after)

    def _own_request(self, record: ItemRecord) -> str | None:
        """The record's request, where its pack, if it has one, holds another."""
        try:
            packed = self._packs.request(record.seq)
        except ValueError:
            return record.request_json
        return None if packed == record.request_json else record.request_json

    def claim_names(self, owners: Mapping[int, int]) -> None:
        put(self._db, NAMES, [*owners.items()])


def _file_numbers(path: Path) -> list[int]:
    """What tells the database and its log from others of their names; the log may be missing where there is none."""
    numbers = []
    for name in (path, f"{path}-wal"):
        try:
            numbers.append(os.stat(name).st_ino)
        except FileNotFoundError:
            numbers.append(0)
    return numbers


def has_files(directory: Path) -> bool:
    with os.scandir(directory) as entries:
        return any(entry.name != FOLDER for entry in entries)


def _attempt(operation: Callable[[], Any]) -> Any:
    try:
        return operation()
    except FAILURES:
        raise
    except Exception as error:  # noqa: BLE001 - the caller's own; it is raised to that caller
        return error
