"""The bare server speaks each dialect, and loses the replies it is told to lose."""

from __future__ import annotations

from collections.abc import Iterator

import aiohttp
import pytest

from benchmarks import server
from wanasync.rules import replies


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with server.running() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("dialect", server.DIALECTS)
async def test_a_submission_and_a_query_are_answered(base: str, dialect: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{base}/{dialect}/videos", json={"prompt": "A cat"}) as response:
            made = await response.json()
        async with session.get(f"{base}/{dialect}/videos/1") as response:
            looked_at = await response.json()
    assert "%" not in str(made)
    assert "%" not in str(looked_at)


async def test_its_tasks_are_read_as_the_providers(base: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{base}/wan/v1/tasks/1") as response:
        reply = replies.Reply(response.status, {}, await response.read())
    snapshot = replies.read_task(reply, now=0.0)
    assert snapshot.is_final
    assert snapshot.links == (server.LINK,)


async def test_lost_replies_are_counted_by_name(base: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            with pytest.raises(aiohttp.ClientError):
                await session.post(f"{base}/lost/somebody/v1/videos", json={})
        async with session.get(f"{base}/counted/somebody") as response:
            assert await response.json() == 2
