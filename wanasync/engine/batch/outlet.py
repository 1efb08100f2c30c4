"""Where a batch's videos end up: in its directory, or from there in an object store."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from attrs import define, evolve, field

from wanasync.edges.journal.contract import BatchJournal
from wanasync.edges.objects import Inventory, Shelf, Slot, UploadError
from wanasync.engine.reading import missing_files
from wanasync.errors import DownloadError, JournalError, RequestValidationError
from wanasync.models import Outcome
from wanasync.rules.records import ItemRecord

__all__ = ["DIRECTORY", "PLACE", "Outlet", "SharedOutlet"]

logger: logging.Logger = logging.getLogger("wanasync.batch")

PLACE = "objects"
"""Under which name the journal keeps the URL of the place its videos go to."""
DIRECTORY = "directory"
"""Under which name a journal that is not in the videos' directory keeps where that is."""
AT_ONCE = 16
"""Objects that are asked after at once."""


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
        before = await self._check(journal)
        if self._shelf is None:
            return
        await self._look_around(self._shelf)
        if before is None:
            await journal.set_meta(PLACE, self._shelf.url)

    async def settle(self, journal: BatchJournal) -> None:
        """Write down where the videos go, for those who bring them there. Raises `JournalError` for another place."""
        if await self._check(journal) is None and self.url is not None:
            await journal.set_meta(PLACE, self.url)

    async def _check(self, journal: BatchJournal) -> str | None:
        before = await journal.get_meta(PLACE) or None
        has_items = any((await journal.counts()).values())
        if before != self.url and (before is not None or has_items):
            where = before or "this directory"
            raise JournalError(
                f"the videos of this batch go to {where}, not to {self.url or 'it'}", str(self.directory)
            )
        return before

    async def _look_around(self, shelf: Shelf) -> None:
        self._inventory = await shelf.inventory()

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

    async def objections(self, unpaid: list[ItemRecord]) -> dict[str, RequestValidationError]:
        """What stands in the way of items that are not paid for yet, by key."""
        held = self._inventory
        return {} if held is None else {r.key: self._objection(r) for r in unpaid if held.has(r.file)}

    def _objection(self, record: ItemRecord) -> RequestValidationError:
        reason = f"is there already in {self.url} and is not this batch's; move it away, or take another prefix"
        return RequestValidationError("file", record.file, reason)

    def located(self, told: Outcome) -> Outcome:
        """An outcome from the journal, which knows names only."""
        if self.url is None or told.video is None or told.video.url is not None:
            return told
        name = told.video.path.relative_to(self.directory).as_posix()
        return evolve(told, video=evolve(told.video, url=f"{self.url}/{name}"))


@define(eq=False)
class SharedOutlet(Outlet):
    """For one of several processes: no list that is read at the beginning has what the others bring there later."""

    async def _look_around(self, shelf: Shelf) -> None:
        """Each name is asked after when its turn comes."""

    async def missing(self, saved: list[ItemRecord]) -> set[str]:
        if self._shelf is None:
            return await super().missing(saved)
        sizes = await self._sizes(self._shelf, saved)
        return {record.key for record in saved if sizes.get(record.key, record.bytes) != record.bytes}

    async def objections(self, unpaid: list[ItemRecord]) -> dict[str, RequestValidationError]:
        if self._shelf is None:
            return {}
        sizes = await self._sizes(self._shelf, unpaid)
        return {record.key: self._objection(record) for record in unpaid if sizes.get(record.key) is not None}

    async def _sizes(self, shelf: Shelf, records: list[ItemRecord]) -> dict[str, int | None]:
        """Bytes of the objects, None where there is none; without those that may not be asked after.

        Raises `UploadError` where the store is out of reach: better known before anything is paid.
        """
        found: dict[str, int | None] = {}
        turn = asyncio.Semaphore(AT_ONCE)

        async def ask(record: ItemRecord) -> None:
            async with turn:
                try:
                    found[record.key] = await shelf.slot(record.file).size()
                except UploadError:
                    raise
                except DownloadError as error:
                    logger.debug("whether %s is there is not known: %s", record.file, error)

        await asyncio.gather(*map(ask, records))
        return found
