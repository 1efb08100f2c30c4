"""A submission whose reply was lost: found again where that can be concluded, and told where it can't."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.emulated import emulated, session_on
from wanasync import Event, Limits, Outcome, OutcomeState, SubmissionUnknownError, WanSession
from wanasync.emulator import Emulator, FixedWindow, Trouble
from wanasync.engine.batch.lost import LOOK_UP_AFTER
from wanasync.events import ItemFinished, SubmissionFound, SubmissionUnknown
from wanasync.testing import START, virtual_time

CATS = [f"cat {number}" for number in range(10)]
LOST_REPLY = Trouble.script(submit=["ok", "ok", "ok", "lost_reply"])


async def slowly(prompts: list[str]) -> AsyncIterator[str]:
    """A minute apart, so that a list of tasks can tell them apart."""
    for prompt in prompts:
        yield prompt
        await asyncio.sleep(60)


async def outcomes(
    wan: WanSession, to: Path, *, paced: bool = True, **options: Any
) -> dict[OutcomeState, list[Outcome]]:
    async with wan.batch(slowly(CATS) if paced else CATS, to, **options) as batch:
        told = [outcome async for outcome in batch]
        counts = batch.progress()
    assert len(told) == len(CATS) == counts.total
    by_state: dict[OutcomeState, list[Outcome]] = {}
    for outcome in told:
        by_state.setdefault(outcome.state, []).append(outcome)
    return by_state


@virtual_time
async def test_its_task_is_found_in_the_list(tmp_path: Path) -> None:
    seen: list[Event] = []
    async with emulated(trouble=LOST_REPLY, session={"on_event": seen.append}) as (emu, wan):
        told = await outcomes(wan, tmp_path)
        assert set(told) == {OutcomeState.SAVED}
        assert len(emu.ledger.entries) == 10
        for outcome in told[OutcomeState.SAVED]:
            assert outcome.video
            assert outcome.request
            (entry,) = [entry for entry in emu.ledger.entries if entry.request["prompt"] == outcome.request.prompt]
            assert outcome.video.sha256 == emu.sha256(entry.task_id)
        (found,) = [event for event in seen if isinstance(event, SubmissionFound)]
        assert found.task_id in {entry.task_id for entry in emu.ledger.entries}


@virtual_time
async def test_each_is_looked_for_when_its_task_has_had_time_to_come_to_the_list(tmp_path: Path) -> None:
    """The second reply is lost while the first of the lost is waited for."""
    seen: list[Event] = []
    trouble = Trouble.script(submit=["ok", "lost_reply", "lost_reply"])
    session = {"on_event": seen.append, "limits": Limits(requests=1, per=10)}
    async with emulated(trouble=trouble, session=session) as (_, wan), wan.batch(CATS[:3], tmp_path) as batch:
        await batch.wait()
    lost = {event.idempotency_key: event.at for event in seen if isinstance(event, SubmissionUnknown)}
    answered = {
        event.idempotency_key: event.at for event in reversed(seen) if isinstance(event, SubmissionFound | ItemFinished)
    }
    assert len(lost) == 2
    assert all(answered[key] - lost[key] >= LOOK_UP_AFTER for key in lost)


@virtual_time
async def test_it_is_found_by_the_next_run(tmp_path: Path) -> None:
    trouble = LOST_REPLY | Trouble.script(list=["http_500"] * 4)
    async with Emulator(epoch=START, trouble=trouble) as emu:
        async with session_on(emu) as wan:
            told = await outcomes(wan, tmp_path)
            assert {state: len(items) for state, items in told.items()} == {
                OutcomeState.SAVED: 9,
                OutcomeState.UNKNOWN: 1,
            }
        async with session_on(emu) as wan:
            assert set(await outcomes(wan, tmp_path)) == {OutcomeState.SAVED}
        assert len(emu.ledger.entries) == 10


@virtual_time
async def test_the_task_of_a_lost_call_of_the_same_session_is_not_taken_for_an_items(tmp_path: Path) -> None:
    """The call's reply is lost and its task made; the item's is lost and none made: the one task may be either's."""
    trouble = Trouble.script(submit=["ok", "lost_reply", "html_502"])
    async with emulated(trouble=trouble) as (emu, wan):
        async with wan.batch(["a mouse"], tmp_path / "before") as batch:
            await batch.wait()
        with pytest.raises(SubmissionUnknownError):
            await wan.submit("a dog")
        async with wan.batch(["a cat"], tmp_path / "before") as batch:
            (told,) = [outcome async for outcome in batch]
        assert len(emu.ledger.entries) == 2
        assert told.state is OutcomeState.UNKNOWN
        assert isinstance(told.error, SubmissionUnknownError)
        assert told.error.candidates == (emu.ledger.entries[1].task_id,)


