"""What listeners are told is whole: a trace can be made of it, with nothing left open and ids that hold together."""

from __future__ import annotations

import asyncio
import contextvars
from pathlib import Path
from typing import TypeVar

import pytest

from tests.helpers.emulated import emulated, session_on
from wanasync import (
    APIConnectionError,
    DownloadError,
    OutcomeState,
    SubmissionUnknownError,
    TaskFailedError,
    TaskTimeoutError,
    events,
)
from wanasync.emulator import FixedWindow, Trouble
from wanasync.testing import virtual_time

E = TypeVar("E", bound=events.Event)


def of(kind: type[E], heard: list[events.Event]) -> list[E]:
    return [event for event in heard if isinstance(event, kind)]


def names(heard: list[events.Event]) -> list[str]:
    return [type(event).__name__ for event in heard if not isinstance(event, events.TaskChanged)]


@virtual_time
async def test_one_video_from_call_to_file(tmp_path: Path) -> None:
    heard: list[events.Event] = []
    async with emulated(session={"on_event": heard.append}) as (_, wan):
        video = await wan.generate("A cat", to=tmp_path / "cat.mp4")
    assert names(heard) == [
        "SessionOpened",
        "GenerateStarted",
        "SubmissionStarted",
        "SubmissionAccepted",
        "WaitStarted",
        "WaitEnded",
        "SaveStarted",
        "VideoSaved",
        "GenerateEnded",
        "SessionClosed",
    ]
    keys = {event.idempotency_key for event in heard if hasattr(event, "idempotency_key")}
    ids = {event.task_id for event in heard if hasattr(event, "task_id")}
    assert len(keys) == 1
    assert ids == {video.task_id}
    assert of(events.GenerateEnded, heard)[0].video == video
    assert [event.at for event in heard] == sorted(event.at for event in heard)
    assert of(events.SessionClosed, heard)[0].statistics.downloads.saved == 1


@virtual_time
async def test_a_wait_at_the_gate_and_its_pause_are_told() -> None:
    heard: list[events.Event] = []
    async with emulated(limiter=FixedWindow(2, per=60), session={"on_event": heard.append}) as (_, wan):
        await asyncio.gather(*(wan.submit(f"cat {number}") for number in range(5)))
    pauses = of(events.GatePaused, heard)
    assert pauses
    assert all(0 < pause.seconds < 120 and pause.why for pause in pauses)
    assert max(event.waited for event in of(events.SubmissionStarted, heard)) > 20
    refused = of(events.SubmissionRefused, heard)
    assert refused
    assert all(event.again and event.status == 429 for event in refused)
    started = [event.idempotency_key for event in of(events.SubmissionStarted, heard)]
    accepted = [event.idempotency_key for event in of(events.SubmissionAccepted, heard)]
    assert sorted(started) == sorted([event.idempotency_key for event in refused] + accepted)


@virtual_time
async def test_each_end_of_a_submission_is_told() -> None:
    heard: list[events.Event] = []
    trouble = Trouble.script(submit=["lost_reply"])
    async with emulated(trouble=trouble, session={"on_event": heard.append, "connect_attempts": 2}) as (emu, wan):
        with pytest.raises(SubmissionUnknownError) as caught:
            await wan.submit("lost")
        await emu.__aexit__(None, None, None)
        with pytest.raises(APIConnectionError):
            await wan.submit("not there")
    assert [event.idempotency_key for event in of(events.SubmissionUnknown, heard)] == [caught.value.idempotency_key]
    assert len(of(events.SubmissionNotSent, heard)) == 2
    assert len(of(events.SubmissionStarted, heard)) == 3


@virtual_time
async def test_waits_end_however_they_end() -> None:
    heard: list[events.Event] = []
    trouble = Trouble.script(task=["failed", "stuck", "stuck"], query=["http_500"])
    async with emulated(trouble=trouble, batch_query=False, session={"on_event": heard.append}) as (_, wan):
        failing, stuck, cancelled = [await wan.submit(f"cat {number}") for number in range(3)]
        with pytest.raises(TaskFailedError):
            await failing.wait()
        with pytest.raises(TaskTimeoutError):
            await stuck.wait(timeout=60, count_queue=True)
        waiting = asyncio.create_task(cancelled.wait())
        await asyncio.sleep(10)
        waiting.cancel()
        await asyncio.wait([waiting])
    ended = {event.task_id: event for event in of(events.WaitEnded, heard)}
    assert set(ended) == {failing.id, stuck.id, cancelled.id} == {e.task_id for e in of(events.WaitStarted, heard)}
    failed = ended[failing.id].snapshot
    assert failed is not None
    assert failed.failure is not None
    assert ended[stuck.id].snapshot is ended[cancelled.id].snapshot is None
    assert of(events.PollFailed, heard)


@virtual_time
async def test_saves_end_however_they_end(tmp_path: Path) -> None:
    heard: list[events.Event] = []
    options = {"on_event": heard.append, "download_attempts": 2}
    async with emulated(trouble=Trouble(http_500_downloads=1.0), bandwidth=10.0, session=options) as (emu, wan):
        task = await wan.submit("A cat")
        with pytest.raises(DownloadError) as caught:
            await task.save(tmp_path / "cat.mp4")
        emu.trouble = Trouble()
        saving = asyncio.create_task(task.save(tmp_path / "cat.mp4"))
        await asyncio.sleep(1)
        saving.cancel()
        await asyncio.wait([saving])
    assert len(of(events.SaveStarted, heard)) == 2
    assert [event.error for event in of(events.SaveFailed, heard)] == [caught.value, None]


