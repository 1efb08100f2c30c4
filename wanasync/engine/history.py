"""Reading what a batch's journal says, without taking part in it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from wanasync.engine.forecast import forecast
from wanasync.engine.homes import OpenJournal, opener
from wanasync.engine.reading import Requests, fingerprint, known_list
from wanasync.models import BatchStatus, Forecast, Outcome, OutcomeState
from wanasync.rules.lifecycle import ItemState
from wanasync.rules.outcomes import outcome, states_of

__all__ = ["BatchHistory"]


class BatchHistory:
    """The journal of a directory, opened to be read: also while another process writes it.

    ``async with BatchHistory("videos/") as history: print(await history.status())``

    Nothing is made, changed or locked. `journal` is where it is kept, as in `WanSession.batch`. Raises `JournalError`
    where there is none, or a broken one.
    """

    def __init__(self, directory: str | os.PathLike[str], *, journal: str | OpenJournal | None = None) -> None:
        self.directory = Path(directory)
        self._open_journal = opener(journal)

    async def __aenter__(self) -> Self:
        self._journal = await self._open_journal(self.directory, now=time.time, read_only=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._journal.close()

    async def status(self) -> BatchStatus:
        """Counts and credits as they stand now."""
        counts = await self._journal.counts()
        totals = await self._journal.totals()
        running = await self._journal.holder()
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
            yield outcome(record, self.directory, resumed=True)

    async def forecast(self, requests: Requests, *, on_unknown: str = "hold", retry_failed: int = 0) -> Forecast:
        """What a run with this list would send and is expected to reserve; nothing is sent or written.

        `on_unknown` and `retry_failed` as the run would have them. Raises what the list raises.
        """
        return await forecast(self._journal, requests, on_unknown=on_unknown, retry_failed=retry_failed)
