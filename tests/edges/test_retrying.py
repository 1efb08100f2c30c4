from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from wanasync.edges.retrying import full_jitter, retry
from wanasync.errors import APIConnectionError, RateLimitError, ServerError
from wanasync.testing import virtual_time


class Flaky:
    """Fails with each of `errors` in turn, then gives "done"."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def refused() -> Exception:
    return APIConnectionError("refused")


def test_full_jitter_draws_from_the_whole_range_below_a_doubling_bound() -> None:
    random.seed(1)
    draws = [list(itertools.islice(full_jitter(1, 8), 6)) for _ in range(300)]
    for place, bound in enumerate([1, 2, 4, 8, 8, 8]):
        drawn = [draw[place] for draw in draws]
        assert 0 <= min(drawn) < 0.1 * bound
        assert 0.9 * bound < max(drawn) <= bound


@virtual_time
async def test_what_succeeds_is_not_repeated() -> None:
    operation = Flaky()
    assert await retry(operation, attempts=3, retry_on=APIConnectionError, wait=iter([])) == "done"
    assert operation.calls == 1


@virtual_time
async def test_failures_are_repeated_after_the_waits_given() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    told: list[tuple[str, float]] = []
    result = await retry(
        Flaky(refused(), ServerError("down", 500)),
        attempts=3,
        retry_on=(APIConnectionError, ServerError),
        wait=iter([1.0, 5.0]),
        on_retry=lambda error, seconds: told.append((str(error), seconds)),
    )
    assert result == "done"
    assert loop.time() - start == pytest.approx(6)
    assert told == [("refused", 1.0), ("down (HTTP 500)", 5.0)]


@virtual_time
async def test_the_last_error_leaves_as_it_came_and_without_a_wait() -> None:
    last = refused()
    operation = Flaky(refused(), last)
    with pytest.raises(APIConnectionError) as caught:
        await retry(operation, attempts=2, retry_on=APIConnectionError, wait=iter([1.0]))
    assert caught.value is last
    assert operation.calls == 2


@virtual_time
async def test_other_errors_are_not_repeated() -> None:
    operation = Flaky(ValueError())
    with pytest.raises(ValueError):  # noqa: PT011 — it has no text
        await retry(operation, attempts=3, retry_on=APIConnectionError, wait=iter([1.0]))
    assert operation.calls == 1


@virtual_time
async def test_the_servers_hint_lengthens_a_wait_and_never_shortens_it() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    limited = [RateLimitError("slow down", 429, retry_after=seconds) for seconds in (60.0, 0.5)]
    await retry(Flaky(*limited), attempts=3, retry_on=RateLimitError, wait=iter([1.0, 2.0]))
    assert loop.time() - start == pytest.approx(62)


@virtual_time
async def test_a_cancelled_wait_ends_the_retries() -> None:
    operation = Flaky(refused(), refused())
    retrying = asyncio.create_task(retry(operation, attempts=5, retry_on=APIConnectionError, wait=iter([100.0])))
    await asyncio.sleep(1)
    retrying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await retrying
    assert operation.calls == 1


@virtual_time
async def test_no_attempts_make_no_sense() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        await retry(Flaky(), attempts=0, retry_on=APIConnectionError, wait=iter([]))
