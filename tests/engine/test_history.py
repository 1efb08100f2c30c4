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


@virtual_time
async def test_items_are_told_one_by_one_and_by_their_number(tmp_path: Path) -> None:
    async with emulated(trouble=Trouble.script(task=["failed"])) as (_, wan):
        async with wan.batch(CATS, tmp_path) as batch:
            await batch.wait()
        async with BatchHistory(tmp_path) as history:
            items = [item async for item in history.items()]
            only = [item async for item in history.items([OutcomeState.FAILED])]
            assert await history.item(items[3].number) == items[3]
            assert await history.item(99) is None
            assert await history.item(2**70) is None
    assert [item.request.prompt for item in items if item.request] == CATS
    assert [item.state for item in items].count("saved") == 9
    assert [(item.state, item.credits) for item in only] == [("failed", 5.0)]
    assert only[0].error_message


@virtual_time
async def test_changes_are_told_from_mark_to_mark(tmp_path: Path) -> None:
    async with emulated(limiter=FixedWindow(3, per=600)) as (_, wan), wan.batch(CATS, tmp_path) as batch:
        await anext(batch)
        async with BatchHistory(tmp_path) as history:
            mark = await history.mark()
            known = {item.number: item async for item in history.items()}
            again = await history.changes(mark)
            assert again.items == ()
            assert again.mark == mark
            outcomes = [await anext(batch) for _ in range(5)]
            changes = await history.changes(mark)
            known |= {item.number: item for item in changes.items}
            assert {item.number: item async for item in history.items()} == known
            assert len(changes.items) < len(CATS)
            assert {outcome.id for outcome in outcomes} <= {item.id for item in changes.items}


@virtual_time
async def test_new_items_are_changes_too(tmp_path: Path) -> None:
    async with emulated(limiter=FixedWindow(1, per=6000)) as (_, wan):
        async with wan.batch(CATS[:1], tmp_path) as batch:
            await batch.wait()
        async with BatchHistory(tmp_path) as history:
            mark = await history.mark()
            async with wan.batch(CATS, tmp_path) as batch:
                await anext(batch)
                changes = await history.changes(mark)
    assert {item.number for item in changes.items} >= set(range(2, 11))


@pytest.mark.parametrize("mark", ["", "1", "x/1", "1.0/-1", f"0.0/{2**63}", "inf/1", "nan/1"])
@virtual_time
async def test_what_is_no_mark_is_told(tmp_path: Path, mark: str) -> None:
    async with emulated() as (_, wan), wan.batch([], tmp_path) as batch:
        await batch.wait()
    async with BatchHistory(tmp_path) as history:
        with pytest.raises(ValueError, match="is no mark"):
            await history.changes(mark)


@virtual_time
async def test_a_run_leaves_samples_of_its_pace(tmp_path: Path) -> None:
    async with emulated(limiter=FixedWindow(4, per=60)) as (_, wan):
        async with wan.batch(CATS, tmp_path) as batch:
            await batch.wait()
            reserved = batch.progress().credits_reserved
        async with BatchHistory(tmp_path) as history:
            samples = await history.pace()
            assert await history.pace(samples[-2].at) == samples[-1:]
        last = samples[-1]
        assert [sample.at for sample in samples] == sorted(sample.at for sample in samples)
        assert (last.accepted, last.saved, last.credits_reserved) == (10, 10, reserved)
        assert last.refused == wan.statistics().gate.refused > 0
        assert any(sample.paused_until and sample.paused_until > sample.at and sample.why for sample in samples)
        assert any(sample.following for sample in samples)