@virtual_time
async def test_a_renewed_link_is_told(tmp_path: Path) -> None:
    heard: list[events.Event] = []
    async with emulated(trouble=Trouble.script(download=["expired"]), session={"on_event": heard.append}) as (_, wan):
        video = await wan.generate("A cat", to=tmp_path / "cat.mp4")
    assert [event.task_id for event in of(events.LinkRenewed, heard)] == [video.task_id]


@virtual_time
async def test_items_of_a_batch_begin_and_end_with_their_ids(tmp_path: Path) -> None:
    heard: list[events.Event] = []
    trouble = Trouble.script(task=["failed"])
    async with (
        emulated(trouble=trouble, limiter=FixedWindow(4, per=60), session={"on_event": heard.append}) as (_, wan),
        wan.batch([f"cat {number}" for number in range(6)], tmp_path, retry_failed=1) as batch,
    ):
        told = [outcome async for outcome in batch]
    assert {outcome.state for outcome in told} == {OutcomeState.SAVED}
    started, finished = of(events.ItemStarted, heard), of(events.ItemFinished, heard)
    (retried,) = of(events.ItemRetried, heard)
    assert sorted(event.outcome.id for event in finished) == sorted({event.item_id for event in started})
    assert {event.idempotency_key for event in finished} <= {event.idempotency_key for event in started}
    assert retried.idempotency_key in {event.idempotency_key for event in started}
    assert len(started) == 7
    by_key = {event.idempotency_key: event.snapshot.id for event in of(events.SubmissionAccepted, heard)}
    for event in finished:
        assert event.idempotency_key is not None
        assert by_key[event.idempotency_key] == event.outcome.task_id
    assert len(of(events.WaitStarted, heard)) == len(of(events.WaitEnded, heard)) == 7
    assert len(of(events.VideoSaved, heard)) == 6


@virtual_time
async def test_what_an_earlier_run_paid_for_begins_with_its_task(tmp_path: Path) -> None:
    heard: list[events.Event] = []
    async with emulated(session={}) as (emu, wan):
        async with wan.batch(["a cat"], tmp_path):
            await asyncio.sleep(10)
        async with session_on(emu, on_event=heard.append) as again, again.batch(["a cat"], tmp_path) as batch:
            (told,) = [outcome async for outcome in batch]
    (started,) = of(events.ItemStarted, heard)
    assert started.task_id == told.task_id == emu.ledger.entries[0].task_id
    assert not of(events.SubmissionStarted, heard)


@virtual_time
async def test_a_batch_tells_its_steps_in_the_context_that_opened_it(tmp_path: Path) -> None:
    who = contextvars.ContextVar("who", default="nobody")
    heard: set[tuple[str, str]] = set()
    kinds = (events.ItemStarted, events.SubmissionStarted, events.WaitStarted, events.SaveStarted)

    def listener(event: events.Event) -> None:
        if isinstance(event, kinds):
            heard.add((type(event).__name__, who.get()))

    async with emulated(session={"on_event": listener}) as (_, wan):
        who.set("batch")
        async with wan.batch(["a cat", "a dog"], tmp_path) as batch:
            who.set("reader")
            assert len([outcome async for outcome in batch]) == 2
    assert heard == {(kind.__name__, "batch") for kind in kinds}


@virtual_time
async def test_nothing_is_made_where_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(**_: object) -> None:
        raise AssertionError("an event for nobody")

    for name in events.__all__:
        if isinstance(getattr(events, name), type):
            monkeypatch.setattr(events, name, never)
    async with emulated(limiter=FixedWindow(2, per=60), trouble=Trouble.script(query=["http_500"])) as (_, wan):
        await wan.generate("A cat", to=tmp_path / "cat.mp4")
        async with wan.batch(["a cat", "a dog"], tmp_path / "batch") as batch:
            assert [outcome.state async for outcome in batch] == [OutcomeState.SAVED] * 2


@virtual_time
async def test_a_listener_that_hangs_holds_nothing_up_but_the_end_for_a_while(tmp_path: Path) -> None:
    heard: list[events.Event] = []

    async def hangs(_: events.Event) -> None:
        await asyncio.Event().wait()

    async def hears(event: events.Event) -> None:
        await asyncio.sleep(0.01)
        heard.append(event)

    async with emulated() as (emu, _):
        wan = session_on(emu, on_event=[hangs, hears])
        async with wan, wan.batch([f"cat {number}" for number in range(20)], tmp_path) as batch:
            assert [outcome.state async for outcome in batch] == [OutcomeState.SAVED] * 20
            closing = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - closing < events.LISTENER_SECONDS + 2
    assert isinstance(heard[0], events.SessionOpened)
    assert isinstance(heard[-1], events.SessionClosed)
    assert len(of(events.VideoSaved, heard)) == 20
