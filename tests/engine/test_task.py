from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.emulated import emulated
from wanasync import TaskStatus, TaskTimeoutError
from wanasync.emulator import Trouble
from wanasync.testing import now, virtual_time

QUEUED_FOR_600: dict[str, Any] = {"durations": 6000.0, "queue_time": 600.0}


@virtual_time
async def test_time_in_the_queue_does_not_count_against_the_timeout() -> None:
    async with emulated(**QUEUED_FOR_600) as (_, wan):
        task = await wan.submit("A cat")
        submitted_at = now()
        with pytest.raises(TaskTimeoutError) as caught:
            await task.wait(timeout=100)
        waited = now() - submitted_at
        # It began 600 s in, which a look at every quarter of the timeout finds.
        assert 700 <= waited <= 730
        assert caught.value.snapshot is not None


@virtual_time
async def test_time_in_the_queue_counts_where_that_is_asked_for() -> None:
    async with emulated(**QUEUED_FOR_600) as (_, wan):
        task = await wan.submit("A cat")
        submitted_at = now()
        with pytest.raises(TaskTimeoutError):
            await task.wait(timeout=100, count_queue=True)
        assert now() - submitted_at < 101


@virtual_time
async def test_a_task_that_never_leaves_the_queue_is_waited_for_as_long_as_the_caller_likes() -> None:
    async with emulated(durations=1e6, queue_time=1e5) as (_, wan):
        task = await wan.submit("A cat")
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(3000):
                await task.wait(timeout=60)
        assert not isinstance(caught.value, TaskTimeoutError)
        assert wan.statistics().poller.following == 0


@virtual_time
async def test_a_wait_that_begins_while_the_video_is_made_counts_from_then() -> None:
    async with emulated(durations=6000.0, queue_time=1.0) as (_, wan):
        task = await wan.submit("A cat")
        await asyncio.sleep(300)
        assert (await task.refresh()).status is TaskStatus.PROCESSING
        began = now()
        with pytest.raises(TaskTimeoutError):
            await task.wait(timeout=50)
        assert now() - began < 51


@virtual_time
async def test_a_task_known_by_its_id_alone_may_be_in_the_queue() -> None:
    async with emulated(**QUEUED_FOR_600) as (_, wan):
        task_id = (await wan.submit("A cat")).id
        submitted_at = now()
        with pytest.raises(TaskTimeoutError):
            await wan.attach(task_id).wait(timeout=100)
        assert 700 <= now() - submitted_at <= 730


@virtual_time
async def test_looks_that_fail_leave_the_time_running() -> None:
    """Whether it is in the queue can't be told then; the timeout holds."""
    async with emulated(**QUEUED_FOR_600, trouble=Trouble(html_502_polls=1.0)) as (_, wan):
        task = await wan.submit("A cat")
        submitted_at = now()
        with pytest.raises(TaskTimeoutError):
            await task.wait(timeout=100)
        assert now() - submitted_at < 101


@virtual_time
async def test_a_task_that_is_done_within_the_timeout_is_had_without_looking_into_the_queue() -> None:
    async with emulated(durations=60.0) as (_, wan):
        task = await wan.submit("A cat")
        assert (await task.wait(timeout=600)).links


@virtual_time
async def test_a_short_task_with_a_long_queue_is_had(tmp_path: Path) -> None:
    async with emulated(durations=3000.0, queue_time=300.0) as (emu, wan):
        video = await wan.generate("A cat", to=tmp_path / "cat.mp4", timeout=2900)
        assert video.path.exists()
        assert len(emu.ledger.entries) == 1


@virtual_time
async def test_generate_counts_the_queue_where_that_is_asked_for(tmp_path: Path) -> None:
    async with emulated(**QUEUED_FOR_600) as (_, wan):
        with pytest.raises(TaskTimeoutError):
            await wan.generate("A cat", to=tmp_path / "cat.mp4", timeout=100, count_queue=True)
        assert wan.statistics().poller.following == 0


@virtual_time
async def test_no_time_at_all_is_over_at_once() -> None:
    async with emulated() as (_, wan):
        task = await wan.submit("A cat")
        with pytest.raises(TaskTimeoutError):
            await task.wait(timeout=0)


@pytest.mark.parametrize("when", [0.0, 0.001, 24.9, 25.0, 25.01, 30.0, 624.0, 625.02])
def test_a_wait_cancelled_at_any_moment_leaves_nothing_behind(when: float) -> None:
    @virtual_time
    async def cancelled() -> None:
        async with emulated(**QUEUED_FOR_600) as (_, wan):
            task = await wan.submit("A cat")
            others = asyncio.all_tasks()
            waiting = asyncio.create_task(task.wait(timeout=100))
            await asyncio.sleep(when)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await waiting
            if when:  # else it was cancelled before it began
                assert task.id in caught.value.__notes__[0]
            assert wan.statistics().poller.following == 0
            await asyncio.sleep(0.1)
            left = {each.get_name() for each in asyncio.all_tasks() - others}
            assert not any("queue" in name for name in left)

    cancelled()
