"""Batches whose videos go to an object store, saved there by any of several workers."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.cluster.test_worker import no_jobs_left
from tests.cluster.working import BATCH, settled, until_stands, worker_process, working, write_list
from tests.helpers.s3 import S3, s3, s3_machine
from wanasync import BatchHistory, JournalError, PostgresJournal, RequestList
from wanasync.cluster import ProcrastinateQueue, submit
from wanasync.emulator import Emulator

__all__ = ["s3", "s3_machine"]

ITEMS = 12


async def hand_in(dsn: str, to: str, tmp_path: Path, count: int = ITEMS) -> None:
    with RequestList(str(write_list(tmp_path / "list.txt", count))) as requests:
        async with ProcrastinateQueue(dsn) as queue:
            await submit(requests, to, BATCH, queue, PostgresJournal(dsn, BATCH), size=4)


def emulator(**options: object) -> Emulator:
    return Emulator(durations=0.2, queue_time=0.05, **options)  # type: ignore[arg-type]


async def test_two_workers_bring_a_batch_to_a_store(cluster: str, s3: S3, tmp_path: Path) -> None:
    await hand_in(cluster, s3.url, tmp_path)
    here, there = tmp_path / "here", tmp_path / "there"
    async with emulator() as emu, working(cluster, emu, state=here), working(cluster, emu, state=there):
        assert (await settled(cluster, ITEMS)).saved == ITEMS
        await no_jobs_left(cluster)
        assert all(count == 1 for count in emu.ledger.downloads.values())
    async with BatchHistory(journal=PostgresJournal(cluster, BATCH)) as history:
        videos = [outcome.video async for outcome in history.outcomes() if outcome.video]
        assert history.url == s3.url
    assert {video.location.removeprefix(f"{s3.url}/"): video.bytes for video in videos} == s3.objects()
    assert not [*here.rglob("*.mp4"), *there.rglob("*.mp4")]


async def test_saving_is_left_to_a_machine_that_only_saves(cluster: str, s3: S3, tmp_path: Path) -> None:
    await hand_in(cluster, s3.url, tmp_path)
    async with emulator() as emu, working(cluster, emu, until="made", state=tmp_path / "makes"):
        await until_stands(cluster, saving=ITEMS)
        assert s3.objects() == {}
        async with working(cluster, emu, lanes=("wanasync-save",), state=tmp_path / "saves"):
            assert (await settled(cluster, ITEMS)).saved == ITEMS
        assert (len(s3.objects()), len(emu.ledger.entries)) == (ITEMS, ITEMS)


async def test_one_that_is_killed_between_its_uploads_costs_no_video(cluster: str, s3: S3, tmp_path: Path) -> None:
    await hand_in(cluster, s3.url, tmp_path)
    async with emulator() as emu:
        with worker_process(cluster, emu, "--state", str(tmp_path), read_timeout=1.0) as process:
            await until_stands(cluster, saved=1)
            process.send_signal(signal.SIGKILL)
        async with working(cluster, emu, state=tmp_path / "other"):
            status = await settled(cluster, ITEMS)
            assert status.saved + status.unknown == ITEMS
            assert emu.ledger.paid_twice() == {}
            assert len(s3.objects()) == status.saved


async def test_a_name_that_is_a_strangers_costs_nothing_and_an_object_that_is_gone_is_fetched_again(
    cluster: str, s3: S3, tmp_path: Path
) -> None:
    s3.place("0001-a-cat-take-0.mp4", b"a stranger's")
    await hand_in(cluster, s3.url, tmp_path, 4)
    async with emulator() as emu, working(cluster, emu, state=tmp_path):
        await until_stands(cluster, saved=3, planned=1)
        await no_jobs_left(cluster)
        assert len(emu.ledger.entries) == 3
        s3.client.delete_object(Bucket=s3.bucket, Key="films/0001-a-cat-take-0.mp4")
        await hand_in(cluster, s3.url, tmp_path, 4)
        await until_stands(cluster, saved=4)
        assert s3.content("0001-a-cat-take-0.mp4") != b"a stranger's"


async def test_a_batch_stays_where_it_began(cluster: str, s3: S3, tmp_path: Path) -> None:
    await hand_in(cluster, s3.url, tmp_path)
    with pytest.raises(JournalError, match="not to"):
        await hand_in(cluster, str(tmp_path / "videos"), tmp_path)
    await asyncio.sleep(0)
