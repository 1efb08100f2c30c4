from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import frozen

from tests.helpers.postgres import database, kept_database, postgres_server
from wanasync.edges.journal import Journal
from wanasync.edges.journal.contract import BatchJournal
from wanasync.engine.homes import OpenJournal, PostgresJournal

__all__ = ["database", "home", "kept_database", "postgres_server"]

NOW = 1_800_000_000.0
_batches = itertools.count(1)


@frozen
class Home:
    """Where the journal of one batch is kept; opened as often as a test likes."""

    name: str
    directory: Path
    opener: OpenJournal

    async def open(self, *, read_only: bool = False, now: Callable[[], float] = lambda: NOW) -> BatchJournal:
        return await self.opener(self.directory, now=now, read_only=read_only)


@pytest.fixture(params=["sqlite", "postgres"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    directory = tmp_path / "videos"
    if request.param == "sqlite":
        return Home("sqlite", directory, Journal.open)
    dsn = request.getfixturevalue("kept_database")
    return Home("postgres", directory, PostgresJournal(dsn, f"batch {next(_batches)}"))
