"""Where a batch's journal is kept: in its directory, or in a database that many processes share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from attrs import field, frozen

from wanasync.edges import journal
from wanasync.edges.journal.contract import BatchJournal, SharedJournal
from wanasync.errors import ConfigError

if TYPE_CHECKING:
    from wanasync.edges.postgres import Journal

__all__ = ["OpenJournal", "PostgresJournal", "opener"]


class OpenJournal(Protocol):
    """Opens the journal of a batch's directory; `now` gives unix seconds. Raises `JournalError`.

    With `read_only` nothing is made, changed or locked.
    """

    async def __call__(
        self, directory: Path, /, *, now: Callable[[], float], read_only: bool = False
    ) -> BatchJournal: ...


@frozen
class PostgresJournal:
    """Keeps the journal of a batch in PostgreSQL: `wan.batch(…, journal=PostgresJournal("postgresql://…"))`.

    `dsn` is what libpq takes, TLS included (`?sslmode=verify-full&sslrootcert=…`). `batch` names the batch among those
    in the database; without it, the absolute path of its directory does. One process at a time works on a batch; any
    may read it meanwhile. Needs the extra `wanasync[cluster]`; the connection must be a direct one, or one that a
    pooler gives for the whole session, since it holds the batch. `patience` is for how many seconds a database that
    is out of reach is waited for, with everything that is to be written kept meanwhile.
    """

    dsn: str = field(repr=False)
    batch: str | None = None
    patience: float = field(default=60.0, kw_only=True)

    async def __call__(self, directory: Path, /, *, now: Callable[[], float], read_only: bool = False) -> BatchJournal:
        """Open it. Raises `JournalError`, and `ConfigError` where the extra is missing."""
        return await self._open(directory, now=now, read_only=read_only)

    async def share(self, directory: Path, /, *, now: Callable[[], float]) -> SharedJournal:
        """Open it beside others who work on the same batch. Raises as a call does."""
        return await self._open(directory, now=now, shared=True)

    async def _open(self, directory: Path, *, now: Callable[[], float], **how: bool) -> Journal:
        with _needs_extra():
            from wanasync.edges import postgres
        name = self.batch or os.path.abspath(directory)  # noqa: ASYNC240 - asks the disk for nothing
        return await postgres.Journal.open(self.dsn, name, now=now, directory=directory, patience=self.patience, **how)

    async def is_there(self) -> bool:
        """Whether the database has the batch that this names. Raises as a call does."""
        with _needs_extra():
            from wanasync.edges import postgres
        async with postgres.Database(self.dsn, patience=self.patience) as database:
            return await postgres.is_known(database, self.batch or "")

    async def under_way(self, batches: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Of batches of this database, the rows that were submitted once and have not come to an end.

        Those are what is on the wire, at the provider or to be saved, and what was turned away and is to be sent again;
        neither what was never sent nor what is unknown. Batches without any are left out. Raises as a call does.
        """
        with _needs_extra():
            from wanasync.edges import postgres
        async with postgres.Database(self.dsn, patience=self.patience) as database:
            return await postgres.under_way(database, batches)

    async def migrate(self, *, role: str | None = None) -> int:
        """Make the tables, or bring them up to date; the version they are at then.

        Opening does the same where the DSN's user may; this is for those who keep that right to themselves, and grant
        `role` what running batches takes. Raises as opening does.
        """
        with _needs_extra():
            from wanasync.edges import postgres
        async with postgres.Database(self.dsn) as database:
            return await postgres.migrate(database, role=role)


@contextlib.contextmanager
def _needs_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        words = f"a journal in PostgreSQL needs more libraries ({error}): pip install 'wanasync[cluster]'"
        raise ConfigError(words, "journal") from error


def opener(where: str | OpenJournal | None, url: str | None = None) -> OpenJournal:
    """What opens a journal there: in the batch's directory for None, in PostgreSQL for an address.

    `url` is where the batch's videos go, if not to its directory: the same for every machine, it names the batch.
    """
    if where is None:
        return journal.Journal.open
    return PostgresJournal(where, url) if isinstance(where, str) else where
