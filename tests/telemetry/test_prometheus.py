"""Metrics as a scrape has them."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.helpers.emulated import emulated, session_on
from wanasync import SubmissionUnknownError
from wanasync.emulator import FixedWindow, Trouble
from wanasync.telemetry import Prometheus
from wanasync.testing import virtual_time


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


@virtual_time
async def test_a_day_in_figures(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    trouble = Trouble.script(submit=["ok", "lost_reply"], query=["http_500"], task=["ok", "ok", "failed"])
    options = {"on_event": Prometheus(registry)}
    async with emulated(trouble=trouble, task_list=False, session=options) as (emu, wan):
        video = await wan.generate("A cat", to=tmp_path / "cat.mp4")
        with pytest.raises(SubmissionUnknownError):
            await wan.submit("lost")
        async with wan.batch(["failing", "a dog"], tmp_path / "batch") as batch:
            assert len([outcome async for outcome in batch]) == 2
        assert value(registry, "wanasync_sessions") == 1.0
        assert value(registry, "wanasync_polls_total") == wan.statistics().poller.polls
        polls = wan.statistics().poller.polls
    assert value(registry, "wanasync_submissions_total", outcome="accepted") == 3.0
    assert value(registry, "wanasync_submissions_total", outcome="unknown") == 1.0
    assert value(registry, "wanasync_submission_duration_seconds_count", outcome="accepted") == 3.0
    assert value(registry, "wanasync_tasks_finished_total", status="completed") == 2.0
    assert value(registry, "wanasync_tasks_finished_total", status="failed") == 1.0
    assert value(registry, "wanasync_videos_saved_total") == 2.0
    assert value(registry, "wanasync_save_bytes_total") == 2.0 * video.bytes
    assert value(registry, "wanasync_save_duration_seconds_count") == 2.0
    assert value(registry, "wanasync_generate_duration_seconds_count") == 1.0
    waited = value(registry, "wanasync_wait_duration_seconds_sum", status="completed")
    assert waited is not None
    assert 2 * 60 <= waited <= 2 * 200
    assert value(registry, "wanasync_items_finished_total", state="failed") == 1.0
    assert value(registry, "wanasync_polls_failed_total") == 1.0
    followed = [entry for entry in emu.ledger.entries if entry.request["prompt"] != "lost"]
    assert value(registry, "wanasync_credits_used_total") == sum(entry.credits_used for entry in followed) > 0
    prices = [entry.credits_reserved + entry.credits_used + entry.credits_released for entry in followed]
    assert value(registry, "wanasync_credits_reserved_total") == sum(prices)
    assert value(registry, "wanasync_sessions") == 0.0
    assert value(registry, "wanasync_polls_total") == polls


@virtual_time
async def test_sessions_that_share_a_registry_count_together_and_a_gate_once() -> None:
    registry = CollectorRegistry()
    async with (
        emulated(limiter=FixedWindow(1, per=600), session={"on_event": Prometheus(registry)}) as (emu, first),
        session_on(emu, on_event=[Prometheus(registry)]) as second,
    ):
        await first.submit("one")
        waiting = [asyncio.create_task(wan.submit("two")) for wan in (first, second)]
        await asyncio.sleep(30)
        assert value(registry, "wanasync_sessions") == 2.0
        assert value(registry, "wanasync_gate_waiting") == first.statistics().gate.waiting == 2
        assert value(registry, "wanasync_gate_paused_seconds") == pytest.approx(first.statistics().gate.paused_for)
        assert (value(registry, "wanasync_gate_pauses_total") or 0.0) >= 1.0
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


@virtual_time
async def test_a_scrape_comes_from_another_thread() -> None:
    registry = CollectorRegistry()
    async with emulated(session={"on_event": Prometheus(registry)}) as (_, wan):
        pages: list[bytes] = []
        scrape = threading.Thread(target=lambda: pages.append(generate_latest(registry)))
        scrape.start()
        scrape.join()
        assert b"wanasync_sessions 1.0" in pages[0]
        await (await wan.submit("A cat")).wait()
    assert b"# HELP wanasync_save_bytes_total Bytes of the videos saved" in generate_latest(registry)
