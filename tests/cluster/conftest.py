from __future__ import annotations

import pytest

from tests.helpers.postgres import database, kept_database, postgres_server
from wanasync.cluster import set_up
from wanasync.engine.batch import lost

__all__ = ["cluster", "database", "kept_database", "postgres_server"]


@pytest.fixture(autouse=True)
def _look_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider's list is asked soon after a lost reply: workers run in real time, on an emulator with one clock."""
    monkeypatch.setattr(lost, "LOOK_UP_AFTER", 2.0)


@pytest.fixture
async def cluster(database: str) -> str:
    """The address of a database in which all tables are."""
    await set_up(database)
    return database
