"""Sessions and batches that are called back: sooner, with fewer looks, and no worse off when callbacks misbehave."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.emulated import emulated, session_on
from tests.helpers.receiving import SECRET, called_back, receiving
from wanasync import (
    CallbackError,
    ConfigError,
    Delivery,
    Event,
    Outcome,
    OutcomeState,
    SessionError,
    SubmissionUnknownError,
    TaskStatus,
    VideoRequest,
    WanSession,
)
from wanasync.emulator import Emulator, Trouble
from wanasync.engine import callbacks as engine
from wanasync.events import SubmissionFound
from wanasync.testing import START, now, virtual_time
from wanasync.webhooks import CallbackReceiver, LocalMailbox

CATS = [f"cat {number}" for number in range(60)]
LOST_SECOND = Trouble.script(submit=["ok", "lost_reply"])


async def outcomes(wan: WanSession, to: Path, prompts: list[str] = CATS, **options: Any) -> list[Outcome]:
    async with wan.batch(prompts, to, **options) as batch:
        return [outcome async for outcome in batch]


def states(told: list[Outcome]) -> Counter[OutcomeState]:
    return Counter(outcome.state for outcome in told)


async def put(receiver: CallbackReceiver, key: str, task_id: str, status: str = "completed") -> int:
    body = json.dumps({"id": task_id, "status": status}).encode()
    return (await receiver.handle("POST", receiver.url(key, now()), {}, body))[0]


# Following.


@virtual_time
async def test_the_end_is_known_at_once_and_by_one_look() -> None:
    async with called_back(durations=100) as on:
        tasks = [await on.wan.submit(cat) for cat in CATS[:20]]
        began = now()
        await asyncio.gather(*(task.wait() for task in tasks))
        assert now() - began <= 100.1
        settled = on.wan.statistics().poller.polls
        again = [await on.wan.submit(cat) for cat in CATS]
        began = now()
        await asyncio.gather(*(task.wait() for task in again))
        assert now() - began <= 100 + len(CATS) / on.wan.config.polls_per_second + 0.1
        assert on.wan.statistics().poller.polls - settled <= len(CATS)


@virtual_time
async def test_each_submission_carries_its_own_url_and_a_given_one_stays() -> None:
    async with called_back() as on:
        await on.wan.submit("a cat")
        await on.wan.submit("a cat")
        await on.wan.submit(VideoRequest("a cat", callback_url="https://hooks.example.com/mine"))
        sent = [entry.request["callback_url"] for entry in on.emu.ledger.entries]
        assert len(set(sent)) == 3
        assert [url.startswith(on.receiver.public_url) for url in sent] == [True, True, False]
        assert sent[2] == "https://hooks.example.com/mine"


@virtual_time
async def test_a_session_without_callbacks_sends_no_url() -> None:
    async with emulated() as (emu, wan):
        await wan.submit("a cat")
        assert "callback_url" not in emu.ledger.entries[0].request
        with pytest.raises(CallbackError, match="CallbackReceiver"):
            await wan.resolve("wan-0123456789abcdef")


@virtual_time
async def test_a_callback_that_overtakes_the_submissions_reply_is_not_lost() -> None:
    """The task fails at once, its callback comes, and only then the reply that tells its id."""
    slow = Trouble.script(submit=["slow=30"], task=["failed"])
    async with called_back(trouble=slow, durations=1) as on:
        began = now()
        task = await on.wan.submit("a cat")
        assert on.receiver.statistics().accepted == 1
        snapshot = [update async for update in task.updates()][-1]
        assert snapshot.status is TaskStatus.FAILED
        assert now() - began <= 30.1


@virtual_time
async def test_lost_and_doubled_and_late_callbacks_cost_looks_and_nothing_else(tmp_path: Path) -> None:
    trouble = Trouble(lost_callbacks=0.05, duplicate_callbacks=0.2, late_callbacks=(0.1, 60))
    async with called_back(trouble=trouble) as on:
        told = await outcomes(on.wan, tmp_path)
        assert states(told) == {OutcomeState.SAVED: len(CATS)}
        assert len({outcome.task_id for outcome in told}) == len(on.emu.ledger.entries) == len(CATS)
        delivered = on.emu.ledger.callbacks_delivered
        assert {0, 1, 2} <= {delivered[entry.task_id] for entry in on.emu.ledger.entries}


@virtual_time
async def test_where_no_callback_ever_comes_polling_finds_all(tmp_path: Path) -> None:
    async with called_back(callbacks=False) as on:
        assert states(await outcomes(on.wan, tmp_path, CATS[:10])) == {OutcomeState.SAVED: 10}


@virtual_time
async def test_a_delivery_resolves_nothing_by_itself() -> None:
    """Somebody has the URL of a task that is under way, and says for an hour that it has failed, and other things."""
    async with called_back(durations=3000) as on:
        task = await on.wan.submit("a cat")
        token = on.emu.ledger.entries[0].request["callback_url"]
        waiting = asyncio.create_task(task.wait())
        for number in range(720):
            said = {"id": task.id if number % 2 else f"task-{number}", "status": "failed"}
            assert (await on.receiver.handle("POST", token, {}, json.dumps(said).encode()))[0] == 204
            await asyncio.sleep(4)
        assert not waiting.done()
        assert on.emu.ledger.counts["query"] < 60
        assert (await waiting).status is TaskStatus.COMPLETED


@virtual_time
async def test_a_flood_of_forged_deliveries_resolves_nothing() -> None:
    async with called_back(durations=100) as on:
        task = await on.wan.submit("a cat")
        real = on.emu.ledger.entries[0].request["callback_url"]
        body = json.dumps({"id": task.id, "status": "failed"}).encode()
        for number in range(10_000):
            forged = real[:-8] + f"{number:08d}"
            assert (await on.receiver.handle("POST", forged, {}, body))[0] == 404
        await asyncio.sleep(50)
        assert on.emu.ledger.counts["query"] == 0
        assert (await task.wait()).status is TaskStatus.COMPLETED


@virtual_time
async def test_a_mailbox_out_of_order_is_read_again_later() -> None:
    class Flaky(LocalMailbox):
        failures = 3

        async def watch(self) -> AsyncGenerator[Delivery, None]:
            if self.failures:
                self.failures -= 1
                raise CallbackError("the disk is gone")
            async for delivery in super().watch():
                yield delivery

    async with called_back(durations=100, receiver={"mailbox": Flaky()}) as on:
        began = now()
        await (await on.wan.submit("a cat")).wait()
        assert now() - began <= 100.1


@virtual_time
@pytest.mark.parametrize("reachable", [True, False])
async def test_an_address_that_nobody_calls_is_told_of(reachable: bool, caplog: pytest.LogCaptureFixture) -> None:
    async with called_back(callbacks=reachable, durations=100) as on:
        tasks = [await on.wan.submit(cat) for cat in CATS[:15]]
        await asyncio.gather(*(task.wait() for task in tasks))
        told = [record.getMessage() for record in caplog.records if "called back" in record.getMessage()]
        assert len(told) == (0 if reachable else 1)
        assert all(on.receiver.public_url in line for line in told)


# Lost replies.


@virtual_time
async def test_a_lost_submission_is_found_by_its_callback() -> None:
    seen: list[Event] = []
    async with called_back(trouble=LOST_SECOND, durations=100, session={"on_event": seen.append}) as on:
        await on.wan.submit("a cat")
        with pytest.raises(SubmissionUnknownError) as lost:
            await on.wan.submit("a dog")
        began = now()
        task = await on.wan.resolve(lost.value.idempotency_key)
        assert now() - began <= 100.1
        assert on.emu.ledger.entries[1].task_id == task.id
        assert (await task.wait()).status is TaskStatus.COMPLETED
        again = await on.wan.resolve(lost.value.idempotency_key)
        assert again.id == task.id
        found = [event for event in seen if isinstance(event, SubmissionFound)]
        assert {(event.task_id, event.by) for event in found} == {(task.id, "callback")}


@virtual_time
async def test_generate_waits_for_the_callback_of_a_lost_submission(tmp_path: Path) -> None:
    async with called_back(trouble=Trouble.script(submit=["lost_reply"])) as on:
        video = await on.wan.generate("a dog", to=tmp_path / "dog.mp4")
        assert video.task_id == on.emu.ledger.entries[0].task_id
        assert video.sha256 == on.emu.sha256(video.task_id)


@virtual_time
async def test_generate_tells_at_once_what_nobody_will_call_back_for(tmp_path: Path) -> None:
    async with called_back(trouble=Trouble.script(submit=["lost_reply"])) as on:
        began = now()
        with pytest.raises(SubmissionUnknownError):
            await on.wan.generate(VideoRequest("a dog", callback_url="https://hooks.example.com/mine"), to=tmp_path)
        assert now() == began


@virtual_time
async def test_a_submission_that_made_no_task_stays_unknown() -> None:
    async with called_back(trouble=Trouble.script(submit=["html_502"])) as on:
        with pytest.raises(SubmissionUnknownError) as lost:
            await on.wan.submit("a dog")
        began = now()
        with pytest.raises(SubmissionUnknownError, match="no callback came within 600 s"):
            await on.wan.resolve(lost.value.idempotency_key, timeout=600)
        assert now() - began == pytest.approx(600)


@virtual_time
async def test_what_was_called_back_is_held_against_what_was_sent() -> None:
    """Whoever has the URL names a task that is none, one that is another's, one of another model, an older one."""
    trouble = Trouble.script(submit=["ok", "ok", "ok", "lost_reply"])
    async with called_back(trouble=trouble, durations=300) as on:
        other = session_on(on.emu)
        async with other:
            older = await other.submit("an older one")
            await asyncio.sleep(120)
            image = VideoRequest("alive", model="wan2.5-image-to-video", image_urls=("https://i.example.com/1.png",))
            foreign = await other.submit(image)
        known = await on.wan.submit("a cat")
        with pytest.raises(SubmissionUnknownError) as lost:
            await on.wan.submit("a dog")
        key = lost.value.idempotency_key
        for task_id in ("task-unified-1-none", known.id, foreign.id, older.id, "not an id"):
            await put(on.receiver, key, task_id)
        began = now()
        task = await on.wan.resolve(key)
        assert task.id == on.emu.ledger.entries[3].task_id
        assert now() - began == pytest.approx(300, abs=0.2)


