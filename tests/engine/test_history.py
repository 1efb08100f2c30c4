from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.emulated import emulated
from wanasync import BatchHistory, JournalError, OutcomeState
from wanasync.emulator import FixedWindow, Trouble
from wanasync.testing import virtual_time

CATS = [f"cat {number}" for number in range(10)]


@virtual_time
async def test_a_finished_batch_is_told_from_its_journal(tmp_path: Path) -> None:
    trouble = Trouble.script(task=["failed"], submit=["ok", "http_400", "lost_reply"])
    async with emulated(trouble=trouble, task_list=False) as (emu, wan):
        async with wan.batch(CATS, tmp_path) as batch:
            told = {outcome.id: outcome async for outcome in batch}
        async with BatchHistory(tmp_path) as history:
            status = await history.status()
            again = {outcome.id: outcome async for outcome in history.outcomes()}
            only = [outcome async for outcome in history.outcomes([OutcomeState.UNKNOWN])]
        assert (status.items, status.saved, status.failed, status.rejected, status.unknown) == (10, 7, 1, 1, 1)
        assert status.running is None
        assert status.credits_used == emu.ledger.credits_used - 5.0
        assert {key: outcome.state for key, outcome in again.items()} == {k: o.state for k, o in told.items()}
        assert {key: outcome.path for key, outcome in again.items()} == {k: o.path for k, o in told.items()}
        assert [outcome.state for outcome in only] == [OutcomeState.UNKNOWN]


@virtual_time
async def test_a_running_batch_can_be_read(tmp_path: Path) -> None:
    async with emulated(limiter=FixedWindow(3, per=600)) as (_, wan), wan.batch(CATS, tmp_path) as batch:
        await anext(batch)
        async with BatchHistory(tmp_path) as history:
            status = await history.status()
        assert status.running is not None
        assert "process" in status.running
        assert status.saved >= 1
        assert status.planned + status.submitting == 7
        assert status.saved + status.following + status.saving == 3


async def test_a_directory_without_a_journal_is_told_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(JournalError):
        async with BatchHistory(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []
