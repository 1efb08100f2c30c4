"""Journals as an attacker, or a failing disk, would leave them, and what must hold when one is opened."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from attrs import frozen

from tests.security.mutation import choose, text
from wanasync.edges.journal import FOLDER
from wanasync.edges.journal.store import DATABASE, Store
from wanasync.errors import WanError
from wanasync.models import VideoRequest
from wanasync.rules.budget import Budget
from wanasync.rules.lifecycle import ItemEvent, ItemState
from wanasync.rules.outcomes import next_step, outcome
from wanasync.rules.pacing import PaceRecord
from wanasync.rules.records import ItemRecord, PlannedItem

__all__ = ["SpoiltBytes", "SpoiltRow", "check", "columns", "example", "journal", "memory"]

T = TypeVar("T")

NOW = 1_800_000_000.0
PROMPTS = tuple(f"a cat, take {number}" for number in range(12))
_ITEMS = [PlannedItem(number, VideoRequest(prompt)) for number, prompt in enumerate(PROMPTS)]
_WAYS: tuple[tuple[tuple[ItemEvent, dict[str, Any]], ...], ...] = (
    ((ItemEvent.SUBMIT, {}),),
    ((ItemEvent.SUBMIT, {}), (ItemEvent.REPLY_LOST, {"error_message": "lost"})),
    ((ItemEvent.SUBMIT, {}), (ItemEvent.REFUSED, {"error_code": "400", "error_message": "no"})),
    ((ItemEvent.SUBMIT, {}), (ItemEvent.ACCEPTED, {"task_id": "task-1", "credits_reserved": 5.0})),
    (
        (ItemEvent.SUBMIT, {}),
        (ItemEvent.ACCEPTED, {"task_id": "task-2", "estimated_time": 120.0}),
        (ItemEvent.LINKED, {"links": ("https://video.example/2.mp4",), "link_deadline": NOW + 86_400}),
    ),
    (
        (ItemEvent.SUBMIT, {}),
        (ItemEvent.ACCEPTED, {"task_id": "task-3"}),
        (ItemEvent.LINKED, {"links": ("https://video.example/3.mp4",), "credits_used": 4.0}),
        (ItemEvent.SAVED, {"bytes": 1234, "sha256": "ab" * 32}),
    ),
    ((ItemEvent.SUBMIT, {}), (ItemEvent.ACCEPTED, {"task_id": "task-4"}), (ItemEvent.FAILED, {"error_code": "oops"})),
    ((ItemEvent.SUBMIT, {}), (ItemEvent.ACCEPTED, {"task_id": "task-5"}), (ItemEvent.LOST, {"error_message": "gone"})),
)


def memory() -> str | None:
    """Where files cost no disk; None for the usual place."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 — the names in it are random


@contextlib.contextmanager
def journal(*, torn: bool = False) -> Iterator[Path]:
    """A directory with a sound journal that has items in all states; `torn` leaves a log beside the database."""
    with tempfile.TemporaryDirectory(dir=memory()) as directory:
        folder = Path(directory) / FOLDER
        folder.mkdir()
        for name, content in _sound(torn).items():
            (folder / name).write_bytes(content)
        yield Path(directory)


@functools.cache
def _sound(torn: bool) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(dir=memory()) as directory:
        store = Store(Path(directory), read_only=False)
        store.open(NOW)
        answered(store, lambda: store.plan(_ITEMS))
        for item, way in zip(_ITEMS, _WAYS, strict=False):
            for event, changes in way:
                answered(store, functools.partial(store.record, item.key, event, changes, NOW))
        answered(store, lambda: store.set_meta("pace", '{"version": 1}'))
        if not torn:
            store.close()
        with tempfile.TemporaryDirectory(dir=memory()) as copy:
            shutil.copytree(Path(directory) / FOLDER, copy, dirs_exist_ok=True)
            store.close()
            return {path.name: path.read_bytes() for path in Path(copy).iterdir() if path.name != "lock"}


def answered(store: Store, operation: Callable[[], T]) -> T:
    """What one operation answers, as the journal's callers get it."""
    (answer,) = store.run([operation])
    if isinstance(answer, BaseException):
        raise answer
    return answer  # type: ignore[no-any-return]


# --- what is done to them --------------------------------------------------------------------------------------------


@frozen
class SpoiltBytes:
    """Bytes of the database, or of the log beside it, are others; `end` cuts the file."""

    in_log: bool
    edits: tuple[tuple[int, bytes], ...]
    end: int | None

    def apply(self, directory: Path) -> None:
        path = directory / FOLDER / (f"{DATABASE}-wal" if self.in_log else DATABASE)
        content = bytearray(path.read_bytes())
        for at, data in self.edits:
            at %= len(content)
            content[at : at + len(data)] = data
        path.write_bytes(content if self.end is None else content[: self.end % len(content)])


@frozen
class SpoiltRow:
    """A column holds something else, in one row or in all; written with the database's own tools."""

    table: str
    column: str
    value: Any
    seq: int | None

    def apply(self, directory: Path) -> None:
        where = f" WHERE seq = {self.seq}" if self.seq is not None and "seq" in columns()[self.table] else ""
        with (
            contextlib.closing(sqlite3.connect(directory / FOLDER / DATABASE)) as db,
            contextlib.suppress(sqlite3.Error),
        ):
            # Most items need no row there.
            db.execute("INSERT OR IGNORE INTO item (seq) SELECT seq FROM progress WHERE ?", (self.table == "item",))
            db.execute(f"UPDATE OR IGNORE {self.table} SET {self.column} = ?{where}", (self.value,))  # noqa: S608
            db.commit()


