from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest

from wanasync import CallbackError, Delivery
from wanasync.testing import now, virtual_time
from wanasync.webhooks import CallbackReceiver, FileMailbox, LocalMailbox, Mailbox, mailbox

KINDS = ["local", "file"]


def delivery(number: int) -> Delivery:
    return Delivery(f"wan-{number:040x}", f"task-{number}", 1_800_000_000.0 + number)


DELIVERIES = [delivery(number) for number in range(10)]


@pytest.fixture(params=KINDS)
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Mailbox:
    return LocalMailbox() if request.param == "local" else FileMailbox(tmp_path / "box.db")


async def take(watching: AsyncGenerator[Delivery, None], count: int) -> list[Delivery]:
    return [await anext(watching) for _ in range(count)]


# What every mailbox does; one of your own has to as well.


@virtual_time
async def test_who_watches_sees_what_is_put_in_order(box: Mailbox) -> None:
    async with aclosing(box.watch()) as watching:
        seeing = asyncio.create_task(take(watching, 10))
        for one in DELIVERIES:
            await box.put(one)
            await asyncio.sleep(0.1)
        assert await seeing == DELIVERIES


@virtual_time
async def test_who_comes_late_sees_what_was_put_before(box: Mailbox) -> None:
    for one in DELIVERIES:
        await box.put(one)
    async with aclosing(box.watch()) as watching:
        assert await take(watching, 10) == DELIVERIES


@virtual_time
async def test_all_who_watch_see_everything(box: Mailbox) -> None:
    async with aclosing(box.watch()) as one, aclosing(box.watch()) as other:
        seeing = [asyncio.create_task(take(watching, 10)) for watching in (one, other)]
        await asyncio.gather(*(box.put(one) for one in DELIVERIES))
        for seen in seeing:
            assert sorted(await seen, key=lambda one: one.received_at) == DELIVERIES


@virtual_time
async def test_a_watcher_that_is_cancelled_leaves_the_others_alone(box: Mailbox) -> None:
    async with aclosing(box.watch()) as one, aclosing(box.watch()) as other:
        waiting = asyncio.create_task(take(one, 1))
        await asyncio.sleep(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await box.put(DELIVERIES[0])
        assert await take(other, 1) == DELIVERIES[:1]


@virtual_time
async def test_a_put_that_is_cancelled_breaks_nothing(box: Mailbox) -> None:
    putting = [asyncio.create_task(box.put(one)) for one in DELIVERIES]
    await asyncio.sleep(0)
    for task in putting[::2]:
        task.cancel()
    await asyncio.gather(*putting, return_exceptions=True)
    last = delivery(99)
    await box.put(last)
    seen: list[Delivery] = []
    async with aclosing(box.watch()) as watching:
        while last not in seen:
            seen += await take(watching, 1)
    # What was cancelled may be there as well.
    assert [one for one in seen if one in DELIVERIES[1::2]] == DELIVERIES[1::2]


# In one process.


@virtual_time
async def test_what_waits_for_a_slow_watcher_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "UNREAD", 100)
    box = LocalMailbox()
    async with aclosing(box.watch()) as watching:
        waiting = asyncio.create_task(anext(watching))
        await asyncio.sleep(0)
        for number in range(5000):
            await box.put(delivery(number))
        seen = [await waiting, *await take(watching, 99)]
        assert seen[-1] == delivery(4999)


async def test_another_thread_may_put() -> None:
    """A web server in a thread of its own, with a loop of its own."""
    box = LocalMailbox()
    async with aclosing(box.watch()) as watching:
        waiting = asyncio.create_task(take(watching, 1))
        await asyncio.sleep(0)
        thread = threading.Thread(target=lambda: asyncio.run(box.put(DELIVERIES[0])))
        thread.start()
        async with asyncio.timeout(10):
            assert await waiting == DELIVERIES[:1]
        thread.join()


# In a file.