@virtual_time
async def test_one_task_is_never_found_for_two_submissions() -> None:
    both = Trouble.script(submit=["lost_reply", "html_502"])
    async with called_back(trouble=both, durations=50) as on:
        keys = []
        for prompt in ("a dog", "another dog"):
            with pytest.raises(SubmissionUnknownError) as lost:
                await on.wan.submit(prompt)
            keys.append(lost.value.idempotency_key)
        task = await on.wan.resolve(keys[0])
        await put(on.receiver, keys[1], task.id)
        with pytest.raises(SubmissionUnknownError):
            await on.wan.resolve(keys[1], timeout=60)


@virtual_time
async def test_a_provider_that_is_down_when_it_is_asked_is_asked_again() -> None:
    trouble = Trouble.script(submit=["lost_reply"], query=["http_500"] * 9)
    async with called_back(trouble=trouble, durations=50) as on:
        with pytest.raises(SubmissionUnknownError) as lost:
            await on.wan.submit("a dog")
        assert (await on.wan.resolve(lost.value.idempotency_key)).id == on.emu.ledger.entries[0].task_id


@virtual_time
async def test_waiting_for_a_callback_can_be_cancelled_and_begun_again() -> None:
    async with called_back(trouble=Trouble.script(submit=["lost_reply"]), durations=100) as on:
        with pytest.raises(SubmissionUnknownError) as lost:
            await on.wan.submit("a dog")
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(10):
                    await on.wan.resolve(lost.value.idempotency_key)
        one, other = await asyncio.gather(*(on.wan.resolve(lost.value.idempotency_key) for _ in range(2)))
        assert one.id == other.id