@virtual_time
async def test_another_program_with_the_key_leaves_it_unknown(tmp_path: Path) -> None:
    """The reply of ours is lost before the provider has made anything; somebody else's task is not taken for it."""
    never = Trouble.script(submit=["ok", "ok", "ok", "html_502"])
    async with Emulator(epoch=START, trouble=never, limiter=FixedWindow(3, per=60)) as emu:
        async with session_on(emu) as other:
            # Two tasks in the ten minutes before; one of them would be taken for ours if it stood alone.
            await other.submit("a dog")
            await other.submit("another dog")
        async with session_on(emu) as wan:
            told = await outcomes(wan, tmp_path)
        assert len(told[OutcomeState.SAVED]) == 9
        dogs = {entry.task_id for entry in emu.ledger.entries if "dog" in entry.request["prompt"]}
        assert not dogs & {outcome.task_id for outcome in told[OutcomeState.SAVED]}


@virtual_time
async def test_tasks_of_the_same_session_are_never_taken_for_it(tmp_path: Path) -> None:
    """A task submitted beside the batch, in the very moment of the lost reply, is known to be another."""
    async with emulated(trouble=Trouble.script(submit=["ok", "ok", "html_502"])) as (emu, wan):
        async with wan.batch(CATS[:2], tmp_path) as batch:
            aside = await wan.submit("a dog")
            told = [outcome async for outcome in batch]
        assert len(emu.ledger.entries) == 2
        unknown = [outcome for outcome in told if outcome.state is OutcomeState.UNKNOWN]
        assert aside.id not in {outcome.task_id for outcome in told}
        assert all(aside.id not in str(outcome.error) for outcome in unknown)


@virtual_time
async def test_candidates_are_told(tmp_path: Path) -> None:
    both = Trouble.script(submit=["ok", "lost_reply", "lost_reply"])
    async with emulated(trouble=both) as (emu, wan):
        told = await outcomes(wan, tmp_path, paced=False)
        known = {outcome.task_id for outcome in told[OutcomeState.SAVED]}
        lost = {entry.task_id for entry in emu.ledger.entries} - known
        assert len(lost) == len(told[OutcomeState.UNKNOWN]) == 2
        for outcome in told[OutcomeState.UNKNOWN]:
            assert isinstance(outcome.error, SubmissionUnknownError)
            assert set(outcome.error.candidates) == lost
            assert all(task_id in str(outcome.error) for task_id in lost)


@virtual_time
async def test_a_host_without_a_list_is_asked_once(tmp_path: Path) -> None:
    trouble = Trouble.script(submit=["ok", "lost_reply", "ok", "lost_reply", "ok", "ok", "lost_reply"])
    async with emulated(trouble=trouble, task_list=False) as (emu, wan):
        told = await outcomes(wan, tmp_path)
        assert len(told[OutcomeState.UNKNOWN]) == 3
        asked = [note for note in emu.ledger.notes if note.kind in ("list", "other")]
        assert len(asked) == 1


@virtual_time
async def test_it_is_told_also_when_its_line_has_left_the_list(tmp_path: Path) -> None:
    async with emulated(trouble=LOST_REPLY, task_list=False) as (_, wan):
        (unknown,) = (await outcomes(wan, tmp_path))[OutcomeState.UNKNOWN]
        assert unknown.request
        rest = [cat for cat in CATS if cat != unknown.request.prompt]
        async with wan.batch(rest, tmp_path) as batch:
            told = [outcome async for outcome in batch]
            assert batch.progress().unlisted == 1
        assert [outcome.id for outcome in told if outcome.state is OutcomeState.UNKNOWN] == [unknown.id]


@virtual_time
async def test_all_recent_tasks_are_listed_once(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        async with wan.batch([f"cat {number}" for number in range(120)], tmp_path) as batch:
            await batch.wait()
        listed = [task.id async for task in wan.recent_tasks()]
        assert listed == [entry.task_id for entry in reversed(emu.ledger.entries)]
        assert [task.id async for task in wan.recent_tasks(status="failed")] == []


@virtual_time
async def test_the_earlier_attempts_of_an_item_are_known_to_be_ours(tmp_path: Path) -> None:
    trouble = Trouble.script(task=["failed"], submit=["ok"] * 4 + ["lost_reply"], list=["http_500"] * 4)
    async with Emulator(epoch=START, trouble=trouble) as emu:
        async with session_on(emu) as wan:
            assert len((await outcomes(wan, tmp_path, retry_failed=1))[OutcomeState.UNKNOWN]) == 1
        async with session_on(emu) as wan:
            assert set(await outcomes(wan, tmp_path, retry_failed=1)) == {OutcomeState.SAVED}
        assert len(emu.ledger.entries) == 11


@virtual_time
async def test_a_budget_whose_first_reply_is_lost_stops_since_nobody_knows_what_that_cost(tmp_path: Path) -> None:
    async with emulated(trouble=Trouble.script(submit=["lost_reply"]), task_list=False) as (emu, wan):
        told = await outcomes(wan, tmp_path, paced=False, budget=12.0)
        counts = {state: len(items) for state, items in told.items()}
        assert counts == {OutcomeState.UNKNOWN: 1, OutcomeState.NOT_STARTED: 9}
        assert len(emu.ledger.entries) == 1
