"""Where a batch's videos end up: in its directory, or from there in an object store."""

from __future__ import annotations

import asyncio
from pathlib import Path

from attrs import define, evolve, field

from wanasync.edges.journal.contract import BatchJournal
from wanasync.edges.objects import Inventory, Shelf, Slot
from wanasync.engine.reading import missing_files
from wanasync.errors import JournalError, RequestValidationError
from wanasync.models import Outcome
from wanasync.rules.records import ItemRecord

__all__ = ["PLACE", "Outlet"]

PLACE = "objects"
"""Under which name the journal keeps the URL of the place its videos go to."""


@define(eq=False)
class Outlet:
    """`url` is that of a place in an object store; None where the videos stay in `directory`."""

    directory: Path
    url: str | None = None
    _shelf: Shelf | None = field(default=None, init=False)
    _inventory: Inventory | None = field(default=None, init=False)

    def prepare(self) -> None:
        """See that there is what the place takes on this machine, before anything is made. Raises `ConfigError`."""
        if self.url is not None:
            self._shelf = Shelf.open(self.url)

    async def open(self, journal: BatchJournal) -> None:
        """See that the place can be had, and what it holds; after `prepare`.

        Raises `ConfigError`, and `JournalError` for another's.
        """
        before = await journal.get_meta(PLACE) or None
        rows = sum((await journal.counts()).values())
        if before != self.url and (before is not None or rows):
            where = before or "this directory"
            raise JournalError(
                f"the videos of this batch go to {where}, not to {self.url or 'it'}", str(self.directory)
            )
        if self._shelf is None:
            return
        self._inventory = await self._shelf.inventory()
        if before is None:
            await journal.set_meta(PLACE, self._shelf.url)

    def slot(self, record: ItemRecord) -> Slot | None:
        """Where the item's video goes on to."""
        return None if self._shelf is None else self._shelf.slot(record.file)

    async def missing(self, saved: list[ItemRecord]) -> set[str]:
        """Keys of saved items whose video is gone or has another size than was saved."""
        if not saved:
            return set()
        if self._shelf is None:
            return await asyncio.to_thread(missing_files, self.directory, saved)
        held = self._inventory
        return {r.key for r in saved if held is not None and not held.has_whole(r.file, r.bytes)}

    def objection(self, record: ItemRecord) -> RequestValidationError | None:
        """What stands in the way of an item that is not paid for yet."""
        if self._inventory is None or not self._inventory.has(record.file):
            return None
        reason = f"is there already in {self.url} and is not this batch's; move it away, or take another prefix"
        return RequestValidationError("file", record.file, reason)

    def located(self, told: Outcome) -> Outcome:
        """An outcome from the journal, which knows names only."""
        if self.url is None or told.video is None or told.video.url is not None:
            return told
        name = told.video.path.relative_to(self.directory).as_posix()
        return evolve(told, video=evolve(told.video, url=f"{self.url}/{name}"))
