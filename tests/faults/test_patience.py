"""A task that never ends must not keep a batch from ending."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.helpers.emulated import session_on
from wanasync import Outcome, OutcomeState, TaskTimeoutError
from wanasync.emulator import Emulator, Trouble
from wanasync.testing import START, now, virtual_time

CATS = [f"cat {number}" for number in range(6)]
HOUR, DAY = 3600.0, 86_400.0
ONE_STUCK = {"task": ["ok", "stuck"]}


def states(told: list[Outcome]) -> Counter[OutcomeState]:
    return Counter(outcome.state for outcome in told)


@virtual_time
async def test_a_task_that_never_ends_is_told_as_pending_and_followed_by_the_next_run(tmp_path: Path) -> None:
    async with Emulator(epoch=START, trouble=Trouble.script(**ONE_STUCK)) as emu:
        async with session_on(emu) as wan, wan.batch(CATS, tmp_path) as batch:
            told = [outcome async for outcome in batch]
            assert batch.progress().following == 0
            assert wan.statistics().poller.following == 0
        assert states(told) == {OutcomeState.SAVED: 5, OutcomeState.PENDING: 1}
        assert DAY <= now() - START < DAY + HOUR
        left = told[-1]
        assert isinstance(left.error, TaskTimeoutError)
        assert left.error.task_id == left.task_id
        assert f"wanasync fetch {left.task_id}" in str(left.error)
        assert "24 h" in str(left.error)

        again = now()
        async with session_on(emu) as wan, wan.batch(CATS, tmp_path) as batch:
            told = [outcome async for outcome in batch]
        assert states(told) == {OutcomeState.SAVED: 5, OutcomeState.PENDING: 1}
        assert 600 <= now() - again < HOUR
        assert len(emu.ledger.entries) == 6


@virtual_time
async def test_what_ends_at_last_is_saved_by_the_next_run(tmp_path: Path) -> None:
    async with Emulator(epoch=START, durations=HOUR + 300) as emu:
        async with session_on(emu, task_patience=HOUR) as wan, wan.batch(CATS, tmp_path) as batch:
            assert states([outcome async for outcome in batch]) == {OutcomeState.PENDING: 6}
        async with session_on(emu, task_patience=HOUR) as wan, wan.batch(CATS, tmp_path) as batch:
            assert states([outcome async for outcome in batch]) == {OutcomeState.SAVED: 6}
        assert len(emu.ledger.entries) == 6


@virtual_time
async def test_a_batch_is_told_how_patient_to_be(tmp_path: Path) -> None:
    async with (
        Emulator(epoch=START, trouble=Trouble.script(**ONE_STUCK)) as emu,
        session_on(emu, task_patience=100.0) as wan,
        wan.batch(CATS, tmp_path) as batch,
    ):
        told = [outcome async for outcome in batch]
        assert told[-1].state is OutcomeState.PENDING
        assert "100 s" in str(told[-1].error)
        assert 100 <= now() - START < 200