Spoils = tuple[SpoiltBytes | SpoiltRow, ...]


@functools.cache
def columns() -> dict[str, tuple[str, ...]]:
    """Those of each table, as the journal has them at present."""
    with journal() as directory, contextlib.closing(sqlite3.connect(directory / FOLDER / DATABASE)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: tuple(row[1] for row in db.execute(f"PRAGMA table_info({table})")) for table in tables}


_TEXTS = [
    "",
    "/etc/passwd",
    "../../../tmp/x.mp4",
    "sub/../../x.mp4",
    ".wanasync/journal.db",
    "C:\\x.mp4",
    "a\0b.mp4",
    "\x1b[2J",
    "[" * 100_000,
    '{"prompt": "a", "callback_url": 1}',
    '{"prompt":' * 20_000,
    '"callback_url":',
    '["callback_url":]',
    '[["model", null, 5, 1e999]]',
    '["file:///etc/passwd", 5]',
    '"abc"',
    "NaN",
    "9" * 5000,
    "accepted",
    "task-1",
]


def example(rng: Random) -> Spoils:
    if rng.randrange(2):
        return (_bytes(rng),)
    return tuple(_row(rng) for _ in range(rng.randint(1, 3)))


def _row(rng: Random) -> SpoiltRow:
    table, column = rng.choice([(table, column) for table, names in columns().items() for column in names])
    return SpoiltRow(table, column, _value(rng), rng.choice((None, rng.randint(1, len(PROMPTS)))))


def _value(rng: Random) -> object:
    return choose(
        rng,
        lambda _: None,
        lambda rng: rng.randint(-(2**63), 2**63 - 1),
        lambda rng: rng.randint(-2, 12),
        lambda rng: float(rng.choice((0.5, 1e308, -1e308, "inf", "nan"))),
        lambda rng: rng.choice(_TEXTS),
        lambda rng: text(rng).encode(errors="replace").decode(),
        lambda rng: rng.randbytes(rng.randint(0, 40)),
    )


def _bytes(rng: Random) -> SpoiltBytes:
    in_log = bool(rng.randrange(2))
    edits = tuple((_offset(rng), rng.randbytes(rng.randint(1, 16))) for _ in range(rng.randint(1, 8)))
    return SpoiltBytes(in_log, edits, rng.choice((None, None, rng.randrange(2**20))))


def _offset(rng: Random) -> int:
    """The first hundred bytes are the file's head, the first page holds the tables' definitions."""
    return rng.randrange(rng.choice((100, 4096, 2**20)))


# --- what must hold --------------------------------------------------------------------------------------------------


def check(spoils: Spoils) -> None:
    """A spoilt journal is worked with or refused by an error of our tree; nothing in it leads out of its directory."""
    torn = any(isinstance(spoilt, SpoiltBytes) and spoilt.in_log for spoilt in spoils)
    with journal(torn=torn) as directory:
        for spoilt in spoils:
            spoilt.apply(directory)
        for read_only in (True, False):
            with contextlib.suppress(WanError):
                work_with(directory, read_only=read_only)


def work_with(directory: Path, *, read_only: bool = False) -> None:
    """Do what a run, or a look at one, does with a journal. Raises what it raises."""
    store = Store(directory, read_only)
    try:
        store.open(NOW)
        _look(store, directory)
        if not read_only:
            _run(store)
    finally:
        store.close()


def _look(store: Store, directory: Path) -> None:
    for ask in (store.counts, store.totals):
        with contextlib.suppress(WanError):
            answered(store, ask)
    for name in ("pace", "prices"):
        kept = answered(store, functools.partial(store.get_meta, name)) or ""
        PaceRecord.from_json(kept)
        Budget(10.0).recall_prices(kept)
    for record in _records(store):
        _use(record, directory)


def _records(store: Store) -> Iterator[ItemRecord]:
    """All, and then state by state, as the journal's readers ask for them; in one transaction, which spares time."""
    for records in store.run([functools.partial(_slices, store, state) for state in (None, *ItemState)]):
        if isinstance(records, BaseException):
            raise records
        yield from records


def _slices(store: Store, state: ItemState | None) -> list[ItemRecord]:
    records: list[ItemRecord] = []
    while chunk := store.slice(state, records[-1].seq if records else 0):
        records += chunk
    return records


def _use(record: ItemRecord, directory: Path) -> None:
    target = directory / record.file
    assert os.path.normpath(target).startswith(f"{directory}{os.sep}"), record.file
    assert target.suffix.lower() == ".mp4"
    assert not target.name.startswith(".")
    assert all(link.isascii() or link for link in record.links)
    str(record.idempotency_key)
    next_step(record.state, "hold")
    with contextlib.suppress(WanError):  # a request that is none, or breaks a rule
        told = outcome(record, directory)
        repr(told)
        str(told.error)


def _run(store: Store) -> None:
    records = answered(store, lambda: store.plan(_ITEMS))
    for event, changes in _STEPS:
        steps = [functools.partial(store.record, record.key, event, changes, NOW) for record in records]
        for answer in store.run(steps):
            assert isinstance(answer, ItemRecord | WanError), answer
    answered(store, lambda: store.set_meta("pace", "{}"))


_STEPS: tuple[tuple[ItemEvent, dict[str, Any]], ...] = (
    (ItemEvent.SUBMIT, {}),
    (ItemEvent.LINKED, {"links": ("https://video.example/9.mp4",)}),
    (ItemEvent.SAVED, {"bytes": 9, "sha256": "cd" * 32}),
)
