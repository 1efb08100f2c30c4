"""Writing a list down for others to work on: planned in the journal, nothing sent."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import frozen

from wanasync.edges.journal.contract import SharedJournal
from wanasync.engine.batch.outlet import DIRECTORY, PLACE, Outlet
from wanasync.engine.batch.shared import ShareJournal
from wanasync.engine.reading import Requests, ahead, planned_items
from wanasync.errors import JournalError
from wanasync.models import ItemStatus, OutcomeState
from wanasync.rules.destination import Destination
from wanasync.rules.ledger import Terms
from wanasync.rules.lifecycle import SETTLED_STATES, ItemEvent, ItemState
from wanasync.rules.outcomes import item_status, states_of

__all__ = ["LoadedRows", "SharedList"]

AT_ONCE = 5000
"""Items planned in one transaction."""


@frozen
class LoadedRows:
    """What a piece of a list has become: how many items of it stand in the journal, and which `rows` want work."""

    items: int
    added: int
    rows: tuple[int, ...]


class SharedList:
    """The items of a batch that several processes work on, for whoever shares them out; it needs no key.

    ``async with SharedList("videos/", journal=PostgresJournal(dsn, "films")) as items:``
    ``    async for loaded in items.load(RequestList("prompts.txt")): ...``

    `directory` is where the videos go, as those see it who save them; it may be a URL in an object store. Raises
    `JournalError` where the database is out of reach.
    """

    def __init__(self, directory: str | os.PathLike[str], *, journal: ShareJournal) -> None:
        self._destination = Destination.of(directory)
        self.directory: Path = self._destination.directory
        self._share = journal.share

    async def __aenter__(self) -> Self:
        self._journal: SharedJournal = await self._share(self.directory, now=time.time)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._journal.close()

    async def load(self, requests: Requests) -> AsyncGenerator[LoadedRows, None]:
        """Write a list down, in pieces. What is known already is not added again, and keeps its row.

        Raises `RequestValidationError` for an entry that is no request, and for ids and files that clash; the pieces
        before it are written. Raises `JournalError` where the batch's videos go to another store than these.
        """
        await self._settle_place()
        last = await self._journal.last_row()
        async with contextlib.aclosing(ahead(planned_items(requests, AT_ONCE))) as pieces:
            async for planned in pieces:
                records = await self._journal.plan(planned)
                rows = tuple(record.seq for record in records if _wants_work(record.state))
                yield LoadedRows(len(records), sum(record.seq > last for record in records), rows)

    async def _settle_place(self) -> None:
        url = self._destination.url
        await Outlet(self.directory, url).settle(self._journal)
        if url is None:
            directory = os.path.abspath(self.directory)  # noqa: ASYNC240 - asks the disk for nothing
            await self._journal.set_meta(DIRECTORY, directory)

    async def place(self) -> str | None:
        """Where the videos go, as the latest list was loaded for: a URL or an absolute path. None for none yet."""
        return await self._journal.get_meta(PLACE) or await self._journal.get_meta(DIRECTORY)

    async def allow(self, *, budget: float | None = None, limit: int | None = None) -> Terms | None:
        """Set what all who work on the batch may spend together; the terms from now on, None where there are none.

        `budget` caps the credits of the whole batch; None leaves it as it is, and infinity lifts it. `limit` caps the
        submissions from now on; None lifts that. A batch that has reached either goes on.
        """
        return await self._journal.allow(budget=budget, limit=limit)

    async def unsettled(self) -> tuple[int, ...]:
        """The rows that want work, whoever has them in hand."""
        states = {state for state in ItemState if _wants_work(state)}
        return tuple(sorted([record.seq async for record in self._journal.iter_items(states)]))

    async def unknown(self) -> AsyncIterator[ItemStatus]:
        """The items whose submission's reply was lost."""
        async for record in self._journal.iter_items(states_of(OutcomeState.UNKNOWN)):
            if record.state is ItemState.UNKNOWN:
                yield item_status(record)

    async def found(self, number: int, task_id: str) -> ItemStatus:
        """The task of an unknown item was found by hand; somebody is to follow it. Raises `JournalError`."""
        record = await self._unknown(number)
        return item_status(await self._journal.record(record, ItemEvent.RESOLVED, task_id=task_id))

    async def drop(self, number: int) -> ItemStatus:
        """An unknown item is looked for no longer; it stays unknown, since it may be paid. Raises `JournalError`."""
        record = await self._unknown(number)
        changes = {"error_code": "dropped", "error_message": "its owner looks for it no longer"}
        return item_status(await self._journal.record(record, ItemEvent.NOTED, **changes))

    async def _unknown(self, number: int) -> str:
        record = await self._journal.row(number)
        if record is None or record.state is not ItemState.UNKNOWN:
            stands = "is not there" if record is None else f"is {record.state}"
            raise JournalError(f"item {number} {stands}, so there is nothing to resolve")
        return record.key


def _wants_work(state: ItemState) -> bool:
    """Failed ones are for workers that may ask for further tasks; the others leave them as they are."""
    return state not in SETTLED_STATES or state in (ItemState.REJECTED, ItemState.FAILED)
