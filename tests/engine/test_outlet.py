"""Batches whose videos go to an object store: the same promises, on a real S3 server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.s3 import S3, refuse, s3, s3_machine, slow_down
from wanasync import BatchHistory, Config, DownloadError, JournalError, Outcome, OutcomeState, WanSession
from wanasync.emulator import Emulator

__all__ = ["s3", "s3_machine"]

PROMPTS = [f"Cat number {number}" for number in range(4)]


def emulator(**options: Any) -> Emulator:
    return Emulator(durations=0.05, estimated_time=1, queue_time=0.01, **options)


def session(emu: Emulator) -> WanSession:
    return WanSession(config=Config(api_key=emu.api_key, base_url=emu.base_url))


async def run(emu: Emulator, s3: S3, state: Path, prompts: list[str] = PROMPTS, **options: Any) -> list[Outcome]:
    async with session(emu) as wan, wan.batch(prompts, to=s3.url, state=state, **options) as batch:
        return [outcome async for outcome in batch]


def films(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*.mp4"))


async def test_a_batch_goes_to_the_store_and_keeps_its_journal_here(s3: S3, tmp_path: Path) -> None:
    async with emulator() as emu:
        outcomes = await run(emu, s3, tmp_path / "state")
        assert {outcome.state for outcome in outcomes} == {OutcomeState.SAVED}
        videos = [outcome.video for outcome in outcomes if outcome.video]
        assert {video.location.removeprefix(f"{s3.url}/"): video.bytes for video in videos} == s3.objects()
        assert films(tmp_path / "state") == []

        again = await run(emu, s3, tmp_path / "state")
        assert {(outcome.state, outcome.resumed) for outcome in again} == {(OutcomeState.SAVED, True)}
        assert {outcome.video.url for outcome in again if outcome.video} == {video.url for video in videos}
        assert len(emu.ledger.entries) == len(PROMPTS)
    async with BatchHistory(tmp_path / "state") as history:
        assert history.url == s3.url
        told = [outcome.video.url async for outcome in history.outcomes() if outcome.video]
        assert sorted(filter(None, told)) == sorted(str(video.url) for video in videos)


async def test_an_object_that_is_gone_is_fetched_anew_and_not_paid_again(s3: S3, tmp_path: Path) -> None:
    async with emulator() as emu:
        await run(emu, s3, tmp_path)
        before = s3.objects()
        gone = min(before)
        s3.client.delete_object(Bucket=s3.bucket, Key=f"films/{gone}")
        outcomes = await run(emu, s3, tmp_path)
        assert s3.objects() == before
        assert sorted(outcome.resumed for outcome in outcomes) == [False, True, True, True]
        assert not emu.ledger.paid_twice()


async def test_a_name_that_is_a_strangers_costs_nothing(s3: S3, tmp_path: Path) -> None:
    s3.place("0001-cat-number-0.mp4", b"a stranger's")
    async with emulator() as emu:
        outcomes = await run(emu, s3, tmp_path)
        states = {outcome.index: outcome.state for outcome in outcomes}
        assert states[0] is OutcomeState.REJECTED
        assert len(emu.ledger.entries) == 3
    (rejected,) = (outcome for outcome in outcomes if outcome.index == 0)
    assert "is there already" in str(rejected.error)
    assert s3.content("0001-cat-number-0.mp4") == b"a stranger's"


async def test_a_store_that_refuses_keeps_the_video_for_the_next_run(s3: S3, tmp_path: Path) -> None:
    s3.troubles += [refuse]
    async with emulator() as emu:
        (outcome,) = await run(emu, s3, tmp_path, PROMPTS[:1])
        assert outcome.state is OutcomeState.PENDING
        assert isinstance(outcome.error, DownloadError)
        assert films(tmp_path) == ["0001-cat-number-0.mp4"]
        assert s3.objects() == {}
        (again,) = await run(emu, s3, tmp_path, PROMPTS[:1])
        assert again.state is OutcomeState.SAVED
        assert len(s3.objects()) == 1
        assert films(tmp_path) == []
        assert len(emu.ledger.entries) == 1


async def test_a_store_that_asks_to_slow_down_gets_every_video_once(s3: S3, tmp_path: Path) -> None:
    s3.troubles += [slow_down] * 3
    async with emulator() as emu:
        outcomes = await run(emu, s3, tmp_path)
    assert [outcome.state for outcome in outcomes] == [OutcomeState.SAVED] * 4
    assert len(s3.objects()) == 4


async def test_two_batches_of_one_prefix_do_not_touch_each_others_videos(s3: S3, tmp_path: Path) -> None:
    async with emulator() as emu:
        both = await asyncio.gather(
            run(emu, s3, tmp_path / "a", name="a/{index}"), run(emu, s3, tmp_path / "b", name="b/{index}")
        )
    assert {outcome.state for outcomes in both for outcome in outcomes} == {OutcomeState.SAVED}
    assert len(s3.objects()) == 8


async def test_a_journal_belongs_to_one_place(s3: S3, tmp_path: Path) -> None:
    async with emulator() as emu:
        await run(emu, s3, tmp_path, PROMPTS[:1])
        async with session(emu) as wan:
            with pytest.raises(JournalError, match=f"go to {s3.url}, not to"):
                await wan.batch(PROMPTS, to=tmp_path).__aenter__()


async def test_one_video_goes_to_an_object_and_replaces_none(s3: S3, tmp_path: Path) -> None:
    async with emulator() as emu, session(emu) as wan:
        video = await wan.generate("A cat", to=f"{s3.url}/cat.mp4", state=tmp_path)
        assert video.url == f"{s3.url}/cat.mp4"
        assert s3.objects() == {"cat.mp4": video.bytes}
        with pytest.raises(DownloadError, match="exists already"):
            await wan.generate("A dog", to=f"{s3.url}/cat.mp4", state=tmp_path)
        assert len(emu.ledger.entries) == 1
        saved = await wan.attach(video.task_id).save(f"{s3.url}/", state=tmp_path)
        assert s3.objects()[f"{video.task_id}.mp4"] == saved.bytes
    assert films(tmp_path) == []


async def test_names_follow_the_template_and_stay(tmp_path: Path) -> None:
    async with emulator() as emu, session(emu) as wan:
        for prompts in (PROMPTS[:2], ["A dog", *PROMPTS[:2]]):
            async with wan.batch(prompts, to=tmp_path, name="{index:03d}-{slug:.6}") as batch:
                outcomes = [outcome async for outcome in batch]
        assert {outcome.state for outcome in outcomes} == {OutcomeState.SAVED}
        assert films(tmp_path) == ["000-a-dog.mp4", "000-cat-nu.mp4", "001-cat-nu.mp4"]


async def test_a_template_that_gives_two_items_one_name_costs_one(tmp_path: Path) -> None:
    async with emulator() as emu, session(emu) as wan:
        async with wan.batch(["A cat", "A cat?"], to=tmp_path, name="{slug}") as batch:
            outcomes = {outcome.index: outcome async for outcome in batch}
        assert outcomes[0].state is OutcomeState.SAVED
        assert outcomes[1].state is OutcomeState.REJECTED
        assert "what the template makes of item 2 and of item 1" in str(outcomes[1].error)
        assert len(emu.ledger.entries) == 1
