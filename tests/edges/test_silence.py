"""The limit on silence: cuts off what hears nothing, leaves alone what does, and never eats a caller's cancellation."""

from __future__ import annotations

import asyncio

import pytest

from wanasync.edges.silence import LOOKS, SilenceLimit
from wanasync.testing import virtual_time

SECONDS = 8.0


async def request(limit: SilenceLimit, *waits: float) -> str:
    """Hears something after each wait."""
    with limit:
        limit.begin()
        for wait in waits:
            await asyncio.sleep(wait)
            limit.heard()
    return "done"


def elapsed() -> float:
    return asyncio.get_running_loop().time()


@virtual_time
async def test_silence_ends_in_a_timeout_at_most_an_eighth_late() -> None:
    began = elapsed()
    with pytest.raises(TimeoutError):
        await request(SilenceLimit(SECONDS), 1000.0)
    assert SECONDS <= elapsed() - began <= SECONDS * (1 + 1 / LOOKS) + 1e-6


@virtual_time
async def test_a_slow_reply_that_keeps_coming_is_not_cut_off() -> None:
    assert await request(SilenceLimit(SECONDS), *[SECONDS * 0.9] * 10) == "done"


@virtual_time
async def test_only_the_silent_of_many_is_cut_off() -> None:
    limit = SilenceLimit(SECONDS)
    talkative = [request(limit, *[1.0] * 20) for _ in range(5)]
    results = await asyncio.gather(request(limit, 1000.0), *talkative, return_exceptions=True)
    assert isinstance(results[0], TimeoutError)
    assert results[1:] == ["done"] * 5


@virtual_time
async def test_waiting_before_the_request_begins_is_not_silence() -> None:
    limit = SilenceLimit(SECONDS)
    with limit:
        await asyncio.sleep(SECONDS * 10)
    assert await request(limit, 1.0) == "done"


@virtual_time
async def test_a_callers_cancellation_stays_one() -> None:
    limit = SilenceLimit(SECONDS)
    running = asyncio.create_task(request(limit, 1000.0))
    await asyncio.sleep(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@virtual_time
async def test_a_callers_cancellation_in_the_same_moment_wins() -> None:
    limit = SilenceLimit(SECONDS)
    running = asyncio.create_task(request(limit, 1000.0))
    await asyncio.sleep(0)
    limit._requests[running].heard -= SECONDS
    limit._look(asyncio.get_running_loop())
    assert running.cancelling() == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert running.cancelled()


@virtual_time
async def test_a_task_whose_request_was_cut_off_can_go_on() -> None:
    limit = SilenceLimit(SECONDS)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await request(limit, 1000.0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    async with asyncio.timeout(1000):
        assert await request(limit, 1.0) == "done"


@virtual_time
async def test_an_outer_timeout_is_told_apart() -> None:
    limit = SilenceLimit(SECONDS)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0) as outer:
            await request(limit, 1000.0)
    assert outer.expired()


@virtual_time
async def test_with_nothing_under_way_no_timer_is_left() -> None:
    limit = SilenceLimit(SECONDS)
    await request(limit, 1.0)
    await asyncio.sleep(SECONDS)
    assert limit._timer is None
    await request(limit, 1.0)
    assert limit._timer is not None
    limit.close()
    assert limit._timer is None
