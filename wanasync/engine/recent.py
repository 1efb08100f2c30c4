"""The provider's list of recent tasks, and what it tells of submissions whose reply was lost."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence

from wanasync.edges.journal.contract import BatchJournal
from wanasync.errors import APIError, NotFoundError, WanError
from wanasync.models import TaskSnapshot
from wanasync.rules.records import ItemRecord
from wanasync.rules.replies import TaskPage
from wanasync.rules.resolution import Listed, Lost, Resolution, reach, resolve

__all__ = ["RecentTasks"]

logger: logging.Logger = logging.getLogger("wanasync.recent")

MOST = 5000
"""Tasks read of a list at most: what is older is older than a day at any pace seen."""


class RecentTasks:
    """The account's recent tasks, newest first. One per session.

    `read_page` reads a page, from 1. `is_offered` turns false once the host has answered that it has no such list.
    """

    def __init__(self, read_page: Callable[[int, str | None], Awaitable[TaskPage]]) -> None:
        self._read_page = read_page
        self.is_offered: bool = True

    async def all(self, status: str | None = None) -> AsyncIterator[TaskSnapshot]:
        """Each task once, though pages shift while they are read. Raises `APIError`, `APIConnectionError`."""
        seen: set[str] = set()
        page = 1
        while len(seen) < MOST:
            found = await self._page(page, status)
            fresh = [task for task in found.tasks if task.id not in seen]
            for task in fresh:
                yield task
            seen.update(task.id for task in fresh)
            if not fresh or len(seen) >= found.total:
                return
            page += 1

    async def _page(self, page: int, status: str | None) -> TaskPage:
        try:
            return await self._read_page(page, status)
        except APIError as error:
            if isinstance(error, NotFoundError) or error.status in (405, 501):
                self.is_offered = False
            raise

    async def find(
        self,
        lost: Sequence[ItemRecord],
        journal: BatchJournal,
        others: Collection[str],
        rivals: Iterable[Lost],
        longest: float,
    ) -> Resolution:
        """What the list tells of the items in `lost`; nothing where it can't be had.

        `others` are tasks of this process that are not in `journal`, `rivals` its lost submissions by idempotency key,
        of which a task may be just as well; `longest` is how many seconds a submission can have been on the wire.
        """
        keys = {record.idempotency_key for record in lost}
        wanted = [_lost(record, longest) for record in lost]
        wanted += [rival for rival in rivals if rival.key not in keys]
        try:
            tasks, since = await self._back_to(reach(wanted[: len(lost)]))
        except WanError as error:
            logger.info("the list of recent tasks could not be had: %s", error)
            return Resolution()
        ours = await journal.known_tasks([task.id for task in tasks])
        listed = [
            Listed(task.id, task.model, task.created, task.id in ours or task.id in others, ours.get(task.id))
            for task in tasks
            if task.created is not None
        ]
        return resolve(wanted, listed, since=since)

    async def _back_to(self, earliest: float) -> tuple[list[TaskSnapshot], float | None]:
        """The tasks created since `earliest`, and how far back the reading went: None for the list's end."""
        tasks: list[TaskSnapshot] = []
        async for task in self.all():
            tasks.append(task)
            if task.created is not None and task.created < earliest:
                return tasks, task.created
        return tasks, tasks[-1].created if len(tasks) >= MOST else None


def _lost(record: ItemRecord, longest: float) -> Lost:
    sent = record.submitted_at or 0.0
    # After a crash the row was last changed when the next run found it.
    gone = min(record.updated_at or sent, sent + longest)
    return Lost(record.key, record.request.model, sent, max(gone, sent))