@virtual_time
async def test_closing_the_session_ends_the_waiting_for_a_callback() -> None:
    async with called_back(trouble=Trouble.script(submit=["lost_reply"]), durations=100) as on:
        with pytest.raises(SubmissionUnknownError) as lost:
            await on.wan.submit("a dog")
        waiting = asyncio.create_task(on.wan.resolve(lost.value.idempotency_key))
        await asyncio.sleep(1)
        await on.wan.close()
        with pytest.raises(SessionError):
            await waiting


# Batches.


@virtual_time
async def test_a_batchs_lost_submissions_are_found_without_a_list(tmp_path: Path) -> None:
    seen: list[Event] = []
    trouble = Trouble(lost_reply_submits=0.3, lost_callbacks=0.05, duplicate_callbacks=0.2)
    async with called_back(trouble=trouble, task_list=False, session={"on_event": seen.append}) as on:
        told = await outcomes(on.wan, tmp_path)
        lost = {entry.task_id for entry in on.emu.ledger.entries} - {outcome.task_id for outcome in told}
        # Unknown are only those whose callback was lost as well.
        assert states(told)[OutcomeState.UNKNOWN] == len(lost) <= 3
        found = [event for event in seen if isinstance(event, SubmissionFound)]
        assert {event.by for event in found} == {"callback"}
        assert len(found) >= 10
        for outcome in told:
            if outcome.video:
                (entry,) = [entry for entry in on.emu.ledger.entries if entry.task_id == outcome.task_id]
                assert outcome.request
                assert entry.request["prompt"] == outcome.request.prompt
                assert outcome.video.sha256 == on.emu.sha256(entry.task_id)


