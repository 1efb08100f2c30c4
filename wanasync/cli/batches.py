"""Which batch a command line means: one that a directory holds, or one that workers share in a database."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from wanasync import ConfigError, Destination

if TYPE_CHECKING:
    from wanasync import BatchHistory, PostgresJournal

__all__ = ["BatchPlace", "Target", "find_batch"]

PATIENCE = 5.0
"""Seconds that a database is waited for that is only to be looked at."""


@frozen
class BatchPlace:
    """A batch to be looked at. `directory` is where its videos are here; None for where the batch says."""

    directory: Path | None
    journal: PostgresJournal | None = None

    @property
    def shared(self) -> str | None:
        """Its name, where workers share it."""
        return None if self.journal is None else self.journal.batch

    def history(self) -> BatchHistory:
        from wanasync import BatchHistory

        return BatchHistory(self.directory, journal=self.journal)


@frozen
class Target:
    """A batch as a command line names it; see `find_batch`."""

    name: str
    database: str | None = field(default=None, repr=False)
    to: Path | None = None

    async def find(self) -> BatchPlace:
        """Raises `ConfigError` where the database has no such batch; of a directory its journal says what is wrong."""
        found = await find_batch(self.name, self.database, self.to)
        if found is None and self.database is not None:
            raise ConfigError(f"there is no batch {self.name!r} in the database", "batch")
        return found or BatchPlace(Destination.of(self.name).directory)


async def find_batch(target: str, database: str | None, to: Path | None = None) -> BatchPlace | None:
    """The batch of a directory, or with a database (given, or WAN_DATABASE_URL) the one of that name in it; or None.

    One that workers share is called as its directory, where it was given no name. `to` is where its videos are here.
    """
    from wanasync import PostgresJournal

    directory = Destination.of(target).directory
    if database is None and (directory / ".wanasync").is_dir():
        return BatchPlace(directory)
    dsn = database or os.environ.get("WAN_DATABASE_URL", "").strip()
    names = [target, os.path.abspath(target)] if dsn else []  # noqa: ASYNC240 - asks the disk for nothing
    for name in names:
        journal = PostgresJournal(dsn, name, patience=PATIENCE)
        if await journal.is_there():
            return BatchPlace(to, journal)
    return BatchPlace(directory) if database is None and directory.is_dir() else None
