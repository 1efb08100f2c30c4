"""What a batch asks of its journal, wherever that is kept.

Two homes satisfy it, and `tests/journal_contract` holds both to the same behaviour: `edges.journal` (SQLite in the
batch's directory, one process at a time) and `edges.postgres` (a database that many processes share).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Protocol

from wanasync.models import PaceSample
from wanasync.rules.ledger import Terms
from wanasync.rules.lifecycle import ItemEvent, ItemState
from wanasync.rules.records import ItemRecord, PlannedItem, Totals

__all__ = ["BatchJournal", "SharedJournal"]


class BatchJournal(Protocol):
    """One batch's journal, open, for one event loop.

    What a method has returned is durable, and seen by every later call. Methods raise `JournalError`; after a write has
    failed for good the journal refuses everything. A caller that is cancelled does not take its write back.
    """

    @property
    def interrupted(self) -> int:
        """How many submissions of earlier runs were found without an answer at opening; they are `unknown` now."""

    async def holder(self) -> str | None:
        """Who works on the batch now, in words for a user; None for nobody."""

    async def plan(self, items: Sequence[PlannedItem]) -> list[ItemRecord]:
        """The record of each item, in their order; those the journal doesn't know are written down as planned.

        Items come in their list's order, over any number of calls; one journal is opened for one pass over the list.
        Raises `RequestValidationError` for ids and files that clash; nothing of the call's chunk was written.
        """

    async def claim(self, record: ItemRecord, *, submitted_at: float) -> ItemRecord:
        """Claim the item for one submission: its record, `submitting` or (where it was unknown) `resubmitting`.

        `record` is the item as the caller knows it. Only whoever gets an answer may send, and at once. Raises
        `TransitionError` where another has it, `StaleClaimError` where the claim came back too late to be used: the
        item can be claimed again.
        """

    async def record(self, key: str, event: ItemEvent, **changes: Any) -> ItemRecord:
        """Write down what happened to an item; its record after that. `changes` are fields of `ItemRecord`.

        Raises `TransitionError` where this can't happen to an item in its state: nothing was written.
        """

    async def get(self, key: str) -> ItemRecord: ...

    async def find(self, keys: Sequence[str]) -> Mapping[str, ItemRecord]:
        """The records of those items that the journal knows, by key."""

    def iter_items(self, states: Iterable[ItemState] | None = None) -> AsyncIterator[ItemRecord]:
        """All items as they were first planned; or those in `states`, state after state as life goes."""

    def slices(self, states: Iterable[ItemState] | None = None) -> AsyncIterator[list[ItemRecord]]:
        """As `iter_items`, slice by slice. What changes its state meanwhile may come again, or not at all."""

    async def known_tasks(self, task_ids: Sequence[str]) -> Mapping[str, float | None]:
        """Those of the tasks that are, or were, an item's, with when they were submitted."""

    def is_listed(self, record: ItemRecord) -> bool:
        """Whether the item came in a list planned since the journal was opened."""

    async def list_all(self) -> None:
        """Take all rows for listed, as though the list they came in had been planned again."""

    async def unlisted(self) -> frozenset[int]:
        """The rows, by number, whose items came in no list planned since the journal was opened."""

    async def counts(self) -> Mapping[ItemState, int]:
        """How many items are in each state; every state has an entry."""

    async def totals(self) -> Totals: ...

    async def version(self) -> str:
        """Another text whenever somebody else has written since, and cheap; it may differ for less."""

    async def mark(self) -> str:
        """A mark for now, to ask for `changes` with."""

    async def changes(self, since: str) -> tuple[str, list[ItemRecord]]:
        """The items that changed since a mark or are new, as they stand now, and the mark to ask with next.

        None is missed, whatever the clocks of those who write say; one may come again. Raises `ValueError` for what is
        no mark.
        """

    async def terms(self) -> Terms | None:
        """What may be spent on the batch by all who work on it together; None where that is each run's own affair."""

    async def row(self, seq: int) -> ItemRecord | None:
        """The item in that row; None where there is none."""

    def add_sample(self, sample: PaceSample, *, thin: bool = False) -> asyncio.Future[None]:
        """Keep a sample of the pace; with `thin` drop those of old ones that are too many (see `rules.samples`)."""

    async def samples(self, after: float = 0.0) -> list[PaceSample]:
        """The samples of the pace that were taken after `after` (unix seconds), in the order of time."""

    async def get_meta(self, name: str) -> str | None: ...

    async def set_meta(self, name: str, value: str) -> None: ...

    async def close(self) -> None:
        """Write what is queued, then let the batch go. Cancelling the wait doesn't stop it."""


class SharedJournal(BatchJournal, Protocol):
    """A journal that is open to several processes at once, each of which works on some of its rows."""

    async def rows(self, first: int, last: int) -> list[ItemRecord]:
        """The items in the rows from `first` to `last`, both included."""

    async def allow(self, *, budget: float | None = None, limit: int | None = None) -> Terms | None:
        """Set what may be spent, see `Ledger.allow`. Where it is reached, `claim` raises `HeldBackError`."""

    async def last_row(self) -> int:
        """The last row's number; 0 where there is none."""

    async def settle_interrupted(self, older_than: float) -> list[ItemRecord]:
        """Others' submissions that went out `older_than` seconds ago and have no answer: they are `unknown` now."""
