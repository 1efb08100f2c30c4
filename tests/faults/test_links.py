"""Links that die: counted from the earliest moment they can have been made, and warned of in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from tests.helpers.emulated import emulated, session_on
from wanasync import Event, OutcomeState
from wanasync.edges.journal import Journal
from wanasync.emulator import Emulator, Trouble
from wanasync.events import LinksExpiring
from wanasync.rules.lifecycle import ItemState
from wanasync.testing import START, now, virtual_time

HOUR = 3600.0
CATS = [f"cat {number}" for number in range(6)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HOUR):
        while not condition():  # noqa: ASYNC110 - a batch tells its progress to whoever looks
            await asyncio.sleep(1.0)


@virtual_time
async def test_links_that_will_die_soon_are_warned_of_once_a_mark(tmp_path: Path) -> None:
    seen: list[Event] = []
    # Each video stalls for an hour before it comes, one after another.
    options = {"on_event": seen.append, "max_downloads": 1, "link_lifetime": 6.5 * HOUR, "read_timeout": 4000.0}
    stalls = Trouble.script(download=["stall=100", "ok"] * len(CATS))
    async with emulated(session=options, link_lifetime=6.5 * HOUR, trouble=stalls) as (_, wan):
        batch = wan.batch(CATS, tmp_path)
        async with batch:
            await batch.wait()
    warnings = [event for event in seen if isinstance(event, LinksExpiring)]
    assert [event.left for event in warnings] == [6 * HOUR, HOUR]
    assert len(CATS) >= warnings[0].count > warnings[1].count >= 1
    first, last = warnings
    assert abs(first.first - first.at - 6 * HOUR) < 600.0
    assert abs(last.first - last.at - HOUR) < 600.0


@virtual_time
async def test_videos_saved_in_time_are_not_warned_of(tmp_path: Path) -> None:
    seen: list[Event] = []
    async with emulated(session={"on_event": seen.append, "link_lifetime": HOUR}, link_lifetime=HOUR) as (_, wan):
        batch = wan.batch(CATS, tmp_path)
        async with batch:
            assert (await batch.wait()).saved == len(CATS)
    assert not [event for event in seen if isinstance(event, LinksExpiring)]


@virtual_time
async def test_a_link_counts_from_the_submission_however_late_it_is_seen(tmp_path: Path) -> None:
    """A batch left alone for 20 hours: its links, seen only now, have four hours left and not twenty-four."""
    async with Emulator(epoch=START, durations=60.0, bandwidth=10.0, clip_bytes=60_000) as emu:
        async with session_on(emu) as wan, wan.batch(CATS, tmp_path) as batch:
            await until(lambda: batch.progress().following == len(CATS))
        emu.advance(20 * HOUR)
        async with session_on(emu) as wan, wan.batch(CATS, tmp_path) as batch:
            await until(lambda: batch.progress().saving == len(CATS))
        async with await Journal.open(tmp_path, now=now, read_only=True) as journal:
            records = [record async for record in journal.iter_items({ItemState.READY})]
    assert len(records) == len(CATS)
    for record in records:
        assert record.submitted_at is not None
        assert record.link_deadline is not None
        assert record.link_deadline <= record.submitted_at + 24 * HOUR


@virtual_time
async def test_the_first_to_die_is_saved_first(tmp_path: Path) -> None:
    """Tasks of an earlier run are saved before the new ones, wherever they stand in the list."""
    async with Emulator(epoch=START, durations=60.0) as emu:
        async with session_on(emu) as wan, wan.batch(CATS[3:], tmp_path) as batch:
            await until(lambda: batch.progress().following == 3)
        emu.advance(5 * HOUR)
        async with session_on(emu, max_downloads=1) as wan, wan.batch(CATS, tmp_path) as batch:
            told = [outcome async for outcome in batch]
    assert [outcome.state for outcome in told] == [OutcomeState.SAVED] * 6
    assert {outcome.request.prompt for outcome in told[:3] if outcome.request} == set(CATS[3:])
