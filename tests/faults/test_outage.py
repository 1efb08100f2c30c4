"""The provider is down for an hour; the whole machine sleeps for a day; the clock is set back."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.emulated import session_on
from wanasync import Config, LinkExpiredError, Outcome, OutcomeState, WanSession
from wanasync.emulator import Emulator, FixedWindow, Trouble
from wanasync.testing import START, now, virtual_time

CATS = [f"cat {number}" for number in range(10)]
DAY = 86_400.0
DOWN = {
    "says so": Trouble(http_503_submits=1.0, http_503_polls=1.0, http_503_downloads=1.0),
    "resets": Trouble(http_503_submits=1.0, reset_polls=1.0, reset_downloads=1.0),
    "is throttling": Trouble(throttled_submits=1.0, throttled_polls=1.0, reset_downloads=1.0),
}


def states(told: list[Outcome]) -> Counter[OutcomeState]:
    return Counter(outcome.state for outcome in told)


@pytest.mark.parametrize("how", DOWN)
def test_an_outage_is_waited_out_without_knocking_all_the_time(how: str, tmp_path: Path) -> None:
    @virtual_time
    async def run() -> None:
        async with Emulator(epoch=START, limiter=FixedWindow(2, per=60)) as emu, session_on(emu) as wan:
            async with wan.batch(CATS, tmp_path) as batch:
                told = [await anext(batch)]
                emu.trouble = DOWN[how]
                before = emu.ledger.counts.copy()
                await asyncio.sleep(3600)
                asked = emu.ledger.counts - before
                emu.trouble = Trouble()
                told += [outcome async for outcome in batch]
            assert states(told) == {OutcomeState.SAVED: 10}
            assert len(emu.ledger.entries) == 10
            assert asked["submit"] <= 80
            assert asked["query"] + asked["batch"] <= 400

    run()


@virtual_time
async def test_replies_lost_in_an_outage_are_told(tmp_path: Path) -> None:
    async with Emulator(epoch=START, limiter=FixedWindow(2, per=60)) as emu, session_on(emu) as wan:
        async with wan.batch(CATS, tmp_path) as batch:
            told = [await anext(batch)]
            emu.trouble = Trouble(reset_submits=1.0, reset_polls=1.0, reset_lists=1.0)
            await asyncio.sleep(3600)
            emu.trouble = Trouble()
            told += [outcome async for outcome in batch]
        counted = states(told)
        assert set(counted) == {OutcomeState.SAVED, OutcomeState.UNKNOWN}
        assert counted[OutcomeState.SAVED] == len(emu.ledger.entries)


class Machine:
    """The clock of a machine that sleeps: the wall's goes on, the loop's stands still."""

    def __init__(self) -> None:
        self.slept = 0.0

    def __call__(self) -> float:
        return now() + self.slept

    def sleep(self, emu: Emulator, seconds: float) -> None:
        emu.advance(seconds)
        self.slept += seconds


def machine_on(emu: Emulator, machine: Machine, **options: int) -> WanSession:
    return WanSession(config=Config(api_key=emu.api_key, base_url=emu.base_url, **options), clock=machine)  # type: ignore[arg-type]


@pytest.mark.parametrize("fresh", [True, False])
def test_after_a_day_asleep_links_are_asked_for_anew_and_then_told(fresh: bool, tmp_path: Path) -> None:
    """All tasks were finished and most videos waited for their download when the lid was closed."""

    @virtual_time
    async def run() -> None:
        machine = Machine()
        async with (
            Emulator(epoch=START, fresh_links=fresh, durations=20.0, clip_bytes=300_000, bandwidth=10_000.0) as emu,
            machine_on(emu, machine, max_downloads=1) as wan,
        ):
            async with wan.batch(CATS, tmp_path) as batch:
                told = [await anext(batch)]
                assert batch.progress().saving == 9
                machine.sleep(emu, 1.2 * DAY)
                told += [outcome async for outcome in batch]
            assert len(emu.ledger.entries) == 10
            if fresh:
                assert states(told) == {OutcomeState.SAVED: 10}
                assert wan.statistics().downloads.links_renewed >= 8
                return
            # One was on its way already.
            assert states(told)[OutcomeState.EXPIRED] >= 8
            assert states(told)[OutcomeState.EXPIRED] + states(told)[OutcomeState.SAVED] == 10
            expired = [outcome.error for outcome in told if outcome.state is OutcomeState.EXPIRED]
            assert all(isinstance(error, LinkExpiredError) and error.task_id for error in expired)

    run()


@virtual_time
async def test_an_expired_video_is_saved_by_a_later_run_where_the_host_gives_a_fresh_link(tmp_path: Path) -> None:
    async with Emulator(epoch=START, trouble=Trouble(expired_downloads=1.0)) as emu:
        # A lifetime that is over when the task ends: before that a dead link is no reason to give up.
        async with session_on(emu, link_lifetime=1.0) as wan, wan.batch(CATS, tmp_path) as batch:
            assert states([outcome async for outcome in batch]) == {OutcomeState.EXPIRED: 10}
        emu.trouble, emu.fresh_links = Trouble(), True
        async with session_on(emu) as wan, wan.batch(CATS, tmp_path) as batch:
            assert states([outcome async for outcome in batch]) == {OutcomeState.SAVED: 10}
        assert len(emu.ledger.entries) == 10


@pytest.mark.parametrize("by", [-30 * DAY, -3600.0, 3600.0, 30 * DAY])
def test_a_clock_that_is_set_costs_nothing(by: float, tmp_path: Path) -> None:
    """Neither a video nor a payment, and no hour of waiting."""

    @virtual_time
    async def run() -> None:
        machine = Machine()
        troubles = Trouble.script(submit=["ok", "throttled=20", "ok", "lost_reply"])
        async with (
            Emulator(
                epoch=START, limiter=FixedWindow(3, per=60), hint="both", trouble=troubles, task_list=False
            ) as emu,
            machine_on(emu, machine) as wan,
        ):
            async with wan.batch(CATS, tmp_path) as batch:
                told = [await anext(batch)]
                machine.slept = by
                told += [outcome async for outcome in batch]
            assert states(told) == {OutcomeState.SAVED: 9, OutcomeState.UNKNOWN: 1}
            assert len(emu.ledger.entries) == 10
            assert now() - START < 1800.0

    run()
