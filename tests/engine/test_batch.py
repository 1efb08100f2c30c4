from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.helpers.emulated import emulated, session_on
from wanasync import (
    AuthenticationError,
    BatchItem,
    BudgetExceededError,
    InsufficientCreditError,
    JournalError,
    Limits,
    LinkExpiredError,
    Outcome,
    OutcomeState,
    RequestValidationError,
    SessionError,
    SubmissionUnknownError,
    VideoRequest,
    WanSession,
)
from wanasync.emulator import Emulator, FixedWindow, Trouble
from wanasync.engine.batch import Requests
from wanasync.events import Event, ItemStarted, SubmissionAccepted
from wanasync.testing import START, now, virtual_time

CATS = [f"cat {number}" for number in range(10)]


async def outcomes(wan: WanSession, requests: Requests, to: Path, **options: float) -> list[Outcome]:
    async with wan.batch(requests, to, **options) as batch:  # type: ignore[arg-type]
        return [outcome async for outcome in batch]


def states(told: list[Outcome]) -> Counter[OutcomeState]:
    return Counter(outcome.state for outcome in told)


@virtual_time
async def test_each_prompt_becomes_a_video_and_is_paid_once(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        told = await outcomes(wan, CATS, tmp_path)
        assert states(told) == {OutcomeState.SAVED: 10}
        assert sorted(outcome.index for outcome in told) == list(range(10))
        for outcome in told:
            assert outcome.video is not None
            assert outcome.video.path.stat().st_size == outcome.video.bytes
        assert len(emu.ledger.entries) == 10
        assert not emu.ledger.paid_twice()


@virtual_time
async def test_the_same_call_again_does_nothing_twice(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        first = await outcomes(wan, CATS, tmp_path)
        fetched = emu.ledger.counts["download"]
        again = await outcomes(wan, CATS, tmp_path)
        assert all(outcome.resumed for outcome in again)
        assert {outcome.path for outcome in again} == {outcome.path for outcome in first}
        assert {outcome.video.sha256 for outcome in again if outcome.video} == {
            outcome.video.sha256 for outcome in first if outcome.video
        }
        assert len(emu.ledger.entries) == 10
        assert emu.ledger.counts["download"] == fetched


@virtual_time
async def test_added_removed_and_reordered_lines_keep_their_items(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        await outcomes(wan, CATS, tmp_path)
        told = await outcomes(wan, ["new", *reversed(CATS[2:])], tmp_path)
        assert states(told) == {OutcomeState.SAVED: 9}
        assert len(emu.ledger.entries) == 11


@virtual_time
async def test_equal_lines_are_items_of_their_own(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        told = await outcomes(wan, ["same", "same", "same"], tmp_path)
        assert len({outcome.path for outcome in told}) == 3
        await outcomes(wan, ["same", "same", "same", "same"], tmp_path)
        assert len(emu.ledger.entries) == 4


@virtual_time
async def test_a_left_batch_goes_on_where_it_was(tmp_path: Path) -> None:
    async with Emulator(epoch=START) as emu:
        async with session_on(emu) as wan, wan.batch(CATS, tmp_path) as batch:
            async for _ in batch:
                break
        assert len(emu.ledger.entries) == 10
        async with session_on(emu) as wan:
            told = await outcomes(wan, CATS, tmp_path)
        assert states(told) == {OutcomeState.SAVED: 10}
        assert len(emu.ledger.entries) == 10
        assert max(emu.ledger.downloads.values()) <= 2


@virtual_time
async def test_a_batch_cancelled_at_any_moment_pays_nothing_twice(tmp_path: Path) -> None:
    """Cut the run after more and more of its way, over one journal, until it is through."""
    async with Emulator(epoch=START, limiter=FixedWindow(3, per=20), latency=0.5, durations=30.0) as emu:
        for patience in range(1, 60, 3):
            async with session_on(emu) as wan:
                try:
                    async with asyncio.timeout(patience):
                        await outcomes(wan, CATS, tmp_path)
                except TimeoutError:
                    continue
        async with session_on(emu) as wan:
            told = await outcomes(wan, CATS, tmp_path)
        assert states(told) == {OutcomeState.SAVED: 10}
        assert len(emu.ledger.entries) == 10


@virtual_time
async def test_a_removed_file_is_fetched_again_and_not_paid_again(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        first = await outcomes(wan, CATS, tmp_path)
        gone = first[3].path
        assert gone is not None
        gone.unlink()
        told = await outcomes(wan, CATS, tmp_path)
        assert states(told) == {OutcomeState.SAVED: 10}
        assert gone.exists()
        assert len(emu.ledger.entries) == 10


@virtual_time
async def test_one_bad_item_is_an_outcome(tmp_path: Path) -> None:
    async with emulated(trouble=Trouble.script(submit=["ok", "http_400"])) as (emu, wan):
        told = await outcomes(wan, ["good", "refused", "", "x" * 2001, 17, "fine"], tmp_path)  # type: ignore[list-item]
        assert states(told) == {OutcomeState.SAVED: 2, OutcomeState.REJECTED: 4}
        invalid = [outcome for outcome in told if isinstance(outcome.error, RequestValidationError)]
        assert sorted(outcome.index for outcome in invalid) == [2, 3, 4]
        assert len(emu.ledger.entries) == 2
        again = await outcomes(wan, ["good", "refused", "fine"], tmp_path)
        assert states(again) == {OutcomeState.SAVED: 3}


@virtual_time
async def test_clashing_ids_and_files_spoil_no_other_item(tmp_path: Path) -> None:
    items = [
        BatchItem(VideoRequest("a"), id="one"),
        BatchItem(VideoRequest("b"), id="one"),
        BatchItem(VideoRequest("c"), file="clips/c.mp4"),
        BatchItem(VideoRequest("d"), file="clips/C.mp4"),
        BatchItem(VideoRequest("e"), file="../outside.mp4"),
        BatchItem(VideoRequest("f")),
    ]
    async with emulated() as (emu, wan):
        told = await outcomes(wan, items, tmp_path)
        assert states(told) == {OutcomeState.SAVED: 3, OutcomeState.REJECTED: 3}
        assert len(emu.ledger.entries) == 3
        assert (tmp_path / "one.mp4").exists()
        assert (tmp_path / "clips" / "c.mp4").exists()
        assert not (tmp_path.parent / "outside.mp4").exists()


@virtual_time
async def test_a_strangers_file_under_a_wanted_name_costs_nothing_but_its_own_item(tmp_path: Path) -> None:
    (tmp_path / "c.mp4").write_text("somebody's own")
    items = [
        BatchItem(VideoRequest("c"), file="c.mp4"),
        BatchItem(VideoRequest("d"), file="d.mp4"),
        BatchItem(VideoRequest("e")),
    ]
    async with emulated() as (emu, wan):
        told = await outcomes(wan, items, tmp_path)
        assert states(told) == {OutcomeState.SAVED: 2, OutcomeState.REJECTED: 1}
        (rejected,) = [outcome for outcome in told if outcome.state is OutcomeState.REJECTED]
        assert isinstance(rejected.error, RequestValidationError)
        assert rejected.error.field == "file"
        assert rejected.index == 0
        assert len(emu.ledger.entries) == 2
        assert (tmp_path / "c.mp4").read_text() == "somebody's own"

        (tmp_path / "c.mp4").rename(tmp_path / "mine.mp4")
        told = await outcomes(wan, items, tmp_path)
        assert states(told) == {OutcomeState.SAVED: 3}
        assert len(emu.ledger.entries) == 3


@virtual_time
async def test_failed_tasks_are_told_and_not_bought_again(tmp_path: Path) -> None:
    async with emulated(trouble=Trouble.script(task=["failed=content_policy_violation", "failed_without_error"])) as (
        emu,
        wan,
    ):
        for _ in range(2):
            told = await outcomes(wan, CATS, tmp_path)
            assert states(told) == {OutcomeState.SAVED: 8, OutcomeState.FAILED: 2}
        assert len(emu.ledger.entries) == 10
        assert any("content_policy_violation" in str(outcome.error) for outcome in told)


@virtual_time
async def test_a_lost_reply_is_held_and_told_each_time(tmp_path: Path) -> None:
    trouble = Trouble.script(submit=["ok", "lost_reply", "processed:html_502"])
    async with emulated(trouble=trouble, task_list=False) as (emu, wan):
        for _ in range(2):
            told = await outcomes(wan, CATS, tmp_path)
            assert states(told) == {OutcomeState.SAVED: 8, OutcomeState.UNKNOWN: 2}
        errors = [outcome.error for outcome in told if outcome.state is OutcomeState.UNKNOWN]
        keys = {error.idempotency_key for error in errors if isinstance(error, SubmissionUnknownError)}
        assert keys <= {entry.idempotency_key for entry in emu.ledger.entries}
        assert len(emu.ledger.entries) == 10


@virtual_time
async def test_held_ones_are_resolved_by_replay_later(tmp_path: Path) -> None:
    trouble = Trouble.script(submit=["lost_reply", "processed:html_504"])
    async with Emulator(epoch=START, trouble=trouble, task_list=False) as emu:
        async with session_on(emu) as wan:
            await outcomes(wan, CATS, tmp_path)
        async with session_on(emu, on_unknown="replay") as wan:
            told = await outcomes(wan, CATS, tmp_path)
        assert states(told) == {OutcomeState.SAVED: 10}
        assert len(emu.ledger.entries) == 10
        assert emu.ledger.replays == 2


@virtual_time
async def test_a_wrong_key_stops_after_one_request(tmp_path: Path) -> None:
    async with Emulator() as emu, WanSession("wrong", emu.base_url) as wan:
        async with wan.batch(CATS, tmp_path) as batch:
            told = [outcome async for outcome in batch]
            assert batch.progress().stopped == "key refused"
            assert isinstance(batch.stop_error, AuthenticationError)
        assert states(told) == {OutcomeState.NOT_STARTED: 10}
        assert emu.ledger.counts["submit"] == 1


@virtual_time
async def test_without_credit_what_is_under_way_is_finished(tmp_path: Path) -> None:
    async with emulated(credit=17.0) as (emu, wan):
        async with wan.batch(CATS, tmp_path) as batch:
            told = [outcome async for outcome in batch]
            assert batch.progress().stopped == "no credit"
            assert isinstance(batch.stop_error, InsufficientCreditError)
        assert states(told) == {OutcomeState.SAVED: 3, OutcomeState.NOT_STARTED: 7}
        assert len(emu.ledger.entries) == 3


@virtual_time
async def test_the_budget_holds_over_all_runs(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        for expected in (4, 4, 6):
            async with wan.batch(CATS, tmp_path, budget=5.0 * expected + 2) as batch:
                told = [outcome async for outcome in batch]
                assert batch.progress().stopped == "budget"
                assert isinstance(batch.stop_error, BudgetExceededError)
            assert states(told) == {OutcomeState.SAVED: expected, OutcomeState.NOT_STARTED: 10 - expected}
            assert emu.ledger.credits_used == 5.0 * expected


@virtual_time
async def test_the_budget_is_asked_again_when_the_wait_at_the_gate_is_over(tmp_path: Path) -> None:
    """The second reply tells a higher price while the third item waits for its place."""

    def raise_prices(event: Event) -> None:
        if isinstance(event, SubmissionAccepted):
            emu.prices = dict.fromkeys(emu.prices, 3.0)

    limits = Limits(requests=2, per=60)
    async with Emulator(epoch=START, latency=5.0) as emu, session_on(emu, limits=limits, on_event=raise_prices) as wan:
        told = await outcomes(wan, CATS[:3], tmp_path, budget=32)
        assert states(told) == {OutcomeState.SAVED: 2, OutcomeState.NOT_STARTED: 1}
        assert emu.ledger.credits_used == 20.0


@virtual_time
async def test_what_is_sent_again_may_be_paid_twice_and_counts_twice_in_the_budget(tmp_path: Path) -> None:
    trouble = Trouble.script(submit=["ok", "lost_reply"])
    session = {"on_unknown": "resubmit"}

    async def third_one_later() -> AsyncIterator[str]:
        yield "a"
        yield "b"
        await asyncio.sleep(100)
        yield "c"

    async with emulated(trouble=trouble, idempotency=False, session=session) as (emu, wan):
        told = await outcomes(wan, third_one_later(), tmp_path, budget=15)
        assert states(told) == {OutcomeState.SAVED: 2, OutcomeState.NOT_STARTED: 1}
        assert len(emu.ledger.entries) == 3


@virtual_time
async def test_a_lost_reply_is_not_sent_again_beyond_the_budget(tmp_path: Path) -> None:
    trouble = Trouble.script(submit=["ok", "lost_reply"])
    session = {"on_unknown": "resubmit"}
    async with emulated(trouble=trouble, idempotency=False, session=session) as (emu, wan):
        told = await outcomes(wan, CATS[:2], tmp_path, budget=10)
        assert states(told) == {OutcomeState.SAVED: 1, OutcomeState.UNKNOWN: 1}
        assert len(emu.ledger.entries) == 2
        told = await outcomes(wan, CATS[:2], tmp_path, budget=10)
        assert states(told) == {OutcomeState.SAVED: 1, OutcomeState.UNKNOWN: 1}
        assert len(emu.ledger.entries) == 2


@virtual_time
async def test_the_limit_is_for_this_run(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        for saved in (4, 8, 10):
            told = await outcomes(wan, CATS, tmp_path, limit=4)
            assert states(told)[OutcomeState.SAVED] == saved
            assert len(emu.ledger.entries) == saved


@virtual_time
async def test_stop_finishes_what_is_under_way(tmp_path: Path) -> None:
    async with emulated(limiter=FixedWindow(4, per=600)) as (_, wan), wan.batch(CATS, tmp_path) as batch:
        told = []
        async for outcome in batch:
            told.append(outcome)
            batch.stop("enough")
        assert states(told) == {OutcomeState.SAVED: 4, OutcomeState.NOT_STARTED: 6}
        assert batch.progress().stopped == "enough"


@virtual_time
@pytest.mark.parametrize("turns", range(5))
async def test_a_batch_stopped_while_its_ticket_comes_submits_nothing_more(tmp_path: Path, turns: int) -> None:
    def stop_in(turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(stop_in, turns - 1)
            return
        batch.stop("enough")
        under_way.append(batch.progress().submitting)

    def hear(event: Event) -> None:
        if isinstance(event, ItemStarted):
            stop_in(turns)

    under_way: list[int] = []
    async with emulated(session={"on_event": hear}) as (emu, wan), wan.batch(CATS, tmp_path) as batch:
        await batch.wait()
        assert len(emu.ledger.entries) == under_way[0]


@virtual_time
async def test_one_process_at_a_time(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        async with wan.batch(CATS, tmp_path):
            with pytest.raises(JournalError, match="in use"):
                async with wan.batch(CATS, tmp_path):
                    pass
        assert len(emu.ledger.entries) <= 10


@virtual_time
async def test_a_directory_that_cannot_be_written_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    async with emulated() as (emu, wan):
        with pytest.raises(JournalError):
            async with wan.batch(CATS, tmp_path / "file"):
                pass
        assert emu.ledger.counts["submit"] == 0


@virtual_time
async def test_lists_are_read_no_faster_than_they_are_submitted(tmp_path: Path) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"cat {read}"

    async with emulated(limiter=FixedWindow(5, per=60)) as (_, wan), wan.batch(endless(), tmp_path) as batch:
        async for _outcome in batch:
            break
        assert read <= 1000
        assert batch.progress().total is None


@virtual_time
async def test_an_async_list_is_read_as_it_comes(tmp_path: Path) -> None:
    async def slowly() -> AsyncIterator[str]:
        for cat in CATS[:3]:
            yield cat
            await asyncio.sleep(1000)

    async with emulated() as (_, wan), wan.batch(slowly(), tmp_path) as batch:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async for _outcome in batch:
            break
        assert loop.time() - began < 1000
        rest = [outcome async for outcome in batch]
        assert states(rest) == {OutcomeState.SAVED: 2}


@virtual_time
async def test_a_list_that_breaks_is_raised_after_what_was_paid_is_saved(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[str]:
        for cat in CATS[:4]:
            yield cat
        await asyncio.sleep(60)
        raise LookupError("the list's own fault")

    async with emulated() as (emu, wan), wan.batch(broken(), tmp_path) as batch:
        with pytest.raises(LookupError, match="own fault"):
            await batch.wait()
        assert batch.progress().saved == len(emu.ledger.entries) == 4


@virtual_time
async def test_what_a_list_gave_before_it_broke_is_told(tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield from CATS[:4]
        raise LookupError("the list's own fault")

    async with emulated() as (_, wan), wan.batch(broken(), tmp_path) as batch:
        with pytest.raises(LookupError, match="own fault"):
            await batch.wait()
        progress = batch.progress()
        assert progress.saved + progress.not_started == progress.total == 4


@virtual_time
async def test_a_single_request_is_no_list(tmp_path: Path) -> None:
    async with emulated() as (_, wan):
        for single in ("A cat", VideoRequest("A cat")):
            with pytest.raises(RequestValidationError, match="list"):
                wan.batch(single, tmp_path)  # type: ignore[arg-type]


@virtual_time
async def test_an_empty_list_ends_at_once(tmp_path: Path) -> None:
    async with emulated() as (_, wan):
        assert await outcomes(wan, [], tmp_path) == []


@virtual_time
async def test_a_provider_never_reached_ends_it(tmp_path: Path) -> None:
    async with WanSession("a-key", "http://127.0.0.1:9/v1") as wan, wan.batch(CATS, tmp_path) as batch:
        told = [outcome async for outcome in batch]
        assert states(told) == {OutcomeState.NOT_STARTED: 10}
        assert batch.progress().stopped == "the provider can't be reached"


@virtual_time
async def test_links_found_dead_before_their_time_are_asked_for_again_by_the_next_run(tmp_path: Path) -> None:
    async with emulated(trouble=Trouble(expired_downloads=1.0)) as (emu, wan):
        told = await outcomes(wan, CATS[:2], tmp_path)
        assert states(told) == {OutcomeState.PENDING: 2}
        assert all(isinstance(outcome.error, LinkExpiredError) for outcome in told)
        emu.trouble = Trouble()
        assert states(await outcomes(wan, CATS[:2], tmp_path)) == {OutcomeState.SAVED: 2}
        assert len(emu.ledger.entries) == 2


@virtual_time
async def test_links_dead_after_their_time_are_told_as_expired(tmp_path: Path) -> None:
    async with emulated(trouble=Trouble(expired_downloads=1.0)) as (_, wan):
        await outcomes(wan, CATS[:2], tmp_path)
        await asyncio.sleep(25 * 3600)
        assert states(await outcomes(wan, CATS[:2], tmp_path)) == {OutcomeState.EXPIRED: 2}


@virtual_time
async def test_a_video_host_that_is_down_for_hours_is_waited_for(tmp_path: Path) -> None:
    # Two: each tries some eighty times an hour.
    async with emulated(trouble=Trouble(reset_downloads=1.0)) as (emu, wan), wan.batch(CATS[:2], tmp_path) as batch:
        await asyncio.sleep(5 * 3600)
        assert batch.progress().saving == 2
        emu.trouble = Trouble()
        told = [outcome async for outcome in batch]
        assert states(told) == {OutcomeState.SAVED: 2}
        assert len(emu.ledger.entries) == 2


@virtual_time
async def test_progress_counts_every_item_once(tmp_path: Path) -> None:
    async with emulated(limiter=FixedWindow(3, per=60)) as (_, wan), wan.batch(CATS, tmp_path, total=10) as batch:
        async for _outcome in batch:
            progress = batch.progress()
            under_way = progress.planned + progress.submitting + progress.following + progress.saving
            assert under_way + progress.saved <= 10
            assert progress.total == 10
        progress = batch.progress()
        assert progress.saved == 10
        assert progress.credits_used == progress.credits_reserved == 50.0
        assert progress.eta_seconds == 0.0


@virtual_time
async def test_wait_reads_to_the_end(tmp_path: Path) -> None:
    async with emulated() as (_, wan), wan.batch(CATS, tmp_path) as batch:
        assert (await batch.wait()).saved == 10
        assert [outcome async for outcome in batch] == []


@virtual_time
async def test_what_was_learned_of_the_limit_is_kept_for_the_next_run(tmp_path: Path) -> None:
    cats = [f"cat {number}" for number in range(40)]
    async with Emulator(epoch=START, limiter=FixedWindow(10, per=60)) as emu:
        async with session_on(emu) as wan:
            await outcomes(wan, cats[:30], tmp_path)
        refused = emu.ledger.refused["submit"]
        async with Emulator(epoch=START, limiter=FixedWindow(10, per=60)) as fresh, session_on(fresh) as wan:
            await outcomes(wan, cats, tmp_path)
            assert fresh.ledger.refused["submit"] <= refused
            assert len(fresh.ledger.entries) == 10


@virtual_time
async def test_a_batch_that_was_not_entered_says_so_and_does_not_hang(tmp_path: Path) -> None:
    async with emulated() as (_, wan):
        batch = wan.batch(CATS, tmp_path)
        with pytest.raises(SessionError, match="async with"):
            await batch.wait()
        async with batch:
            pass
        with pytest.raises(SessionError, match="opened before"):
            await batch.__aenter__()


@virtual_time
@pytest.mark.parametrize("budget", [-1, float("nan")])
async def test_a_budget_that_caps_nothing_is_refused(tmp_path: Path, budget: float) -> None:
    async with emulated() as (_, wan):
        with pytest.raises(RequestValidationError, match="budget"):
            wan.batch(CATS, tmp_path, budget=budget)


@virtual_time
async def test_a_wrong_address_stops_the_batch_before_all_of_it_is_rejected(tmp_path: Path) -> None:
    async with emulated() as (emu, _):
        async with WanSession(api_key=emu.api_key, base_url=f"{emu.base_url}/wrong") as wan:
            told = states(await outcomes(wan, [f"dog {number}" for number in range(200)], tmp_path / "v"))
        assert told[OutcomeState.NOT_STARTED] > told[OutcomeState.REJECTED] > 0
        assert sum(told.values()) == 200


@virtual_time
async def test_a_dict_is_told_how_it_becomes_a_request(tmp_path: Path) -> None:
    async with emulated() as (_, wan):
        (told,) = await outcomes(wan, [{"prompt": "a cat"}], tmp_path)  # type: ignore[list-item]
        assert "VideoRequest(**fields)" in str(told.error)


@virtual_time
async def test_whoever_reads_a_batch_that_is_left_comes_to_its_end(tmp_path: Path) -> None:
    async with emulated(durations=600.0) as (_, wan):
        async with wan.batch(CATS, tmp_path) as batch:
            readers = [asyncio.create_task(batch.wait()) for _ in range(3)]
            await asyncio.sleep(10)
        async with asyncio.timeout(1):
            await asyncio.gather(*readers)


@virtual_time
async def test_nothing_is_begun_by_news_that_come_while_a_batch_is_left(tmp_path: Path) -> None:
    """The first task ends while the second submission, on the wire, is waited for."""

    async def two_late() -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(37)
        yield "b"

    options: dict[str, Any] = {"durations": 30.0, "latency": 5.0, "clip_bytes": 1_000_000, "bandwidth": 50_000}
    async with emulated(**options) as (emu, wan):
        async with wan.batch(two_late(), tmp_path) as batch:
            await asyncio.sleep(37.5)
            assert batch.progress().submitting == 1
        await asyncio.sleep(30)
        assert emu.ledger.counts["download"] == 0
        assert len(emu.ledger.entries) == 2


@virtual_time
async def test_all_who_read_a_batch_come_to_its_end(tmp_path: Path) -> None:
    async with emulated() as (_, wan), wan.batch(CATS, tmp_path) as batch:
        async with asyncio.timeout(3600):
            await asyncio.gather(*(batch.wait() for _ in range(3)))
        assert batch.progress().saved == 10


@virtual_time
async def test_a_batch_that_could_not_be_opened_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    async with emulated() as (_, wan):
        batch = wan.batch(CATS, tmp_path / "taken")
        with pytest.raises(JournalError):
            await batch.__aenter__()
        with pytest.raises(SessionError, match="not open"):
            async with asyncio.timeout(10):
                await batch.wait()


@virtual_time
async def test_a_batch_whose_session_is_closed_ends_and_says_why(tmp_path: Path) -> None:
    """One item is followed, the others wait at the gate."""
    async with Emulator(epoch=START, durations=600.0, limiter=FixedWindow(1, per=3600)) as emu:
        async with session_on(emu) as wan:
            batch = wan.batch(CATS, tmp_path)
            await batch.__aenter__()
            await asyncio.sleep(60)
        async with asyncio.timeout(1):
            told = [outcome async for outcome in batch]
        assert states(told) == {OutcomeState.PENDING: 1, OutcomeState.NOT_STARTED: 9}
        assert isinstance(batch.stop_error, SessionError)
        await batch.__aexit__(None, None, None)
        async with session_on(emu) as wan:
            assert states(await outcomes(wan, CATS[:2], tmp_path)) == {OutcomeState.SAVED: 2}
        assert len(emu.ledger.entries) == 2


@asynccontextmanager
async def provider_of_one_task() -> AsyncIterator[str]:
    """Answers each submission with the same task, which has failed."""

    async def taken(_: web.Request) -> web.Response:
        return web.json_response({"id": "task-1", "status": "pending"})

    async def has_failed(_: web.Request) -> web.Response:
        return web.json_response({"id": "task-1", "status": "failed", "error": {"code": "no", "message": "no"}})

    app = web.Application()
    app.router.add_post("/{path:.*}", taken)
    app.router.add_get("/{path:.*}", has_failed)
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}"


@virtual_time
async def test_a_budget_that_cannot_be_kept_sends_nothing_in_later_runs_either(tmp_path: Path) -> None:
    """The provider does not say what it reserves, which the first reply shows."""
    async with provider_of_one_task() as url, WanSession("a-key", url, clock=now) as wan:
        for _ in range(3):
            told = await outcomes(wan, CATS[:3], tmp_path, budget=10)
            assert states(told) == {OutcomeState.FAILED: 1, OutcomeState.NOT_STARTED: 2}
        assert states(await outcomes(wan, CATS[:3], tmp_path)) == {OutcomeState.FAILED: 3}


@virtual_time
async def test_items_that_were_given_the_same_task_all_end(tmp_path: Path) -> None:
    async with provider_of_one_task() as url, WanSession("a-key", url, clock=now) as wan:
        async with asyncio.timeout(3600):
            told = await outcomes(wan, CATS[:3], tmp_path)
        assert states(told) == {OutcomeState.FAILED: 3}
