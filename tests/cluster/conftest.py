from __future__ import annotations

import pytest

from tests.helpers.postgres import database, kept_database, postgres_server
from wanasync.cluster import set_up

__all__ = ["cluster", "database", "kept_database", "postgres_server"]


@pytest.fixture
async def cluster(database: str) -> str:
    """The address of a database in which all tables are."""
    await set_up(database)
    return database
