"""The main job, whole: a list of prompts against a nasty provider becomes a directory of whole videos."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from tests.helpers.emulated import emulated
from tests.helpers.playable import frames
from wanasync import OutcomeState
from wanasync.emulator import AllOf, ConcurrentTasks, Emulator, FixedWindow, TokenBucket, Trouble
from wanasync.testing import virtual_time

NASTY = Trouble(
    cut_downloads=(0.2, 700),
    html_502_polls=0.05,
    reset_polls=0.05,
    throttled_polls=0.02,
    late_results_tasks=(0.1, 15),
    object_results_tasks=0.1,
    odd_status_tasks=(0.1, "SUBMITTED_TO_UPSTREAM"),
    falling_progress_tasks=0.1,
    no_range_downloads=0.1,
    no_length_downloads=0.1,
    redirect_downloads=0.1,
    html_200_downloads=0.03,
    empty_200_polls=0.02,
)


async def run(tmp_path: Path, count: int, **options: object) -> Emulator:
    prompts = [f"A cat playing piano, take {number}" for number in range(count)]
    async with emulated(**options) as (emu, wan):  # type: ignore[arg-type]
        async with wan.batch(prompts, tmp_path) as batch:
            told = [outcome async for outcome in batch]
        assert Counter(outcome.state for outcome in told) == {OutcomeState.SAVED: count}
        assert len(emu.ledger.entries) == count
        assert emu.ledger.paid_twice() == {}
        assert emu.ledger.key_leaks == 0
        for outcome in told:
            assert outcome.video is not None
            content = outcome.video.path.read_bytes()
            assert hashlib.sha256(content).hexdigest() == outcome.video.sha256
        left = [path for path in tmp_path.rglob("*.part*") if path.is_file()]
        assert left == []
        return emu


@virtual_time
async def test_two_hundred_prompts_against_a_nasty_provider(tmp_path: Path) -> None:
    """A fifth of the downloads cut, polls failing, bursts refused, results that come late: 200 whole videos."""
    emu = await run(tmp_path, 200, trouble=NASTY, limiter=FixedWindow(60, per=60))
    assert emu.ledger.refused["submit"] > 0
    assert all(frames(video) > 0 for video in tmp_path.glob("*.mp4"))


@virtual_time
async def test_limits_of_two_kinds_at_once(tmp_path: Path) -> None:
    limiter = AllOf(TokenBucket(1.0, burst=10), ConcurrentTasks(20))
    emu = await run(tmp_path, 100, limiter=limiter, hint="header")
    assert emu.ledger.refused["submit"] < 100


@virtual_time
async def test_newer_hosts_with_string_codes_and_without_hints(tmp_path: Path) -> None:
    await run(tmp_path, 60, errors="string", hint="none", limiter=FixedWindow(20, per=60), batch_query=False)
