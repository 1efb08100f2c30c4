"""The fixtures at work in this very suite: faults in a test's words, and events to wait for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.helpers.emulated import emulated
from wanasync import DownloadError, SubmissionUnknownError, TaskFailedError, TaskTimeoutError
from wanasync.emulator import Emulator
from wanasync.events import (
    GatePaused,
    LinkRenewed,
    PollFailed,
    SaveStarted,
    SubmissionAccepted,
    SubmissionRefused,
    SubmissionStarted,
    VideoSaved,
)
from wanasync.testing import EventRecorder, Faults, virtual_time


@virtual_time
async def test_submissions_that_fail_and_then_pass() -> None:
    async with emulated() as (emu, wan):
        faults = Faults(emu)
        faults.throttle_submission(30, times=2)
        await wan.submit("throttled")
        assert emu.ledger.refused["submit"] == 2
        faults.lose_submission_reply()
        with pytest.raises(SubmissionUnknownError):
            await wan.submit("lost")
        faults.fail_submission(500)
        with pytest.raises(SubmissionUnknownError):
            await wan.submit("failed")
        await wan.submit("well")
        assert [entry.request["prompt"] for entry in emu.ledger.entries] == ["throttled", "lost", "well"]


@virtual_time
async def test_tasks_polls_and_downloads(tmp_path: Path) -> None:
    heard = EventRecorder()
    async with emulated(session={"on_event": heard, "download_attempts": 3}) as (emu, wan):
        faults = Faults(emu)
        faults.fail_task("moderation_failed")
        with pytest.raises(TaskFailedError, match="moderation_failed"):
            await wan.generate("refused", to=tmp_path / "a.mp4")
        faults.never_finish_task()
        with pytest.raises(TaskTimeoutError):
            await wan.generate("stuck", to=tmp_path / "b.mp4", timeout=600, count_queue=True)
        faults.fail_poll(503, times=2)
        faults.expire_link()
        faults.cut_download(200)
        await wan.generate("well", to=tmp_path / "c.mp4")
        heard.assert_order(SubmissionAccepted, PollFailed, PollFailed, SaveStarted, LinkRenewed, VideoSaved)
        faults.fail_download(times=3)
        with pytest.raises(DownloadError):
            await wan.generate("no video", to=tmp_path / "d.mp4")


@virtual_time
async def test_scripts_come_one_after_the_other_and_before_rates() -> None:
    async with Emulator() as emu:
        faults = Faults(emu)
        faults.script("submit", "ok", "reset")
        faults.script("submit", "http_500=")
        names = [fault and fault.name for fault in (emu._dice.draw("submit") for _ in range(4))]
        assert names == [None, "reset", "http_500", None]
        with pytest.raises(ValueError, match="no fault 'rest'"):
            faults.script("submit", "rest")


@virtual_time
async def test_a_recorder_waits_for_what_is_to_come() -> None:
    heard = EventRecorder()
    async with emulated(session={"on_event": heard}) as (_, wan):
        first = asyncio.create_task(wan.submit("one"))
        started = await heard.wait_for(SubmissionStarted)
        assert started.request.prompt == "one"
        await first
        assert await heard.wait_for(SubmissionStarted) is started
        later = asyncio.create_task(heard.wait_for(SubmissionAccepted, count=2))
        task = await wan.submit("two")
        assert (await later).snapshot.id == task.id
        found = await heard.wait_for(SubmissionStarted, where=lambda event: event.request.prompt == "two")
        assert found in heard
        with pytest.raises(AssertionError, match=r"no GatePaused .0 of 1. within 60 s; heard: SessionOpened Sub"):
            await heard.wait_for(GatePaused, timeout=60)


def test_what_a_recorder_says_of_what_it_did_not_hear() -> None:
    heard = EventRecorder()
    with pytest.raises(AssertionError, match="no GatePaused; heard: nothing"):
        heard.assert_order(GatePaused)
    heard(GatePaused(at=0.0, seconds=1.0, why="so"))
    heard.assert_order(GatePaused)
    heard.assert_none(SubmissionRefused)
    with pytest.raises(AssertionError, match="no GatePaused after GatePaused"):
        heard.assert_order(GatePaused, GatePaused)
    with pytest.raises(AssertionError, match="heard GatePaused"):
        heard.assert_none(SubmissionRefused, GatePaused)
    assert len(heard) == 1
    heard.clear()
    assert heard.heard == []
