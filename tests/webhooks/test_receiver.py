from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from wanasync import CallbackError, Delivery
from wanasync.testing import now, virtual_time
from wanasync.webhooks import CallbackReceiver, LocalMailbox, Mailbox, ReceiverStatistics

URL = "https://app.example.com/hooks/wan"
SECRET = "correct horse battery"
KEY = "wan-" + 40 * "0"
BODY = json.dumps({"id": "task-1", "status": "completed"}).encode()


def receiver(**options: Any) -> CallbackReceiver:
    settings: dict[str, Any] = {"public_url": URL, "secret": SECRET, "clock": now}
    return CallbackReceiver(**settings | options)


async def post(to: CallbackReceiver, body: Any = BODY, *, method: str = "POST", **headers: str) -> int:
    path = to.url(KEY, now()).removeprefix("https://app.example.com")
    return (await to.handle(method, path, headers, body))[0]


async def delivered(to: CallbackReceiver) -> list[Delivery]:
    """What is there to be seen."""
    found = []
    watching = to.watch()
    try:
        async with asyncio.timeout(1):
            async for delivery in watching:
                found.append(delivery)  # noqa: PERF401 — the timeout ends it
    except TimeoutError:
        pass
    await watching.aclose()
    return found


class Endless:
    """A body without end; counts what is asked of it."""

    def __init__(self, pause: float = 0.0) -> None:
        self.given = 0
        self._pause = pause

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(self._pause)
            self.given += 10_000
            yield b" " * 10_000


@virtual_time
async def test_a_delivery_is_handed_on_and_answered() -> None:
    one = receiver()
    assert await post(one) == 204
    assert await delivered(one) == [Delivery(KEY, "task-1", now() - 1)]
    assert one.statistics() == ReceiverStatistics(accepted=1)


@virtual_time
async def test_the_answer_to_anything_but_post_says_so() -> None:
    one = receiver()
    for method in ("GET", "PUT", "HEAD", "post", "DELETE"):
        status, headers, _ = await one.handle(method, "/hooks/wan/x", {}, b"")
        assert (status, headers["allow"]) == (405, "POST")


@virtual_time
async def test_the_path_before_the_token_and_what_follows_it_are_not_looked_at() -> None:
    one = receiver()
    token = one.url(KEY, now()).rpartition("/")[2]
    for path in (f"/{token}", token, f"/elsewhere/{token}/", f"/hooks/wan/{token}?x=/y"):
        assert (await one.handle("POST", path, {}, BODY))[0] == 204


@virtual_time
async def test_a_forged_delivery_is_refused_before_its_body_is_read() -> None:
    one, body = receiver(), Endless()
    for path in ("/hooks/wan/", "", "/", "/hooks/wan/AAAA", f"/hooks/wan/{'A' * 120}", "/hooks/wan/é", "/" * 5000):
        assert (await one.handle("POST", path, {}, body))[0] == 404
    assert body.given == 0
    assert await delivered(one) == []
    assert one.statistics().forged == 7


@virtual_time
async def test_a_token_that_has_expired_is_refused() -> None:
    one = receiver(lifetime=3600)
    url = one.url(KEY, now())
    await asyncio.sleep(3600 + 86_400)
    assert (await one.handle("POST", url, {}, BODY))[0] == 404


@virtual_time
async def test_a_body_without_end_is_read_no_further_than_a_megabyte() -> None:
    one, body = receiver(), Endless()
    assert await post(one, body) == 413
    assert 2**20 <= body.given < 2**20 + 20_000
    assert await post(one, b" " * (2**20 + 1)) == 413
    assert await post(one, BODY + b" " * (2**20 - len(BODY))) == 204


@virtual_time
async def test_a_body_that_is_said_to_be_too_large_is_not_read() -> None:
    one, body = receiver(), Endless()
    assert await post(one, body, **{"Content-Length": str(2**20 + 1)}) == 413
    assert body.given == 0
    for nonsense in ("", "-5", "a", "9" * 30, "²"):
        assert await post(one, **{"content-length": nonsense}) == 204


@virtual_time
async def test_a_body_that_drips_is_answered_in_time() -> None:
    began = now()
    assert await post(receiver(), Endless(pause=1.0)) == 503
    assert now() - began <= 6


@virtual_time
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"status": "completed"}', b"\xff\xfe"])
async def test_a_body_that_names_no_task_is_refused(body: bytes) -> None:
    one = receiver()
    assert await post(one, body) == 400
    assert one.statistics().unreadable == 1


class Broken:
    async def put(self, delivery: Delivery) -> None:
        raise CallbackError("the disk is full")

    async def watch(self) -> AsyncGenerator[Delivery, None]:
        raise CallbackError("the disk is full")
        yield


class Stuck(LocalMailbox):
    async def put(self, delivery: Delivery) -> None:
        await asyncio.sleep(3600)


@virtual_time
@pytest.mark.parametrize("mailbox", [Broken(), Stuck()])
async def test_what_can_not_be_handed_on_is_to_be_sent_again(mailbox: Mailbox) -> None:
    one, began = receiver(mailbox=mailbox), now()
    assert await post(one) == 503
    assert now() - began <= 6
    assert one.statistics() == ReceiverStatistics(failed=1)


@virtual_time
async def test_a_flood_of_forged_deliveries_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    one = receiver()
    token = one.url(KEY, now()).rpartition("/")[2]
    forged = [f"/hooks/wan/{token[:-4]}{number:04d}" for number in range(10_000)]
    with caplog.at_level(logging.DEBUG, "wanasync"):
        for path in forged:
            assert (await one.handle("POST", path, {}, BODY))[0] == 404
        await asyncio.sleep(60)
        await one.handle("POST", forged[0], {}, BODY)
    assert one.statistics() == ReceiverStatistics(forged=10_001)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "10000" in caplog.records[1].getMessage()


@virtual_time
async def test_neither_token_nor_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    one = receiver(lifetime=3600)
    url = one.url(KEY, now())
    with caplog.at_level(logging.DEBUG, "wanasync"):
        await one.handle("POST", url, {}, BODY)
        await asyncio.sleep(60)
        await one.handle("POST", url, {}, b"{")
        await asyncio.sleep(90_000)
        await one.handle("POST", url, {}, BODY)
        await one.handle("POST", url[:-1], {}, BODY)
    token = url.rpartition("/")[2]
    assert len(caplog.records) == 3
    assert token[-16:] not in caplog.text
    assert token[:16] not in caplog.text
    assert SECRET not in caplog.text


@virtual_time
async def test_a_cancelled_delivery_is_not_answered_and_breaks_nothing() -> None:
    one = receiver()
    waiting = asyncio.create_task(post(one, Endless(pause=1.0)))
    await asyncio.sleep(2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await post(one) == 204
    assert len(await delivered(one)) == 1


async def test_anything_but_http_is_refused_in_a_sentence() -> None:
    with pytest.raises(CallbackError, match="websocket"):
        await CallbackReceiver(public_url=URL, secret=SECRET)({"type": "websocket"}, None, None)  # type: ignore[arg-type]
