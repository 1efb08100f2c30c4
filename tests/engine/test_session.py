from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.helpers.emulated import emulated, session_on
from wanasync import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    Config,
    ConfigError,
    DownloadError,
    NotFoundError,
    RequestValidationError,
    SessionError,
    SubmissionUnknownError,
    TaskFailedError,
    TaskSnapshot,
    TaskStatus,
    TaskTimeoutError,
    VideoRequest,
    WanSession,
)
from wanasync.emulator import ConcurrentTasks, Emulator, FixedWindow, Trouble
from wanasync.events import Event, SessionClosed, SubmissionAccepted, SubmissionRefused, SubmissionUnknown, TaskChanged
from wanasync.testing import START, now, virtual_time


@virtual_time
async def test_a_prompt_becomes_a_file(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        video = await wan.generate("A cat playing piano", to=tmp_path / "cat.mp4")
        assert video.path.read_bytes()[4:8] == b"ftyp"
        assert video.bytes == video.path.stat().st_size
        assert video.credits == emu.ledger.credits_used > 0
        assert emu.ledger.key_leaks == 0


@virtual_time
async def test_a_directory_as_target_takes_the_prompts_name(tmp_path: Path) -> None:
    async with emulated() as (_, wan):
        video = await wan.generate("A cat, playing piano!", to=tmp_path)
        assert video.path == tmp_path / "a-cat-playing-piano.mp4"


@virtual_time
async def test_an_existing_target_is_told_before_anything_is_paid(tmp_path: Path) -> None:
    (tmp_path / "cat.mp4").write_text("mine")
    async with emulated() as (emu, wan):
        with pytest.raises(DownloadError, match=r"cat\.mp4 exists already"):
            await wan.generate("A cat", to=tmp_path / "cat.mp4")
        assert emu.ledger.entries == ()
    assert (tmp_path / "cat.mp4").read_text() == "mine"


@virtual_time
async def test_updates_tell_each_change_until_the_end() -> None:
    async with emulated() as (_, wan):
        task = await wan.submit(VideoRequest("A cat", quality="1080p", duration=10, aspect_ratio="4:3"))
        assert task.status is TaskStatus.PENDING
        seen = [snapshot async for snapshot in task.updates()]
        assert seen[-1].status is TaskStatus.COMPLETED
        assert seen[-1].links
        assert len({(snapshot.status, snapshot.progress) for snapshot in seen}) == len(seen)
        assert task.progress == 100
        assert [snapshot async for snapshot in task.updates()] == [seen[-1]]


@virtual_time
async def test_an_id_is_enough_to_go_on_with(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        task = await wan.submit("A cat")
        async with session_on(emu) as other:
            handle = other.attach(task.id)
            assert handle.status is TaskStatus.UNKNOWN
            assert handle.progress is None
            video = await handle.save(tmp_path / "x.mp4")
        assert video.task_id == task.id
        assert len(emu.ledger.entries) == 1


@virtual_time
async def test_a_task_known_by_its_id_alone_is_noticed_soon_after_its_end() -> None:
    """A query tells how old it is, and nothing how long tasks take here."""
    async with emulated(durations=30.0) as (emu, wan):
        task_id = (await wan.submit("A cat")).id
        ends_at = now() + 30
        await asyncio.sleep(2)
        async with session_on(emu) as other:
            await other.attach(task_id).wait()
            assert now() - ends_at < 10
            assert other.statistics().poller.polls < 10


@virtual_time
async def test_a_timeout_leaves_the_task_going_and_names_it() -> None:
    async with emulated(durations=600.0) as (_, wan):
        task = await wan.submit("A cat")
        with pytest.raises(TaskTimeoutError, match="goes on") as caught:
            await task.wait(timeout=30)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.task_id == task.id
        assert caught.value.snapshot is not None
        assert (await task.wait()).status is TaskStatus.COMPLETED


@virtual_time
async def test_a_cancelled_wait_names_the_task_and_leaves_it_going() -> None:
    async with emulated(durations=600.0) as (_, wan):
        task = await wan.submit("A cat")
        waiting = asyncio.ensure_future(task.wait())
        await asyncio.sleep(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await waiting
        assert task.id in caught.value.__notes__[0]
        assert wan.statistics().poller.following == 0
        assert (await task.wait()).links


@virtual_time
async def test_several_may_wait_for_one_task() -> None:
    async with emulated() as (emu, wan):
        task = await wan.submit("A cat")
        snapshots = await asyncio.gather(*(task.wait() for _ in range(5)), wan.attach(task.id).wait())
        assert len({snapshot.links for snapshot in snapshots}) == 1
        assert len(emu.ledger.entries) == 1


@virtual_time
async def test_a_failed_task_carries_the_providers_words() -> None:
    trouble = Trouble.script(task=["failed=content_policy_violation"])
    async with emulated(trouble=trouble) as (emu, wan):
        task = await wan.submit("A cat")
        with pytest.raises(TaskFailedError) as caught:
            await task.wait()
        assert caught.value.failure is not None
        assert caught.value.failure.code == "content_policy_violation"
        assert caught.value.task_id == task.id
        assert len(emu.ledger.entries) == 1


@virtual_time
async def test_a_task_nobody_knows_is_not_found() -> None:
    async with emulated() as (_, wan):
        with pytest.raises(NotFoundError):
            await wan.attach("task-unified-1757169743-7cvnl5zw").refresh()


@virtual_time
async def test_refusals_are_raised_and_cost_nothing() -> None:
    async with emulated(trouble=Trouble.script(submit=["http_400"])) as (emu, wan):
        with pytest.raises(BadRequestError):
            await wan.submit("A cat")
        assert emu.ledger.entries == ()
        assert emu.ledger.counts["submit"] == 1


@virtual_time
async def test_bad_input_is_refused_before_a_request() -> None:
    async with emulated() as (emu, wan):
        with pytest.raises(RequestValidationError):
            await wan.submit("")
        with pytest.raises(RequestValidationError, match="prompt"):
            await wan.submit(17)  # type: ignore[arg-type]
        assert emu.ledger.counts["submit"] == 0


@virtual_time
async def test_a_wrong_key_is_told_after_one_request() -> None:
    async with Emulator() as emu:
        async with WanSession("wrong-key-of-mine", emu.base_url) as wan:
            with pytest.raises(AuthenticationError) as caught:
                await wan.submit("A cat")
            assert "wrong-key-of-mine" not in str(caught.value)
        assert emu.ledger.counts["submit"] == 1


@virtual_time
async def test_a_lost_reply_is_told_and_never_sent_again() -> None:
    async with emulated(trouble=Trouble.script(submit=["lost_reply"])) as (emu, wan):
        with pytest.raises(SubmissionUnknownError) as caught:
            await wan.submit("A cat")
        assert caught.value.idempotency_key == emu.ledger.entries[0].idempotency_key
        assert emu.ledger.counts["submit"] == 1
        assert wan.statistics().unknown_submissions == 1


@virtual_time
async def test_a_lost_reply_is_replayed_where_the_user_says_so() -> None:
    trouble = Trouble.script(submit=["lost_reply", "processed:html_502"])
    async with emulated(trouble=trouble, session={"on_unknown": "replay"}) as (emu, wan):
        task = await wan.submit("A cat")
        assert [entry.task_id for entry in emu.ledger.entries] == [task.id]
        assert emu.ledger.replays >= 1


@virtual_time
async def test_a_lost_reply_is_told_as_such_where_its_replay_finds_nobody() -> None:
    """That nobody is there now says nothing of the first submission, which was paid."""
    was_lost = asyncio.Event()

    def hear(event: Event) -> None:
        if isinstance(event, SubmissionUnknown):
            was_lost.set()

    async with Emulator(epoch=START, trouble=Trouble.script(submit=["lost_reply"])) as emu:
        wan = await session_on(emu, on_unknown="replay", on_event=hear).__aenter__()
        submitting = asyncio.ensure_future(wan.submit("A cat"))
        await was_lost.wait()
    with pytest.raises(SubmissionUnknownError) as caught:
        await submitting
    assert caught.value.idempotency_key
    await wan.close()


@virtual_time
async def test_a_lost_reply_is_told_as_such_where_the_session_is_closed_before_its_replay() -> None:
    was_lost = asyncio.Event()

    def hear(event: Event) -> None:
        if isinstance(event, SubmissionUnknown):
            was_lost.set()

    trouble = Trouble.script(submit=["lost_reply"])
    async with Emulator(epoch=START, trouble=trouble) as emu:
        async with session_on(emu, on_unknown="replay", on_event=hear) as wan:
            submitting = asyncio.ensure_future(wan.submit("A cat"))
            await was_lost.wait()
        with pytest.raises(SubmissionUnknownError):
            await submitting
        assert len(emu.ledger.entries) == 1


@virtual_time
async def test_throttling_is_waited_out_for_all_at_once() -> None:
    heard: list[Event] = []
    async with emulated(limiter=FixedWindow(5, per=60), session={"on_event": heard.append}) as (emu, wan):
        tasks = await asyncio.gather(*(wan.submit(f"cat {number}") for number in range(12)))
        assert len({task.id for task in tasks}) == 12
        assert not emu.ledger.paid_twice()
        assert emu.ledger.refused["submit"] <= 12
        assert wan.statistics().gate.pauses >= 1
    assert sum(isinstance(event, SubmissionAccepted) for event in heard) == 12
    assert all(event.again for event in heard if isinstance(event, SubmissionRefused))


@virtual_time
async def test_a_quota_of_unfinished_tasks_is_kept_by_waiting_tasks() -> None:
    async with emulated(limiter=ConcurrentTasks(2), durations=30.0) as (emu, wan):

        async def whole(number: int) -> None:
            await (await wan.submit(f"cat {number}")).wait()

        await asyncio.gather(*(whole(number) for number in range(6)))
        assert len(emu.ledger.entries) == 6


@virtual_time
async def test_what_is_not_there_is_told_after_some_tries() -> None:
    config = Config(api_key="some-key", base_url="http://127.0.0.1:9/v1", connect_attempts=3)
    async with WanSession(config=config) as wan:
        with pytest.raises(APIConnectionError):
            await wan.submit("A cat")
        assert wan.statistics().gate.accepted == 0


@virtual_time
async def test_polls_that_fail_are_repeated_and_cost_nothing() -> None:
    async with emulated(trouble=Trouble(html_502_polls=0.3, reset_polls=0.2, truncated_json_polls=0.2)) as (emu, wan):
        tasks = await asyncio.gather(*(wan.submit(f"cat {number}") for number in range(5)))
        await asyncio.gather(*(task.wait() for task in tasks))
        assert len(emu.ledger.entries) == 5
        assert wan.statistics().poller.polls_failed > 0


@virtual_time
async def test_results_that_come_late_are_waited_for(tmp_path: Path) -> None:
    async with emulated(trouble=Trouble.script(task=["late_results=40"])) as (_, wan):
        video = await wan.generate("A cat", to=tmp_path / "cat.mp4")
        assert video.bytes > 0


@virtual_time
async def test_the_balance() -> None:
    async with emulated(credit=100.0) as (_, wan):
        assert (await wan.credits()).remaining == 100.0


@virtual_time
async def test_events_tell_the_way_and_a_bad_listener_costs_nothing(tmp_path: Path) -> None:
    heard: list[Event] = []
    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))

    def listener(event: Event) -> None:
        heard.append(event)
        raise ValueError("a listener's own fault")

    async with emulated(session={"on_event": listener}) as (_, wan):
        await wan.generate("A cat", to=tmp_path / "cat.mp4")
    assert any(isinstance(event, TaskChanged) for event in heard)
    assert problems


@virtual_time
async def test_statistics_add_up(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        await wan.generate("A cat", to=tmp_path / "cat.mp4")
        figures = wan.statistics()
        assert figures.gate.accepted == figures.downloads.saved == figures.poller.finished == 1
        assert figures.credits_reserved == figures.credits_used == emu.ledger.credits_used


async def test_a_session_is_used_within_its_block_only() -> None:
    wan = WanSession("a-key", "http://127.0.0.1:9")
    with pytest.raises(SessionError, match="not open"):
        await wan.submit("A cat")
    async with wan:
        pass
    with pytest.raises(SessionError, match="closed"):
        await wan.submit("A cat")
    with pytest.raises(SessionError, match="opened before"):
        await wan.__aenter__()
    await wan.close()


async def test_a_session_belongs_to_its_loop() -> None:
    async with WanSession("a-key", "http://127.0.0.1:9") as wan:

        def elsewhere() -> None:
            with pytest.raises(SessionError, match="event loop it was opened in"):
                asyncio.run(wan.credits())
            with pytest.raises(SessionError, match="event loop it was opened in"):
                wan.statistics()

        await asyncio.to_thread(elsewhere)


def test_a_session_for_each_run_of_asyncio() -> None:
    async def once() -> float | None:
        async with Emulator(credit=7.0) as emu, WanSession(emu.api_key, emu.base_url) as wan:
            return (await wan.credits()).remaining

    assert [asyncio.run(once()) for _ in range(2)] == [7.0, 7.0]


async def test_without_a_key_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAN_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="WAN_API_KEY"):
        WanSession()
    monkeypatch.setenv("WAN_API_KEY", "from-the-environment")
    assert WanSession().config.api_key == "from-the-environment"
    assert WanSession("given").config.api_key == "given"
    assert WanSession(config=Config()).config.api_key == "from-the-environment"
    assert "from-the-environment" not in repr(WanSession().config)


@virtual_time
async def test_an_injected_client_session_is_used_and_left_open() -> None:
    async with Emulator() as emu, aiohttp.ClientSession() as mine:
        async with session_on(emu, client_session=mine) as wan:
            await wan.submit("A cat")
        assert not mine.closed


@virtual_time
async def test_trace_configs_see_the_requests() -> None:
    seen: list[str] = []

    async def note(_session: object, _context: object, parameters: aiohttp.TraceRequestStartParams) -> None:
        seen.append(parameters.method)

    tracing = aiohttp.TraceConfig()
    tracing.on_request_start.append(note)
    async with Emulator() as emu, session_on(emu, trace_configs=[tracing]) as wan:
        await wan.submit("A cat")
    assert seen == ["POST"]


@virtual_time
async def test_a_submission_cancelled_on_the_wire_is_finished_and_told(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Event] = []
    async with Emulator(latency=5.0) as emu:
        async with session_on(emu, on_event=heard.append) as wan:
            submitting = asyncio.ensure_future(wan.submit("A cat"))
            await asyncio.sleep(1)
            submitting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await submitting
        (entry,) = emu.ledger.entries
    accepted = [event for event in heard if isinstance(event, SubmissionAccepted)]
    assert [event.snapshot.id for event in accepted] == [entry.task_id]
    assert entry.task_id in caplog.text


@virtual_time
async def test_a_submission_cancelled_at_the_gate_costs_nothing() -> None:
    async with emulated(limiter=FixedWindow(1, per=60)) as (emu, wan):
        await wan.submit("first")
        second = asyncio.ensure_future(wan.submit("second"))
        await asyncio.sleep(10)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        await wan.submit("third")
        assert [entry.request["prompt"] for entry in emu.ledger.entries] == ["first", "third"]


async def _last(updates: AsyncIterator[TaskSnapshot]) -> TaskSnapshot:
    return [snapshot async for snapshot in updates][-1]


@virtual_time
async def test_closing_a_session_ends_its_waits() -> None:
    async with Emulator(epoch=START, durations=600.0) as emu:
        async with session_on(emu) as wan:
            task = await wan.submit("A cat")
            waits = [
                asyncio.ensure_future(task.wait()),
                asyncio.ensure_future(task.wait(900)),
                asyncio.ensure_future(anext(task.updates())),
            ]
            await asyncio.sleep(1)
        async with asyncio.timeout(1):
            ended = await asyncio.gather(*waits, return_exceptions=True)
        assert [type(error) for error in ended] == [SessionError] * 3


@virtual_time
async def test_closing_a_session_ends_waits_at_the_gate_and_nothing_is_sent() -> None:
    async with Emulator(epoch=START, limiter=FixedWindow(1, per=3600)) as emu:
        async with session_on(emu) as wan:
            await wan.submit("first")
            second = asyncio.ensure_future(wan.submit("second"))
            await asyncio.sleep(10)
        with pytest.raises(SessionError, match="nothing was sent"):
            async with asyncio.timeout(1):
                await second
        assert len(emu.ledger.entries) == 1
        async with session_on(emu) as other:
            await other.submit("third")
            assert other.statistics().unknown_submissions == 0


@virtual_time
@pytest.mark.parametrize("turns", [*range(1, 9), None])
async def test_a_session_whose_closing_is_cancelled_is_closed_all_the_same(turns: int | None) -> None:
    """Cancelled after so many turns of the loop, or while a submission is on the wire, which is finished."""
    heard: list[Event] = []
    async with Emulator(epoch=START, latency=5.0, durations=600.0) as emu:
        before = asyncio.all_tasks()
        wan = session_on(emu, on_event=heard.append)
        await wan.__aenter__()
        task = await wan.submit("first")
        waiting = asyncio.ensure_future(task.wait())
        await asyncio.sleep(100)
        if turns is None:
            submitting = asyncio.ensure_future(wan.submit("second"))
            await asyncio.sleep(1)
        closing = asyncio.ensure_future(wan.close())
        for _ in range(3 if turns is None else turns):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        await asyncio.wait([waiting] if turns is not None else [waiting, submitting])
        await asyncio.sleep(10)
        assert isinstance(heard[-1], SessionClosed)
        assert not {task for task in asyncio.all_tasks() - before if "wanasync" in repr(task.get_coro())}
        if turns is None:
            assert submitting.result().id in {entry.task_id for entry in emu.ledger.entries}
        assert isinstance(waiting.exception(), SessionError)


@virtual_time
async def test_a_listener_may_close_the_session_and_is_not_waited_for() -> None:
    closed: list[float] = []

    async def hear(event: Event) -> None:
        if isinstance(event, SubmissionAccepted):
            await wan.close()
            closed.append(now() - event.at)

    async with Emulator(epoch=START) as emu, session_on(emu, on_event=hear) as wan:
        await wan.submit("A cat")
        await asyncio.sleep(60)
    assert len(closed) == 1
    assert closed[0] < 1