@virtual_time
async def test_one_that_was_called_back_while_nobody_ran_is_found_by_the_next_run(tmp_path: Path) -> None:
    """The web worker goes on receiving; the process that waits comes back."""
    settings: dict[str, Any] = {"task_list": False, "trouble": Trouble.script(submit=["ok", "lost_reply"])}
    async with (
        receiving(mailbox=tmp_path / "mailbox.db") as receiver,
        Emulator(epoch=START, local_callbacks=True, **settings) as emu,
    ):
        shared: dict[str, Any] = {"public_url": receiver.public_url, "secret": SECRET, "clock": now}
        elsewhere = CallbackReceiver(mailbox=tmp_path / "mailbox.db", **shared)
        async with session_on(emu, callbacks=elsewhere) as wan, wan.batch(CATS[:5], tmp_path / "videos"):
            await asyncio.sleep(20)
        await asyncio.sleep(3600)
        async with session_on(emu, callbacks=elsewhere) as wan:
            told = await outcomes(wan, tmp_path / "videos", CATS[:5])
        assert states(told) == {OutcomeState.SAVED: 5}
        assert len(emu.ledger.entries) == 5


@virtual_time
async def test_a_replay_has_the_very_same_body(tmp_path: Path) -> None:
    """A host that honours the key refuses it with another body."""
    trouble = Trouble.script(submit=["ok", "lost_reply", "lost_reply"])
    async with called_back(trouble=trouble, session={"on_unknown": "replay"}) as on:
        assert states(await outcomes(on.wan, tmp_path, CATS[:4])) == {OutcomeState.SAVED: 4}
        assert len(on.emu.ledger.entries) == 4


@virtual_time
async def test_a_replay_by_the_next_run_has_the_very_same_body(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"task_list": False, "callbacks": False, "trouble": LOST_SECOND}
    async with receiving() as receiver, Emulator(epoch=START, local_callbacks=True, **settings) as emu:
        async with session_on(emu, callbacks=receiver) as wan:
            assert states(await outcomes(wan, tmp_path, CATS[:3]))[OutcomeState.UNKNOWN] == 1
        await asyncio.sleep(20 * 3600)
        async with session_on(emu, callbacks=receiver, on_unknown="replay") as wan:
            assert states(await outcomes(wan, tmp_path, CATS[:3])) == {OutcomeState.SAVED: 3}
        assert len(emu.ledger.entries) == 3


@virtual_time
async def test_another_items_task_is_not_taken_for_a_lost_one(tmp_path: Path) -> None:
    """Whoever has the lost one's URL names the task of the item before it; the provider has made none."""
    trouble = Trouble.script(submit=["ok", "html_502"])
    async with called_back(trouble=trouble, task_list=False, durations=10_000) as on:
        desk = on.wan._desk
        assert desk is not None
        async with on.wan.batch(CATS[:2], tmp_path) as batch:
            await asyncio.sleep(60)
            (key,) = desk._listeners
            await put(on.receiver, key, on.emu.ledger.entries[0].task_id)
            told = [await anext(batch)]
        assert states(told) == {OutcomeState.UNKNOWN: 1}
        assert now() - START == pytest.approx(engine.CALLBACK_WAIT, abs=30)


@virtual_time
async def test_an_item_with_a_callback_url_of_its_own_is_not_waited_for(tmp_path: Path) -> None:
    request = VideoRequest("a cat", callback_url="https://hooks.example.com/mine")
    async with called_back(trouble=Trouble.script(submit=["lost_reply"]), task_list=False) as on:
        async with on.wan.batch([request], tmp_path) as batch:
            assert states([outcome async for outcome in batch]) == {OutcomeState.UNKNOWN: 1}
        assert now() - START < 60


@virtual_time
async def test_leaving_a_batch_that_waits_for_a_callback_loses_nothing(tmp_path: Path) -> None:
    trouble = Trouble.script(submit=["lost_reply"])
    async with called_back(trouble=trouble, task_list=False, durations=300) as on:
        async with on.wan.batch(CATS[:1], tmp_path):
            await asyncio.sleep(100)
        told = await outcomes(on.wan, tmp_path, CATS[:1])
        assert states(told) == {OutcomeState.SAVED: 1}
        assert len(on.emu.ledger.entries) == 1


# What is remembered.


@virtual_time
async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "REMEMBERED", 100)
    async with called_back(durations=50, trouble=Trouble.script(submit=["lost_reply"])) as on:
        with pytest.raises(SubmissionUnknownError) as lost:
            await on.wan.submit("a dog")
        waiting = asyncio.create_task(on.wan.resolve(lost.value.idempotency_key))
        for number in range(1000):
            await put(on.receiver, f"wan-{number:040x}", f"task-{number}")
        desk = on.wan._desk
        assert desk is not None
        await asyncio.sleep(1)
        assert len(desk._said) <= 100
        # The one that is waited for is heard all the same.
        assert (await waiting).id == on.emu.ledger.entries[0].task_id


def test_a_receiver_that_the_provider_can_not_reach_is_refused() -> None:
    receiver = CallbackReceiver(public_url="http://127.0.0.1:8000/hooks", secret=SECRET)
    with pytest.raises(ConfigError, match="public_url"):
        WanSession("a-key", "https://api.example.com/v1", callbacks=receiver)