WORKER = """
import asyncio, sys
from wanasync import Delivery
from wanasync.webhooks import FileMailbox

async def main(path, first):
    box = FileMailbox(path)
    for number in range(first, first + 25):
        await box.put(Delivery(f"wan-{number:040x}", f"task-{number}", 1_800_000_000.0 + number))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_several_processes_may_put_while_one_watches(tmp_path: Path) -> None:
    path = tmp_path / "box.db"
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, path, str(first)]) for first in (0, 100, 200)]  # noqa: ASYNC220
    async with asyncio.timeout(60), aclosing(FileMailbox(path).watch()) as watching:
        seen = await take(watching, 75)
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    for first in (0, 100, 200):
        assert [one for one in seen if one in {delivery(first + n) for n in range(25)}] == [
            delivery(first + n) for n in range(25)
        ]


@virtual_time
async def test_a_delivery_in_the_file_is_noticed_soon(tmp_path: Path) -> None:
    async with aclosing(FileMailbox(tmp_path / "box.db").watch()) as watching:
        waiting = asyncio.create_task(take(watching, 1))
        await asyncio.sleep(100)
        began = now()
        await FileMailbox(tmp_path / "box.db").put(DELIVERIES[0])
        await waiting
        assert now() - began <= 0.5


@virtual_time
async def test_a_directory_holds_its_own_file(tmp_path: Path) -> None:
    receiver = CallbackReceiver(public_url="https://a.example.com", secret=16 * "x", mailbox=tmp_path)
    body = b'{"id": "task-1", "status": "failed"}'
    assert (await receiver.handle("POST", receiver.url("wan-0123456789abcdef", 4e9), {}, body))[0] == 204
    assert (tmp_path / "callbacks.db").is_file()


@virtual_time
async def test_the_file_keeps_the_last_ones_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "KEPT_ON_DISK", 20)
    box = FileMailbox(tmp_path / "box.db")
    for start in range(0, 100, 10):
        await asyncio.gather(*(box.put(delivery(number)) for number in range(start, start + 10)))
    async with aclosing(box.watch()) as watching:
        assert set(await take(watching, 20)) == {delivery(number) for number in range(80, 100)}


@virtual_time
async def test_more_than_one_look_takes_is_read_in_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "SLICE", 3)
    box = FileMailbox(tmp_path / "box.db")
    await asyncio.gather(*(box.put(one) for one in DELIVERIES))
    async with aclosing(box.watch()) as watching:
        assert len(await take(watching, 10)) == 10


@virtual_time
async def test_rows_that_nobody_of_us_wrote_are_passed_over(tmp_path: Path) -> None:
    box = FileMailbox(tmp_path / "box.db")
    await box.put(DELIVERIES[0])
    with sqlite3.connect(tmp_path / "box.db") as db:
        db.executemany(
            "INSERT INTO delivery (key, task_id, received_at) VALUES (?, ?, ?)", [(b"k", "t", 1), (1, 2, "x")]
        )
    db.close()
    await box.put(DELIVERIES[1])
    async with aclosing(box.watch()) as watching:
        assert await take(watching, 2) == DELIVERIES[:2]


@virtual_time
async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE accounts (name TEXT)")
    db.close()
    before = path.read_bytes()
    for use in (FileMailbox(path).put(DELIVERIES[0]), anext(FileMailbox(path).watch())):
        with pytest.raises(CallbackError, match="no mailbox"):
            await use
    assert path.read_bytes() == before


@virtual_time
@pytest.mark.parametrize("spoil", ["a directory that is not there", "no database"])
async def test_a_file_out_of_order_is_an_error_of_ours(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "nowhere" / "box.db" if "directory" in spoil else tmp_path / "box.db"
    if path.parent.is_dir():
        path.write_bytes(b"no database at all, but long enough to look like one" * 100)
    for use in (FileMailbox(path).put(DELIVERIES[0]), anext(FileMailbox(path).watch())):
        with pytest.raises(CallbackError, match=r"out of order"):
            await use


@virtual_time
async def test_a_file_that_was_replaced_is_not_watched_on(tmp_path: Path) -> None:
    box = FileMailbox(tmp_path / "box.db")
    await box.put(DELIVERIES[0])
    async with aclosing(box.watch()) as watching:
        await take(watching, 1)
        (tmp_path / "box.db").unlink()
        await box.put(DELIVERIES[1])
        with pytest.raises(CallbackError, match="replaced"):
            await take(watching, 1)
