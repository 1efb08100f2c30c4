"""Reading what a batch's journal says, without taking part in it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from wanasync.engine.batch.outlet import DIRECTORY, PLACE, Outlet
from wanasync.engine.forecast import forecast
from wanasync.engine.homes import OpenJournal, PostgresJournal, opener
from wanasync.engine.reading import Requests, fingerprint, known_list
from wanasync.errors import ConfigError
from wanasync.models import BatchStatus, Forecast, ItemChanges, ItemStatus, Outcome, OutcomeState, PaceSample
from wanasync.rules.destination import Destination
from wanasync.rules.ledger import Terms
from wanasync.rules.lifecycle import ItemState
from wanasync.rules.outcomes import item_status, outcome, states_of

__all__ = ["BatchHistory"]

_NO_ROW = 2**63
"""SQLite counts rows no further."""


class BatchHistory:
    """The journal of a directory, opened to be read: also while another process writes it.

    ``async with BatchHistory("videos/") as history: print(await history.status())``

    Nothing is made, changed or locked. `directory` may also be the URL that a batch's videos went to, where its journal
    is in the default place. `journal` is where it is kept, as in `WanSession.batch`; a batch that was handed in to
    workers says itself where its videos are, and needs no `directory` with a `PostgresJournal` that names it. Raises
    `JournalError` where there is none, or a broken one.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None = None, *, journal: str | OpenJournal | None = None
    ) -> None:
        if directory is None and not (isinstance(journal, PostgresJournal) and journal.batch):
            raise ConfigError("which batch? give its directory, or a PostgresJournal that names it", "directory")
        destination = Destination.of(directory or ".")
        self.directory: Path = destination.directory
        self._asks_where = directory is None
        self._open_journal = opener(journal, destination.url)
        self._read_at: str | None = None
        self._mark: str | None = None

    async def __aenter__(self) -> Self:
        self._journal = await self._open_journal(self.directory, now=time.time, read_only=True)
        url = await self._journal.get_meta(PLACE) or None
        if self._asks_where:
            told = url or await self._journal.get_meta(DIRECTORY) or "."
            self.directory = Destination.of(told).directory
        self._outlet = Outlet(self.directory, url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._journal.close()

    @property
    def url(self) -> str | None:
        """Where the videos are, if not in the directory: a place in an object store."""
        return self._outlet.url

    async def status(self) -> BatchStatus:
        """Counts and credits as they stand now."""
        counts = await self._journal.counts()
        totals = await self._journal.totals()
        running = await self._journal.holder()
        terms = await self._journal.terms() or Terms()
        on_the_wire = counts[ItemState.SUBMITTING] + counts[ItemState.RESUBMITTING]
        return BatchStatus(
            directory=self.directory,
            items=sum(counts.values()),
            planned=counts[ItemState.PLANNED],
            submitting=on_the_wire if running else 0,
            following=counts[ItemState.ACCEPTED],
            saving=counts[ItemState.READY],
            saved=counts[ItemState.SAVED],
            failed=counts[ItemState.FAILED],
            rejected=counts[ItemState.REJECTED],
            unknown=counts[ItemState.UNKNOWN] + (0 if running else on_the_wire),
            expired=counts[ItemState.EXPIRED],
            credits_reserved=totals.reserved,
            credits_used=totals.used,
            credits_committed=totals.committed,
            running=running,
            budget=terms.budget,
            limit=terms.limit,
            stopped=terms.stopped,
        )

    async def knows(self, requests: Requests) -> int | None:
        """How many items the list has, where a run has read this very list, unchanged since, to its end.

        None where that isn't so, and for lists that are no `RequestList`. A batch goes on with such a list from the
        journal alone, without reading it.
        """
        known = await known_list(self._journal, await fingerprint(requests))
        return known.items if known and known.is_whole else None

    async def outcomes(self, states: Iterable[OutcomeState] | None = None) -> AsyncIterator[Outcome]:
        """Each item as an outcome, as it stands now; those in `states` only, where given."""
        wanted = None if states is None else [state for told in states for state in states_of(told)]
        async for record in self._journal.iter_items(wanted):
            yield self._outlet.located(outcome(record, self.directory, resumed=True))

    async def items(self, states: Iterable[OutcomeState] | None = None) -> AsyncIterator[ItemStatus]:
        """Each item as it stands now; those in `states` only, where given, state after state."""
        wanted = None if states is None else [state for told in states for state in states_of(told)]
        async for record in self._journal.iter_items(wanted):
            yield item_status(record)

    async def item(self, number: int) -> ItemStatus | None:
        """The item with the journal's `number`; None where there is none."""
        record = await self._journal.row(number) if 0 < number < _NO_ROW else None
        return None if record is None else item_status(record)

    async def mark(self) -> str:
        """A mark for now, to ask for `changes` with. Taken before `items` are read, none is missed between."""
        self._read_at = await self._journal.version()
        self._mark = await self._journal.mark()
        return self._mark

    async def changes(self, since: str) -> ItemChanges:
        """The items that changed since a mark, as they stand now; costs next to nothing while nothing happens.

        Changes in the very moment of the mark are told again. Raises `ValueError` for what is no mark.
        """
        version = await self._journal.version()
        if version == self._read_at and since == self._mark:
            return ItemChanges((), since)
        self._mark, found = await self._journal.changes(since)
        self._read_at = version
        return ItemChanges(tuple(map(item_status, found)), self._mark)

    async def pace(self, after: float = 0.0) -> tuple[PaceSample, ...]:
        """What runs wrote down of their pace after `after` (unix seconds): dense of late, sparse of long ago."""
        return tuple(await self._journal.samples(after))

    async def forecast(self, requests: Requests, *, on_unknown: str = "hold", retry_failed: int = 0) -> Forecast:
        """What a run with this list would send and is expected to reserve; nothing is sent or written.

        `on_unknown` and `retry_failed` as the run would have them. Raises what the list raises.
        """
        return await forecast(self._journal, requests, on_unknown=on_unknown, retry_failed=retry_failed)
