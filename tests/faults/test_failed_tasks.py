"""Tasks that fail by the provider's fault are tried again where the user asks for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.emulated import emulated, session_on
from wanasync import OutcomeState, WanSession
from wanasync.emulator import Emulator, Trouble
from wanasync.testing import START, now, virtual_time

CATS = [f"cat {number}" for number in range(4)]
TWICE = Trouble.script(task=["ok", "failed=service_error", "ok", "ok", "failed=generation_timeout"])


async def states(wan: WanSession, to: Path, **options: Any) -> Counter[OutcomeState]:
    async with wan.batch(CATS, to, **options) as batch:
        told = Counter([outcome.state async for outcome in batch])
        assert sum(told.values()) == batch.progress().total == len(CATS)
        return told


def attempts(emu: Emulator) -> list[int]:
    return sorted(Counter(entry.request["prompt"] for entry in emu.ledger.entries).values())


@virtual_time
async def test_never_by_itself(tmp_path: Path) -> None:
    async with emulated(trouble=TWICE) as (emu, wan):
        for _ in range(2):
            assert await states(wan, tmp_path) == {OutcomeState.SAVED: 3, OutcomeState.FAILED: 1}
        assert attempts(emu) == [1, 1, 1, 1]


@virtual_time
async def test_as_often_as_asked_for_each_with_a_key_of_its_own(tmp_path: Path) -> None:
    async with emulated(trouble=TWICE) as (emu, wan):
        assert await states(wan, tmp_path, retry_failed=2) == {OutcomeState.SAVED: 4}
        assert attempts(emu) == [1, 1, 1, 3]
        assert len({entry.idempotency_key for entry in emu.ledger.entries}) == 6
        assert emu.ledger.credits_used == 4 * 5.0


@virtual_time
async def test_no_oftener_also_over_several_runs(tmp_path: Path) -> None:
    async with emulated(trouble=Trouble(failed_tasks=1.0)) as (emu, wan):
        for _ in range(2):
            assert await states(wan, tmp_path, retry_failed=1) == {OutcomeState.FAILED: 4}
        assert attempts(emu) == [2, 2, 2, 2]
        assert await states(wan, tmp_path, retry_failed=2) == {OutcomeState.FAILED: 4}
        assert attempts(emu) == [3, 3, 3, 3]


@virtual_time
async def test_a_later_run_tries_what_an_earlier_left(tmp_path: Path) -> None:
    async with Emulator(epoch=START, trouble=TWICE) as emu:
        async with session_on(emu) as wan:
            assert (await states(wan, tmp_path))[OutcomeState.FAILED] == 1
        async with session_on(emu) as wan:
            assert await states(wan, tmp_path, retry_failed=2) == {OutcomeState.SAVED: 4}
        assert attempts(emu) == [1, 1, 1, 3]


@pytest.mark.parametrize("code", ["content_policy_violation", "invalid_parameters", "a_new_one"])
def test_not_for_what_the_request_is_at_fault_for(code: str, tmp_path: Path) -> None:
    @virtual_time
    async def run() -> None:
        async with emulated(trouble=Trouble.script(task=[f"failed={code}"])) as (emu, wan):
            assert (await states(wan, tmp_path, retry_failed=5))[OutcomeState.FAILED] == 1
            assert attempts(emu) == [1, 1, 1, 1]

    run()


@virtual_time
async def test_after_a_wait(tmp_path: Path) -> None:
    async with emulated(trouble=Trouble.script(task=["failed"]), durations=1.0) as (emu, wan):
        began = now()
        assert await states(wan, tmp_path, retry_failed=1) == {OutcomeState.SAVED: 4}
        first, last = emu.ledger.entries[0], emu.ledger.entries[-1]
        assert first.request == last.request
        assert 30.0 < last.created - began < 120.0


@virtual_time
async def test_a_stop_ends_the_wait(tmp_path: Path) -> None:
    async with emulated(trouble=Trouble.script(task=["failed"]), durations=1.0) as (emu, wan):
        async with wan.batch(CATS, tmp_path, retry_failed=1) as batch:
            told = [await anext(batch) for _ in range(3)]
            batch.stop("enough")
            stopped = now()
            told += [outcome async for outcome in batch]
            assert now() - stopped < 10.0
        assert Counter(outcome.state for outcome in told) == {OutcomeState.SAVED: 3, OutcomeState.FAILED: 1}
        assert attempts(emu) == [1, 1, 1, 1]


@virtual_time
async def test_the_budget_holds_for_further_tasks_too(tmp_path: Path) -> None:
    async with emulated(trouble=Trouble(failed_tasks=1.0)) as (emu, wan):
        async with wan.batch(CATS, tmp_path, retry_failed=50, limit=7) as batch:
            await batch.wait()
            assert batch.progress().stopped == "limit"
            assert batch.progress().retried >= 3
        assert len(emu.ledger.entries) == 7
