from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.emulated import emulated
from wanasync import BatchHistory, Forecast, VideoRequest
from wanasync.emulator import Trouble
from wanasync.engine.reading import Requests
from wanasync.testing import virtual_time

CATS = [f"cat {number}" for number in range(10)]


async def forecast(to: Path, requests: Requests, **options: str | int) -> Forecast:
    async with BatchHistory(to) as history:
        return await history.forecast(requests, **options)  # type: ignore[arg-type]


@virtual_time
async def test_what_earlier_runs_have_done_is_not_sent_and_new_ones_are_priced_by_what_such_cost(
    tmp_path: Path,
) -> None:
    hd = VideoRequest("large", quality="1080p", duration=10)
    async with emulated() as (_, wan), wan.batch([*CATS, hd], tmp_path) as batch:
        await batch.wait()
    new: list[str | VideoRequest] = [
        VideoRequest("small", quality="480p"),
        VideoRequest("larger", quality="1080p", duration=10),
        "a dog",
    ]
    assert await forecast(tmp_path, [*CATS, hd, *new]) == Forecast(
        submissions=3, settled=11, credits=15.0 + 5.0, unpriced=1
    )


@virtual_time
async def test_each_state_counts_as_the_next_run_would_take_it(tmp_path: Path) -> None:
    trouble = Trouble.script(
        submit=["ok", "http_400", "lost_reply", "lost_reply"], task=["failed=service_error", "stuck"]
    )
    async with emulated(trouble=trouble) as (_, wan), wan.batch(CATS, tmp_path, limit=6) as batch:
        async for _outcome in batch:
            if batch.progress().saved + batch.progress().unknown + batch.progress().failed == 5:
                break
    held = await forecast(tmp_path, [*CATS])
    assert (held.under_way, held.unknown, held.submissions + held.settled) == (1, 2, 7)
    replayed = await forecast(tmp_path, [*CATS], on_unknown="replay")
    assert (replayed.unknown, replayed.submissions) == (0, held.submissions + 2)
    retried = await forecast(tmp_path, [*CATS], retry_failed=1)
    assert (retried.submissions, retried.settled) == (held.submissions + 1, held.settled - 1)


@pytest.mark.parametrize("more", [1, 3])
def test_repetitions_count_as_the_batch_counts_them(more: int, tmp_path: Path) -> None:
    @virtual_time
    async def run() -> None:
        async with emulated() as (_, wan), wan.batch(["same"] * 3, tmp_path) as batch:
            await batch.wait()
        found = await forecast(tmp_path, ["same"] * (3 + more))
        assert (found.settled, found.submissions, found.credits) == (3, more, 5.0 * more)

    run()
