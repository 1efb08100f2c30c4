"""The journal as coroutines see it: many ask at once, one thread writes.

While it commits, whatever is asked for queues up and becomes the next commit: alone, a record costs one sync; a hundred
writers share one. There is no window to wait out, so neither case is slowed for the other's sake.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from wanasync.edges.journal.schema import CODES, key_number
from wanasync.edges.journal.store import CHUNK, Store
from wanasync.errors import JournalError
from wanasync.models import PaceSample
from wanasync.rules.change_mark import ChangeMark
from wanasync.rules.claims import claim_event
from wanasync.rules.lifecycle import ItemEvent, ItemState
from wanasync.rules.records import ItemRecord, PlannedItem, Totals, check_changes

__all__ = ["Journal"]

T = TypeVar("T")


class Journal:
    """The journal of one directory, for one event loop. Made by `open`; every method raises `JournalError`.

    A caller that is cancelled does not take its write back: it is carried out, and `get` tells afterwards. After a
    commit has failed the journal refuses everything, since what it would write next could contradict what it lost.
    """

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wanasync-journal")
        self._queue: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._writing = False
        self._closed: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, directory: Path | str, *, now: Callable[[], float], read_only: bool = False) -> Self:
        """Open the journal of `directory`, making both where they are missing; `now` gives unix seconds.

        Items found `submitting` were cut off by a crash and become `unknown`; `interrupted` counts them. With
        `read_only` nothing is made, changed or locked, and a run in progress may be looked at.
        """
        journal = cls(Store(Path(directory), read_only), now)
        opening = journal._loop.run_in_executor(journal._executor, journal._store.open, now())
        try:
            await asyncio.shield(opening)
        except BaseException:
            # Behind the opening, in the same thread: a lock taken meanwhile is given back.
            journal._executor.submit(journal._store.close)
            journal._executor.shutdown(wait=False)
            opening.add_done_callback(_forget)
            raise
        return journal

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def directory(self) -> Path:
        return self._store.directory

    @property
    def interrupted(self) -> int:
        """How many submissions an earlier run left without an answer; they are `unknown` now."""
        return self._store.interrupted

    async def holder(self) -> str | None:
        """Which process works on the directory now, in words for a user; None for nobody."""
        return self._store.holder()

    async def plan(self, items: Sequence[PlannedItem]) -> list[ItemRecord]:
        """The record of each item, in their order; items the journal doesn't know are written down as planned.

        Items come in their list's order, over any number of calls; one journal is opened for one pass over the list,
        since an item that comes again is a repetition: another item with the same content. Raises
        `RequestValidationError` where an id comes twice or stands for another request than the one paid for, and
        where a wanted file is another item's.
        """
        records: list[ItemRecord] = []
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            records += await self._do(functools.partial(self._store.plan, chunk))
        return records

    async def claim(self, record: ItemRecord, *, submitted_at: float) -> ItemRecord:
        """Claim the item for one submission: its record, on the wire now.

        Nobody else writes here: the step itself is the claim, which can't be made twice and never grows stale. Raises
        `TransitionError` where it was made.
        """
        return await self.record(record.key, claim_event(record), submitted_at=submitted_at)

    async def record(self, key: str, event: ItemEvent, **changes: Any) -> ItemRecord:
        """Write down what happened to an item; its record after that, once it is safe on disk.

        `changes` are fields of `ItemRecord`. Raises `TransitionError` where this can't happen to an item in its state
        (another event came first): nothing was written.
        """
        check_changes(event, changes)
        return await self._do(functools.partial(self._store.record, key, event, changes, self._now()))

    async def get(self, key: str) -> ItemRecord:
        """The record of an item, after all that was asked for before. Raises `JournalError` if there is none."""
        return await self._do(functools.partial(self._store.get, key))

    async def iter_items(self, states: Iterable[ItemState] | None = None) -> AsyncIterator[ItemRecord]:
        """All items in the order they were first planned; or those in `states`, state after state as life goes.

        Read in slices: an item that changes its state meanwhile may come again in a later state, or not at all.
        """
        async for chunk in self.slices(states):
            for record in chunk:
                yield record

    async def slices(self, states: Iterable[ItemState] | None = None) -> AsyncIterator[list[ItemRecord]]:
        """As `iter_items`, slice by slice."""
        for state in [None] if states is None else sorted(set(states), key=CODES.__getitem__):
            after = 0
            while chunk := await self._do(functools.partial(self._store.slice, state, after)):
                yield chunk
                after = chunk[-1].seq

    async def find(self, keys: Sequence[str]) -> Mapping[str, ItemRecord]:
        """The records of those items that the journal knows, by key."""
        found = await self._do(functools.partial(self._store.find, [key_number(key) for key in keys]))
        return {record.key: record for record in found.values()}

    async def known_tasks(self, task_ids: Sequence[str]) -> Mapping[str, float | None]:
        """Those of the tasks that are, or were, an item's, with when they were submitted."""
        return await self._do(functools.partial(self._store.known_tasks, task_ids))

    def is_listed(self, record: ItemRecord) -> bool:
        """Whether the item came in a list planned since the journal was opened."""
        return self._store.is_listed(record.seq)

    async def list_all(self) -> None:
        """Take all rows for listed, as though the list they came in had been planned again."""
        await self._do(self._store.list_all)

    async def unlisted(self) -> frozenset[int]:
        """The rows, by number, whose items came in no list planned since the journal was opened."""
        return await self._do(self._store.unlisted)

    async def counts(self) -> Mapping[ItemState, int]:
        """How many items are in each state; every state has an entry."""
        return await self._do(self._store.counts)

    async def totals(self) -> Totals:
        """The credits of all items."""
        return await self._do(self._store.totals)

    async def version(self) -> str:
        """Another text whenever somebody else has written since; costs next to nothing."""
        return await self._do(self._store.version)

    async def terms(self) -> None:
        """A run has the batch to itself, and keeps to its own budget."""

    async def mark(self) -> str:
        """A mark for now, to ask for `changes` with."""
        return str(ChangeMark(*await self._do(self._store.latest)))

    async def changes(self, since: str) -> tuple[str, list[ItemRecord]]:
        """The items that changed since a mark or are new, and the mark to ask with next.

        Changes in the very moment of the mark come again. Raises `ValueError` for what is no mark.
        """
        mark = ChangeMark.read(since)
        # A clock that was set back since must not hide what happened by the new time.
        earliest, after = min(mark.at, self._now()), 0
        found: list[ItemRecord] = []
        while chunk := await self._do(functools.partial(self._store.changed, earliest, mark.number, after)):
            found += chunk
            after = chunk[-1].seq
        return str(mark.after(found)), found

    async def row(self, seq: int) -> ItemRecord | None:
        """The item in that row."""
        return await self._do(functools.partial(self._store.row, seq))

    def add_sample(self, sample: PaceSample, *, thin: bool = False) -> asyncio.Future[None]:
        """Keep a sample of the pace; with `thin` drop those of old ones that are too many."""
        return self._do(functools.partial(self._store.add_sample, sample, thin=thin))

    async def samples(self, after: float = 0.0) -> list[PaceSample]:
        """The samples of the pace that were taken after `after` (unix seconds), in the order of time."""
        return await self._do(functools.partial(self._store.samples, after))

    async def get_meta(self, name: str) -> str | None:
        """What was kept under `name` with `set_meta`."""
        return await self._do(functools.partial(self._store.get_meta, name))

    async def set_meta(self, name: str, value: str) -> None:
        await self._do(functools.partial(self._store.set_meta, name, value))

    async def close(self) -> None:
        """Write what is queued, then let the directory go. Cancelling the wait doesn't stop it."""
        if self._closed is None:
            self._closed = self._close_now()
        await asyncio.shield(self._closed)

    def _close_now(self) -> asyncio.Future[None]:
        if self._queue:
            self._start()
        closed = self._loop.run_in_executor(self._executor, self._store.close)
        self._executor.shutdown(wait=False)
        return closed

    def _do(self, operation: Callable[[], T]) -> asyncio.Future[T]:
        if self._closed is not None:
            raise JournalError("the journal is closed", str(self._store.path))
        if asyncio.get_running_loop() is not self._loop:
            raise JournalError("the journal belongs to another event loop", str(self._store.path))
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.append((operation, future))
        if not self._writing:
            self._writing = True
            # Not at once: what the other coroutines of this turn ask for shares the commit.
            self._loop.call_soon(self._start)
        return future

    def _start(self) -> None:
        batch, self._queue = self._queue, []
        if not batch:
            self._writing = False
            return
        job = self._loop.run_in_executor(self._executor, self._store.run, [operation for operation, _ in batch])
        job.add_done_callback(functools.partial(self._finish, batch))

    def _finish(
        self, batch: list[tuple[Callable[[], Any], asyncio.Future[Any]]], job: asyncio.Future[list[Any]]
    ) -> None:
        error = job.exception()
        answers = [error] * len(batch) if error else job.result()
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        if self._closed is None:
            # After those who were just answered: what they ask for next shares the commit too.
            self._loop.call_soon(self._start)


def _forget(opening: asyncio.Future[None]) -> None:
    """The caller is gone; an error of the opening that nobody awaits is no news to anybody."""
    if not opening.cancelled():
        opening.exception()
