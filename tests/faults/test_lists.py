"""A list that was changed between two runs goes on by its items, and the difference is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.emulated import emulated
from wanasync import BatchItem, BatchProgress, RequestValidationError, VideoRequest, WanSession
from wanasync.engine.reading import Requests
from wanasync.testing import virtual_time

CATS = [f"cat {number}" for number in range(5)]

CHANGES = {
    "nothing": (CATS, 0, 0),
    "added": ([*CATS, "a dog", "a bird"], 2, 0),
    "removed": (CATS[2:], 0, 2),
    "edited": (["Cat 0", *CATS[1:]], 1, 1),
    "reordered": (CATS[::-1], 0, 0),
    "repeated": ([*CATS, CATS[0]], 1, 0),
    "emptied": ([], 0, 5),
    "all of it": (["a dog", *CATS[:0:-1]], 1, 1),
}


async def run(wan: WanSession, requests: Requests, to: Path) -> BatchProgress:
    batch = wan.batch(requests, to)
    async with batch:
        return await batch.wait()


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_new_is_paid_and_what_is_gone_is_told(change: str, tmp_path: Path) -> None:
    changed, added, unlisted = CHANGES[change]

    @virtual_time
    async def check() -> None:
        async with emulated() as (emu, wan):
            first = await run(wan, CATS, tmp_path)
            assert (first.added, first.unlisted) == (5, 0)
            progress = await run(wan, changed, tmp_path)
            assert (progress.total, progress.added, progress.unlisted) == (len(changed), added, unlisted)
            assert progress.saved == len(changed)
            assert len(emu.ledger.entries) == 5 + added
            again = await run(wan, CATS, tmp_path)
            assert (again.added, again.unlisted) == (0, added)
            assert len(emu.ledger.entries) == 5 + added

    check()


@virtual_time
async def test_an_id_that_was_paid_for_can_not_stand_for_something_else(tmp_path: Path) -> None:
    async with emulated() as (emu, wan):
        await run(wan, [BatchItem(VideoRequest("a cat"), id="one")], tmp_path)
        batch = wan.batch([BatchItem(VideoRequest("a dog"), id="one")], tmp_path)
        async with batch:
            (outcome,) = [outcome async for outcome in batch]
        assert isinstance(outcome.error, RequestValidationError)
        assert len(emu.ledger.entries) == 1
