"""A batch that takes a day against a slow account and a slow host: the provider is down for an hour, and links die."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from pathlib import Path

from attrs import frozen

from tests.helpers.emulated import session_on
from wanasync import LinkExpiredError, Outcome, OutcomeState
from wanasync.emulator import Emulator, FixedWindow, Trouble
from wanasync.testing import START, now, virtual_time

HOUR = 3600.0
CATS = [f"cat {number}" for number in range(50)]
EVERY_DAY = Trouble(cut_downloads=0.2, html_502_polls=0.05, reset_polls=0.05, late_results_tasks=0.1)
DOWN = Trouble(http_503_submits=1.0, reset_polls=1.0, reset_lists=1.0, reset_downloads=1.0)


@frozen
class Links:
    """How long links live, and whether a query gives a fresh one."""

    live: float
    fresh: bool


async def day(links: Links, directory: Path) -> tuple[list[Outcome], Emulator, int]:
    """The outcomes of a batch whose videos come in bursts and are fetched one by one, so that they wait; and how many
    links were renewed."""
    async with (
        Emulator(
            epoch=START,
            limiter=FixedWindow(10, per=5 * HOUR),
            trouble=EVERY_DAY,
            link_lifetime=links.live,
            fresh_links=links.fresh,
            clip_bytes=30_000,
            bandwidth=1000.0,
        ) as emu,
        session_on(emu, max_downloads=1, link_lifetime=links.live) as wan,
    ):
        async with wan.batch(CATS, directory) as batch:
            outage = asyncio.ensure_future(go_down_at_noon(emu))
            told = [outcome async for outcome in batch]
            await outage
        assert now() - START > 20 * HOUR
        assert len(emu.ledger.entries) == len(CATS)
        assert emu.ledger.paid_twice() == {}
        for outcome in told:
            if outcome.video is not None:
                content = outcome.video.path.read_bytes()
                assert hashlib.sha256(content).hexdigest() == emu.sha256(outcome.video.task_id)
        return told, emu, wan.statistics().downloads.links_renewed


async def go_down_at_noon(emu: Emulator) -> None:
    """While one burst of videos is on its way."""
    await asyncio.sleep(10 * HOUR + 180.0)
    emu.trouble = DOWN
    await asyncio.sleep(HOUR)
    emu.trouble = EVERY_DAY


def states(told: list[Outcome]) -> Counter[OutcomeState]:
    return Counter(outcome.state for outcome in told)


@virtual_time
async def test_every_video_whose_link_can_be_renewed_is_saved(tmp_path: Path) -> None:
    told, _, renewed = await day(Links(100.0, fresh=True), tmp_path)
    assert states(told) == {OutcomeState.SAVED: len(CATS)}
    assert renewed >= 5


@virtual_time
async def test_what_can_not_be_had_any_more_is_told_with_its_task(tmp_path: Path) -> None:
    told, emu, _ = await day(Links(100.0, fresh=False), tmp_path)
    counted = states(told)
    assert set(counted) == {OutcomeState.SAVED, OutcomeState.EXPIRED}
    assert counted[OutcomeState.SAVED] > 10
    lost = [outcome.error for outcome in told if outcome.state is OutcomeState.EXPIRED]
    made = {entry.task_id for entry in emu.ledger.entries}
    assert all(isinstance(error, LinkExpiredError) and error.task_id in made for error in lost)
