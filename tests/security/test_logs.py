"""What is logged: by loggers under `wanasync`, with task ids, never with the key or the signed part of a link."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.emulated import session_on
from tests.security.faults import everything
from wanasync import DownloadError
from wanasync.emulator import Emulator, Trouble
from wanasync.testing import START, virtual_time

KEY = "a-key-of-no-known-shape"
QUERY = re.compile(r"\?\S*=")
SIGNATURE = re.compile(r"Signature=[0-9a-f]")


def said(record: logging.LogRecord) -> str:
    formatter = logging.Formatter("%(name)s %(message)s")
    return f"{formatter.format(record)} {record.args!r}"


def chained(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@virtual_time
async def test_a_batch_in_trouble_at_the_chattiest_level(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        Emulator(epoch=START, api_key=KEY, trouble=everything() | Trouble(stuck_tasks=0.0)) as emu,
        session_on(emu) as wan,
        wan.batch(map(str, range(60)), tmp_path, retry_failed=1) as batch,
    ):
        told = [outcome async for outcome in batch]
    assert len(told) == 60
    ours = [record for record in caplog.records if record.name.startswith("wanasync")]
    assert {record.name for record in ours} >= {"wanasync.submit", "wanasync.poll", "wanasync.saver"}
    for record in caplog.records:
        assert KEY not in said(record)
        assert not SIGNATURE.search(said(record)), said(record)
        assert not QUERY.search(record.getMessage())
    ids = {entry.task_id for entry in emu.ledger.entries}
    assert all(_names_a_task(record, ids) for record in ours if record.name in ("wanasync.poll", "wanasync.saver"))


def _names_a_task(record: logging.LogRecord, ids: set[str]) -> bool:
    return any(task_id in record.getMessage() for task_id in ids)


@virtual_time
async def test_an_error_says_where_a_link_leads_and_not_how_it_is_signed(tmp_path: Path) -> None:
    trouble = Trouble(http_500_downloads=1.0)
    async with (
        Emulator(epoch=START, api_key=KEY, trouble=trouble) as emu,
        session_on(emu, download_attempts=2) as wan,
    ):
        with pytest.raises(DownloadError) as caught:
            await wan.generate("A cat", to=tmp_path / "cat.mp4")
        assert caught.value.link is not None
        assert SIGNATURE.search(caught.value.link), "the link itself is kept for whoever has the error"
        assert not QUERY.search(" ".join(f"{error} {error!r}" for error in chained(caught.value)))
